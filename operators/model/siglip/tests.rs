//! SigLIP beside open_clip's (`golden/siglip.py`), where a Python that has it is named by `TROMMEL_PEERS`.

use serde_json::Value;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::peers::{lines, numbers};
use crate::{load, weights};

/// All lines of the script that have a field, and its folder.
fn told() -> Option<(tempfile::TempDir, Vec<Value>)> {
    let folder = tempfile::tempdir().unwrap();
    let text = lines("siglip.py", folder.path())?;
    Some((folder, text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()))
}

fn with<'a>(lines: &'a [Value], field: &'a str) -> impl Iterator<Item = &'a Value> {
    lines.iter().filter(move |line| line.get(field).is_some())
}

#[test]
fn towers_files_and_first_values_are_open_clips() {
    let Some((folder, lines)) = told() else { return };
    let mut read = 0;
    for line in with(&lines, "config") {
        let file = line["config"].as_str().unwrap();
        let model = load(file).unwrap();
        let sizes = model.sizes();
        assert_eq!(Some(sizes.image.parameters + sizes.text.parameters), line["parameters"].as_u64(), "{file}");
        if let Ok(named) = load(model.name()) {
            assert_eq!(named.recorded(), model.recorded(), "{file}");
            read += 1;
        }
    }
    assert!(read >= 17, "{read} are known by name and by file");

    // The small one, by its file: its weights, in their order.
    let tiny = load(folder.path().join("tiny.json").to_str().unwrap()).unwrap();
    let vs = VarStore::new(Device::Cpu);
    let towers = tiny.towers(&vs.root()).unwrap();
    let order: Vec<String> =
        with(&lines, "order").flat_map(|line| serde_json::from_value(line["order"].clone())).next().unwrap();
    let mut ours: Vec<String> = vs.variables().into_keys().collect();
    ours.sort_by_key(|name| (tiny.place_in_file(name), name.clone()));
    assert_eq!(ours, order);

    // What they are drawn from: the same moments, as far as so many numbers tell.
    weights::init(&vs, &*tiny, 1).unwrap();
    for line in with(&lines, "first") {
        let name = line["first"].as_str().unwrap();
        let values = vs.variables()[name].detach().to_kind(Kind::Double).flatten(0, -1);
        let number = |field: &str| line[field].as_f64().unwrap();
        let mean = f64::try_from(values.mean(Kind::Double)).unwrap();
        let largest = f64::try_from(values.abs().max()).unwrap();
        let (std, count) = (number("std"), number("count"));
        let noise = 6.0 * std / count.sqrt();
        assert!((mean - number("mean")).abs() <= noise + 1e-6, "{name}: mean {mean}, theirs {line}");
        if count > 1.0 {
            let own = f64::try_from(values.std(true)).unwrap();
            assert!((own - std).abs() <= noise + 1e-12, "{name}: deviation {own}, theirs {line}");
        }
        assert!(largest <= 1.6 * number("largest") + 1e-12, "{name}: largest {largest}, theirs {line}");
    }

    // Features, whole and with the patches' product.
    weights::load(&vs, &*tiny, &folder.path().join("weights.pt")).unwrap();
    let _no_grad = tch::no_grad_guard();
    let file = |name: &str| folder.path().join(name);
    let pixels = std::fs::read(file("pixels")).unwrap();
    let rows = (pixels.len() / (32 * 32 * 3)) as i64;
    let images = Tensor::from_slice(&pixels).reshape([rows, 32, 32, 3]).permute([0, 3, 1, 2]).to_kind(Kind::Float);
    let images = (images / 255.0 - 0.5) / 0.5;
    let tokens = Tensor::from_slice(&numbers(&file("tokens"), i64::from_le_bytes)).reshape([rows, 64]);
    let theirs = |name: &str| {
        let bytes = std::fs::read(file(name)).unwrap();
        Tensor::from_data_size(&bytes, &[rows, 64], Kind::Float)
    };
    let distance = |a: &Tensor, b: &Tensor| f64::try_from((a - b).abs().max() / b.abs().max()).unwrap();
    let image = towers.encode_image(&images).unwrap();
    let text = towers.encode_text(&tokens).unwrap();
    assert!(distance(&image, &theirs("image")) < 2e-6, "{}", distance(&image, &theirs("image")));
    assert!(distance(&text, &theirs("text")) < 2e-6, "{}", distance(&text, &theirs("text")));
    // The same by a product of patches, as a card is given them.
    let mut alone = VarStore::new(Device::Cpu);
    let mut tower = tiny.image_tower(&alone.root()).unwrap();
    weights::load(&alone, &*tiny, &folder.path().join("weights.pt")).unwrap();
    let product = tower.patch_product(Kind::Float, Kind::Float).unwrap();
    let patches = images.reshape([rows, 3, 4, 8, 4, 8]).permute([0, 2, 4, 3, 5, 1]).reshape([rows, 16, 192]);
    assert!(distance(&tower.forward_patches(&patches, &product).unwrap(), &image) < 1e-5);
    tower.multiply_patches(true);
    assert!(distance(&tower.forward(&images).unwrap(), &image) < 1e-5);
    // And in low precision, near.
    weights::lower(&mut alone, &*tiny, Kind::BFloat16).unwrap();
    assert!(distance(&tower.forward(&images).unwrap().to_kind(Kind::Float), &image) < 0.05);
}

