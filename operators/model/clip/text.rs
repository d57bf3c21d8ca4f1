//! The text tower: open_clip's causal transformer, read at the end token.

use tch::Tensor;
use tch::nn::Path;

use super::config::ClipConfig;
use crate::captions::PackedCaptions;
use crate::error::{ModelError, Op, shape_of};
use crate::transformer::{Attend, BlockNames, BlockShape, LayerNorm, Transformer, as_weight, of_few_rows, variable};

/// Text tower; its variables stand at the root of a whole model.
#[derive(Debug)]
pub struct TextTransformer {
    context_length: i64,
    causal: bool,
    token_embedding: Tensor,
    positional_embedding: Tensor,
    pub(crate) transformer: Transformer,
    ln_final: LayerNorm,
    text_projection: Tensor,
}

impl TextTransformer {
    /// Adds the tower's variables at `path` (give `vs.root()`).
    ///
    /// # Errors
    /// Memory for the variables cannot be had.
    pub fn new(path: &Path, config: &ClipConfig) -> Result<Self, ModelError> {
        let t = &config.text;
        let shape = BlockShape {
            width: t.width,
            heads: t.heads,
            mlp_width: t.mlp_width(),
            activation: config.activation(),
            norm_eps: t.norm_eps,
        };
        Ok(Self {
            context_length: t.context_length,
            causal: !t.no_causal_mask,
            positional_embedding: variable(path, "positional_embedding", &[t.context_length, t.width], 0.0)?,
            text_projection: variable(path, "text_projection", &[t.width, config.embed_dim], 0.0)?,
            token_embedding: variable(&path.sub("token_embedding"), "weight", &[t.vocab_size, t.width], 0.0)?,
            transformer: Transformer::new(&path.sub("transformer"), t.layers, shape, &BlockNames::OPEN_CLIP)?,
            ln_final: LayerNorm::new(&path.sub("ln_final"), t.width, t.norm_eps)?,
        })
    }

    /// See [`ImageTower::pack`](crate::family::ImageTower::pack).
    pub(crate) fn pack(&mut self, batch: i64) -> Result<(), ModelError> {
        self.transformer.pack(batch * self.context_length)
    }

    /// i64\[n, context_length\] to features f32\[n, embed_dim\], not normalised.
    ///
    /// # Errors
    /// Another shape, an id outside the vocabulary, or libtorch refuses.
    pub fn forward(&self, tokens: &Tensor) -> Result<Tensor, ModelError> {
        let place = "text";
        let n = match tokens.size().as_slice() {
            &[n, length] if length == self.context_length => n,
            _ => {
                let message = format!("expected [n, {}]", self.context_length);
                return Err(ModelError::Tensor { operation: place.into(), shapes: shape_of(tokens), message });
            }
        };
        let x = Tensor::f_embedding(&self.token_embedding, tokens, -1, false, false)
            .and_then(|x| x.f_add(&self.positional_embedding))
            .op("token_embedding", &[&self.token_embedding, tokens])?;
        let x = self.transformer.forward(x, if self.causal { Attend::Causal } else { Attend::All })?;
        // The end token has the largest id, so argmax finds its first place. The norm works row by row.
        let width = x.size()[2];
        let ends = tokens
            .f_argmax(-1, false)
            .and_then(|ends| ends.f_view([n, 1, 1]))
            .and_then(|ends| ends.f_expand([n, 1, width], false))
            .and_then(|ends| x.f_gather(1, &ends, false))
            .and_then(|ends| ends.f_view([n, width]))
            .op("text.pool", &[&x, tokens])?;
        self.project(&ends)
    }

    /// Packed captions to features f32\[n, embed_dim\], not normalised.
    ///
    /// # Errors
    /// An id outside the vocabulary, a tower that is not causal, or libtorch refuses.
    pub fn forward_packed(&self, captions: &PackedCaptions) -> Result<Tensor, ModelError> {
        let PackedCaptions { ids, positions, ends, groups } = captions;
        if !self.causal {
            return Err(ModelError::padding(ids));
        }
        let look_up = |table: &Tensor, at: &Tensor| Tensor::f_embedding(table, at, -1, false, false);
        let x = look_up(&self.token_embedding, ids)
            .and_then(|x| x.f_add(&look_up(&self.positional_embedding, positions)?))
            .op("token_embedding", &[&self.token_embedding, ids])?;
        let x = self.transformer.forward(x, Attend::Groups(groups))?;
        self.project(&x.f_index_select(0, ends).op("text.pool", &[&x, ends])?)
    }

    /// The end tokens' rows, through the last norm, into the shared space.
    fn project(&self, ends: &Tensor) -> Result<Tensor, ModelError> {
        let pooled = self.ln_final.forward(ends)?;
        let pooled = as_weight(&pooled, &self.text_projection)?;
        of_few_rows(&self.text_projection, || pooled.f_matmul(&self.text_projection))
            .op("text_projection", &[&pooled, &self.text_projection])
    }
}
