//! A model of any family, as the trainer wants it.

use tch::Tensor;

use super::batch::Normalisation;
use super::step::{Contrastive, Features};
use trommel_model::family::ParameterPlace;
use trommel_model::loss::Loss;
use trommel_model::{Model, PackedCaptions, Preprocess};

impl Contrastive for Model {
    fn encode_image(&self, images: &Tensor) -> Features {
        Ok(self.towers().encode_image(images)?)
    }

    fn encode_text(&self, tokens: &Tensor) -> Features {
        Ok(self.towers().encode_text(tokens)?)
    }

    fn packs_captions(&self) -> bool {
        self.towers().packs_captions()
    }

    fn encode_captions(&self, captions: &PackedCaptions) -> Features {
        Ok(self.towers().encode_captions(captions)?)
    }

    fn logit_scale(&self) -> Tensor {
        self.towers().logit_scale()
    }

    fn logit_bias(&self) -> Option<Tensor> {
        self.towers().logit_bias()
    }

    fn loss(&self) -> &dyn Loss {
        self.towers().loss()
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.store().variables().into_iter().filter(|(_, tensor)| tensor.requires_grad()).collect()
    }

    fn place_in_file(&self, name: &str) -> ParameterPlace {
        self.architecture().place_in_file(name)
    }
}

impl From<&Preprocess> for Normalisation {
    fn from(preprocess: &Preprocess) -> Self {
        Self { mean: preprocess.mean.map(|x| x as f32), std: preprocess.std.map(|x| x as f32) }
    }
}