#[test]
fn what_is_not_siglips_is_refused_by_name() {
    let plain = serde_json::json!({
        "embed_dim": 768,
        "vision_cfg": { "image_size": 224, "timm_model_name": "vit_base_patch16_siglip_224", "timm_pool": "map", "timm_proj": "none" },
        "text_cfg": { "width": 768, "no_causal_mask": true, "proj_bias": true, "pool_type": "last" },
    });
    let parse = |value: &Value| {
        let document = crate::document::Document::parse("x", &value.to_string()).unwrap();
        assert!(super::fields::claims(&document));
        super::SiglipConfig::of(document).map_err(|error| error.to_string())
    };
    assert!(parse(&plain).is_ok());
    for (place, field, value) in [
        ("vision_cfg", "timm_model_name", "vit_base_patch16_siglip_gap_224".into()),
        ("vision_cfg", "timm_pool", "avg".into()),
        ("vision_cfg", "timm_proj", "linear".into()),
        ("vision_cfg", "image_size", 256.into()),
        ("vision_cfg", "width", 768.into()),
        ("text_cfg", "pool_type", "argmax".into()),
        ("text_cfg", "no_causal_mask", false.into()),
        ("text_cfg", "proj_bias", false.into()),
        ("text_cfg", "vocab_size", 32_000.into()),
        ("text_cfg", "heads", 7.into()),
        ("text_cfg", "act_kwargs", serde_json::json!({ "approximate": "none" })),
        ("text_cfg", "tokenizer_kwargs", serde_json::json!({ "clean": "canonicalize" })),
        ("text_cfg", "hf_model_name", "roberta-base".into()),
        ("", "embed_dim", 512.into()),
        ("", "quick_gelu", true.into()),
    ] {
        let mut config = plain.clone();
        let target = if place.is_empty() { &mut config } else { &mut config[place] };
        target[field] = value;
        let error = parse(&config).unwrap_err();
        assert!(error.contains(field), "{place}.{field}: {error}");
    }
}

/// The published ones embed; their captions need a vocabulary that is not read here, and that is said.
#[test]
fn captions_of_another_vocabulary_are_refused_by_its_name() {
    let error = load("ViT-B-16-SigLIP").unwrap().captions().unwrap_err().to_string();
    assert!(error.contains("timm/ViT-B-16-SigLIP") && error.contains("not read here"), "{error}");
    let ids = load("trommel-tiny-sigmoid-32").unwrap().captions().unwrap().ids("a cat");
    assert_eq!((ids.len(), &ids[..5]), (64, &[49406, 320, 2368, 49407, 0][..]));
    // A caption that is too long keeps its end token.
    let ids = load("trommel-tiny-sigmoid-32").unwrap().captions().unwrap().ids(&"cat ".repeat(100));
    assert_eq!((ids.len(), ids[62], ids[63]), (64, 2368, 49407));
}
