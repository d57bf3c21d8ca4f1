//! CLIP as open_clip has it (Radford et al. 2021): a ViT read at its class token, a causal text tower read at its end token, a
//! softmax over the batch.

pub mod builtin;
mod config;
mod fields;
mod positions;
mod text;
mod towers;
mod vision;
mod weights;

use std::sync::Arc;

use serde_json::Value;
use tch::Tensor;
use tch::nn::Path;

pub use config::ClipConfig;
pub use towers::Clip;
pub use vision::VisionTransformer;

use crate::error::ModelError;
use crate::family::{
    Architecture, Captions, Family, Fetch, ImageTower, ModelSizes, ParameterPlace, TowerSizes, Towers,
};
use crate::preprocess::Preprocess;
use crate::random::Distribution;
use crate::tokenizer::{Padded, Tokenizer};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod config_tests;

/// CLIP, whose configurations open_clip's are by default.
pub(crate) const FAMILY: Family = Family {
    known: builtin::known,
    builtin: |name| builtin::builtin(name).map(|config| Arc::new(config) as Arc<dyn Architecture>),
    claims: |_| true,
    read: |document| Ok(Arc::new(ClipConfig::of(document)?)),
};

impl Architecture for ClipConfig {
    fn name(&self) -> &str {
        &self.name
    }

    fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    fn sizes(&self) -> ModelSizes {
        let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
        let (vision, text) = (&self.vision, &self.text);
        let hidden = if self.quick_gelu { 3 } else { 2 };
        ModelSizes {
            view_px: self.preprocess.size,
            embed_dim: unsigned(self.embed_dim),
            vocabulary: unsigned(text.vocab_size),
            image: TowerSizes {
                parameters: unsigned(self.image_parameters()),
                tokens: unsigned(vision.grid() * vision.grid() + 1),
                width: unsigned(vision.width),
                mlp_width: unsigned(vision.mlp_width()),
                hidden,
                heads: unsigned(vision.heads()),
                layers: unsigned(vision.layers),
            },
            text: TowerSizes {
                parameters: unsigned(self.text_parameters()),
                tokens: unsigned(text.context_length),
                width: unsigned(text.width),
                mlp_width: unsigned(text.mlp_width()),
                hidden,
                heads: unsigned(text.heads),
                layers: unsigned(text.layers),
            },
        }
    }

    fn recorded(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn captions(&self) -> Result<Box<dyn Captions>, ModelError> {
        // An image tower embeds whatever the text tower knows.
        let (known, due) = (self.text.vocab_size, Tokenizer::IDS);
        if known < due {
            let problem = format!("text_cfg.vocab_size = {known} is less than the {due} tokens of CLIP's captions");
            return Err(ModelError::config(&self.name, problem));
        }
        Ok(Box::new(Padded::new(Tokenizer::new(), self.text.context_length)))
    }

    fn image_tower(&self, root: &Path) -> Result<Box<dyn ImageTower>, ModelError> {
        Ok(Box::new(VisionTransformer::new(&root.sub("visual"), self)?))
    }

    fn towers(&self, root: &Path) -> Result<Box<dyn Towers>, ModelError> {
        Ok(Box::new(Clip::new(root, self)?))
    }

    fn first_values(&self, name: &str, shape: &[i64]) -> Distribution {
        weights::first_values(name, shape, self)
    }

    fn is_factor(&self, name: &str) -> bool {
        weights::is_factor(name)
    }

    /// open_clip's custom text towers have their tensors under `text.`.
    fn own_name<'n>(&self, name: &'n str) -> &'n str {
        name.strip_prefix("text.").unwrap_or(name)
    }

    fn is_note(&self, name: &str) -> bool {
        weights::is_note(name)
    }

    fn fitted(&self, name: &str, from: &[i64], to: &[i64], fetch: Fetch<'_>) -> Result<Option<Tensor>, ModelError> {
        weights::fitted(name, from, to, fetch)
    }

    fn doubt(&self, holds: &dyn Fn(&str) -> bool) -> Option<String> {
        weights::doubt(self, holds)
    }

    fn place_in_file(&self, name: &str) -> ParameterPlace {
        weights::place_in_file(name)
    }
}
