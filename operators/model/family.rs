//! What the rest of the program knows of a model: a configured [`Architecture`], its [`Towers`], and the image tower alone.
//!
//! A family of models is one folder beside this file, and one entry of `families.rs`: its configuration, towers, captions to
//! ids, loss, and how its weights are named and first drawn. Nobody outside a family's folder names its types: a call through
//! these traits is made a few times a batch, and costs nothing there.

use std::fmt::Debug;
use std::sync::Arc;

use serde_json::Value;
use tch::nn::Path;
use tch::{Kind, Tensor};
use trommel_bridge::Attention;

use super::captions::PackedCaptions;
use super::document::Document;
use super::error::ModelError;
use super::loss::Loss;
use super::patches::PatchProduct;
use super::preprocess::Preprocess;
use super::random::Distribution;

/// A family of models.
pub(crate) struct Family {
    /// Names that are known without a file, for people.
    pub(crate) known: fn() -> String,
    /// The model of such a name.
    pub(crate) builtin: fn(&str) -> Option<Arc<dyn Architecture>>,
    /// Whether a file is one of its configurations. Of several families the first in the list has it.
    pub(crate) claims: fn(&Document) -> bool,
    /// Makes an architecture of the file that it claims.
    pub(crate) read: fn(Document) -> Result<Arc<dyn Architecture>, ModelError>,
}

/// A configured model, before its weights.
pub trait Architecture: Debug + Send + Sync {
    /// open_clip's name of it, or the stem of the file it came from.
    fn name(&self) -> &str;

    /// How a picture becomes the image tower's input.
    fn preprocess(&self) -> &Preprocess;

    /// What memory is planned by.
    fn sizes(&self) -> ModelSizes;

    /// All that it was configured with, as a run records it and compares it.
    fn recorded(&self) -> Value;

    /// What makes ids of a caption.
    ///
    /// # Errors
    /// Its vocabulary is in a file that is not there.
    fn captions(&self) -> Result<Box<dyn Captions>, ModelError>;

    /// Adds the image tower's variables at `root` under `visual.`. They are zero (norms one) until [`super::weights::init`] or
    /// [`super::weights::load`].
    ///
    /// # Errors
    /// Memory for the variables cannot be had.
    fn image_tower(&self, root: &Path) -> Result<Box<dyn ImageTower>, ModelError>;

    /// Adds all variables at `root` under open_clip's names.
    ///
    /// # Errors
    /// Memory for the variables cannot be had.
    fn towers(&self, root: &Path) -> Result<Box<dyn Towers>, ModelError>;

    /// What a weight is drawn from where there is no file.
    fn first_values(&self, name: &str, shape: &[i64]) -> Distribution;

    /// Whether a weight is a factor of products, which may be stored in a lower kind; others stay f32.
    fn is_factor(&self, name: &str) -> bool;

    /// The name here of a file's tensor, whose wrappers are taken off.
    fn own_name<'n>(&self, name: &'n str) -> &'n str {
        name
    }

    /// Whether a file's tensor is a buffer or a note, and no weight.
    fn is_note(&self, _name: &str) -> bool {
        false
    }

    /// A file's tensor of shape `from` made to one of shape `to`, where open_clip does so; `None` where it does not fit. `fetch` reads it.
    ///
    /// # Errors
    /// It cannot be read, or libtorch refuses.
    fn fitted(&self, _name: &str, _from: &[i64], _to: &[i64], _fetch: Fetch<'_>) -> Result<Option<Tensor>, ModelError> {
        Ok(None)
    }

    /// Why a file that fits may still not be meant for this model; `holds` says whether it has a tensor of a name.
    fn doubt(&self, _holds: &dyn Fn(&str) -> bool) -> Option<String> {
        None
    }

    /// Sorts names as `named_parameters` of open_clip's module has them: PyTorch's optimisers know parameters by number.
    fn place_in_file(&self, name: &str) -> ParameterPlace;
}

/// Reads a tensor of a file.
pub type Fetch<'a> = &'a dyn Fn() -> Result<Tensor, ModelError>;

/// A parameter's place: its part of the model, the block there, the part of the block, weight before bias.
pub type ParameterPlace = (usize, u64, usize, bool);

/// The [`ParameterPlace`] of a name: `parts` and the parts of a block, `within`, are in their order; blocks follow `blocks` and are counted.
pub(crate) fn place(name: &str, parts: &[&str], blocks: &str, within: &[&str]) -> ParameterPlace {
    let at = |of: &[&str], name: &str| of.iter().position(|part| name.starts_with(part)).unwrap_or(of.len());
    let block = name.split_once(blocks).and_then(|(_, rest)| rest.split_once('.'));
    let (number, rest) = block.unwrap_or(("0", ""));
    (at(parts, name), number.parse().unwrap_or(0), at(within, rest), name.ends_with("bias"))
}

/// Captions to ids. Sharing one is cheaper than making one.
pub trait Captions: Debug + Send + Sync {
    /// As many ids as the text tower reads.
    fn ids(&self, caption: &str) -> Vec<i64>;
}

