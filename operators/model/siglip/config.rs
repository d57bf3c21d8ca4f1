//! SigLIP's architecture, from open_clip's JSON: an image tower of timm's by its name, and a text tower of open_clip's own
//! without causal mask, read at its last token.

use serde::Serialize;

use crate::preprocess::Preprocess;
use crate::transformer::{Activation, BlockShape};

/// The whole model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct SiglipConfig {
    /// open_clip's name of the architecture, or the stem of the file it came from.
    pub(super) name: String,
    /// Width of the common space: the image tower's.
    pub(super) embed_dim: i64,
    /// Initial `logit_scale`, a natural logarithm; `ln 10`, as open_clip's `--siglip` sets it.
    pub(super) init_logit_scale: f64,
    /// Initial `logit_bias`.
    pub(super) init_logit_bias: f64,
    /// Shape of the image tower.
    pub(super) vision: VisionConfig,
    /// Shape of the text tower.
    pub(super) text: TextConfig,
    /// How a picture becomes the tower's input.
    pub(super) preprocess: Preprocess,
}

/// timm's `VisionTransformer` without class token, its tokens pooled by attention.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct VisionConfig {
    /// timm's name of it.
    pub(super) timm_model_name: String,
    /// Side of the square input, in pixels.
    pub(super) image_size: i64,
    /// Side of a patch, in pixels.
    pub(super) patch_size: i64,
    /// Width of a token.
    pub(super) width: i64,
    /// Number of residual blocks.
    pub(super) layers: i64,
    /// Attention heads.
    pub(super) heads: i64,
    /// Hidden width of the MLPs.
    pub(super) mlp_width: i64,
    /// Whether GELU is approximated by a tanh.
    pub(super) tanh: bool,
}

/// The text tower.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct TextConfig {
    /// Tokens in a caption.
    pub(super) context_length: i64,
    /// Size of the vocabulary.
    pub(super) vocab_size: i64,
    /// Width of a token.
    pub(super) width: i64,
    /// Attention heads.
    pub(super) heads: i64,
    /// Number of residual blocks.
    pub(super) layers: i64,
    /// Hidden width of the MLP over the token's.
    pub(super) mlp_ratio: f64,
    /// Whether GELU is approximated by a tanh.
    pub(super) tanh: bool,
    /// Epsilon of the layer norms.
    pub(super) norm_eps: f64,
    /// Whether its last token is projected, with a bias; else it is as wide as the common space.
    pub(super) projects: bool,
    /// The repository of its vocabulary; `None`: CLIP's.
    pub(super) tokenizer: Option<String>,
}

/// Epsilon of timm's layer norms.
pub(super) const TIMM_EPS: f64 = 1e-6;

fn activation(tanh: bool) -> Activation {
    if tanh { Activation::GeluTanh } else { Activation::Gelu }
}

impl VisionConfig {
    pub(super) fn grid(&self) -> i64 {
        self.image_size / self.patch_size
    }

    pub(super) fn block(&self) -> BlockShape {
        BlockShape {
            width: self.width,
            heads: self.heads,
            mlp_width: self.mlp_width,
            activation: activation(self.tanh),
            norm_eps: TIMM_EPS,
        }
    }

    pub(super) fn parameters(&self) -> i64 {
        let (width, mlp) = (self.width, self.mlp_width);
        let patch = 3 * self.patch_size * self.patch_size * width + width;
        let block = BlockShape::parameters(width, mlp);
        // The pooling is a block with a latent query and one norm.
        let pool = width + block - 2 * width;
        patch + self.grid() * self.grid() * width + self.layers * block + 2 * width + pool
    }
}

impl TextConfig {
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    pub(super) fn mlp_width(&self) -> i64 {
        (self.width as f64 * self.mlp_ratio) as i64
    }

    pub(super) fn block(&self) -> BlockShape {
        BlockShape {
            width: self.width,
            heads: self.heads,
            mlp_width: self.mlp_width(),
            activation: activation(self.tanh),
            norm_eps: self.norm_eps,
        }
    }

    /// `logit_scale` and bias included.
    pub(super) fn parameters(&self, embed_dim: i64) -> i64 {
        let blocks = self.layers * BlockShape::parameters(self.width, self.mlp_width());
        let projection = if self.projects { (self.width + 1) * embed_dim } else { 0 };
        (self.vocab_size + self.context_length + 2) * self.width + projection + blocks + 2
    }
}
