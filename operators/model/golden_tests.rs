//! Towers, tokenizer and files beside open_clip's. `golden/*.py` made the expectations; they name peer and version.

use serde_json::Value;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use super::clip::{Clip, ClipConfig, VisionTransformer};
use super::golden_inputs::{IMAGES, floats, views};
use super::random::Stream;
use super::tokenizer::Tokenizer;
use super::{ImageTower, Packing, Towers, weights};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// The formula of `golden/towers.py`.
fn scale_and_offset(name: &str, shape: &[i64]) -> (f64, f64) {
    let matrix = |fan: i64| (12.0 / fan as f64).sqrt();
    if format!(".{name}").contains(".ln_") && name.ends_with(".weight") {
        (0.4, 1.0)
    } else if name.ends_with("token_embedding.weight") {
        (2.0, 0.0)
    } else if name.ends_with("class_embedding") || name.ends_with("positional_embedding") {
        (1.0, 0.0)
    } else if shape.len() == 1 {
        (0.2, 0.0)
    } else if name == "visual.proj" || name == "text_projection" {
        (matrix(shape[0]), 0.0)
    } else {
        (matrix(shape[1..].iter().product()), 0.0)
    }
}

pub(crate) fn fill(vs: &VarStore) {
    for (name, mut variable) in vs.variables().into_iter().filter(|(name, _)| name != "logit_scale") {
        let shape = variable.size();
        let (scale, offset) = scale_and_offset(&name, &shape);
        let stream = Stream::new(0, &name);
        let value = |i: usize| {
            let u = (stream.bits(i as u64) >> 40) as f64 / f64::from(1 << 24) - 0.5;
            (offset + scale * u) as f32
        };
        let values: Vec<f32> = (0..variable.numel()).map(value).collect();
        tch::no_grad(|| variable.copy_(&Tensor::from_slice(&values).view(&shape[..])));
    }
}

fn pixels(config: &ClipConfig) -> Tensor {
    let size = i64::from(config.preprocess.size);
    let images = Tensor::from_data_size(&views(size as usize), &[IMAGES as i64, size, size, 3], Kind::Uint8);
    let row = |v: [f64; 3]| Tensor::from_slice(&v.map(|x| x as f32)).view([1, 3, 1, 1]);
    let images = images.permute([0, 3, 1, 2]).to_kind(Kind::Float) / 255.0;
    (images - row(config.preprocess.mean)) / row(config.preprocess.std)
}

fn tokens() -> Tensor {
    let stream = Stream::new(0, "text");
    let mut rows = vec![0i64; IMAGES * 77];
    for (n, row) in rows.chunks_mut(77).enumerate() {
        let length = 5 + 30 * n;
        row[0] = 49406;
        for j in 0..length {
            row[1 + j] = 1 + ((stream.bits((100 * n + j) as u64) >> 33) % 49405) as i64;
        }
        row[1 + length] = 49407;
    }
    Tensor::from_slice(&rows).view([IMAGES as i64, 77])
}

/// Rows divided by their f64 norm.
pub(crate) fn unit(features: &Tensor) -> Vec<f32> {
    let dim = features.size()[1] as usize;
    let flat = Vec::<f32>::try_from(&features.to_kind(Kind::Float).contiguous().view(-1)).unwrap();
    flat.chunks(dim)
        .flat_map(|row| {
            let norm = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            row.iter().map(move |&x| (f64::from(x) / norm) as f32)
        })
        .collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // By the total order, in which what is no number is the largest.
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap()
}

fn smallest_cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dim = a.len() / IMAGES;
    let dot = |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let cosines: Vec<f64> = a.chunks(dim).zip(b.chunks(dim)).map(dot).collect();
    assert!(cosines.iter().all(|cosine| cosine.is_finite()), "{cosines:?}");
    cosines.into_iter().min_by(f64::total_cmp).unwrap()
}

