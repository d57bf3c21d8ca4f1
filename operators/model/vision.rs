//! The image tower: open_clip's `VisionTransformer` with a class token and learned positions.

use tch::nn::Path;
use tch::{Device, Kind, Tensor};

use super::config::ClipConfig;
use super::error::{ModelError, Op, shape_of};
use super::transformer::{Attend, BlockShape, LayerNorm, Transformer, as_weight, variable};

/// Image tower; its variables stand under `visual.` in a whole model.
#[derive(Debug)]
pub struct VisionTransformer {
    image_size: i64,
    patch_size: i64,
    by_product: bool,
    pool_average: bool,
    norm_after_pool: bool,
    conv1: Tensor,
    class_embedding: Tensor,
    positional_embedding: Tensor,
    ln_pre: Option<LayerNorm>,
    pub(crate) transformer: Transformer,
    ln_post: LayerNorm,
    proj: Tensor,
}

/// The patch embedding as a matrix product.
#[derive(Debug)]
pub struct PatchProduct {
    /// \[width, patch * patch * 3\]: the convolution's kernels, a row's values in the order (row, column, channel).
    weight: Tensor,
    /// \[1 + grid * grid, width\]: the positional embedding, the class embedding added to its first row.
    positions: Tensor,
}

impl VisionTransformer {
    /// Adds the tower's variables at `path` (give `vs.root() / "visual"`).
    ///
    /// # Errors
    /// Memory for the variables cannot be had.
    pub fn new(path: &Path, config: &ClipConfig) -> Result<Self, ModelError> {
        let v = &config.vision;
        let shape = BlockShape {
            width: v.width,
            heads: v.heads(),
            mlp_width: v.mlp_width(),
            quick_gelu: config.quick_gelu,
            norm_eps: v.norm_eps,
        };
        let tokens = v.grid() * v.grid() + 1;
        Ok(Self {
            image_size: v.image_size,
            patch_size: v.patch_size,
            by_product: path.device() != Device::Cpu,
            pool_average: v.pool_average,
            norm_after_pool: v.final_ln_after_pool,
            class_embedding: variable(path, "class_embedding", &[v.width], 0.0)?,
            positional_embedding: variable(path, "positional_embedding", &[tokens, v.width], 0.0)?,
            proj: variable(path, "proj", &[v.width, config.embed_dim], 0.0)?,
            conv1: variable(&path.sub("conv1"), "weight", &[v.width, 3, v.patch_size, v.patch_size], 0.0)?,
            ln_pre: if v.no_ln_pre { None } else { Some(LayerNorm::new(&path.sub("ln_pre"), v.width, v.norm_eps)?) },
            transformer: Transformer::new(&path.sub("transformer"), v.layers, shape)?,
            ln_post: LayerNorm::new(&path.sub("ln_post"), v.width, v.norm_eps)?,
        })
    }

