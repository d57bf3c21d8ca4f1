//! The trainer on the tiny model: chunks, precision, resuming, stopping.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use tch::Device;

use super::batch::Normalisation;
use super::config::{Precision, TrainConfig};
use super::error::TrainError;
use super::save_every::SaveEvery;
use super::schedule::Course;
use super::sink::{Assembled, Next, RunEnd, TrainerConfig, run_trainer, spawn_trainer};
use super::step::Trainer;
use super::tiny::{Tiny, batch, config, open, run_folder, trainer};
use trommel_core::causes::{Cause, Causes};

fn losses(config: TrainConfig, steps: u64) -> Vec<f32> {
    let samples = config.batch_samples;
    let mut trainer = trainer(config, steps);
    (0..steps).map(|step| trainer.step(&batch(step, samples)).unwrap().loss).collect()
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap()
}

#[test]
fn the_loss_falls_and_repeats_to_the_bit() {
    let first = losses(config(16), 40);
    assert_eq!(first, losses(config(16), 40));
    assert!(first[39] < first[0] * 0.5, "{first:?}");
}

#[test]
fn chunks_give_the_whole_batchs_losses() {
    let clipped = TrainConfig { grad_clip_norm: Some(0.5), ..config(16) };
    let whole = losses(clipped.clone(), 20);
    for accumulation_chunks in [2, 8] {
        let chunked = losses(TrainConfig { accumulation_chunks, ..clipped.clone() }, 20);
        assert!(furthest(&whole, &chunked) < 1e-4, "{whole:?} {chunked:?}");
    }
}

/// The loss a few rows' logits at a time, whole batches and chunks of them.
#[test]
fn logits_in_chunks_give_the_same_losses() {
    let whole = losses(config(16), 20);
    for accumulation_chunks in [1, 4] {
        for logits_at_once in [1, 5 * 16] {
            let mut trainer = trainer(TrainConfig { accumulation_chunks, ..config(16) }, 20);
            trainer.logits_at_once = logits_at_once;
            let got: Vec<f32> = (0..20).map(|step| trainer.step(&batch(step, 16)).unwrap().loss).collect();
            assert!(furthest(&whole, &got) < 1e-5, "{accumulation_chunks} {logits_at_once}: {whole:?} {got:?}");
        }
    }
}

#[test]
fn bf16_stays_near_f32() {
    let full = losses(config(16), 20);
    for accumulation_chunks in [1, 4] {
        let half = losses(TrainConfig { precision: Precision::Bf16, accumulation_chunks, ..config(16) }, 20);
        assert!(furthest(&full, &half) < 0.05, "{full:?} {half:?}");
        assert_ne!(full, half);
    }
}

#[test]
fn what_is_not_a_number_never_reaches_the_weights() {
    let mut trainer = trainer(config(8), 10);
    trainer.step(&batch(0, 8)).unwrap();
    let bias = trainer.model().get("ln_final.bias").shallow_clone();
    let _ = tch::no_grad(|| bias.shallow_clone().fill_(f64::NAN));
    let proj: Vec<f32> = Vec::try_from(trainer.model().get("visual.proj").detach().reshape([-1])).unwrap();
    let error = trainer.step(&batch(1, 8)).unwrap_err();
    assert!(matches!(&error, TrainError::NotFinite { step: 1, what, .. } if what == "loss"), "{error}");
    let after: Vec<f32> = Vec::try_from(trainer.model().get("visual.proj").detach().reshape([-1])).unwrap();
    assert_eq!(proj, after);
    assert_eq!(trainer.global_step(), 1);
}

#[test]
fn a_batch_of_another_size_is_refused() {
    assert!(matches!(trainer(config(8), 10).step(&batch(0, 7)), Err(TrainError::Batch(_))));
}

#[test]
fn the_logit_scale_is_clamped() {
    for (from, to) in [(7.0, 100f64.ln() as f32), (-3.0, 0.0)] {
        let mut trainer = trainer(config(8), 10);
        let mut scale = trainer.model().get("logit_scale").shallow_clone();
        let _ = tch::no_grad(|| scale.fill_(from));
        trainer.step(&batch(0, 8)).unwrap();
        assert_eq!(f32::try_from(trainer.model().get("logit_scale")).unwrap(), to);
    }
}

