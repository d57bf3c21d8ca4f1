//! One model on many processes: each rank passes its share of every batch through its own copy of the towers.
//!
//! ```text
//!  rank r: its rows ─▶ towers ─▶ features ─┬─ gather ─▶ features of the whole batch
//!                                          └───────────▶ logits [its rows, whole batch] ─▶ its loss
//!  backward: gradients by features summed over ranks ─▶ towers ─▶ averaged over ranks, bucket by bucket, meanwhile
//! ```
//!
//! This is open_clip's `--local-loss --gather-with-grad` under PyTorch's `DistributedDataParallel`. The mean of the ranks'
//! losses is the loss of the whole batch, and so is its gradient.
//!
//! Invariants:
//! 1. Between two steps all ranks hold the same weights and optimiser state, to the bit: checked when they join, kept
//!    because all take the same step from the same averaged gradients.
//! 2. There is one logit scale, and at most one logit bias: their gradients are averaged together with the loss, after backward,
//!    and the clamp is every rank's own.
//! 3. Ranks step together or not at all: [`Trainer::agree`](super::step::Trainer::agree).
//! 4. For a given number of ranks the sums have one order, so that a run repeats to the bit.

use std::sync::Arc;

use tch::Tensor;
use trommel_bridge::{Averaging, Group, Reducer};

use super::error::TrainError;
use trommel_model::loss::{Logits, Loss, Pairs};

/// Gradients that are averaged in one go. `DistributedDataParallel`'s own.
const BUCKET_BYTES: usize = 25 << 20;

/// The parameters that [`Ranks::settle`] averages.
pub(super) const SCALARS: [&str; 2] = ["logit_scale", "logit_bias"];

/// A trainer's tie to the other ranks.
#[derive(Debug)]
pub struct Ranks {
    /// Before the group: it uses it until its end.
    reducer: Reducer,
    group: Arc<Group>,
}

impl Ranks {
    /// Averages the gradients of `params`, about in the order in which forward uses them.
    pub(super) fn new(params: &[Tensor], group: Arc<Group>) -> Result<Self, TrainError> {
        let reducer = Reducer::new(params, &group, BUCKET_BYTES)?;
        Ok(Self { reducer, group })
    }

    /// The group of ranks that gradients are averaged over.
    #[must_use]
    pub const fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Announces the backward that completes this rank's gradients.
    pub(super) fn prepare(&self) -> Result<(), TrainError> {
        Ok(self.reducer.prepare()?)
    }

    /// How long the last backward averaged.
    pub(super) fn averaging(&self) -> Result<Averaging, TrainError> {
        Ok(self.reducer.averaging()?)
    }

    /// After backward: the mean of the ranks' losses; the gradients of `scalars` become the means of the ranks'.
    pub(super) fn settle(&self, loss: &Tensor, scalars: &[Tensor]) -> Result<Tensor, TrainError> {
        self.reducer.finish()?;
        let _no_grad = tch::no_grad_guard();
        let averaging = || TrainError::torch("averaging the loss");
        let grads = scalars.iter().map(Tensor::f_grad).collect::<Result<Vec<_>, _>>().map_err(averaging())?;
        let flat = grads.iter().map(|grad| grad.f_reshape([0i64; 0]));
        let all = std::iter::once(Ok(loss.detach())).chain(flat).collect::<Result<Vec<_>, _>>();
        let all = all.and_then(|all| Tensor::f_stack(&all, 0)).map_err(averaging())?;
        self.group.all_reduce_sum(&[all.shallow_clone()])?;
        let means = all.f_div_scalar(self.group.size() as f64).map_err(averaging())?;
        for (at, mut grad) in (1..).zip(grads) {
            means.f_get(at).and_then(|mean| grad.f_copy_(&mean)).map_err(averaging())?;
        }
        means.f_get(0).map_err(averaging())
    }
}

/// All ranks' images beside their texts, with the way back to those of this rank.
pub(super) fn gathered(group: &Group, images: &Tensor, texts: &Tensor) -> Result<Tensor, TrainError> {
    // Both in one go.
    let both = Tensor::f_cat(&[images, texts], 1).map_err(TrainError::torch("gathering the features"))?;
    Ok(group.all_gather_with_grad(&both)?)
}

/// A rank's share of the loss, with the other ranks' features gathered.
pub(super) fn share_of(group: &Group, loss: &dyn Loss, own: Pairs<'_>, logits: &Logits) -> Result<Tensor, TrainError> {
    let both = gathered(group, own.images, own.texts)?;
    let share = || {
        let (rows, dim) = own.images.size2()?;
        let (images, texts) = (both.f_narrow(1, 0, dim)?, both.f_narrow(1, dim, dim)?);
        loss.share(own, Pairs { images: &images, texts: &texts }, logits, rows * group.rank() as i64)
    };
    share().map_err(TrainError::torch("loss"))
}
