//! What a model is trained by, in f32 whatever the towers ran in: CLIP's softmax and SigLIP's sigmoid, over the cosines of a batch.

use std::fmt::Debug;

use tch::{Kind, Reduction, TchError, Tensor};

/// Features of the same samples, unit f32\[n, d\] each.
#[derive(Clone, Copy, Debug)]
pub struct Pairs<'a> {
    /// Rows of pictures.
    pub images: &'a Tensor,
    /// Rows of their captions.
    pub texts: &'a Tensor,
}

/// What makes logits of cosines: `scale * cosine + bias`.
#[derive(Debug)]
pub struct Logits {
    /// f32\[\], the factor before cosines.
    pub scale: Tensor,
    /// f32\[\], where the model has one.
    pub bias: Option<Tensor>,
}

impl Logits {
    fn of(&self, own: &Tensor, all: &Tensor) -> Result<Tensor, TchError> {
        let logits = own.f_matmul(&all.f_transpose(0, 1)?)?.f_mul(&self.scale)?;
        match &self.bias {
            Some(bias) => logits.f_add(bias),
            None => Ok(logits),
        }
    }
}

/// A loss over all pairs of pictures and captions of a batch. The mean over equal shares is the whole's.
pub trait Loss: Debug + Send + Sync {
    /// The loss of some rows against the whole batch, of which they are those from `first` on: f32\[\].
    ///
    /// # Errors
    /// Shapes that differ.
    fn share(&self, own: Pairs, all: Pairs, logits: &Logits, first: i64) -> Result<Tensor, TchError>;

    /// The loss of the whole batch: f32\[\].
    ///
    /// # Errors
    /// Shapes that differ.
    fn whole(&self, all: Pairs, logits: &Logits) -> Result<Tensor, TchError> {
        self.share(all, all, logits, 0)
    }
}

/// The mean over both directions of the cross entropy of the logits, with the diagonal as target (Radford et al. 2021, figure 3;
/// open_clip's `ClipLoss`, its shares those of `local_loss`).
#[derive(Clone, Copy, Debug)]
pub struct Softmax;

impl Loss for Softmax {
    fn share(&self, own: Pairs, all: Pairs, logits: &Logits, first: i64) -> Result<Tensor, TchError> {
        let end = first + own.images.size()[0];
        let labels = Tensor::f_arange_start(first, end, (Kind::Int64, own.images.device()))?;
        let one_way = |own: &Tensor, all: &Tensor| {
            logits.of(own, all)?.f_cross_entropy_loss(&labels, None::<&Tensor>, Reduction::Mean, -100, 0.0)
        };
        one_way(own.images, all.texts)?.f_add(&one_way(own.texts, all.images)?)?.f_div_scalar(2.0)
    }

    fn whole(&self, all: Pairs, logits: &Logits) -> Result<Tensor, TchError> {
        let logits = logits.of(all.images, all.texts)?;
        let labels = Tensor::f_arange(all.images.size()[0], (Kind::Int64, all.images.device()))?;
        let one_way =
            |logits: &Tensor| logits.f_cross_entropy_loss(&labels, None::<&Tensor>, Reduction::Mean, -100, 0.0);
        one_way(&logits)?.f_add(&one_way(&logits.f_transpose(0, 1)?)?)?.f_div_scalar(2.0)
    }
}

/// The sum over all pairs of `-log sigmoid(z * logit)` over the number of rows; z is 1 for a picture and its own caption, and -1
/// for others (Zhai et al. 2023, algorithm 1; open_clip's `SigLipLoss`).
#[derive(Clone, Copy, Debug)]
pub struct Sigmoid;

impl Loss for Sigmoid {
    fn share(&self, own: Pairs, all: Pairs, logits: &Logits, first: i64) -> Result<Tensor, TchError> {
        let logits = logits.of(own.images, all.texts)?;
        let rows = own.images.size()[0];
        let signs = logits.f_detach()?.f_full_like(-1.0)?;
        let _in_place = signs.f_diagonal(first, 0, 1)?.f_fill_(1.0)?;
        logits.f_mul(&signs)?.f_log_sigmoid()?.f_sum(None::<Kind>)?.f_div_scalar(-(rows as f64))
    }
}

/// Rows divided by their L2 norm (at least 1e-12), in f32: any\[n, d\] to f32\[n, d\] (`torch.nn.functional.normalize`).
///
/// # Errors
/// libtorch refuses.
pub fn unit_rows(features: &Tensor) -> Result<Tensor, TchError> {
    let features = features.f_to_kind(Kind::Float)?;
    let norm = features.f_norm_scalaropt_dim(2.0, [-1i64], true)?.f_clamp_min(1e-12)?;
    features.f_div(&norm)
}
