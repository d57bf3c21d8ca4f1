//! The image tower: timm's `VisionTransformer` without class token, pooled by attention of one latent query.

use tch::nn::Path;
use tch::{Kind, Tensor};
use trommel_bridge::{Attention, attention_by};

use super::config::{TIMM_EPS, VisionConfig};
use crate::error::{ModelError, Op};
use crate::family::ImageTower;
use crate::patches::{PatchEmbedding, PatchProduct};
use crate::transformer::{Attend, BlockNames, BlockShape, LayerNorm, Linear, Transformer, of_few_rows, variable};

/// Its variables stand under `visual.trunk.` in a whole model.
#[derive(Debug)]
pub(super) struct VisionTower {
    patch_embed: PatchEmbedding,
    /// \[1, grid * grid, width\].
    pos_embed: Tensor,
    blocks: Transformer,
    norm: LayerNorm,
    pool: Pool,
}

/// timm's `AttentionPoolLatent`: one query that is learned looks at all tokens; then an MLP beside the residual.
#[derive(Debug)]
struct Pool {
    shape: BlockShape,
    /// \[1, 1, width\].
    latent: Tensor,
    q: Linear,
    kv: Linear,
    proj: Linear,
    norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

impl Pool {
    fn new(path: &Path, shape: BlockShape) -> Result<Self, ModelError> {
        let (width, mlp) = (shape.width, path.sub("mlp"));
        Ok(Self {
            shape,
            latent: variable(path, "latent", &[1, 1, width], 0.0)?,
            q: Linear::new(&path.sub("q"), width, width)?,
            kv: Linear::new(&path.sub("kv"), width, 2 * width)?,
            proj: Linear::new(&path.sub("proj"), width, width)?,
            norm: LayerNorm::new(&path.sub("norm"), width, shape.norm_eps)?,
            fc1: Linear::new(&mlp.sub("fc1"), width, shape.mlp_width)?,
            fc2: Linear::new(&mlp.sub("fc2"), shape.mlp_width, width)?,
        })
    }

    /// \[n, tokens, width\] to \[n, width\].
    fn forward(&self, tokens: &Tensor, kernel: Option<Attention>) -> Result<Tensor, ModelError> {
        let place = "visual.trunk.attn_pool";
        let (n, count, width) = tokens.size3().op(place, &[tokens])?;
        let (heads, each) = (self.shape.heads, width / self.shape.heads);
        let query = of_few_rows(&self.latent, || self.q.forward(&self.latent))?;
        let both = self.kv.forward(tokens)?;
        let mixed = || {
            let head = |part: &Tensor, tokens: i64| part.f_reshape([n, tokens, heads, each])?.f_transpose(1, 2);
            let parts = both.f_split(width, -1)?;
            // The same query twice: for a single one libtorch's CPU deals a row's tokens to threads by the row's place in the batch,
            // and its bits would depend on that.
            let query = head(&query.f_expand([n, 2, width], false)?, 2)?;
            let (keys, values) = (head(&parts[0], count)?, head(&parts[1], count)?);
            let mixed = match kernel {
                Some(kernel) => attention_by(kernel, &query, &keys, &values, false)
                    .map_err(|error| tch::TchError::Torch(error.message))?,
                None => Tensor::f_scaled_dot_product_attention(
                    &query,
                    &keys,
                    &values,
                    None::<&Tensor>,
                    0.0,
                    false,
                    None::<f64>,
                    false,
                )?,
            };
            mixed.f_select(2, 0)?.f_reshape([n, width])
        };
        let mixed = mixed().op(place, &[&query, &both])?;
        of_few_rows(&self.latent, || self.fed(&mixed))
    }

    /// What the query took of the tokens, \[n, width\], through the projection, and the MLP's of it added.
    fn fed(&self, mixed: &Tensor) -> Result<Tensor, ModelError> {
        let place = "visual.trunk.attn_pool";
        let x = self.proj.forward(mixed)?;
        // The residual sum is of the latent's kind, as the blocks' is of the positions'.
        let x = self.latent.f_kind().and_then(|kind| x.f_to_kind(kind)).op(place, &[&x])?;
        let fed = self.fc2.forward(&self.shape.activation.of(&self.fc1.forward(&self.norm.forward(&x)?)?)?)?;
        x.f_add(&fed).op(place, &[&x, &fed])
    }
}

impl VisionTower {
    /// Adds the tower's variables at `visual` (give `vs.root() / "visual"`).
    pub(super) fn new(visual: &Path, config: &VisionConfig) -> Result<Self, ModelError> {
        let (path, shape, grid) = (visual.sub("trunk"), config.block(), config.grid());
        let embed = path.sub("patch_embed").sub("proj");
        Ok(Self {
            patch_embed: PatchEmbedding::new(&embed, (config.image_size, config.patch_size), config.width, true)?,
            pos_embed: variable(&path, "pos_embed", &[1, grid * grid, config.width], 0.0)?,
            blocks: Transformer::new(&path, config.layers, shape, &BlockNames::TIMM)?,
            norm: LayerNorm::new(&path.sub("norm"), config.width, TIMM_EPS)?,
            pool: Pool::new(&path.sub("attn_pool"), shape)?,
        })
    }

    pub(super) fn multiply_by_onednn(&mut self) {
        self.blocks.multiply_by_onednn();
    }

    pub(super) const fn attend_by(&mut self, kernel: Option<Attention>) {
        self.blocks.kernel = kernel;
    }

    /// Tokens with their positions to features.
    fn features(&self, tokens: Tensor) -> Result<Tensor, ModelError> {
        let tokens = self.norm.forward(&self.blocks.forward(tokens, Attend::All)?)?;
        self.pool.forward(&tokens, self.blocks.kernel)
    }
}

impl ImageTower for VisionTower {
    fn forward(&self, images: &Tensor) -> Result<Tensor, ModelError> {
        let patches = self.patch_embed.forward(images)?;
        let place = "visual.trunk.pos_embed";
        let kind = self.pos_embed.f_kind().op(place, &[])?;
        let tokens = patches.f_to_kind(kind).and_then(|t| t.f_add(&self.pos_embed));
        self.features(tokens.op(place, &[&patches, &self.pos_embed])?)
    }

    fn patch_product(&self, products: Kind, residual: Kind) -> Result<PatchProduct, ModelError> {
        let positions = self.pos_embed.f_squeeze_dim(0).and_then(|rows| match self.patch_embed.bias() {
            Some(bias) => rows.f_add(bias),
            None => Ok(rows),
        });
        let positions = positions.op("visual.trunk.pos_embed", &[&self.pos_embed])?;
        self.patch_embed.product(positions, 0, (products, residual))
    }

    fn forward_patches(&self, patches: &Tensor, product: &PatchProduct) -> Result<Tensor, ModelError> {
        self.features(product.tokens(patches)?)
    }

    fn pack(&mut self, batch: i64) -> Result<(), ModelError> {
        let tokens = self.pos_embed.size()[1];
        self.blocks.pack(batch * tokens)?;
        self.pool.kv.pack(batch * tokens)
    }

    fn multiply_patches(&mut self, by_product: bool) {
        self.patch_embed.multiply(by_product);
    }
}
