//! The fields of CLIP's towers.

use serde_json::{Value, json};

use super::config::{TextConfig, VisionConfig};
use crate::error::ModelError;
use crate::fields::Fields;

pub(super) fn vision(mut f: Fields) -> Result<VisionConfig, ModelError> {
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

pub(super) fn text_tower(mut f: Fields) -> Result<TextConfig, ModelError> {
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
