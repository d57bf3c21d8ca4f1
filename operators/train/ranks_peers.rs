//! Two ranks beside PyTorch's DistributedDataParallel in open_clip's own trainer (`golden/ddp.py`), where a Python that has
//! both is named by `TROMMEL_PEERS`.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tch::Device;

use super::Normalisation;
use super::config::TrainConfig;
use super::golden_clip_tests::{model, rows};
use super::golden_tests::{recipe, stored};
use super::ranks_tests::on_ranks;
use super::step::Trainer;

fn ours(config: &TrainConfig) -> Vec<f32> {
    let all = on_ranks(2, |group| {
        let (rank, group) = (group.rank() as u64, Arc::new(group));
        let mut trainer = Trainer::new(model(), config.clone(), 20_u64, Normalisation::default(), Device::Cpu).unwrap();
        trainer.join_ranks(group).unwrap();
        (0..20).map(|k| trainer.step(&rows(k, rank * 8..rank * 8 + 8)).unwrap().loss).collect::<Vec<f32>>()
    });
    assert_eq!(all[0], all[1]);
    all.into_iter().next().unwrap()
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap()
}

/// The losses that open_clip's own loop stored for the whole batch in one process.
#[test]
fn two_ranks_have_open_clips_losses() {
    for (name, config) in [
        ("clip", recipe()),
        ("clip clipped", TrainConfig { grad_clip_norm: Some(1.0), ..recipe() }),
        ("clip", TrainConfig { accumulation_chunks: 2, ..recipe() }),
    ] {
        let distance = furthest(&stored(name), &ours(&config));
        eprintln!("{name}, 2 ranks: {distance:e}");
        assert!(distance < 1e-4, "{name}: {distance}");
    }
}

#[test]
fn two_ranks_are_distributed_data_parallel() {
    let Some(python) = crate::skipped::peer("torch and open_clip") else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/ddp.py");
    let run = Command::new(python)
        .arg(script)
        .arg("2")
        .env("OMP_NUM_THREADS", "1")
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let theirs: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    for (name, config) in [
        ("free", recipe()),
        ("clipped", TrainConfig { grad_clip_norm: Some(1.0), ..recipe() }),
        ("accumulated", TrainConfig { accumulation_chunks: 2, ..recipe() }),
    ] {
        let theirs: Vec<f32> = serde_json::from_value(theirs[name].clone()).unwrap();
        let distance = furthest(&theirs, &ours(&config));
        eprintln!("DistributedDataParallel, {name}: {distance:e}");
        assert!(distance < 1e-4, "{name}: {distance}");
    }
}
