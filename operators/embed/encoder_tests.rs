//! Encoders: bits do not depend on neighbours; TorchScript modules; what `load` refuses.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tch::{Device, Kind, Tensor};
use trommel_bridge::Attention;

use super::encoder::{EncoderConfig, EncoderPrecision, Form, ImageEncoder, Shape, is_neighbour_free};
use super::golden_inputs::{IMAGES, floats, views};
use super::load::{load, try_on_card};
use trommel_core::hash::mix;
use trommel_model::ModelError;
use trommel_model::clip::ClipConfig;

pub(super) fn config(model: &str) -> EncoderConfig {
    EncoderConfig {
        model: model.into(),
        weights: None,
        torchscript: false,
        random_init: Some(0),
        precision: EncoderPrecision::F32,
        batch: 8,
        device: Device::Cpu,
        threads: 1,
        form: None,
    }
}

fn files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/golden/files")
}

/// One layer of a large model's shape: the widths decide how libtorch cuts its products.
fn shallow(folder: &Path, model: &str) -> String {
    let mut config = ClipConfig::load(model).unwrap();
    config.vision.layers = 1;
    let path = folder.join(format!("shallow-{model}.json"));
    std::fs::write(&path, config.to_open_clip_json()).unwrap();
    path.to_string_lossy().into_owned()
}

#[test]
fn bits_do_not_depend_on_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    let deep = |name: &str| (name.to_string(), &[(1, 8), (2, 8), (2, 32)][..]);
    let models = [
        deep("trommel-tiny-32"),
        deep("trommel-small-32"),
        deep("trommel-tiny-32-quickgelu"),
        deep("trommel-tiny-sigmoid-32"),
        (shallow(folder.path(), "ViT-B-32"), &[(1, 8), (2, 8), (2, 32)][..]),
        (shallow(folder.path(), "ViT-B-16-plus-240"), &[(2, 8)][..]),
    ];
    for (model, runs) in &models {
        for precision in [EncoderPrecision::F32, EncoderPrecision::Bf16] {
            for &(threads, batch) in *runs {
                let mut loaded = load(&EncoderConfig { precision, threads, batch, ..config(model) }).unwrap();
                assert!(
                    is_neighbour_free(&mut *loaded.encoder).unwrap(),
                    "{model} {precision:?}, {threads} threads, batch of {batch}"
                );
            }
        }
    }
}

