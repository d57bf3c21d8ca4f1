//! Both towers and the temperature: open_clip's `CLIP`.

use tch::nn::Path;
use tch::{Kind, Tensor};
use trommel_bridge::Attention;

use super::captions::PackedCaptions;
use super::config::ClipConfig;
use super::error::{ModelError, Op};
use super::text::TextTransformer;
use super::transformer::variable;
use super::vision::VisionTransformer;

/// A whole model. Its variables are zero (norms one) until [`super::weights::init`] or [`super::weights::load`].
///
/// ```
/// use tch::{Device, Kind, Tensor, nn};
/// use trommel_model::{Clip, ClipConfig, weights};
/// let config = ClipConfig::load("trommel-tiny-32")?;
/// let vs = nn::VarStore::new(Device::Cpu);
/// let clip = Clip::new(&vs.root(), &config)?;
/// weights::init(&vs, &config, 0)?;
/// let images = Tensor::f_zeros([2, 3, 32, 32], (Kind::Float, Device::Cpu))?;
/// assert_eq!(clip.encode_image(&images)?.size(), [2, 64]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Clip {
    visual: VisionTransformer,
    text: TextTransformer,
    /// f32\[\], natural logarithm of the factor before the logits.
    pub logit_scale: Tensor,
    config: ClipConfig,
}

impl Clip {
    /// Adds all variables at `path` under open_clip's names (give `vs.root()`).
    ///
    /// # Errors
    /// Memory for the variables cannot be had.
    pub fn new(path: &Path, config: &ClipConfig) -> Result<Self, ModelError> {
        Ok(Self {
            visual: VisionTransformer::new(&path.sub("visual"), config)?,
            text: TextTransformer::new(path, config)?,
            logit_scale: variable(path, "logit_scale", &[], config.init_logit_scale)?,
            config: config.clone(),
        })
    }

    /// f32\[n, 3, size, size\], mean and std applied, to f32\[n, embed_dim\], not normalised.
    ///
    /// # Errors
    /// Another shape, or libtorch refuses.
    pub fn encode_image(&self, images: &Tensor) -> Result<Tensor, ModelError> {
        self.visual.forward(images)
    }

    /// i64\[n, context_length\] to f32\[n, embed_dim\], not normalised.
    ///
    /// # Errors
    /// Another shape, an id outside the vocabulary, or libtorch refuses.
    pub fn encode_text(&self, tokens: &Tensor) -> Result<Tensor, ModelError> {
        self.text.forward(tokens)
    }

    /// Whether [`Clip::encode_captions`] gives the features of [`Clip::encode_text`]: the text tower is causal.
    #[must_use]
    pub fn packs_captions(&self) -> bool {
        !self.config.text.no_causal_mask
    }

    /// Packed captions to f32\[n, embed_dim\], not normalised: [`Clip::encode_text`]'s features up to the order of sums.
    ///
    /// # Errors
    /// An id outside the vocabulary, a tower that is not causal, or libtorch refuses.
    pub fn encode_captions(&self, captions: &PackedCaptions) -> Result<Tensor, ModelError> {
        self.text.forward_packed(captions)
    }

    /// Has a card compute attention by `kernel`; `None` leaves it to libtorch.
    pub const fn attend_by(&mut self, kernel: Option<Attention>) {
        self.visual.transformer.kernel = kernel;
        self.text.transformer.kernel = kernel;
    }

    /// The image tower.
    pub const fn visual_mut(&mut self) -> &mut VisionTransformer {
        &mut self.visual
    }

    /// What it was built from.
    #[must_use]
    pub fn config(&self) -> &ClipConfig {
        &self.config
    }
}

/// Rows divided by their L2 norm, in f32: f32\[n, d\] to f32\[n, d\] (`torch.nn.functional.normalize`).
///
/// # Errors
/// libtorch refuses.
pub fn normalize(features: &Tensor) -> Result<Tensor, ModelError> {
    features
        .f_to_kind(Kind::Float)
        .and_then(|x| {
            let norm = x.f_norm_scalaropt_dim(2.0, [-1i64], true)?.f_clamp_min(1e-12)?;
            x.f_div(&norm)
        })
        .op("normalize", &[features])
}