/// Both towers of a model, and what turns their features' cosines into a loss.
pub trait Towers: Debug + Send {
    /// f32\[n, 3, size, size\], mean and std applied, to f32\[n, embed_dim\], not normalised.
    ///
    /// # Errors
    /// Another shape, or libtorch refuses.
    fn encode_image(&self, images: &Tensor) -> Result<Tensor, ModelError>;

    /// i64\[n, context_length\] to f32\[n, embed_dim\], not normalised.
    ///
    /// # Errors
    /// Another shape, an id outside the vocabulary, or libtorch refuses.
    fn encode_text(&self, tokens: &Tensor) -> Result<Tensor, ModelError>;

    /// Whether [`Towers::encode_captions`] gives the features of [`Towers::encode_text`] and their gradients: the text tower is
    /// causal, and read at the end token.
    fn packs_captions(&self) -> bool {
        false
    }

    /// Packed captions to f32\[n, embed_dim\], not normalised: [`Towers::encode_text`]'s features up to the order of sums.
    ///
    /// # Errors
    /// An id outside the vocabulary, a tower that needs the padding, or libtorch refuses.
    fn encode_captions(&self, captions: &PackedCaptions) -> Result<Tensor, ModelError> {
        Err(ModelError::padding(&captions.ids))
    }

    /// The parameter f32\[\]: natural logarithm of the factor before the logits.
    fn logit_scale(&self) -> Tensor;

    /// The parameter f32\[\] that is added to the logits, where there is one.
    fn logit_bias(&self) -> Option<Tensor> {
        None
    }

    /// What it is trained by.
    fn loss(&self) -> &'static dyn Loss;

    /// Has oneDNN compute the products of both towers' blocks, with gradients: the same up to the order of sums. For f32 on a CPU.
    fn multiply_by_onednn(&mut self);

    /// Has the products of batches of `batch` pictures, or captions, computed by oneDNN, from weights in its own layout: see
    /// [`ImageTower::pack`].
    ///
    /// # Errors
    /// libtorch refuses.
    fn pack(&mut self, batch: i64) -> Result<(), ModelError>;

    /// Has a card compute attention by `kernel`; `None` leaves it to libtorch.
    fn attend_by(&mut self, kernel: Option<Attention>);

    /// The image tower.
    fn image_mut(&mut self) -> &mut dyn ImageTower;
}

/// An image tower.
pub trait ImageTower: Debug + Send {
    /// f32\[n, 3, size, size\], mean and std applied, to features f32\[n, embed_dim\], not normalised.
    ///
    /// # Errors
    /// Another shape, or libtorch refuses.
    fn forward(&self, images: &Tensor) -> Result<Tensor, ModelError>;

    /// What [`forward_patches`](Self::forward_patches) multiplies with, in `products`, and adds, in `residual`, made from the
    /// weights as they are now.
    ///
    /// # Errors
    /// libtorch refuses.
    fn patch_product(&self, products: Kind, residual: Kind) -> Result<PatchProduct, ModelError>;

    /// As [`forward`](Self::forward), the convolution written as one matrix product: its kernels do not overlap. Takes patches
    /// \[n, leading + grid * grid, patch * patch * 3\], mean and std applied, values of a patch in the order (row, column, channel); the
    /// leading rows are zero.
    ///
    /// # Errors
    /// Another shape, or libtorch refuses.
    fn forward_patches(&self, patches: &Tensor, product: &PatchProduct) -> Result<Tensor, ModelError>;

    /// Whether patches are embedded by a product instead of a convolution: the same up to the order of sums. A card is given the
    /// product.
    fn multiply_patches(&mut self, by_product: bool);

    /// Has activations computed in one pass where that changes weights' values; for weights that are computed with only.
    ///
    /// # Errors
    /// libtorch refuses.
    fn fold_activation(&mut self) -> Result<(), ModelError> {
        Ok(())
    }

    /// Has the products of batches of `batch` pictures computed by oneDNN, from weights in its own layout; for f32 weights on a CPU
    /// that are computed with only. The same up to the order of sums.
    ///
    /// # Errors
    /// libtorch refuses.
    fn pack(&mut self, batch: i64) -> Result<(), ModelError>;
}

/// What memory is planned by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelSizes {
    /// Side of the square view, in pixels.
    pub view_px: u32,
    /// Width of the common space.
    pub embed_dim: u64,
    /// Tokens in the vocabulary.
    pub vocabulary: u64,
    /// Sizes of the image tower.
    pub image: TowerSizes,
    /// Text tower; its tokens are the context's.
    pub text: TowerSizes,
}

/// What memory one tower needs is planned by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TowerSizes {
    /// Numbers in its weights.
    pub parameters: u64,
    /// Tokens of a row.
    pub tokens: u64,
    /// Width of a token.
    pub width: u64,
    /// Hidden width of the MLP.
    pub mlp_width: u64,
    /// Tensors of the hidden width that a block leaves for backward: before and behind the activation, which is one more where
    /// it is made of two operations.
    pub hidden: u64,
    /// Attention heads.
    pub heads: u64,
    /// Residual blocks.
    pub layers: u64,
}
