//! SigLIP as open_clip has it (Zhai et al. 2023): a ViT of timm's pooled by attention, a text tower that sees all of its
//! tokens, a sigmoid over all pairs of the batch.
//!
//! Captions are CLIP's where a configuration names no other vocabulary. The published models name SentencePiece vocabularies, which
//! are not read here: their image towers embed, their text towers are refused by name.

mod builtin;
mod config;
mod fields;
mod text;
mod towers;
mod vision;
mod weights;

use std::sync::Arc;

use serde_json::Value;
use tch::nn::Path;

use config::SiglipConfig;
use towers::Siglip;
use vision::VisionTower;

use crate::error::ModelError;
use crate::family::{Architecture, Captions, Family, ImageTower, ModelSizes, ParameterPlace, TowerSizes, Towers};
use crate::preprocess::Preprocess;
use crate::random::Distribution;
use crate::tokenizer::{Padded, Tokenizer};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

/// SigLIP: files whose image tower is one of timm's of that name.
pub(crate) const FAMILY: Family = Family {
    known: || builtin::names().collect::<Vec<_>>().join(", "),
    builtin: |name| builtin::builtin(name).map(|config| Arc::new(config) as Arc<dyn Architecture>),
    claims: fields::claims,
    read: |document| Ok(Arc::new(SiglipConfig::of(document)?)),
};

impl Architecture for SiglipConfig {
    fn name(&self) -> &str {
        &self.name
    }

    fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    fn sizes(&self) -> ModelSizes {
        let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
        let (vision, text) = (&self.vision, &self.text);
        ModelSizes {
            view_px: self.preprocess.size,
            embed_dim: unsigned(self.embed_dim),
            vocabulary: unsigned(text.vocab_size),
            image: TowerSizes {
                parameters: unsigned(vision.parameters()),
                tokens: unsigned(vision.grid() * vision.grid()),
                width: unsigned(vision.width),
                mlp_width: unsigned(vision.mlp_width),
                hidden: 2,
                heads: unsigned(vision.heads),
                layers: unsigned(vision.layers),
            },
            text: TowerSizes {
                parameters: unsigned(text.parameters(self.embed_dim)),
                tokens: unsigned(text.context_length),
                width: unsigned(text.width),
                mlp_width: unsigned(text.mlp_width()),
                hidden: 2,
                heads: unsigned(text.heads),
                layers: unsigned(text.layers),
            },
        }
    }

    fn recorded(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn captions(&self) -> Result<Box<dyn Captions>, ModelError> {
        match &self.text.tokenizer {
            None => Ok(Box::new(Padded::new(Tokenizer::new(), self.text.context_length))),
            Some(vocabulary) => Err(ModelError::config(
                &self.name,
                format!(
                    "its captions are tokens of {vocabulary}, a SentencePiece vocabulary that is not read here: its image \
                     tower embeds, but nothing is trained or evaluated with its text tower (a JSON file without \
                     hf_tokenizer_name and with vocab_size 49408 is the same model over CLIP's tokens)"
                ),
            )),
        }
    }

    fn image_tower(&self, root: &Path) -> Result<Box<dyn ImageTower>, ModelError> {
        Ok(Box::new(VisionTower::new(&root.sub("visual"), &self.vision)?))
    }

    fn towers(&self, root: &Path) -> Result<Box<dyn Towers>, ModelError> {
        Ok(Box::new(Siglip::new(root, self)?))
    }

    fn first_values(&self, name: &str, _shape: &[i64]) -> Distribution {
        weights::first_values(name, self)
    }

    fn is_factor(&self, name: &str) -> bool {
        weights::is_factor(name)
    }

    fn place_in_file(&self, name: &str) -> ParameterPlace {
        weights::place_in_file(name)
    }
}
