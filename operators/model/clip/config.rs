//! CLIP's architecture, from open_clip's JSON or by name.
//!
//! open_clip's files carry fields for many towers: `fields.rs` is the list of what is understood, all else is
//! refused by name.

use serde::Serialize;
use serde_json::json;

use crate::error::ModelError;
use crate::preprocess::Preprocess;
use crate::transformer::{Activation, BlockShape};

/// The whole model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClipConfig {
    /// open_clip's name of the architecture, or the stem of the file it came from.
    pub name: String,
    /// Width of the common space.
    pub embed_dim: i64,
    /// `x * sigmoid(1.702 x)` instead of the exact GELU; OpenAI's weights need it.
    pub quick_gelu: bool,
    /// Initial `logit_scale`, a natural logarithm.
    pub init_logit_scale: f64,
    /// Initial `logit_bias`: such a model is trained by the sigmoid, as by open_clip's `--siglip`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_logit_bias: Option<f64>,
    /// Shape of the image tower.
    pub vision: VisionConfig,
    /// Shape of the text tower.
    pub text: TextConfig,
    /// How a picture becomes the tower's input.
    pub preprocess: Preprocess,
}

/// The image tower.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VisionConfig {
    /// Side of the square input, in pixels.
    pub image_size: i64,
    /// Side of a patch, in pixels.
    pub patch_size: i64,
    /// Width of a token.
    pub width: i64,
    /// Number of residual blocks.
    pub layers: i64,
    /// Width of one attention head.
    pub head_width: i64,
    /// Hidden width of the MLP over the token's.
    pub mlp_ratio: f64,
    /// Whether the layer norm before the blocks is left out.
    pub no_ln_pre: bool,
    /// Mean over the patch tokens instead of the class token.
    pub pool_average: bool,
    /// Whether the last layer norm comes after pooling; only matters with `pool_average`.
    pub final_ln_after_pool: bool,
    /// Epsilon of the layer norms.
    pub norm_eps: f64,
}

/// The text tower.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TextConfig {
    /// Tokens in a caption, start and end included.
    pub context_length: i64,
    /// Size of the vocabulary.
    pub vocab_size: i64,
    /// Width of a token.
    pub width: i64,
    /// Number of attention heads.
    pub heads: i64,
    /// Number of residual blocks.
    pub layers: i64,
    /// Hidden width of the MLP over the token's.
    pub mlp_ratio: f64,
    /// Whether tokens see those after them.
    pub no_causal_mask: bool,
    /// Epsilon of the layer norms.
    pub norm_eps: f64,
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            image_size: 224,
            patch_size: 16,
            width: 768,
            layers: 12,
            head_width: 64,
            mlp_ratio: 4.0,
            no_ln_pre: false,
            pool_average: false,
            final_ln_after_pool: false,
            norm_eps: 1e-5,
        }
    }
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            context_length: 77,
            vocab_size: 49408,
            width: 512,
            heads: 8,
            layers: 12,
            mlp_ratio: 4.0,
            no_causal_mask: false,
            norm_eps: 1e-5,
        }
    }
}

impl VisionConfig {
    /// Attention heads.
    #[must_use]
    pub fn heads(&self) -> i64 {
        self.width / self.head_width.max(1)
    }

    /// Patches along one side.
    #[must_use]
    pub fn grid(&self) -> i64 {
        self.image_size / self.patch_size.max(1)
    }

    /// Hidden width of the MLP.
    #[must_use]
    pub fn mlp_width(&self) -> i64 {
        mlp_width(self.width, self.mlp_ratio)
    }
}