/// What open_clip made of it, and its configuration.
fn case(name: &str) -> (Value, ClipConfig) {
    let golden: Value = serde_json::from_str(include_str!("golden/towers.json")).unwrap();
    let case = golden["cases"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap().clone();
    let config = match case.get("config") {
        Some(config) => ClipConfig::parse(name, &config.to_string()).unwrap(),
        None => ClipConfig::load(name).unwrap(),
    };
    (case, config)
}

fn check(name: &str) {
    let (case, config) = case(name);
    let _no_grad = tch::no_grad_guard();
    let mut vs = VarStore::new(Device::Cpu);
    let expected = floats(&case["image"]);
    let images = pixels(&config);
    let encode: Box<dyn Fn() -> Vec<f32>> = if let Some(text) = case.get("text") {
        let clip = Clip::new(&vs.root(), &config).unwrap();
        fill(&vs);
        let difference = largest_difference(&unit(&clip.encode_text(&tokens()).unwrap()), &floats(text));
        eprintln!("{name}: text differs by {difference:e}");
        assert!(difference <= 2e-5, "{name}: text features differ by {difference}");
        Box::new(move || unit(&clip.encode_image(&images).unwrap()))
    } else {
        let tower = VisionTransformer::new(&vs.root().sub("visual"), &config).unwrap();
        fill(&vs);
        Box::new(move || unit(&tower.forward(&images).unwrap()))
    };
    let difference = largest_difference(&encode(), &expected);
    weights::lower(&mut vs, &config, Kind::BFloat16).unwrap();
    let cosine = smallest_cosine(&encode(), &expected);
    eprintln!("{name}: image differs by {difference:e}, bf16 cosine {cosine}");
    assert!(difference <= 2e-5, "{name}: image features differ by {difference}");
    assert!(cosine >= 0.9995, "{name}: bf16 reaches a cosine of {cosine}");
}

/// As evaluation computes on a CPU: both towers from packed weights, captions without padding, and batches of another size than they were
/// packed for.
#[test]
fn packed_towers_are_open_clips() {
    for name in ["tiny", "ViT-B-32-quickgelu"] {
        let (case, config) = case(name);
        let vs = VarStore::new(Device::Cpu);
        let mut clip = Clip::new(&vs.root(), &config).unwrap();
        fill(&vs);
        clip.pack(64).unwrap();
        let weights = vs.variables().into_iter().filter(|(name, _)| name.ends_with("c_fc.weight"));
        assert!(weights.map(|(_, weight)| weight.numel()).sum::<usize>() == 0, "{name}: weights lie there twice");
        let _no_grad = tch::no_grad_guard();
        let ids = Vec::<i64>::try_from(&tokens().view(-1)).unwrap();
        let captions = Packing::of(&ids, 77).on(Device::Cpu).unwrap();
        for (side, features) in [
            ("image", clip.encode_image(&pixels(&config))),
            ("text", clip.encode_text(&tokens())),
            ("text", clip.encode_captions(&captions)),
        ] {
            let difference = largest_difference(&unit(&features.unwrap()), &floats(&case[side]));
            eprintln!("{name}: {side} from packed weights differs by {difference:e}");
            assert!(difference <= 2e-5, "{name}: {side} features differ by {difference}");
        }
    }
}

#[test]
fn golden_tiny() {
    check("tiny");
}

#[test]
fn golden_vit_b_32() {
    check("ViT-B-32");
}

#[test]
fn golden_vit_b_32_quickgelu() {
    check("ViT-B-32-quickgelu");
}

#[test]
fn golden_vit_b_16_plus_240() {
    check("ViT-B-16-plus-240");
}

/// Features and the kernels' gradient, in f64.
#[test]
fn patches_by_product_are_the_convolutions() {
    let config = ClipConfig::load("trommel-tiny-32").unwrap();
    let mut vs = VarStore::new(Device::Cpu);
    let mut clip = Clip::new(&vs.root(), &config).unwrap();
    fill(&vs);
    vs.double();
    let images = (Tensor::arange(2 * 3 * 32 * 32, (Kind::Double, Device::Cpu)) * 0.71).sin().reshape([2, 3, 32, 32]);
    let mut computed = |by_product| {
        clip.image_mut().multiply_patches(by_product);
        let kernels = vs.variables()["visual.conv1.weight"].shallow_clone();
        kernels.shallow_clone().zero_grad();
        let features = clip.encode_image(&images).unwrap();
        features.cos().sum(Kind::Double).backward();
        (features.detach(), kernels.grad().copy())
    };
    let (convolved, multiplied) = (computed(false), computed(true));
    let distance = |a: &Tensor, b: &Tensor| f64::try_from((a - b).abs().max()).unwrap();
    assert!(distance(&convolved.0, &multiplied.0) < 1e-12);
    assert!(distance(&convolved.1, &multiplied.1) < 1e-12 * f64::try_from(convolved.1.abs().max()).unwrap().max(1.0));
}

#[test]
fn made_up_captions_have_open_clips_ids() {
    let golden: Value = serde_json::from_str(include_str!("golden/hostile.json")).unwrap();
    let tokenizer = Tokenizer::new();
    for case in golden["cases"].as_array().unwrap() {
        let caption = case["caption"].as_str().unwrap();
        let mut ids: Vec<i32> = serde_json::from_value(case["ids"].clone()).unwrap();
        ids.resize(77, 0);
        assert_eq!(tokenizer.encode(caption).to_vec(), ids, "{caption:?}");
        assert_eq!(super::clean::clean(caption), case["clean"], "{caption:?}");
    }
}

#[test]
fn web_captions_have_open_clips_ids() {
    use sha2::{Digest, Sha256};
    use trommel_columnar::parquet::{Column, ColumnType, TableReader};
    let Some(data) = crate::skipped::test_data() else { return };
    let golden: Value = serde_json::from_str(include_str!("golden/captions.json")).unwrap();
    let tokenizer = Tokenizer::new();
    for file in golden["files"].as_array().unwrap() {
        let path = std::path::Path::new(&data).join("captions").join(file["name"].as_str().unwrap());
        let input = Box::new(std::fs::File::open(&path).unwrap());
        let table = TableReader::open(&path, input, &[(file["column"].as_str().unwrap(), ColumnType::Text)]).unwrap();
        let mut captions: Vec<String> = Vec::new();
        for group in table {
            for column in group.unwrap() {
                let Column::Text(texts) = column else { panic!("text is due") };
                captions.extend(texts.into_iter().map(Option::unwrap_or_default));
            }
        }
        let digests = BASE64_STANDARD.decode(file["digests"].as_str().unwrap()).unwrap();
        assert_eq!(captions.len() as u64, file["rows"].as_u64().unwrap());
        for (caption, digest) in captions.iter().zip(digests.chunks(4)) {
            let bytes: Vec<u8> = tokenizer.encode(caption).iter().flat_map(|id| id.to_le_bytes()).collect();
            assert_eq!(Sha256::digest(bytes)[..4], *digest, "{caption:?}");
        }
    }
}

#[test]
fn files_of_torch_and_open_clip_are_read() {
    let golden: Value = serde_json::from_str(include_str!("golden/files.json")).unwrap();
    let config = ClipConfig::parse("files", &golden["config"].to_string()).unwrap();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/files");
    let expected = |key: &str| golden[key].as_str().unwrap().to_string();
    for (file, key) in [
        ("model.safetensors", "fingerprint"),
        ("turned.pt", "fingerprint"),
        ("checkpoint.pt", "fingerprint"),
        ("state_dict.pt", "fingerprint"),
        ("legacy.pt", "fingerprint"),
        ("half.pt", "fingerprint_half"),
    ] {
        let vs = VarStore::new(Device::Cpu);
        let _clip = Clip::new(&vs.root(), &config).unwrap();
        weights::load(&vs, &config, &folder.join(file)).unwrap();
        assert_eq!(weights::fingerprint(&vs).unwrap(), expected(key), "{file}");
        // An image tower alone takes its part of the file.
        let visual = VarStore::new(Device::Cpu);
        let _tower = VisionTransformer::new(&visual.root().sub("visual"), &config).unwrap();
        weights::load(&visual, &config, &folder.join(file)).unwrap();
        assert_eq!(visual.variables()["visual.proj"], vs.variables()["visual.proj"], "{file}");
    }
    let vs = VarStore::new(Device::Cpu);
    let config = ClipConfig::load("trommel-tiny-32").unwrap();
    let _clip = Clip::new(&vs.root(), &config).unwrap();
    let error = weights::load(&vs, &config, &folder.join("model.safetensors")).unwrap_err().to_string();
    assert!(
        error.contains("ln_final.bias has shape [8], expected [64]") && error.contains("model.safetensors"),
        "{error}"
    );
}

#[test]
fn what_is_written_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let config = ClipConfig::load("trommel-tiny-32").unwrap();
    let [a, b] = [0, 1].map(|seed| {
        let vs = VarStore::new(Device::Cpu);
        let _clip = Clip::new(&vs.root(), &config).unwrap();
        weights::init(&vs, &config, seed).unwrap();
        vs
    });
    let path = folder.path().join("a.safetensors");
    a.save(&path).unwrap();
    assert_ne!(weights::fingerprint(&a).unwrap(), weights::fingerprint(&b).unwrap());
    weights::load(&b, &config, &path).unwrap();
    assert_eq!(weights::fingerprint(&a).unwrap(), weights::fingerprint(&b).unwrap());
    let parameters: usize = a.variables().values().map(Tensor::numel).sum();
    assert_eq!(parameters as i64, config.image_parameters() + config.text_parameters());
}

#[test]
fn broken_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let vs = VarStore::new(Device::Cpu);
    let config = ClipConfig::load("trommel-tiny-32").unwrap();
    let _clip = Clip::new(&vs.root(), &config).unwrap();
    let huge_header = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    let short = [&2u64.to_le_bytes()[..], b"{}", b"surplus"].concat();
    for (name, bytes) in [
        ("empty.pt", &b""[..]),
        ("text.safetensors", b"not a tensor"),
        ("header.safetensors", &huge_header),
        ("short.safetensors", &short),
        ("zip.pt", b"PK\x03\x04 and no directory"),
        ("legacy.pt", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = weights::load(&vs, &config, &path).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}
