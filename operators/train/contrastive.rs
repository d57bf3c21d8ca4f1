//! What the trainer asks of a model of two towers.

use std::error::Error;

use tch::Tensor;
use trommel_model::PackedCaptions;
use trommel_model::family::ParameterPlace;
use trommel_model::loss::{Loss, Softmax};

/// What a tower answers.
pub type Features = Result<Tensor, Box<dyn Error + Send + Sync>>;

/// A model of two towers that can be trained here.
pub trait Contrastive {
    /// f32\[n, 3, size, size\] normalised to features \[n, d\], not normalised.
    ///
    /// # Errors
    /// Another shape, or libtorch refuses.
    fn encode_image(&self, images: &Tensor) -> Features;

    /// i64\[n, context\] to features \[n, d\], not normalised.
    ///
    /// # Errors
    /// Another shape, an id outside the vocabulary, or libtorch refuses.
    fn encode_text(&self, tokens: &Tensor) -> Features;

    /// Whether [`Contrastive::encode_captions`] gives the features of [`Contrastive::encode_text`] and their gradients: the text
    /// tower is causal, and read at the end token.
    fn packs_captions(&self) -> bool {
        false
    }

    /// Packed captions to features \[n, d\], not normalised.
    ///
    /// # Errors
    /// A tower that needs the padding, an id outside the vocabulary, or libtorch refuses.
    fn encode_captions(&self, captions: &PackedCaptions) -> Features {
        Err(format!("a tower that needs the padding got {captions:?}").into())
    }

    /// The parameter f32\[\]: natural logarithm of the factor before the logits.
    fn logit_scale(&self) -> Tensor;

    /// The parameter f32\[\] that is added to the logits, where there is one.
    fn logit_bias(&self) -> Option<Tensor> {
        None
    }

    /// What it is trained by.
    fn loss(&self) -> &dyn Loss {
        &Softmax
    }

    /// All trainable parameters under open_clip's names, `logit_scale` included: f32 leaves that require gradients.
    fn parameters(&self) -> Vec<(String, Tensor)>;

    /// Sorts names as `named_parameters` of open_clip's module has them; what is equal here goes by name.
    fn place_in_file(&self, _name: &str) -> ParameterPlace {
        ParameterPlace::default()
    }
}
