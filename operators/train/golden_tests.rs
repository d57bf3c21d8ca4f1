//! Losses beside open_clip's own, made by `golden/losses.py` (open_clip 3.3.0, torch 2.11).
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use super::config::{Precision, TextPadding, TrainConfig};
use super::tiny::{batch, run_folder, trainer};

/// The losses of open_clip, from `losses.json`.
pub fn golden() -> serde_json::Value {
    serde_json::from_str(include_str!("golden/losses.json")).unwrap()
}

/// The losses stored under `name`.
pub fn stored(name: &str) -> Vec<f32> {
    golden()["losses"][name].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

/// The golden runs' recipe.
pub fn recipe() -> TrainConfig {
    let golden = golden();
    let number = |name: &str| golden["recipe"][name].as_f64().unwrap();
    TrainConfig {
        lr: number("lr"),
        beta1: number("beta1"),
        beta2: number("beta2"),
        eps: number("eps"),
        weight_decay: number("weight_decay"),
        warmup_steps: golden["recipe"]["warmup_steps"].as_u64(),
        precision: Precision::F32,
        ..TrainConfig::new(golden["batch_samples"].as_u64().unwrap() as usize)
    }
}

/// Losses in bf16 are at least so far from those in f32, a hundred times of what two computations in f32 differ by.
pub const OTHER_PRECISION: f32 = 1e-3;

/// The largest difference from what is stored.
pub fn distance(name: &str, got: &[f32]) -> f32 {
    let stored = stored(name);
    assert_eq!(got.len(), stored.len());
    got.iter().zip(&stored).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap()
}

/// Configurations by the name of what they are compared with, and the tolerance. That of bf16 has room for f32 as well, by [`OTHER_PRECISION`] there is
/// none.
pub fn cases() -> [(&'static str, TrainConfig, f32); 5] {
    [
        ("", recipe(), 1e-4),
        ("", TrainConfig { text_padding: TextPadding::Full, ..recipe() }, 1e-4),
        (" clipped", TrainConfig { grad_clip_norm: Some(1.0), ..recipe() }, 1e-4),
        (" accumulated 4", TrainConfig { accumulation_chunks: 4, ..recipe() }, 1e-4),
        (" bf16", TrainConfig { precision: Precision::Bf16, ..recipe() }, 0.03),
    ]
}

#[test]
fn the_tiny_models_losses_are_open_clips() {
    for (name, config, tolerance) in cases() {
        let (is_low, mut trainer) = (config.precision == Precision::Bf16, trainer(config, 20));
        let got: Vec<f32> = (0..20).map(|k| trainer.step(&batch(k, 16)).unwrap().loss).collect();
        assert!(!is_low || distance("tiny", &got) > OTHER_PRECISION, "computed in f32: {got:?}");
        let distance = distance(&format!("tiny{name}"), &got);
        eprintln!("tiny{name}: {distance:e}");
        assert!(distance < tolerance, "tiny{name}: {distance} {got:?}");
    }
}

/// Runs Python where one with the peers is named; counts a skip where not.
pub fn peers(script: &str, arguments: &[&Path]) -> Option<String> {
    let python = crate::skipped::peer("open_clip and tensorboard")?;
    let run = Command::new(python)
        .args(["-c", script])
        .args(arguments)
        .env("OMP_NUM_THREADS", "1")
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    Some(String::from_utf8(run.stdout).unwrap())
}

/// TensorBoard's own reader finds every scalar, and drops what a killed run wrote beyond its checkpoint.
#[test]
fn tensorboard_reads_the_events() {
    let folder = tempfile::tempdir().unwrap();
    let first = run_folder(folder.path(), None, 12, 7);
    std::fs::remove_dir_all(folder.path().join("checkpoints/step_00000007")).unwrap();
    let second = run_folder(folder.path(), None, 12, 99);
    assert_eq!(second.first_step, 5);
    let script = "
import sys, json
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1])
events.Reload()
print(json.dumps({tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()['scalars']}))
";
    let Some(text) = peers(script, &[&folder.path().join("logs/tensorboard")]) else { return };
    let read: serde_json::Value = serde_json::from_str(&text).unwrap();
    let losses: Vec<(u64, f32)> = serde_json::from_value(read["train/loss"].clone()).unwrap();
    let expected: Vec<f32> = [&first.losses[..5], &second.losses[..]].concat();
    assert_eq!(losses, expected.into_iter().enumerate().map(|(k, x)| (k as u64, x)).collect::<Vec<_>>());
    for tag in ["data_time", "batch_time", "samples_per_second", "samples_per_second_per_gpu", "scale", "lr"] {
        assert_eq!(read[format!("train/{tag}")].as_array().unwrap().len(), 12, "{tag}");
    }
}

/// `torch.load(weights_only=True)` takes the file, with open_clip's layout.
#[test]
fn torch_loads_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    run_folder(folder.path(), None, 10, 99);
    let script = "
import sys, torch
from safetensors.torch import load_file
c = torch.load(sys.argv[1] + '/epoch_1.pt', weights_only=True, map_location='cpu')
assert {k: type(v).__name__ for k, v in c.items()} == {
    'epoch': 'int', 'name': 'str', 'state_dict': 'dict', 'global_step': 'int', 'samples_seen': 'int', 'optimizer': 'dict'}, c.keys()
assert (c['epoch'], c['name'], c['global_step'], c['samples_seen']) == (1, 'a run', 5, 40)
assert c['state_dict']['logit_scale'].shape == () and c['state_dict']['visual.proj'].dtype == torch.float32
latest = torch.load(sys.argv[1] + '/epoch_latest.pt', weights_only=True, mmap=True)
assert latest['global_step'] == 10
o = load_file(sys.argv[1] + '/step_00000010/optimizer.safetensors')
assert o['step.visual.proj'].item() == 10 and o['exp_avg.visual.proj'].abs().sum() > 0
print('fine')
";
    let Some(text) = peers(script, &[&folder.path().join("checkpoints")]) else { return };
    assert_eq!(text.trim(), "fine");
}