#[test]
fn a_torchscript_encoder_gives_its_features() {
    let golden: Value = serde_json::from_str(include_str!("../model/golden/files.json")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("files.json");
    std::fs::write(&model, golden["config"].to_string()).unwrap();
    let weights = Some(files().join("encoder.torchscript.pt"));
    let data = EncoderConfig { weights, ..config(&model.to_string_lossy()) };
    // Its code is not run unasked.
    let error = load(&data).err().unwrap().to_string();
    assert!(error.contains("encoder.torchscript.pt") && error.contains("--torchscript"), "{error}");
    let mut loaded = load(&EncoderConfig { torchscript: true, ..data }).unwrap();
    assert_eq!((loaded.encoder.dim(), loaded.encoder.size()), (10, 16));
    assert!(loaded.identity.architecture.starts_with("torchscript"));
    let mut pixels = views(16);
    pixels.resize(8 * 16 * 16 * 3, 0);
    let features = loaded.encoder.encode(&pixels).unwrap();
    let expected = floats(&golden["script_features"]);
    // The views behind those that torch was given are black.
    assert_eq!((features.len(), expected.len()), (8 * 10, IMAGES * 10));
    for (found, expected) in features.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
    // Its last product is so small that libtorch computes its rows in different ways: it must go one by one.
    assert!(is_neighbour_free(&mut *loaded.encoder).unwrap());
}

#[test]
fn what_cannot_be_loaded_is_named() {
    let refused = |config: EncoderConfig| load(&config).err().unwrap().to_string();
    assert!(refused(config("ViT-Z-99")).contains("ViT-B-16-plus-240"));
    assert!(refused(EncoderConfig { random_init: None, ..config("trommel-tiny-32") }).contains("no weights"));
    let weights = Some(files().join("model.safetensors"));
    let error = refused(EncoderConfig { weights: weights.clone(), torchscript: true, ..config("trommel-tiny-32") });
    assert!(error.contains("no TorchScript module"), "{error}");
    let error = refused(EncoderConfig { weights, ..config("trommel-tiny-32") });
    assert!(error.contains("model.safetensors") && error.contains("visual."), "{error}");
    let error = refused(EncoderConfig { weights: Some("/nonexistent/w.pt".into()), ..config("trommel-tiny-32") });
    assert!(error.contains("/nonexistent/w.pt"), "{error}");
}

/// Not a test: `cargo test --release -- --ignored encoder_speed --nocapture` prints images/s.
#[test]
#[ignore = "a measurement"]
fn encoder_speed() {
    for precision in [EncoderPrecision::F32, EncoderPrecision::Bf16] {
        let mut loaded = load(&EncoderConfig { precision, batch: 32, threads: 2, ..config("ViT-B-32") }).unwrap();
        let pixels = vec![7u8; 32 * 224 * 224 * 3];
        loaded.encoder.encode(&pixels).unwrap();
        let start = std::time::Instant::now();
        for _ in 0..3 {
            loaded.encoder.encode(&pixels).unwrap();
        }
        eprintln!("ViT-B-32 {precision:?}: {:.1} images/s", 96.0 / start.elapsed().as_secs_f64());
    }
}

/// An encoder whose first batches fail, as with an attention that its device has not.
struct Failing(usize);

impl ImageEncoder for Failing {
    fn shape(&self) -> Shape {
        Shape { batch: 8, size: 2, dim: 3, device: Device::Cpu, threads: 1 }
    }

    fn forward(&mut self, pixels: &Tensor) -> Result<Tensor, ModelError> {
        if self.0 > 0 {
            self.0 -= 1;
            return Err(ModelError::config("a stand-in", "no such attention"));
        }
        Ok(pixels.flatten(1, -1).to_kind(Kind::Float).narrow(1, 0, 3))
    }
}

/// An encoder in whose first batches a view's features hang on the others.
struct Leaking(usize);

impl ImageEncoder for Leaking {
    fn shape(&self) -> Shape {
        Failing(0).shape()
    }

    fn forward(&mut self, pixels: &Tensor) -> Result<Tensor, ModelError> {
        let features = Failing(0).forward(pixels)?;
        if self.0 == 0 {
            return Ok(features);
        }
        self.0 -= 1;
        let mean = features.mean(Kind::Float);
        Ok(features + mean)
    }
}

/// An attention that computes a view by its neighbours is given up as one that fails is.
#[test]
fn an_attention_that_looks_at_neighbours_is_given_up() {
    const OF_ONE_TEST: usize = 3;
    assert_eq!(try_on_card(&mut Leaking(OF_ONE_TEST), Attention::Cudnn).unwrap(), Attention::Flash);
    for (leaks, attention) in [(2 * OF_ONE_TEST, Attention::Cudnn), (OF_ONE_TEST, Attention::Flash)] {
        let error = try_on_card(&mut Leaking(leaks), attention).unwrap_err().to_string();
        assert!(error.contains("depend on the other views"), "{error}");
    }
}

/// What is recorded of a run is what computed it, and no wish.
#[test]
fn the_attention_that_served_is_told() {
    assert_eq!(try_on_card(&mut Failing(0), Attention::Cudnn).unwrap(), Attention::Cudnn);
    assert_eq!(try_on_card(&mut Failing(1), Attention::Cudnn).unwrap(), Attention::Flash);
    let error = try_on_card(&mut Failing(2), Attention::Cudnn).unwrap_err().to_string();
    assert!(error.contains("no such attention"), "{error}");
    assert!(try_on_card(&mut Failing(1), Attention::Flash).is_err());
}

/// oneDNN's products are libtorch's up to the order of sums, and where they are chosen their bits are those of any number of threads.
#[test]
fn packed_weights_change_the_order_of_sums_alone() {
    let folder = tempfile::tempdir().unwrap();
    let small = ["trommel-tiny-32", "trommel-tiny-32-quickgelu", "trommel-tiny-sigmoid-32"].map(str::to_owned);
    for model in small.into_iter().chain([shallow(folder.path(), "ViT-B-32"), shallow(folder.path(), "ViT-L-14")]) {
        let features = |threads: usize, batch: usize, packed: bool| {
            let config = EncoderConfig { threads, batch, ..config(&model) };
            let form = Some(Form { packed, ..Form::of(&config) });
            let mut encoder = load(&EncoderConfig { form, ..config }).unwrap().encoder;
            let view = (encoder.size() as usize).pow(2) * 3;
            let pixels: Vec<u8> = (0..batch * view).map(|i| (mix((i % (8 * view) / 7) as u64) >> 56) as u8).collect();
            let rows = 8 * encoder.dim();
            encoder.encode(&pixels).unwrap()[..rows].to_vec()
        };
        let is_chosen = Form::of(&config(&model)).packed;
        assert_eq!(config(&model).numerics()["products"] == "oneDNN", is_chosen);
        #[cfg(target_arch = "x86_64")]
        assert!(is_chosen || !is_x86_feature_detected!("avx512f"));
        let (packed, plain) = (features(1, 8, true), features(1, 8, false));
        let norm = (plain.iter().map(|x| x * x).sum::<f32>() / 8.0).sqrt();
        assert_eq!(packed.len(), plain.len());
        let differences = packed.iter().zip(&plain).map(|(a, b)| (a - b).abs() / norm);
        let difference = differences.max_by(f32::total_cmp).unwrap();
        assert!(difference < 5e-7, "{model}: {difference}");
        for batch in [8, 16] {
            let alone = features(1, batch, true);
            for threads in [2, 4] {
                let as_alone = !is_chosen || alone == features(threads, batch, true);
                assert!(as_alone, "{model}: {threads} threads, batches of {batch}");
            }
        }
    }
}
