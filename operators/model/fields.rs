//! The fields of an open_clip configuration: read, or refused by name.

use serde_json::{Map, Value, json};

use super::config::{Preprocess, Resize, TextConfig, VisionConfig};
use super::error::ModelError;

pub(super) fn object(model: &str, top: &mut Map<String, Value>, field: &str) -> Result<Map<String, Value>, ModelError> {
    match top.remove(field) {
        Some(Value::Object(map)) => Ok(map),
        Some(_) => Err(ModelError::config(model, format!("{field} is not an object"))),
        None => Err(ModelError::config(model, format!("{field} is missing: not an open_clip configuration"))),
    }
}

pub(super) fn vision(f: &Fields) -> Result<VisionConfig, ModelError> {
    f.refuse("timm_model_name", &Value::Null)?;
    for field in ["ls_init_value", "act_kwargs"] {
        f.refuse(field, &Value::Null)?;
    }
    f.refuse("patch_dropout", &json!(0.0))?;
    f.refuse("attentional_pool", &json!(false))?;
    f.refuse("pos_embed_type", &json!("learnable"))?;
    f.refuse_custom_block()?;
    let base = VisionConfig::default();
    Ok(VisionConfig {
        image_size: f.side("image_size", base.image_size)?,
        patch_size: f.side("patch_size", base.patch_size)?,
        width: f.int("width", Some(base.width))?,
        layers: f.int("layers", Some(base.layers))?,
        head_width: f.int("head_width", Some(base.head_width))?,
        mlp_ratio: f.float("mlp_ratio", base.mlp_ratio)?,
        no_ln_pre: f.bool("no_ln_pre", false)?,
        pool_average: match f.map.get("pool_type").and_then(Value::as_str).unwrap_or("tok") {
            "tok" => false,
            "avg" => true,
            other => return Err(f.wrong("pool_type", format!("{other:?} is not supported (tok, avg are)"))),
        },
        final_ln_after_pool: f.bool("final_ln_after_pool", false)?,
        norm_eps: f.norm_eps()?,
    })
}

pub(super) fn text_tower(f: &Fields) -> Result<TextConfig, ModelError> {
    for field in ["hf_model_name", "ls_init_value", "act_kwargs"] {
        f.refuse(field, &Value::Null)?;
    }
    for field in ["embed_cls", "proj_bias", "use_pad_mask"] {
        f.refuse(field, &json!(false))?;
    }
    f.refuse("hf_tokenizer_name", &Value::Null)?;
    f.refuse("pool_type", &json!("argmax"))?;
    f.refuse("proj_type", &json!("linear"))?;
    f.refuse_custom_block()?;
    let base = TextConfig::default();
    Ok(TextConfig {
        context_length: f.int("context_length", Some(base.context_length))?,
        vocab_size: f.int("vocab_size", Some(base.vocab_size))?,
        width: f.int("width", Some(base.width))?,
        heads: f.int("heads", Some(base.heads))?,
        layers: f.int("layers", Some(base.layers))?,
        mlp_ratio: f.float("mlp_ratio", base.mlp_ratio)?,
        no_causal_mask: f.bool("no_causal_mask", false)?,
        norm_eps: f.norm_eps()?,
    })
}

pub(super) fn preprocess_of(
    model: &str,
    map: Option<Map<String, Value>>,
    image_size: i64,
) -> Result<Preprocess, ModelError> {
    let f = Fields { model, place: "preprocess_cfg.", map: map.unwrap_or_default() };
    let base = Preprocess::default();
    f.refuse("mode", &json!("RGB"))?;
    f.refuse("interpolation", &json!("bicubic"))?;
    let size = f.side("size", image_size)?;
    let std = f.triple("std", base.std)?;
    if std.iter().any(|&s| s <= 0.0) {
        return Err(f.wrong("std", "must be above zero".into()));
    }
    Ok(Preprocess {
        size: u32::try_from(size).map_err(|_| f.wrong("size", format!("{size} is not a side")))?,
        mode: match f.map.get("resize_mode").and_then(Value::as_str).unwrap_or("shortest") {
            "shortest" => Resize::Shortest,
            "squash" => Resize::Squash,
            other => return Err(f.wrong("resize_mode", format!("{other:?} is not supported (shortest, squash are)"))),
        },
        mean: f.triple("mean", base.mean)?,
        std,
    })
}

/// One object of the file, with its place for error messages.
pub(super) struct Fields<'a> {
    pub model: &'a str,
    pub place: &'static str,
    pub map: Map<String, Value>,
}

impl Fields<'_> {
    fn wrong(&self, field: &str, problem: String) -> ModelError {
        ModelError::config(self.model, format!("{}{field}: {problem}", self.place))
    }

    /// Refuses the field unless it is absent, null or neutral.
    pub(super) fn refuse(&self, field: &str, neutral: &Value) -> Result<(), ModelError> {
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(()),
            Some(value) if value == neutral || (value.as_f64().is_some() && value.as_f64() == neutral.as_f64()) => {
                Ok(())
            }
            Some(value) => Err(self.wrong(field, format!("{value} changes the arithmetic and is not supported"))),
        }
    }

    fn refuse_custom_block(&self) -> Result<(), ModelError> {
        for field in ["qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc"] {
            self.refuse(field, &json!(false))?;
        }
        self.refuse("block_type", &json!("default"))
    }

    pub(super) fn int(&self, field: &str, default: Option<i64>) -> Result<i64, ModelError> {
        match (self.map.get(field), default) {
            (None, Some(default)) => Ok(default),
            (None, None) => Err(self.wrong(field, "is missing".into())),
            (Some(value), _) => {
                value.as_i64().ok_or_else(|| self.wrong(field, format!("{value} is not a whole number")))
            }
        }
    }

    /// A number, or a list of two equal ones.
    fn side(&self, field: &str, default: i64) -> Result<i64, ModelError> {
        match self.map.get(field) {
            Some(Value::Array(sides)) => match sides.as_slice() {
                [a, b] if a == b => a.as_i64().ok_or_else(|| self.wrong(field, format!("{a} is not a whole number"))),
                _ => Err(self.wrong(field, "only squares are supported".into())),
            },
            _ => self.int(field, Some(default)),
        }
    }

    pub(super) fn bool(&self, field: &str, default: bool) -> Result<bool, ModelError> {
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(field, format!("{value} is not true or false"))),
        }
    }

    pub(super) fn float(&self, field: &str, default: f64) -> Result<f64, ModelError> {
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| self.wrong(field, format!("{value} is not a number"))),
        }
    }

    fn triple(&self, field: &str, default: [f64; 3]) -> Result<[f64; 3], ModelError> {
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => {
                let numbers: Option<Vec<f64>> = value.as_array().and_then(|a| a.iter().map(Value::as_f64).collect());
                numbers
                    .and_then(|n| <[f64; 3]>::try_from(n).ok())
                    .ok_or_else(|| self.wrong(field, format!("{value} is not a list of three numbers")))
            }
        }
    }

    fn norm_eps(&self) -> Result<f64, ModelError> {
        match self.map.get("norm_kwargs") {
            None | Some(Value::Null) => Ok(1e-5),
            Some(Value::Object(map)) => {
                if let Some(other) = map.keys().find(|k| *k != "eps") {
                    return Err(self.wrong("norm_kwargs", format!("{other} is not supported")));
                }
                let inner = Fields { model: self.model, place: "norm_kwargs.", map: map.clone() };
                inner.float("eps", 1e-5)
            }
            Some(value) => Err(self.wrong("norm_kwargs", format!("{value} is not an object"))),
        }
    }
}
