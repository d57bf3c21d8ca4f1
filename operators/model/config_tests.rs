//! Configurations: read as open_clip writes them, refused by the name of the field.

use serde_json::{Value, json};

use super::builtin::names;
use super::config::{ClipConfig, Preprocess, Resize};

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
    let Some(data) = std::env::var_os("TROMMEL_TEST_DATA") else {
        eprintln!("skipped: set TROMMEL_TEST_DATA");
        return;
    };
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
        ("", "init_logit_bias", json!(-10)),
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
