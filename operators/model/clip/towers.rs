//! Both towers and the temperature: open_clip's `CLIP`.

use tch::Tensor;
use tch::nn::Path;
use trommel_bridge::Attention;

use super::config::ClipConfig;
use super::text::TextTransformer;
use super::vision::VisionTransformer;
use crate::captions::PackedCaptions;
use crate::error::ModelError;
use crate::family::{ImageTower, Towers};
use crate::loss::{Loss, Sigmoid, Softmax};
use crate::transformer::variable;

/// A whole model. Its variables are zero (norms one) until [`crate::weights::init`] or [`crate::weights::load`].
///
/// ```
/// use tch::{Device, Kind, Tensor, nn};
/// use trommel_model::clip::{Clip, ClipConfig};
/// use trommel_model::{Towers, weights};
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
    logit_scale: Tensor,
    logit_bias: Option<Tensor>,
    causal: bool,
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
            logit_bias: config.init_logit_bias.map(|bias| variable(path, "logit_bias", &[], bias)).transpose()?,
            causal: !config.text.no_causal_mask,
        })
    }
}

impl Towers for Clip {
    fn encode_image(&self, images: &Tensor) -> Result<Tensor, ModelError> {
        self.visual.forward(images)
    }

    fn encode_text(&self, tokens: &Tensor) -> Result<Tensor, ModelError> {
        self.text.forward(tokens)
    }

    fn packs_captions(&self) -> bool {
        self.causal
    }

    fn encode_captions(&self, captions: &PackedCaptions) -> Result<Tensor, ModelError> {
        self.text.forward_packed(captions)
    }

    fn logit_scale(&self) -> Tensor {
        self.logit_scale.shallow_clone()
    }

    fn logit_bias(&self) -> Option<Tensor> {
        self.logit_bias.as_ref().map(Tensor::shallow_clone)
    }

    fn loss(&self) -> &'static dyn Loss {
        if self.logit_bias.is_some() { &Sigmoid } else { &Softmax }
    }

    fn multiply_by_onednn(&mut self) {
        self.visual.transformer.multiply_by_onednn();
        self.text.transformer.multiply_by_onednn();
    }

    fn pack(&mut self, batch: i64) -> Result<(), ModelError> {
        self.visual.pack(batch)?;
        self.text.pack(batch)
    }

    fn attend_by(&mut self, kernel: Option<Attention>) {
        self.visual.transformer.kernel = kernel;
        self.text.transformer.kernel = kernel;
    }

    fn image_mut(&mut self) -> &mut dyn ImageTower {
        &mut self.visual
    }
}
