//! The text tower: open_clip's transformer without causal mask, read at its last token, padding or not.

use tch::Tensor;
use tch::nn::Path;

use super::config::TextConfig;
use crate::error::{ModelError, Op, shape_of};
use crate::transformer::{Attend, BlockNames, LayerNorm, Linear, Transformer, of_few_rows, variable};

/// Its variables stand under `text.` in a whole model.
#[derive(Debug)]
pub(super) struct TextTower {
    context_length: i64,
    token_embedding: Tensor,
    positional_embedding: Tensor,
    pub(super) transformer: Transformer,
    ln_final: LayerNorm,
    text_projection: Option<Linear>,
}

impl TextTower {
    /// Adds the tower's variables at `path` (give `vs.root() / "text"`).
    pub(super) fn new(path: &Path, config: &TextConfig, embed_dim: i64) -> Result<Self, ModelError> {
        let (width, context_length) = (config.width, config.context_length);
        let embedding = path.sub("token_embedding");
        Ok(Self {
            context_length,
            token_embedding: variable(&embedding, "weight", &[config.vocab_size, width], 0.0)?,
            positional_embedding: variable(path, "positional_embedding", &[context_length, width], 0.0)?,
            transformer: Transformer::new(
                &path.sub("transformer"),
                config.layers,
                config.block(),
                &BlockNames::OPEN_CLIP,
            )?,
            ln_final: LayerNorm::new(&path.sub("ln_final"), width, config.norm_eps)?,
            text_projection: match config.projects {
                true => Some(Linear::new(&path.sub("text_projection"), width, embed_dim)?),
                false => None,
            },
        })
    }

    /// See [`ImageTower::pack`](crate::family::ImageTower::pack).
    pub(super) fn pack(&mut self, batch: i64) -> Result<(), ModelError> {
        self.transformer.pack(batch * self.context_length)
    }

    /// i64\[n, context_length\] to features f32\[n, embed_dim\], not normalised.
    pub(super) fn forward(&self, tokens: &Tensor) -> Result<Tensor, ModelError> {
        if !matches!(tokens.size().as_slice(), &[_, length] if length == self.context_length) {
            let message = format!("expected [n, {}]", self.context_length);
            return Err(ModelError::Tensor { operation: "text".into(), shapes: shape_of(tokens), message });
        }
        let x = Tensor::f_embedding(&self.token_embedding, tokens, -1, false, false)
            .and_then(|x| x.f_add(&self.positional_embedding))
            .op("text.token_embedding", &[&self.token_embedding, tokens])?;
        let x = self.transformer.forward(x, Attend::All)?;
        // The norm works row by row, so taking the last token first gives the same values.
        let last = x.f_select(1, self.context_length - 1).op("text.pool", &[&x])?;
        let last = self.ln_final.forward(&last)?;
        match &self.text_projection {
            Some(projection) => of_few_rows(&self.token_embedding, || projection.forward(&last)),
            None => Ok(last),
        }
    }
}