    /// f32\[n, 3, size, size\], mean and std applied, to features f32\[n, embed_dim\], not normalised.
    ///
    /// # Errors
    /// Another shape, or libtorch refuses.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor, ModelError> {
        let place = "visual";
        let n = match images.size().as_slice() {
            &[n, 3, h, w] if h == self.image_size && w == self.image_size => n,
            _ => {
                let expected = format!("expected [n, 3, {0}, {0}]", self.image_size);
                return Err(ModelError::Tensor {
                    operation: place.into(),
                    shapes: shape_of(images),
                    message: expected,
                });
            }
        };
        let patches = if self.by_product { self.multiplied(images) } else { self.convolved(images) }?;
        let kind = self.positional_embedding.f_kind().op(place, &[])?;
        let width = self.class_embedding.size()[0];
        let tokens = patches
            .f_to_kind(kind)
            .and_then(|t| {
                Tensor::f_cat(&[&self.class_embedding.f_view([1, 1, width])?.f_expand([n, 1, width], false)?, &t], 1)
            })
            .and_then(|t| t.f_add(&self.positional_embedding))
            .op("visual.positional_embedding", &[&patches, &self.positional_embedding])?;
        self.features(tokens)
    }

    /// What [`forward_patches`](Self::forward_patches) multiplies with, in `products`, and adds, in `residual`, made from the
    /// weights as they are now.
    ///
    /// # Errors
    /// libtorch refuses.
    pub fn patch_product(&self, products: Kind, residual: Kind) -> Result<PatchProduct, ModelError> {
        let width = self.class_embedding.size()[0];
        let weight = self.conv1.f_permute([0, 2, 3, 1]).and_then(|t| t.f_reshape([width, -1])?.f_to_kind(products));
        let rest = self.positional_embedding.f_narrow(0, 1, self.positional_embedding.size()[0] - 1);
        let positions = self
            .positional_embedding
            .f_narrow(0, 0, 1)
            .and_then(|first| Tensor::f_cat(&[first.f_add(&self.class_embedding)?, rest?], 0)?.f_to_kind(residual));
        Ok(PatchProduct {
            weight: weight.op("visual.conv1", &[&self.conv1])?,
            positions: positions.op("visual.positional_embedding", &[&self.positional_embedding])?,
        })
    }

    /// As [`forward`](Self::forward), the convolution written as one matrix product: its kernels do not overlap. Takes patches
    /// \[n, 1 + grid * grid, patch * patch * 3\], mean and std applied, values of a patch in the order (row, column, channel); the
    /// first row is zero, and becomes the class token.
    ///
    /// # Errors
    /// Another shape, or libtorch refuses.
    pub fn forward_patches(&self, patches: &Tensor, product: &PatchProduct) -> Result<Tensor, ModelError> {
        let tokens = patches
            .f_linear(&product.weight, None::<&Tensor>)
            .and_then(|t| t.f_add(&product.positions))
            .op("visual.conv1", &[patches, &product.weight, &product.positions])?;
        self.features(tokens)
    }

    /// Has QuickGELU computed in one pass; for weights that are computed with only, for their values change.
    ///
    /// # Errors
    /// libtorch refuses.
    pub fn fold_quick_gelu(&mut self) -> Result<(), ModelError> {
        self.transformer.fold_quick_gelu()
    }

    /// Tokens with their positions to features.
    fn features(&self, tokens: Tensor) -> Result<Tensor, ModelError> {
        let tokens = match &self.ln_pre {
            Some(norm) => norm.forward(&tokens)?,
            None => tokens,
        };
        let tokens = self.transformer.forward(tokens, Attend::All)?;
        let pooled = self.pool(&tokens)?;
        as_weight(&pooled, &self.proj)?.f_matmul(&self.proj).op("visual.proj", &[&pooled, &self.proj])
    }

    /// Patches f32\[n, patches, width\] by a convolution.
    fn convolved(&self, images: &Tensor) -> Result<Tensor, ModelError> {
        as_weight(images, &self.conv1)?
            .f_conv2d(&self.conv1, None::<&Tensor>, [self.patch_size, self.patch_size], [0, 0], [1, 1], 1)
            .and_then(|t| t.f_flatten(2, -1)?.f_permute([0, 2, 1]))
            .op("visual.conv1", &[images, &self.conv1])
    }

    /// The same by a product: the convolution's kernels do not overlap.
    fn multiplied(&self, images: &Tensor) -> Result<Tensor, ModelError> {
        let (n, side, grid) = (images.size()[0], self.patch_size, self.image_size / self.patch_size);
        let images = as_weight(images, &self.conv1)?;
        images
            .f_narrow(2, 0, grid * side)
            .and_then(|t| t.f_narrow(3, 0, grid * side)?.f_reshape([n, 3, grid, side, grid, side]))
            .and_then(|t| t.f_permute([0, 2, 4, 1, 3, 5])?.f_reshape([n, grid * grid, 3 * side * side]))
            .and_then(|t| t.f_linear(&self.conv1.f_flatten(1, -1)?, None::<&Tensor>))
            .op("visual.conv1", &[&images, &self.conv1])
    }

    /// Whether patches are embedded by a product instead of a convolution: the same up to the order of sums. A card is given the
    /// product.
    pub const fn multiply_patches(&mut self, by_product: bool) {
        self.by_product = by_product;
    }

    fn pool(&self, tokens: &Tensor) -> Result<Tensor, ModelError> {
        let place = "visual.pool";
        if !self.pool_average {
            // The norm works row by row, so taking the class token first gives the same values.
            return self.ln_post.forward(&tokens.f_select(1, 0).op(place, &[tokens])?);
        }
        let mean = |t: &Tensor| {
            t.f_narrow(1, 1, t.size()[1] - 1)
                .and_then(|t| t.f_mean_dim(&[1i64][..], false, None::<tch::Kind>))
                .op(place, &[t])
        };
        if self.norm_after_pool { self.ln_post.forward(&mean(tokens)?) } else { mean(&self.ln_post.forward(tokens)?) }
    }
}
