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
//! 3. Ranks step together or not at all: [`Trainer::agree`].
//! 4. For a given number of ranks the sums have one order, so that a run repeats to the bit.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tch::{Kind, Tensor};
use trommel_bridge::{Averaging, Group, Reducer};

use super::error::TrainError;
use super::step::{Contrastive, Trainer};
use trommel_model::loss::{Logits, Loss, Pairs};

/// Gradients that are averaged in one go. `DistributedDataParallel`'s own.
const BUCKET_BYTES: usize = 25 << 20;

/// The parameters that [`Ranks::settle`] averages.
const SCALARS: [&str; 2] = ["logit_scale", "logit_bias"];

/// A trainer's tie to the other ranks.
#[derive(Debug)]
pub struct Ranks {
    /// Before the group: it uses it until its end.
    reducer: Reducer,
    group: Arc<Group>,
}

impl Ranks {
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

impl<M: Contrastive> Trainer<M> {
    /// Ties this trainer to those of the other ranks. From here `step` takes `batch_samples / ranks` rows, the rank's own
    /// of the global batch, and is collective. All ranks call this, at the same step.
    ///
    /// # Errors
    /// A batch that does not divide by ranks and chunks; weights, optimiser state or step that differ between ranks; a rank
    /// is gone or late.
    pub fn join_ranks(&mut self, group: Arc<Group>) -> Result<(), TrainError> {
        let (batch, chunks) = (self.config().batch_samples, self.config().accumulation_chunks);
        if !batch.is_multiple_of(group.size() * chunks) {
            let size = group.size();
            return Err(TrainError::Config(format!(
                "a batch of {batch} does not divide into {size} ranks of {chunks} chunks"
            )));
        }
        if group.device() != self.device() {
            let (theirs, ours) = (group.device(), self.device());
            return Err(TrainError::Config(format!("ranks connected for {theirs:?}, a model on {ours:?}")));
        }
        let own = [self.global_step() as i64, self.samples_seen() as i64, self.fingerprint()?];
        let all = everyones(&group, &own)?;
        for (column, what) in ["step", "samples seen", "weights and optimiser state"].into_iter().enumerate() {
            let of = |rank: usize| all[rank * own.len() + column];
            if let Some(other) = (1..group.size()).find(|&rank| of(rank) != of(0)) {
                return Err(TrainError::Ranks(format!(
                    "{what} differ: {:x} on rank 0, {:x} on rank {other}",
                    of(0),
                    of(other)
                )));
            }
        }
        let mut named: Vec<_> =
            self.parameters().iter().filter(|(name, _)| !SCALARS.contains(&name.as_str())).collect();
        named.sort_by_cached_key(|(name, _)| forward_order(name));
        let params: Vec<Tensor> = named.into_iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
        let reducer = Reducer::new(&params, &group, BUCKET_BYTES)?;
        self.ranks = Some(Ranks { reducer, group });
        Ok(())
    }

    /// The other ranks, if there are.
    pub const fn ranks(&self) -> Option<&Ranks> {
        self.ranks.as_ref()
    }

    /// Whether all ranks have a batch, so that all step or none does. Collective.
    ///
    /// # Errors
    /// A rank is gone or late.
    pub fn agree(&self, has_batch: bool) -> Result<bool, TrainError> {
        let Some(ranks) = &self.ranks else { return Ok(has_batch) };
        let has_none = Tensor::f_full([1], i64::from(!has_batch), (Kind::Int64, self.device()));
        let has_none = has_none.map_err(TrainError::torch("agreeing on a step"))?;
        ranks.group.all_reduce_max(&[has_none.shallow_clone()])?;
        has_none.f_int64_value(&[0]).map(|none| none == 0).map_err(TrainError::torch("agreeing on a step"))
    }

    /// Lets the other ranks fail at once instead of when their patience ends.
    pub(super) fn leave_ranks(&self) {
        if let Some(ranks) = &self.ranks {
            ranks.group.abort();
        }
    }

    /// 63 bits of SHA-256 of all weights and the optimiser's state, with their names.
    fn fingerprint(&self) -> Result<i64, TrainError> {
        let mut hash = Sha256::new();
        let mut state = self.optimiser().state();
        state.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, tensor) in self.parameters().iter().chain(&state) {
            let flat = || {
                let flat = tensor.f_detach()?.f_to(tch::Device::Cpu)?.f_reshape([-1])?;
                let mut values = vec![0f32; flat.size()[0] as usize];
                let count = values.len();
                flat.f_to_kind(Kind::Float)?.f_copy_data(&mut values, count)?;
                Ok(values)
            };
            hash.update(name.as_bytes());
            hash.update([0]);
            hash.update(bytemuck::cast_slice(&flat().map_err(TrainError::torch("comparing weights"))?));
        }
        let digest = hash.finalize();
        let word = digest.iter().take(8).fold(0u64, |word, &byte| word << 8 | u64::from(byte));
        Ok((word >> 1) as i64)
    }
}

/// The numbers of all ranks, rank by rank.
fn everyones(group: &Group, own: &[i64]) -> Result<Vec<i64>, TrainError> {
    let (rank, size) = (group.rank(), group.size());
    let mut all = vec![0i64; own.len() * size];
    all[rank * own.len()..(rank + 1) * own.len()].copy_from_slice(own);
    let torch = |source| TrainError::torch("comparing the ranks")(source);
    let all = Tensor::f_from_slice(&all).and_then(|all| all.f_to(group.device())).map_err(torch)?;
    group.all_reduce_sum(&[all.shallow_clone()])?;
    Vec::try_from(all).map_err(torch)
}

/// Sorts names about as forward uses them: the image tower before the text tower, blocks by number.
fn forward_order(name: &str) -> (bool, String) {
    let (mut key, mut digits) = (String::new(), String::new());
    for letter in name.chars().chain([' ']) {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        if !digits.is_empty() {
            key.push_str(&format!("{digits:0>6}"));
            digits.clear();
        }
        key.push(letter);
    }
    (!name.starts_with("visual."), key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_sorted_by_number_and_towers_apart() {
        let mut names = [
            "transformer.resblocks.10.ln_1.weight",
            "visual.transformer.resblocks.2.ln_1.weight",
            "transformer.resblocks.9.ln_1.weight",
            "visual.transformer.resblocks.11.ln_1.weight",
        ];
        names.sort_by_key(|name| forward_order(name));
        assert_eq!(names.map(|name| name.len()), [42, 43, 35, 36]);
    }
}
