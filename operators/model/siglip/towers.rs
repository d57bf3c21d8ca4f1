//! Both towers, the temperature and the bias: open_clip's `CustomTextCLIP` of a SigLIP.

use tch::Tensor;
use tch::nn::Path;
use trommel_bridge::Attention;

use super::config::SiglipConfig;
use super::text::TextTower;
use super::vision::VisionTower;
use crate::error::ModelError;
use crate::family::{ImageTower, Towers};
use crate::loss::{Loss, Sigmoid};
use crate::transformer::variable;

#[derive(Debug)]
pub(super) struct Siglip {
    visual: VisionTower,
    text: TextTower,
    logit_scale: Tensor,
    logit_bias: Tensor,
}

impl Siglip {
    pub(super) fn new(root: &Path, config: &SiglipConfig) -> Result<Self, ModelError> {
        Ok(Self {
            visual: VisionTower::new(&root.sub("visual"), &config.vision)?,
            text: TextTower::new(&root.sub("text"), &config.text, config.embed_dim)?,
            logit_scale: variable(root, "logit_scale", &[], config.init_logit_scale)?,
            logit_bias: variable(root, "logit_bias", &[], config.init_logit_bias)?,
        })
    }
}

impl Towers for Siglip {
    fn encode_image(&self, images: &Tensor) -> Result<Tensor, ModelError> {
        self.visual.forward(images)
    }

    fn encode_text(&self, tokens: &Tensor) -> Result<Tensor, ModelError> {
        self.text.forward(tokens)
    }

    fn logit_scale(&self) -> Tensor {
        self.logit_scale.shallow_clone()
    }

    fn logit_bias(&self) -> Option<Tensor> {
        Some(self.logit_bias.shallow_clone())
    }

    fn loss(&self) -> &'static dyn Loss {
        &Sigmoid
    }

    fn multiply_by_onednn(&mut self) {
        self.visual.multiply_by_onednn();
        self.text.transformer.multiply_by_onednn();
    }

    fn pack(&mut self, batch: i64) -> Result<(), ModelError> {
        self.visual.pack(batch)?;
        self.text.pack(batch)
    }

    fn attend_by(&mut self, kernel: Option<Attention>) {
        self.visual.attend_by(kernel);
        self.text.transformer.kernel = kernel;
    }

    fn image_mut(&mut self) -> &mut dyn ImageTower {
        &mut self.visual
    }
}
