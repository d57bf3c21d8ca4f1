//! Configurations: read as open_clip writes them, refused by the name of the field.

use serde_json::{Value, json};

use super::builtin::names;
use super::config::ClipConfig;
use crate::family::Architecture;
use crate::preprocess::{Preprocess, Resize};

fn plain() -> Value {
    json!({
        "embed_dim": 512,
        "vision_cfg": { "image_size": 224, "layers": 12, "width": 768, "patch_size": 32 },
        "text_cfg": { "context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12 },
    })
}

fn parse(value: &Value) -> Result<ClipConfig, String> {
    ClipConfig::parse("ViT-B-32", &value.to_string()).map_err(|error| error.to_string())
}

#[test]
fn builtins_equal_their_files() {
    assert_eq!(parse(&plain()).unwrap(), ClipConfig::load("ViT-B-32").unwrap());
    for name in names() {
        for name in [name.to_string(), format!("{name}-quickgelu")] {
            let config = ClipConfig::load(&name).unwrap();
            config.validate().unwrap();
            assert_eq!(ClipConfig::parse(&name, &config.to_open_clip_json()).unwrap(), config);
        }
    }
    let Some(data) = crate::skipped::test_data() else { return };
    for name in ["ViT-B-32", "ViT-B-16-plus-240"] {
        let path = std::path::Path::new(&data).join("clip_meta/configs").join(format!("{name}.json"));
        assert_eq!(ClipConfig::load(&path.to_string_lossy()).unwrap(), ClipConfig::load(name).unwrap());
    }
}

#[test]
fn parameters_are_open_clips() {
    // Totals of open_clip's own models.
    for (name, total) in [("ViT-B-32", 151_277_313), ("ViT-B-16", 149_620_737), ("ViT-L-14", 427_616_513)] {
        let config = ClipConfig::load(name).unwrap();
        assert_eq!(config.image_parameters() + config.text_parameters(), total, "{name}");
    }
    assert!(ClipConfig::load("trommel-small-32").unwrap().image_parameters() < 1_000_000);
}

#[test]
fn a_hub_file_brings_its_preprocessing() {
    let hub = json!({
        "model_cfg": plain(),
        "preprocess_cfg": { "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "resize_mode": "squash" },
    });
    let config = parse(&hub).unwrap();
    let expected = Preprocess { size: 224, mode: Resize::Squash, mean: [0.5; 3], std: [0.5; 3] };
    assert_eq!(config.preprocess, expected);
    assert_eq!(expected.to_string(), "224 px squash bicubic-antialias mean [0.5, 0.5, 0.5] std [0.5, 0.5, 0.5]");
}

#[test]
fn what_changes_the_arithmetic_is_refused_by_name() {
    for (place, field, value) in [
        ("vision_cfg", "timm_model_name", json!("vit_base")),
        ("vision_cfg", "ls_init_value", json!(1e-5)),
        ("vision_cfg", "patch_dropout", json!(0.5)),
        ("vision_cfg", "attentional_pool", json!(true)),
        ("vision_cfg", "qk_norm", json!(true)),
        ("vision_cfg", "pool_type", json!("none")),
        ("vision_cfg", "layers", json!([3, 4, 6, 3])),
        ("vision_cfg", "image_size", json!([224, 256])),
        ("vision_cfg", "width", json!(100_000_000)),
        ("vision_cfg", "patch_size", json!(0)),
        ("text_cfg", "hf_model_name", json!("roberta-base")),
        ("text_cfg", "embed_cls", json!(true)),
        ("text_cfg", "heads", json!(7)),
        ("text_cfg", "norm_kwargs", json!({ "elementwise_affine": false })),
        ("", "init_logit_bias", json!("low")),
        ("", "nonscalar_logit_scale", json!(true)),
        ("", "embed_dim", json!("many")),
        ("preprocess_cfg", "interpolation", json!("bilinear")),
        ("preprocess_cfg", "resize_mode", json!("longest")),
        ("preprocess_cfg", "std", json!([0.5, 0.5, 0.0])),
        ("preprocess_cfg", "size", json!(256)),
    ] {
        let mut config = plain();
        let target = if place.is_empty() { &mut config } else { &mut config[place] };
        target[field] = value;
        let error = parse(&config).unwrap_err();
        assert!(error.contains(field) || (field == "heads" && error.contains("7 heads")), "{place}.{field}: {error}");
    }
    for text in ["", "[]", "{}", "{\"embed_dim\": 512}", "{\"vision_cfg\": 3}"] {
        assert!(ClipConfig::parse("x", text).is_err());
    }
}

/// open_clip's `--siglip` trains any of its models so.
#[test]
fn a_bias_makes_it_a_model_of_the_sigmoid() {
    let mut config = plain();
    config["init_logit_bias"] = json!(-10);
    let biased = parse(&config).unwrap();
    assert_eq!(biased.init_logit_bias, Some(-10.0));
    assert_eq!(ClipConfig::parse("ViT-B-32", &biased.to_open_clip_json()).unwrap(), biased);
    // What was recorded of a model without one stays as it was.
    let plain = serde_json::to_value(ClipConfig::load("ViT-B-32").unwrap()).unwrap();
    assert!(plain.get("init_logit_bias").is_none(), "{plain}");
}

#[test]
fn captions_are_refused_where_their_tokens_have_no_rows_and_pictures_are_not() {
    for (vocab_size, fits) in [(49_408, true), (49_407, false)] {
        let mut config = plain();
        config["text_cfg"]["vocab_size"] = json!(vocab_size);
        let captions = parse(&config).unwrap().captions().map(drop).map_err(|error| error.to_string());
        assert_eq!(captions.is_ok(), fits);
        assert!(captions.err().is_none_or(|said| said.contains("vocab_size = 49407")));
    }
}

#[test]
fn neutral_and_foreign_fields_pass() {
    let mut config = plain();
    config["vision_cfg"]["patch_dropout"] = json!(0);
    config["vision_cfg"]["ls_init_value"] = Value::Null;
    config["vision_cfg"]["output_tokens"] = json!(true);
    config["text_cfg"]["pool_type"] = json!("argmax");
    config["custom_text"] = json!(true);
    assert_eq!(parse(&config).unwrap(), ClipConfig::load("ViT-B-32").unwrap());
}

/// open_clip's dataclasses and `CLIP.__init__` refuse each of these as well.
#[test]
fn what_nobody_knows_is_refused_by_name() {
    for (place, field, value) in [
        ("vision_cfg", "global_average_pool", json!(true)),
        ("vision_cfg", "input_patchnorm", json!(true)),
        ("vision_cfg", "no_lnpre", json!(true)),
        ("vision_cfg", "quick_gelu", json!(true)),
        ("vision_cfg", "act_layer", json!("quick_gelu")),
        ("vision_cfg", "num_registers", json!(4)),
        ("vision_cfg", "pool", json!("avg")),
        ("vision_cfg", "layer_scale_init", json!(1e-5)),
        // A null is no value that is known either.
        ("vision_cfg", "dropout", Value::Null),
        ("text_cfg", "pooling", json!("last")),
        ("text_cfg", "tokenizer_kwargs", json!({ "clean": "canonicalize" })),
        ("text_cfg", "eos_id", json!(1)),
        ("", "quickgelu", json!(true)),
        ("", "vision_config", json!({})),
        ("preprocess_cfg", "resizemode", json!("squash")),
        ("preprocess_cfg", "fill_color", json!(255)),
        // Of another type than any that is known.
        ("vision_cfg", "pool_type", json!(1)),
        ("preprocess_cfg", "resize_mode", json!(["squash"])),
        ("", "model_cfg", json!("ViT-B-32")),
    ] {
        let mut config = plain();
        let target = if place.is_empty() { &mut config } else { &mut config[place] };
        target[field] = value;
        let error = parse(&config).unwrap_err();
        assert!(error.contains(field) && error.contains(place), "{place}.{field}: {error}");
    }
    let hub = json!({ "model_cfg": plain(), "preprocess_cfg": {}, "quick_gelu": true });
    assert!(parse(&hub).unwrap_err().contains("quick_gelu"));
}

/// What `dataclasses.asdict` writes of a plain model: every field, with its default.
#[test]
fn every_default_of_open_clips_passes() {
    let block = json!({
        "ls_init_value": null, "act_kwargs": null, "norm_kwargs": null, "block_type": null, "qk_norm": false,
        "scaled_cosine_attn": false, "scale_heads": false, "scale_attn_inner": false, "scale_attn": false, "scale_fc": false,
        "mlp_ratio": 4.0, "output_tokens": false, "final_ln_after_pool": false,
    });
    let vision = json!({
        "head_width": 64, "patch_dropout": 0.0, "attentional_pool": false, "attn_pooler_queries": 256,
        "attn_pooler_heads": 8, "no_ln_pre": false, "pos_embed_type": "learnable", "pool_type": "tok",
        "timm_model_name": null, "timm_model_pretrained": false, "timm_pool": "avg", "timm_proj": "linear",
        "timm_proj_bias": false, "timm_drop": 0.0, "timm_drop_path": null,
    });
    let text = json!({
        "hf_tokenizer_name": null, "tokenizer_mode": null, "tokenizer_kwargs": null, "embed_cls": false, "pad_id": 0,
        "eos_id": 2, "no_causal_mask": false, "pool_type": "argmax", "proj_bias": false, "proj_type": "linear",
        "hf_model_name": null, "hf_model_pretrained": true, "hf_proj_type": "mlp", "hf_pooler_type": "mean_pooler",
    });
    let mut config = plain();
    for (place, fields) in [("vision_cfg", &block), ("vision_cfg", &vision), ("text_cfg", &block), ("text_cfg", &text)]
    {
        for (field, value) in fields.as_object().unwrap() {
            config[place][field] = value.clone();
        }
    }
    for (field, value) in [
        ("quick_gelu", json!(false)),
        ("init_logit_bias", Value::Null),
        ("nonscalar_logit_scale", json!(false)),
        ("cast_dtype", Value::Null),
        ("output_dict", json!(false)),
    ] {
        config[field] = value;
    }
    assert_eq!(parse(&config).unwrap(), ClipConfig::load("ViT-B-32").unwrap());
    let preprocess = json!({
        "size": [224, 224], "mode": "RGB", "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711], "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0,
    });
    let hub = json!({ "model_cfg": config, "preprocess_cfg": preprocess });
    assert_eq!(parse(&hub).unwrap(), ClipConfig::load("ViT-B-32").unwrap());
}
