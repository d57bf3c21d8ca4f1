//! Open_clip's JSON, field by field.

use serde_json::{Value, json};

use super::builtin::{preprocess, tower};
use super::config::{SiglipConfig, TextConfig, VisionConfig};
use crate::document::Document;
use crate::error::ModelError;
use crate::fields::{Fields, object, preprocess_of};
use crate::tokenizer::Tokenizer;

/// Whether a file is a model of SigLIP: its image tower is one of timm's that are called so.
pub(super) fn claims(document: &Document) -> bool {
    let timm = document.top.get("vision_cfg").and_then(|vision| vision.get("timm_model_name"));
    timm.and_then(Value::as_str).is_some_and(|name| name.contains("siglip"))
}

impl SiglipConfig {
    /// Reads open_clip's JSON; what is not known in it is an error.
    pub(super) fn of(document: Document) -> Result<Self, ModelError> {
        let Document { name, mut top, preprocess: how, .. } = document;
        let model = name.as_str();
        let vision_map = object(model, &mut top, "vision_cfg")?;
        let text_map = object(model, &mut top, "text_cfg")?;
        let mut top = Fields { model, place: "", map: top };
        top.neutral(&[
            ("nonscalar_logit_scale", json!(false)),
            ("multimodal_cfg", Value::Null),
            ("cast_dtype", Value::Null),
            ("quick_gelu", json!(false)),
        ])?;
        // A tower of timm's needs it; said or not, the text tower's tensors stand under `text.`.
        top.bool("custom_text", true)?;
        top.bool("output_dict", false)?;
        let vision = vision(Fields { model, place: "vision_cfg.", map: vision_map })?;
        let text = text(Fields { model, place: "text_cfg.", map: text_map })?;
        let embed_dim = top.int("embed_dim", None)?;
        if embed_dim != vision.width {
            let width = vision.width;
            return Err(top.wrong("embed_dim", format!("{embed_dim}, and the pooled tokens are {width} wide")));
        }
        if !text.projects && text.width != embed_dim {
            let width = text.width;
            return Err(top.wrong("embed_dim", format!("{embed_dim}, and text_cfg.proj_type none leaves {width}")));
        }
        let base = preprocess(u32::try_from(vision.image_size).unwrap_or(0));
        let config = Self {
            embed_dim,
            init_logit_scale: top.float("init_logit_scale", 10f64.ln())?,
            init_logit_bias: top.float("init_logit_bias", -10.0)?,
            preprocess: preprocess_of(model, how, vision.image_size, &base)?,
            name: model.into(),
            vision,
            text,
        };
        top.finish()?;
        if config.preprocess.size != base.size {
            let wrong = format!("preprocess_cfg.size {} differs from vision_cfg.image_size", config.preprocess.size);
            return Err(ModelError::config(model, wrong));
        }
        Ok(config)
    }
}

fn vision(mut f: Fields) -> Result<VisionConfig, ModelError> {
    f.neutral(&[
        ("timm_model_pretrained", json!(false)),
        ("timm_proj_bias", json!(false)),
        ("timm_drop", json!(0.0)),
        ("timm_drop_path", Value::Null),
        ("patch_dropout", json!(0.0)),
    ])?;
    let name = f.word("timm_model_name")?.unwrap_or_default();
    let Some(tower) = tower(&name) else {
        return Err(f.wrong("timm_model_name", format!("{name} is no tower that is known here")));
    };
    for (field, needed) in [("timm_pool", "map"), ("timm_proj", "none")] {
        let found = f.word(field)?;
        if found.as_deref() != Some(needed) {
            return Err(f.wrong(field, format!("{found:?} is not supported ({needed} is)")));
        }
    }
    let size = f.side("image_size", 224)?;
    if size != tower.image_size {
        return Err(f.wrong("image_size", format!("{size}, and {name} is one of {}", tower.image_size)));
    }
    f.finish()?;
    Ok(tower)
}

fn text(mut f: Fields) -> Result<TextConfig, ModelError> {
    f.neutral(&[
        ("tokenizer_mode", Value::Null),
        ("ls_init_value", Value::Null),
        ("embed_cls", json!(false)),
        ("pad_id", json!(0)),
        ("eos_id", json!(2)),
        ("final_ln_after_pool", json!(false)),
        ("hf_model_name", Value::Null),
        ("hf_model_pretrained", json!(true)),
        ("hf_proj_type", json!("mlp")),
        ("hf_pooler_type", json!("mean_pooler")),
    ])?;
    let projects = f.one_of("proj_type", &[("linear", true), ("none", false)])?;
    for (field, is_needed) in [("no_causal_mask", true), ("proj_bias", projects)] {
        if !f.bool(field, false)? && is_needed {
            return Err(f.wrong(field, "is needed beside an image tower of SigLIP".into()));
        }
    }
    let pool = f.word("pool_type")?;
    if pool.as_deref() != Some("last") {
        return Err(f.wrong("pool_type", format!("{pool:?} is not supported (last is)")));
    }
    let tanh = match f.map.remove("act_kwargs") {
        None | Some(Value::Null) => false,
        Some(value) if value == json!({ "approximate": "tanh" }) => true,
        Some(value) => return Err(f.wrong("act_kwargs", format!("{value} is not supported"))),
    };
    let tokenizer = f.word("hf_tokenizer_name")?;
    // How a vocabulary's captions are cleaned; CLIP's own clean as they do.
    match f.map.remove("tokenizer_kwargs") {
        None | Some(Value::Null) => {}
        Some(_) if tokenizer.is_some() => {}
        Some(value) => return Err(f.wrong("tokenizer_kwargs", format!("{value} is not supported"))),
    }
    f.block()?;
    let config = TextConfig {
        context_length: f.int("context_length", Some(77))?,
        vocab_size: f.int("vocab_size", Some(49_408))?,
        width: f.int("width", Some(512))?,
        heads: f.int("heads", Some(8))?,
        layers: f.int("layers", Some(12))?,
        mlp_ratio: f.float("mlp_ratio", 4.0)?,
        tanh,
        norm_eps: f.norm_eps()?,
        projects,
        tokenizer,
    };
    let sizes = [
        ("context_length", config.context_length, 3, 1 << 14),
        ("vocab_size", config.vocab_size, 1, 1 << 24),
        ("width", config.width, 1, 1 << 16),
        ("heads", config.heads, 1, 1 << 10),
        ("layers", config.layers, 1, 1 << 10),
    ];
    for (field, value, least, most) in sizes {
        if !(least..=most).contains(&value) {
            return Err(f.wrong(field, format!("{value} is not in {least}..={most}")));
        }
    }
    if config.width % config.heads != 0 {
        return Err(f.wrong("heads", format!("width {} cannot be split into {}", config.width, config.heads)));
    }
    if !(0.01..=100.0).contains(&config.mlp_ratio) {
        return Err(f.wrong("mlp_ratio", format!("{} is not in 0.01..=100", config.mlp_ratio)));
    }
    if config.tokenizer.is_none() && config.vocab_size < Tokenizer::IDS {
        let problem = "is less than the tokens of CLIP's, and no other vocabulary is named".into();
        return Err(f.wrong("vocab_size", problem));
    }
    f.finish()?;
    Ok(config)
}