impl TextConfig {
    /// Hidden width of the MLP.
    #[must_use]
    pub fn mlp_width(&self) -> i64 {
        mlp_width(self.width, self.mlp_ratio)
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
fn mlp_width(width: i64, ratio: f64) -> i64 {
    (width as f64 * ratio) as i64
}

impl ClipConfig {
    /// The same as open_clip writes it; `open_clip.add_model_config` reads the file.
    #[must_use]
    pub fn to_open_clip_json(&self) -> String {
        let (v, t) = (&self.vision, &self.text);
        let mut vision = json!({
            "image_size": v.image_size, "layers": v.layers, "width": v.width, "patch_size": v.patch_size,
            "head_width": v.head_width, "mlp_ratio": v.mlp_ratio,
        });
        let mut text = json!({
            "context_length": t.context_length, "vocab_size": t.vocab_size, "width": t.width, "heads": t.heads,
            "layers": t.layers, "mlp_ratio": t.mlp_ratio,
        });
        if v.no_ln_pre {
            vision["no_ln_pre"] = json!(true);
        }
        if v.pool_average {
            vision["pool_type"] = json!("avg");
        }
        if v.final_ln_after_pool {
            vision["final_ln_after_pool"] = json!(true);
        }
        if v.norm_eps != 1e-5 {
            vision["norm_kwargs"] = json!({ "eps": v.norm_eps });
        }
        if t.norm_eps != 1e-5 {
            text["norm_kwargs"] = json!({ "eps": t.norm_eps });
        }
        if t.no_causal_mask {
            text["no_causal_mask"] = json!(true);
        }
        let mut all = json!({ "embed_dim": self.embed_dim, "vision_cfg": vision, "text_cfg": text });
        if self.quick_gelu {
            all["quick_gelu"] = json!(true);
        }
        if (self.init_logit_scale - (1.0f64 / 0.07).ln()).abs() > 1e-12 {
            all["init_logit_scale"] = json!(self.init_logit_scale);
        }
        if let Some(bias) = self.init_logit_bias {
            all["init_logit_bias"] = json!(bias);
        }
        format!("{all:#}")
    }

    /// Parameters of the image tower.
    #[must_use]
    pub fn image_parameters(&self) -> i64 {
        let v = &self.vision;
        let patch = 3 * v.patch_size * v.patch_size * v.width;
        let tokens = (v.grid() * v.grid() + 1) * v.width + v.width;
        let norms = if v.no_ln_pre { 2 } else { 4 } * v.width;
        patch + tokens + norms + v.layers * BlockShape::parameters(v.width, v.mlp_width()) + v.width * self.embed_dim
    }

    /// Parameters of the text tower, `logit_scale` and bias included.
    #[must_use]
    pub fn text_parameters(&self) -> i64 {
        let t = &self.text;
        (t.vocab_size + t.context_length + 2 + self.embed_dim) * t.width
            + t.layers * BlockShape::parameters(t.width, t.mlp_width())
            + 1
            + i64::from(self.init_logit_bias.is_some())
    }

    pub(super) fn activation(&self) -> Activation {
        if self.quick_gelu { Activation::QuickGelu } else { Activation::Gelu }
    }

    /// Checks sizes against each other.
    ///
    /// # Errors
    /// The first field that does not fit.
    pub fn validate(&self) -> Result<(), ModelError> {
        let wrong = |problem: String| Err(ModelError::config(&self.name, problem));
        let (v, t) = (&self.vision, &self.text);
        let sizes = [
            ("embed_dim", self.embed_dim, 1 << 16),
            ("vision_cfg.image_size", v.image_size, 1 << 13),
            ("vision_cfg.patch_size", v.patch_size, 1 << 13),
            ("vision_cfg.width", v.width, 1 << 16),
            ("vision_cfg.layers", v.layers, 1 << 10),
            ("vision_cfg.head_width", v.head_width, 1 << 16),
            ("text_cfg.context_length", t.context_length, 1 << 14),
            ("text_cfg.vocab_size", t.vocab_size, 1 << 24),
            ("text_cfg.width", t.width, 1 << 16),
            ("text_cfg.heads", t.heads, 1 << 10),
            ("text_cfg.layers", t.layers, 1 << 10),
        ];
        for (field, value, most) in sizes {
            if value < 1 || value > most {
                return wrong(format!("{field} = {value} is not in 1..={most}"));
            }
        }
        for (field, ratio) in [("vision_cfg.mlp_ratio", v.mlp_ratio), ("text_cfg.mlp_ratio", t.mlp_ratio)] {
            if !(0.01..=100.0).contains(&ratio) {
                return wrong(format!("{field} = {ratio} is not in 0.01..=100"));
            }
        }
        if v.patch_size > v.image_size {
            return wrong(format!("a patch of {} does not fit into {} pixels", v.patch_size, v.image_size));
        }
        if v.heads() < 1 || v.width % v.heads() != 0 {
            return wrong(format!("vision width {} cannot be split into {} heads", v.width, v.heads()));
        }
        if t.width % t.heads != 0 {
            return wrong(format!("text width {} cannot be split into {} heads", t.width, t.heads));
        }
        if t.context_length < 3 {
            return wrong("text_cfg.context_length leaves no room between start and end".into());
        }
        if i64::from(self.preprocess.size) != v.image_size {
            let (size, image) = (self.preprocess.size, v.image_size);
            return wrong(format!("preprocess_cfg.size {size} differs from vision_cfg.image_size {image}"));
        }
        Ok(())
    }
}