/// Features are of unit length, so that the loss does not see how long a projection makes them; its gradient does.
#[test]
fn a_gradient_that_is_no_number_stops_the_run_though_the_loss_is_one() {
    let mut trainer = trainer(config(8), 10);
    for (name, by) in [("visual.conv1.weight", 1e20), ("visual.proj", 1e-30)] {
        let mut weights = trainer.model().get(name).shallow_clone();
        let _ = tch::no_grad(|| weights.f_mul_scalar_(by).unwrap());
    }
    let weights = |trainer: &Trainer<Tiny>| -> Vec<Vec<f32>> {
        let one = |(_, weights): &(String, tch::Tensor)| Vec::try_from(weights.detach().reshape([-1])).unwrap();
        trainer.parameters().iter().map(one).collect()
    };
    let before = weights(&trainer);
    let error = trainer.step(&batch(0, 8)).unwrap_err();
    assert!(matches!(&error, TrainError::NotFinite { what, .. } if what.starts_with("gradient")), "{error}");
    assert_eq!((weights(&trainer), trainer.global_step()), (before, 0));
}

/// So many lie there as the time allows: a checkpoint begins the interval anew.
#[test]
fn the_time_to_the_next_checkpoint_begins_with_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let (checkpoints, mut fresh) = (open(folder.path(), None), trainer(config(8), 40));
    let (mut run, began) = (TrainerConfig::new(folder.path().join("logs")), std::time::Instant::now());
    let interval = Duration::from_millis(500);
    run.save_every = Some(SaveEvery::Time(interval));
    let mut number = 0u64;
    let next = || {
        std::thread::sleep(Duration::from_millis(50));
        number += 1;
        Some(number - 1)
    };
    let assemble = |number: u64| {
        let (cursor, turns) = (serde_json::json!(number + 1), number * 8);
        Ok(Assembled { batch: batch(number, 8), pass: 0, turns, ends_pass: false, cursor, samples: vec![] })
    };
    run_trainer(&mut fresh, &run, &checkpoints, None, (next, || ()), assemble, |_| ()).unwrap();
    let names = std::fs::read_dir(folder.path().join("checkpoints")).unwrap().map(|it| it.unwrap().file_name());
    let saved = names.filter(|name| name.to_string_lossy().starts_with("step_")).count();
    let most = began.elapsed().as_millis() / interval.as_millis() + 1;
    assert!(saved >= 2 && saved as u128 <= most, "{saved} checkpoints, {most} at most");
}

fn logged(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("logs/metrics.jsonl")).unwrap();
    text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["train/loss"].to_string()).collect()
}

#[test]
fn a_resumed_run_has_the_same_losses() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let once = run_folder(whole.path(), None, 14, 99);
    assert_eq!((once.outcome, once.global_step, once.samples_seen, once.epoch), (RunEnd::Complete, 14, 112, 2));
    let first = run_folder(parts.path(), None, 14, 7);
    assert_eq!((first.outcome, first.global_step), (RunEnd::Interrupted, 7));
    let second = run_folder(parts.path(), None, 14, 99);
    assert_eq!((second.outcome, second.first_step, second.global_step), (RunEnd::Complete, 7, 14));
    assert_eq!(second.samples_seen, 112);
    assert_eq!(once.losses, [first.losses, second.losses].concat());
    assert_eq!(logged(whole.path()), logged(parts.path()));
    let names = |folder: &Path| {
        let mut names: Vec<String> = std::fs::read_dir(folder.join("checkpoints"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let steps = ["step_00000004", "step_00000005", "step_00000008", "step_00000010", "step_00000012", "step_00000014"];
    assert_eq!(names(whole.path()), [&["epoch_1.pt", "epoch_2.pt", "epoch_latest.pt"][..], &steps[..]].concat());
}

/// Killed after the newest checkpoint was damaged: the one before takes over, and the losses are the same.
#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let once = run_folder(whole.path(), None, 10, 99);
    run_folder(parts.path(), None, 10, 7);
    let newest = parts.path().join("checkpoints/step_00000007");
    let optimiser = newest.join("optimizer.safetensors");
    let mut bytes = std::fs::read(&optimiser).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&optimiser, bytes).unwrap();
    let found = open(parts.path(), None).newest().unwrap().unwrap();
    assert!(found.folder.ends_with("step_00000005"), "{found:?}");
    assert!(found.skipped[0].contains("optimizer.safetensors"));
    let second = run_folder(parts.path(), None, 10, 99);
    assert_eq!(once.losses[5..], second.losses);
    assert_eq!(logged(whole.path()), logged(parts.path()));
}

#[test]
fn old_checkpoints_go_and_leftovers_are_cleared() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("checkpoints/.aside_step_00000004")).unwrap();
    run_folder(folder.path(), Some(2), 14, 99);
    let mut names: Vec<String> = std::fs::read_dir(folder.path().join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    // Saved after steps 4, 8, 12 and at the end, and at the ends of passes, 5 and 10: these stay.
    let ends = ["step_00000005", "step_00000010"];
    let links = ["epoch_1.pt", "epoch_2.pt", "epoch_latest.pt"];
    assert_eq!(names, [&links[..], &ends[..], &["step_00000012", "step_00000014"]].concat());
}

