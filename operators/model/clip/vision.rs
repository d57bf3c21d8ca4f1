//! The image tower: open_clip's `VisionTransformer` with a class token and learned positions.

use tch::nn::Path;
use tch::{Kind, Tensor};

use super::config::ClipConfig;
use crate::error::{ModelError, Op};
use crate::family::ImageTower;
use crate::patches::{PatchEmbedding, PatchProduct};
use crate::transformer::{Attend, BlockNames, BlockShape, LayerNorm, Transformer, as_weight, of_few_rows, variable};

/// Image tower; its variables stand under `visual.` in a whole model.
#[derive(Debug)]
pub struct VisionTransformer {
    pool_average: bool,
    norm_after_pool: bool,
    conv1: PatchEmbedding,
    class_embedding: Tensor,
    positional_embedding: Tensor,
    ln_pre: Option<LayerNorm>,
    pub(crate) transformer: Transformer,
    ln_post: LayerNorm,
    proj: Tensor,
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
            activation: config.activation(),
            norm_eps: v.norm_eps,
        };
        let tokens = v.grid() * v.grid() + 1;
        Ok(Self {
            pool_average: v.pool_average,
            norm_after_pool: v.final_ln_after_pool,
            class_embedding: variable(path, "class_embedding", &[v.width], 0.0)?,
            positional_embedding: variable(path, "positional_embedding", &[tokens, v.width], 0.0)?,
            proj: variable(path, "proj", &[v.width, config.embed_dim], 0.0)?,
            conv1: PatchEmbedding::new(&path.sub("conv1"), (v.image_size, v.patch_size), v.width, false)?,
            ln_pre: if v.no_ln_pre { None } else { Some(LayerNorm::new(&path.sub("ln_pre"), v.width, v.norm_eps)?) },
            transformer: Transformer::new(&path.sub("transformer"), v.layers, shape, &BlockNames::OPEN_CLIP)?,
            ln_post: LayerNorm::new(&path.sub("ln_post"), v.width, v.norm_eps)?,
        })
    }

    /// Tokens with their positions to features.
    fn features(&self, tokens: Tensor) -> Result<Tensor, ModelError> {
        let tokens = match &self.ln_pre {
            Some(norm) => norm.forward(&tokens)?,
            None => tokens,
        };
        let tokens = self.transformer.forward(tokens, Attend::All)?;
        let pooled = self.pool(&tokens)?;
        let pooled = as_weight(&pooled, &self.proj)?;
        of_few_rows(&self.proj, || pooled.f_matmul(&self.proj)).op("visual.proj", &[&pooled, &self.proj])
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

impl ImageTower for VisionTransformer {
    fn forward(&self, images: &Tensor) -> Result<Tensor, ModelError> {
        let place = "visual";
        let patches = self.conv1.forward(images)?;
        let n = images.size()[0];
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

    fn patch_product(&self, products: Kind, residual: Kind) -> Result<PatchProduct, ModelError> {
        let rest = self.positional_embedding.f_narrow(0, 1, self.positional_embedding.size()[0] - 1);
        let positions = self
            .positional_embedding
            .f_narrow(0, 0, 1)
            .and_then(|first| Tensor::f_cat(&[first.f_add(&self.class_embedding)?, rest?], 0))
            .op("visual.positional_embedding", &[&self.positional_embedding])?;
        self.conv1.product(positions, 1, (products, residual))
    }

    fn forward_patches(&self, patches: &Tensor, product: &PatchProduct) -> Result<Tensor, ModelError> {
        self.features(product.tokens(patches)?)
    }

    fn fold_activation(&mut self) -> Result<(), ModelError> {
        self.transformer.fold_quick_gelu()
    }

    fn pack(&mut self, batch: i64) -> Result<(), ModelError> {
        let tokens = self.positional_embedding.size()[0];
        self.transformer.pack(batch * tokens)
    }

    fn multiply_patches(&mut self, by_product: bool) {
        self.conv1.multiply(by_product);
    }
}
