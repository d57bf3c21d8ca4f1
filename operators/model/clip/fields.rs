//! Open_clip's JSON, field by field.

use serde_json::{Value, json};

use super::builtin::{builtin, known};
use super::config::{ClipConfig, TextConfig, VisionConfig};
use crate::document::Document;
use crate::error::ModelError;
use crate::fields::{Fields, object, preprocess_of};
use crate::preprocess::Preprocess;

impl ClipConfig {
    /// A built-in name, or the path of an open_clip JSON file.
    ///
    /// # Errors
    /// Unknown name, unreadable file, wrong or unsupported field.
    pub fn load(name_or_path: &str) -> Result<Self, ModelError> {
        builtin(name_or_path).map_or_else(|| Self::of(Document::open(name_or_path, known)?), Ok)
    }

    /// From the text of an open_clip configuration.
    ///
    /// # Errors
    /// Not JSON, a wrong type, a missing field, or a field that is not supported.
    pub fn parse(name: &str, text: &str) -> Result<Self, ModelError> {
        Self::of(Document::parse(name, text)?)
    }

    pub(super) fn of(document: Document) -> Result<Self, ModelError> {
        let Document { name, mut top, preprocess, .. } = document;
        let name = name.as_str();
        let vision_map = object(name, &mut top, "vision_cfg")?;
        let text_map = object(name, &mut top, "text_cfg")?;
        let mut top = Fields { model: name, place: "", map: top };
        top.neutral(&[
            ("nonscalar_logit_scale", json!(false)),
            ("multimodal_cfg", Value::Null),
            ("cast_dtype", Value::Null),
        ])?;
        // Where the text tower's tensors stand in a file, and what open_clip's forward returns: no feature changes.
        top.bool("custom_text", false)?;
        top.bool("output_dict", false)?;
        let vision = vision(Fields { model: name, place: "vision_cfg.", map: vision_map })?;
        let config = Self {
            name: name.into(),
            embed_dim: top.int("embed_dim", None)?,
            quick_gelu: top.bool("quick_gelu", false)?,
            init_logit_scale: top.float("init_logit_scale", (1.0f64 / 0.07).ln())?,
            init_logit_bias: top.optional_float("init_logit_bias")?,
            text: text_tower(Fields { model: name, place: "text_cfg.", map: text_map })?,
            preprocess: preprocess_of(name, preprocess, vision.image_size, &Preprocess::default())?,
            vision,
        };
        top.finish()?;
        config.validate()?;
        Ok(config)
    }
}

fn vision(mut f: Fields) -> Result<VisionConfig, ModelError> {
    let base = VisionConfig::default();
    f.neutral(&[
        ("ls_init_value", Value::Null),
        ("patch_dropout", json!(0.0)),
        ("attentional_pool", json!(false)),
        ("attn_pooler_queries", json!(256)),
        ("attn_pooler_heads", json!(8)),
        ("pos_embed_type", json!("learnable")),
        ("timm_model_name", Value::Null),
        ("timm_model_pretrained", json!(false)),
        ("timm_pool", json!("avg")),
        ("timm_proj", json!("linear")),
        ("timm_proj_bias", json!(false)),
        ("timm_drop", json!(0.0)),
        ("timm_drop_path", Value::Null),
    ])?;
    f.block()?;
    // A list of them is a ResNet, whose other fields say less about what is wrong.
    let layers = f.int("layers", Some(base.layers))?;
    let config = VisionConfig {
        image_size: f.side("image_size", base.image_size)?,
        patch_size: f.side("patch_size", base.patch_size)?,
        width: f.int("width", Some(base.width))?,
        layers,
        head_width: f.int("head_width", Some(base.head_width))?,
        mlp_ratio: f.float("mlp_ratio", base.mlp_ratio)?,
        no_ln_pre: f.bool("no_ln_pre", false)?,
        pool_average: f.one_of("pool_type", &[("tok", false), ("avg", true)])?,
        final_ln_after_pool: f.bool("final_ln_after_pool", false)?,
        norm_eps: f.norm_eps()?,
    };
    f.finish()?;
    Ok(config)
}

fn text_tower(mut f: Fields) -> Result<TextConfig, ModelError> {
    let base = TextConfig::default();
    f.neutral(&[
        ("hf_tokenizer_name", Value::Null),
        ("tokenizer_mode", Value::Null),
        ("tokenizer_kwargs", Value::Null),
        ("ls_init_value", Value::Null),
        ("embed_cls", json!(false)),
        ("pad_id", json!(0)),
        ("eos_id", json!(2)),
        ("final_ln_after_pool", json!(false)),
        ("pool_type", json!("argmax")),
        ("proj_bias", json!(false)),
        ("proj_type", json!("linear")),
        ("hf_model_name", Value::Null),
        ("hf_model_pretrained", json!(true)),
        ("hf_proj_type", json!("mlp")),
        ("hf_pooler_type", json!("mean_pooler")),
    ])?;
    f.block()?;
    let config = TextConfig {
        context_length: f.int("context_length", Some(base.context_length))?,
        vocab_size: f.int("vocab_size", Some(base.vocab_size))?,
        width: f.int("width", Some(base.width))?,
        heads: f.int("heads", Some(base.heads))?,
        layers: f.int("layers", Some(base.layers))?,
        mlp_ratio: f.float("mlp_ratio", base.mlp_ratio)?,
        no_causal_mask: f.bool("no_causal_mask", false)?,
        norm_eps: f.norm_eps()?,
    };
    f.finish()?;
    Ok(config)
}