#[test]
fn a_checkpoint_says_its_configuration_and_a_tampered_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    run_folder(folder.path(), Some(1), 4, 99);
    let found = open(folder.path(), None).newest().unwrap().unwrap();
    assert_eq!(found.state.hashes["training"], "abc");
    let path = folder.path().join("checkpoints/step_00000004/state.json");
    let changed = std::fs::read_to_string(&path).unwrap().replace("\"samples_seen\": 32", "\"samples_seen\": 33");
    std::fs::write(&path, changed).unwrap();
    let text = Causes(&open(folder.path(), None).newest().unwrap_err()).to_string();
    assert!(text.contains("checksum"), "{text}");
}

#[test]
fn a_panic_on_the_trainers_thread_is_an_error() {
    let error = spawn_trainer(|| panic!("boom")).unwrap().join().unwrap().unwrap_err();
    assert!(error.to_string().contains("boom"));
}

#[test]
fn a_run_of_passes_ends_its_last_one() {
    let folder = tempfile::tempdir().unwrap();
    let (checkpoints, mut trainer) = (open(folder.path(), Some(1)), trainer(config(8), 4));
    let run = TrainerConfig { passes: Some(2), ..TrainerConfig::new(folder.path().join("logs")) };
    let (mut number, mut said) = (0u64, Vec::new());
    let next = || {
        number += 1;
        Some(number - 1)
    };
    let assemble = |k: u64| {
        let cursor = serde_json::json!(k + 1);
        Ok(Assembled {
            batch: batch(k, 8),
            pass: (k / 2) as u32,
            turns: k % 2 * 8,
            ends_pass: false,
            cursor,
            samples: vec![],
        })
    };
    let say = |line: &str| said.push(line.to_string());
    let summary = run_trainer(&mut trainer, &run, &checkpoints, None, (next, || ()), assemble, say).unwrap();
    assert_eq!((summary.outcome, summary.epoch, summary.losses.len()), (RunEnd::Complete, 2, 4));
    assert_eq!(number, 4, "no batch was asked for that no step needs");
    assert!(folder.path().join("checkpoints/epoch_2.pt").exists());
    assert!(folder.path().join("checkpoints/epoch_1.pt").exists(), "the end of a pass stays, whatever else goes");
    assert!(said[0].contains("warm-up") && said[1].starts_with("Train Epoch: 0 ["), "{said:?}");
}

/// Half of what comes is dropped: the run ends with its passes, not with the steps that all samples would have filled.
#[test]
fn a_run_of_unjudged_passes_ends_with_the_last_and_resumes_to_the_same() {
    let course = Course::Passes { passes: 2, pass_samples: 80 };
    let fresh = || Trainer::new(Tiny::new(), config(8), course, Normalisation::default(), Device::Cpu).unwrap();
    let run_to = |folder: &Path, stop_at: u64| {
        let checkpoints = open(folder, None);
        let (mut trainer, found) = (fresh(), checkpoints.newest().unwrap());
        if let Some(found) = &found {
            checkpoints.restore(found, &mut trainer).unwrap();
        }
        let run = TrainerConfig { passes: Some(2), ..TrainerConfig::new(folder.join("logs")) };
        let mut number = trainer.global_step();
        let next = || match number {
            10 => Next::Over,
            at if at == stop_at => Next::Stopped,
            at => {
                number += 1;
                Next::Batch(at)
            }
        };
        let assemble = |k: u64| {
            let (pass, turns) = ((k / 5) as u32, k % 5 * 16);
            Ok(Assembled {
                batch: batch(k, 8),
                pass,
                turns,
                ends_pass: false,
                cursor: serde_json::json!(k + 1),
                samples: vec![],
            })
        };
        run_trainer(&mut trainer, &run, &checkpoints, found.as_ref(), (next, || ()), assemble, |_| ()).unwrap()
    };
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let undisturbed = run_to(whole.path(), u64::MAX);
    assert_eq!((undisturbed.outcome, undisturbed.epoch, undisturbed.global_step), (RunEnd::Complete, 2, 10));
    assert!(whole.path().join("checkpoints/epoch_2.pt").exists());
    let first = run_to(parts.path(), 7);
    assert_eq!((first.outcome, first.global_step), (RunEnd::Interrupted, 7));
    let second = run_to(parts.path(), u64::MAX);
    assert_eq!(second.outcome, RunEnd::Complete);
    assert_eq!([first.losses, second.losses].concat(), undisturbed.losses, "the same learning rates, to the bit");
    let again = run_to(parts.path(), u64::MAX);
    assert_eq!((again.outcome, again.first_step, again.losses.len()), (RunEnd::Complete, 10, 0));
}

