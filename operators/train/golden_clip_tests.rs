//! The real towers: losses beside open_clip's, checkpoints that open_clip loads.
#![allow(clippy::unwrap_used)]

use tch::{Device, Tensor};

use std::ops::Range;
use std::sync::Arc;

use super::Normalisation;
use super::batch::Batch;
use super::checkpoint::{Checkpoints, Position};
use super::config::{Precision, TextPadding, TrainConfig};
use super::golden_tests::{OTHER_PRECISION, cases, distance, golden, peers, recipe};
use super::step::Trainer;
use super::tiny::{mix, uniform};
use trommel_model::clip::ClipConfig;
use trommel_model::{Architecture, Model};

const SIZE: usize = 16;
const CONTEXT: usize = 12;
const VOCABULARY: u64 = 64;

/// How a parameter's uniform numbers are stretched: the rule of `losses.py`.
fn scale_and_offset(name: &str, shape: &[i64]) -> (f64, f64) {
    if name == "logit_scale" {
        (0.0, (1.0 / 0.07f64).ln())
    } else if shape.len() < 2 {
        (0.1, if name.ends_with("weight") { 1.0 } else { 0.0 })
    } else if name.contains("embedding") || name == "visual.proj" || name == "text_projection" {
        (0.3, 0.0)
    } else {
        (1.5 / (shape[1..].iter().product::<i64>() as f64).sqrt(), 0.0)
    }
}

pub fn model() -> Model {
    let config = ClipConfig::parse("golden", &golden()["clip_config"].to_string()).unwrap();
    let config: Arc<dyn Architecture> = Arc::new(config);
    let model = Model::new(&config, Device::Cpu).unwrap();
    for (name, tensor) in model.store().variables() {
        let (scale, offset) = scale_and_offset(&name, &tensor.size());
        let values: Vec<f32> =
            (0..tensor.numel() as u64).map(|i| (offset + scale * uniform(&name, i)) as f32).collect();
        let mut target = tensor.shallow_clone();
        tch::no_grad(|| target.copy_(&Tensor::from_slice(&values).reshape(tensor.size())));
    }
    model
}

fn batch(number: u64) -> Batch {
    rows(number, 0..16)
}

/// Some rows of a batch.
pub fn rows(number: u64, range: Range<u64>) -> Batch {
    let (samples, mut pixels, mut tokens) = (range.end - range.start, Vec::new(), Vec::new());
    for sample in range {
        let class = mix(number * 1000 + sample) % 40;
        pixels.extend((0..(SIZE * SIZE * 3) as u64).map(|i| (mix(class * 997 + i / 12) >> 56) as u8));
        let words = 3 + class % (CONTEXT as u64 - 5);
        let mut row = vec![VOCABULARY as i64 - 2];
        row.extend((0..words).map(|i| (1 + mix(class * 31 + i) % (VOCABULARY - 3)) as i64));
        row.push(VOCABULARY as i64 - 1);
        row.resize(CONTEXT, 0);
        tokens.extend(row);
    }
    Batch::new(samples as usize, SIZE, CONTEXT, pixels, tokens).unwrap()
}

fn trainer(config: TrainConfig) -> Trainer<Model> {
    Trainer::new(model(), config, 20_u64, Normalisation::default(), Device::Cpu).unwrap()
}

#[test]
fn clips_losses_are_open_clips() {
    for (name, config, tolerance) in cases() {
        for by_onednn in [false, true].into_iter().take(if config.precision == Precision::F32 { 2 } else { 1 }) {
            let mut model = model();
            if by_onednn {
                model.towers_mut().multiply_by_onednn();
            }
            let normalisation = Normalisation::default();
            let mut trainer = Trainer::new(model, config.clone(), 20_u64, normalisation, Device::Cpu).unwrap();
            let got: Vec<f32> = (0..20).map(|k| trainer.step(&batch(k)).unwrap().loss).collect();
            let is_low = config.precision == Precision::Bf16;
            assert!(!is_low || distance("clip", &got) > OTHER_PRECISION, "computed in f32: {got:?}");
            let distance = distance(&format!("clip{name}"), &got);
            eprintln!("clip{name}, by oneDNN {by_onednn}: {distance:e}");
            assert!(distance < tolerance, "clip{name}: {distance} {got:?}");
        }
    }
}

/// Padded and not, whole, in chunks and in bf16: the same run up to the order of sums.
#[test]
fn without_padding_the_losses_are_the_same() {
    for (precision, bound) in [(Precision::F32, 2e-6), (Precision::Bf16, 5e-3)] {
        let losses = |text_padding, accumulation_chunks| {
            let mut trainer = trainer(TrainConfig { text_padding, accumulation_chunks, precision, ..recipe() });
            (0..20).map(|k| trainer.step(&batch(k)).unwrap().loss).collect::<Vec<f32>>()
        };
        for chunks in [1, 4] {
            let (padded, packed) = (losses(TextPadding::Full, chunks), losses(TextPadding::None, chunks));
            let distance = padded.iter().zip(&packed).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap();
            eprintln!("{precision:?}, {chunks} chunks: {distance:e}");
            assert!(distance <= bound, "{precision:?}, {chunks} chunks: {distance:e}");
            assert!(precision == Precision::Bf16 || padded != packed, "another order of sums");
        }
    }
}

/// `create_model_and_transforms(name, pretrained=FILE)` takes the checkpoint, and computes the same features.
#[test]
fn open_clip_loads_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = trainer(recipe());
    for k in 0..3 {
        trainer.step(&batch(k)).unwrap();
    }
    let checkpoints = Checkpoints::open(folder.path(), "golden", None).unwrap();
    let position = Position { pass: 0, epoch: 0, cursor: serde_json::Value::Null };
    checkpoints.save(&trainer, &position).unwrap();
    std::fs::write(folder.path().join("golden-tiny.json"), golden()["clip_config"].to_string()).unwrap();
    let script = "
import sys, json, torch, open_clip
open_clip.add_model_config(sys.argv[1] + '/golden-tiny.json')
model, _, _ = open_clip.create_model_and_transforms('golden-tiny', pretrained=sys.argv[1] + '/epoch_latest.pt')
model.eval()
x = (torch.arange(3 * 16 * 16).reshape(1, 3, 16, 16).float() % 17) / 17
with torch.no_grad():
    print(json.dumps(model.encode_image(x)[0].tolist()))
";
    let Some(text) = peers(script, &[folder.path()]) else { return };
    let theirs: Vec<f32> = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let x: Vec<f32> = (0..3 * 16 * 16).map(|i| (i % 17) as f32 / 17.0).collect();
    let x = Tensor::from_slice(&x).reshape([1, 3, 16, 16]);
    let ours = tch::no_grad(|| trainer.model().towers().encode_image(&x).unwrap());
    let ours = Vec::<f32>::try_from(ours.reshape([-1])).unwrap();
    assert_eq!(ours.len(), theirs.len());
    for (a, b) in ours.iter().zip(&theirs) {
        assert!((a - b).abs() < 1e-5, "{ours:?} {theirs:?}");
    }
}