#[test]
fn a_bad_batch_leaves_its_samples_names() {
    let folder = tempfile::tempdir().unwrap();
    let (checkpoints, mut trainer) = (open(folder.path(), None), trainer(config(8), 9));
    let run = TrainerConfig::new(folder.path().join("logs"));
    let bias = trainer.model().get("ln_final.bias").shallow_clone();
    let mut number = 0u64;
    let next = || {
        number += 1;
        (number <= 9).then_some(number - 1)
    };
    let assemble = |k: u64| {
        let samples = vec![("00012.tar".into(), 345 + k as u32)];
        Ok(Assembled {
            batch: batch(k, 8),
            pass: 0,
            turns: k * 8,
            ends_pass: false,
            cursor: serde_json::json!(k),
            samples,
        })
    };
    let _ = tch::no_grad(|| bias.shallow_clone().fill_(f64::INFINITY));
    let error = run_trainer(&mut trainer, &run, &checkpoints, None, (next, || ()), assemble, |_| ()).unwrap_err();
    assert!(matches!(error, TrainError::NotFinite { step: 0, .. }), "{error}");
    let trace = std::fs::read_to_string(folder.path().join("logs/not_finite_step_00000000.json")).unwrap();
    let trace: serde_json::Value = serde_json::from_str(&trace).unwrap();
    assert_eq!(trace["samples"], serde_json::json!([{"shard": "00012.tar", "index": 345}]));
    assert!(checkpoints.newest().unwrap().is_none());
}

/// Loss and gradient of the last step are finite, and its update is not.
#[test]
fn weights_that_overflowed_are_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let config = TrainConfig { lr: 1e39, warmup_steps: Some(0), ..config(8) };
    let (checkpoints, mut trainer) = (open(folder.path(), None), trainer(config, 1));
    let run = TrainerConfig::new(folder.path().join("logs"));
    let assemble = |k: u64| {
        let (cursor, samples) = (serde_json::json!(k), vec![]);
        Ok(Assembled { batch: batch(k, 8), pass: 0, turns: 0, ends_pass: false, cursor, samples })
    };
    let error = run_trainer(&mut trainer, &run, &checkpoints, None, (|| Some(0), || ()), assemble, |_| ()).unwrap_err();
    assert!(matches!(error, TrainError::WeightsNotFinite { step: 0, .. }), "{error}");
    assert!(checkpoints.newest().unwrap().is_none());
}

/// The order waits for data that may take hours, and a step has failed: the run ends all the same, and at once.
#[test]
fn a_failed_step_ends_an_order_that_waits() {
    let folder = tempfile::tempdir().unwrap();
    let (checkpoints, mut trainer) = (open(folder.path(), None), trainer(config(8), 9));
    let run = TrainerConfig::new(folder.path().join("logs"));
    let bias = trainer.model().get("ln_final.bias").shallow_clone();
    let _ = tch::no_grad(|| bias.shallow_clone().fill_(f64::NAN));
    let (close, closed) = mpsc::channel();
    let mut given = false;
    let next = move || {
        if std::mem::replace(&mut given, true) {
            closed.recv_timeout(Duration::from_secs(60)).unwrap();
            return None;
        }
        Some(())
    };
    let assemble = |()| {
        let (cursor, samples) = (serde_json::json!(1), vec![]);
        Ok(Assembled { batch: batch(0, 8), pass: 0, turns: 0, ends_pass: false, cursor, samples })
    };
    let ends = (next, || close.send(()).unwrap());
    let error = run_trainer(&mut trainer, &run, &checkpoints, None, ends, assemble, |_| ()).unwrap_err();
    assert!(matches!(error, TrainError::NotFinite { step: 0, .. }), "{error}");
}

#[test]
fn a_batch_that_cannot_be_assembled_ends_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let (checkpoints, run) = (open(folder.path(), None), TrainerConfig::new(folder.path().join("logs")));
    let mut fresh = trainer(config(8), 9);
    let refuse = |_: ()| Err(Cause::from("no room"));
    let error = run_trainer(&mut fresh, &run, &checkpoints, None, (|| Some(()), || ()), refuse, |_| ()).unwrap_err();
    let said = Causes(&error).to_string();
    assert!(said.contains("no room"), "{said}");
    let explode = |_: ()| -> Result<Assembled, Cause> { panic!("boom") };
    let error = run_trainer(&mut fresh, &run, &checkpoints, None, (|| Some(()), || ()), explode, |_| ()).unwrap_err();
    assert!(error.to_string().contains("boom"), "{error}");
}
