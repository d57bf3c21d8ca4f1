//! Ranks as threads of one process, each with its own connections: the same training as one rank with the whole batch.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tch::{Device, Kind, Tensor};
use trommel_bridge::{Group, Store};

use super::config::{Precision, Scheduler, TrainConfig};
use super::error::TrainError;
use super::ranks::share_of;
use super::sink::{Assembled, RunEnd, TrainSummary, TrainerConfig, run_trainer};
use super::step::{StepMetrics, Trainer};
use super::tiny::{Tiny, batch, config, open, rows, trainer};
use trommel_core::causes::Cause;
use trommel_model::loss::{Logits, Loss, Pairs, Sigmoid, Softmax};

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `body` on `size` connected ranks; gives what each returned, by rank.
pub fn on_ranks<T: Send>(size: usize, body: impl Fn(Group) -> T + Sync) -> Vec<T> {
    patient_ranks(size, PATIENCE, body)
}

fn patient_ranks<T: Send>(size: usize, patience: Duration, body: impl Fn(Group) -> T + Sync) -> Vec<T> {
    let (store, port) = Store::serve("127.0.0.1", 0, size, PATIENCE).unwrap();
    std::thread::scope(|scope| {
        let (body, store) = (&body, &store);
        let ranks: Vec<_> = (0..size)
            .map(|rank| {
                scope.spawn(move || {
                    let own = (rank > 0).then(|| Store::connect("127.0.0.1", port, size, PATIENCE).unwrap());
                    body(Group::gloo(own.as_ref().unwrap_or(store), rank, size, "127.0.0.1", patience).unwrap())
                })
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// What the averaging took, and what of it nothing else went on beside.
#[test]
fn averaging_is_timed() {
    let averaged = on_ranks(2, |group| {
        let (rank, mut trainer) = (group.rank(), trainer(steady(16), 5));
        trainer.join_ranks(Arc::new(group)).unwrap();
        train(&mut trainer, 3, rank, 2);
        trainer.averaging()
    });
    for averaging in averaged {
        assert!(averaging.seconds > 0.0 && averaging.seconds.is_finite(), "{averaging:?}");
        assert!((0.0..=averaging.seconds).contains(&averaging.exposed_seconds), "{averaging:?}");
    }
    let mut alone = trainer(steady(16), 5);
    train(&mut alone, 1, 0, 1);
    assert_eq!(alone.averaging().seconds, 0.0);
}

/// A learning rate that stays, and small.
fn steady(samples: usize) -> TrainConfig {
    TrainConfig { lr: 1e-3, scheduler: Scheduler::Const, warmup_steps: Some(0), ..config(samples) }
}

/// All weights, parameter by parameter in name order.
fn weights(trainer: &Trainer<Tiny>) -> Vec<f32> {
    let flat = |tensor: &Tensor| Vec::<f32>::try_from(tensor.detach().reshape([-1])).unwrap();
    trainer.parameters().iter().flat_map(|(_, tensor)| flat(tensor)).collect()
}

fn train(trainer: &mut Trainer<Tiny>, steps: u64, rank: usize, size: usize) -> Vec<StepMetrics> {
    let share = trainer.config().batch_samples / size;
    (0..steps).map(|step| trainer.step(&rows(step, rank * share..(rank + 1) * share)).unwrap()).collect()
}

/// The loss a few rows' logits at a time.
#[test]
fn ranks_train_as_one_with_logits_in_chunks() {
    let whole = train(&mut trainer(steady(16), 20), 20, 0, 1);
    for accumulation_chunks in [1, 2] {
        let ranks = on_ranks(2, |group| {
            let rank = group.rank();
            let mut trainer = trainer(TrainConfig { accumulation_chunks, ..steady(16) }, 20);
            trainer.logits_at_once = 3 * 16;
            trainer.join_ranks(Arc::new(group)).unwrap();
            train(&mut trainer, 20, rank, 2)
        });
        assert_eq!(ranks[0], ranks[1]);
        for (a, b) in whole.iter().zip(&ranks[0]) {
            assert!((a.loss - b.loss).abs() < 1e-5, "{a:?} {b:?}");
        }
    }
}

/// 50 steps of 16 samples; each rank's metrics and weights.
fn trained(size: usize, config: &TrainConfig) -> Vec<(Vec<StepMetrics>, Vec<f32>)> {
    on_ranks(size, |group| {
        let (rank, mut trainer) = (group.rank(), trainer(config.clone(), 50));
        trainer.join_ranks(Arc::new(group)).unwrap();
        (train(&mut trainer, 50, rank, size), weights(&trainer))
    })
}

#[test]
fn ranks_train_as_one() {
    // Half of the steps are clipped, about.
    let mut norms: Vec<f64> = train(&mut trainer(steady(16), 50), 50, 0, 1).iter().map(|step| step.grad_norm).collect();
    norms.sort_by(f64::total_cmp);
    let clipped = TrainConfig { grad_clip_norm: Some(norms[25]), ..steady(16) };
    let whole = train(&mut trainer(clipped.clone(), 50), 50, 0, 1);
    assert!(whole[49].loss < whole[0].loss * 0.8, "{whole:?}");
    for (size, accumulation_chunks) in [(2, 1), (2, 2), (4, 1), (4, 2)] {
        let ranks = trained(size, &TrainConfig { accumulation_chunks, ..clipped.clone() });
        let (first, equal) = &ranks[0];
        for (metrics, weights) in &ranks[1..] {
            assert_eq!(metrics, first);
            assert_eq!(weights, equal);
        }
        let (mut furthest, mut norm) = (0.0f32, 0.0f64);
        for (a, b) in whole.iter().zip(first) {
            assert_eq!((a.step, a.samples, a.lr), (b.step, b.samples, b.lr));
            furthest = furthest.max((a.loss - b.loss).abs());
            norm = norm.max((a.grad_norm / b.grad_norm - 1.0).abs());
        }
        eprintln!("{size} ranks, {accumulation_chunks} chunks: loss {furthest:e}, gradients' norm {norm:e}");
        assert!(furthest < 1e-5, "{size} ranks, {accumulation_chunks} chunks: {furthest}");
        // The optimiser hardly sees a gradient's scale, the norm does.
        assert!(norm < 1e-4, "{size} ranks, {accumulation_chunks} chunks: {norm}");
    }
}

#[test]
fn ranks_repeat_to_the_bit() {
    let bf16 = TrainConfig { precision: Precision::Bf16, ..steady(16) };
    for (size, config) in [(4, steady(16)), (2, bf16)] {
        assert_eq!(trained(size, &config)[0], trained(size, &config)[0]);
    }
}

/// The loss alone, in f64, with its gradients by the features, the logit scale and the bias.
#[test]
fn shares_of_the_loss_are_the_whole_in_f64() {
    shares_are_the_whole(&Softmax, None);
    shares_are_the_whole(&Sigmoid, Some(-7.5));
}

fn pairs(of: &[Tensor; 2]) -> Pairs<'_> {
    Pairs { images: &of[0], texts: &of[1] }
}

fn shares_are_the_whole(loss_of: &dyn Loss, bias: Option<f64>) {
    let (n, d) = (12i64, 7i64);
    let table = |salt: i64| {
        let x = Tensor::arange(n * d, (Kind::Double, Device::Cpu)) * 0.37 + salt as f64;
        let x = x.sin().reshape([n, d]);
        &x / x.norm_scalaropt_dim(2.0, [1i64].as_slice(), true)
    };
    let leaves =
        |from: i64, count: i64| [table(1), table(2)].map(|x| x.narrow(0, from, count).copy().set_requires_grad(true));
    let leaf = |x: f64| Tensor::from(x).set_requires_grad(true);
    let logits = || Logits { scale: leaf(14.3), bias: bias.map(leaf) };
    let list = |x: &Tensor| Vec::<f64>::try_from(x.detach().reshape([-1])).unwrap();
    let scalars =
        |of: &Logits| [Some(&of.scale), of.bias.as_ref()].into_iter().flatten().flat_map(|x| list(&x.grad())).collect();
    let (whole, whole_logits) = (leaves(0, n), logits());
    let loss = loss_of.whole(pairs(&whole), &whole_logits).unwrap();
    loss.backward();
    let whole_scalars: Vec<f64> = scalars(&whole_logits);
    assert_eq!(whole_scalars.len(), 1 + usize::from(bias.is_some()));
    for size in [2, 3] {
        let share = n / size as i64;
        let ranks = on_ranks(size, |group| {
            let (own, logits) = (leaves(group.rank() as i64 * share, share), logits());
            let loss = share_of(&group, loss_of, pairs(&own), &logits).unwrap();
            loss.backward();
            [list(&loss), scalars(&logits), list(&own[0].grad()), list(&own[1].grad())]
        });
        let mean = |of: &dyn Fn(&[Vec<f64>; 4]) -> f64| ranks.iter().map(of).sum::<f64>() / size as f64;
        assert!((mean(&|rank| rank[0][0]) - list(&loss)[0]).abs() < 1e-9);
        for (at, scalar) in whole_scalars.iter().enumerate() {
            assert!((mean(&|rank| rank[1][at]) - scalar).abs() < 1e-9);
        }
        assert!((ranks[0][0][0] - list(&loss)[0]).abs() > 1e-6, "a share is not the whole");
        for tower in [0, 1] {
            let theirs: Vec<f64> = ranks.iter().flat_map(|rank| rank[2 + tower].clone()).collect();
            for (a, b) in theirs.iter().zip(list(&whole[tower].grad())) {
                assert!((a / size as f64 - b).abs() < 1e-9, "{a} {b}");
            }
        }
    }
}

#[test]
fn other_weights_and_batches_that_do_not_divide_are_refused() {
    let texts = on_ranks(3, |group| {
        let (rank, group) = (group.rank(), Arc::new(group));
        let mut odd = trainer(config(16), 5);
        let Err(TrainError::Config(divides)) = odd.join_ranks(group.clone()) else { panic!("16 by 3") };
        let mut chunks = trainer(TrainConfig { accumulation_chunks: 6, ..config(12) }, 5);
        assert!(matches!(chunks.join_ranks(group.clone()), Err(TrainError::Config(_))), "12 by 3 by 6");
        let mut other = trainer(config(6), 5);
        if rank == 2 {
            let bias = other.model().get("ln_final.bias").shallow_clone();
            let _ = tch::no_grad(|| bias.get(3).f_add_scalar_(1e-6).unwrap());
        }
        let error = other.join_ranks(group.clone()).unwrap_err().to_string();
        // The same weights at another step.
        let mut ahead = trainer(config(6), 5);
        ahead.global_step = u64::from(rank == 1);
        let step = ahead.join_ranks(group.clone()).unwrap_err().to_string();
        let mut good = trainer(config(6), 5);
        good.join_ranks(group).unwrap();
        assert!(matches!(good.step(&batch(0, 6)), Err(TrainError::Batch(_))), "the whole batch on one rank");
        assert_eq!(good.rows_per_step(), 2);
        (divides, error, step)
    });
    for (divides, weights, step) in texts {
        assert!(divides.contains("16") && divides.contains("3 ranks"), "{divides}");
        assert!(weights.contains("weights") && weights.contains("rank 2"), "{weights}");
        assert!(step.contains("step") && step.contains("rank 1"), "{step}");
    }
}

/// A loss that is not a number on one rank is one on all, and reaches nobody's weights.
#[test]
fn all_ranks_stop_at_what_is_not_a_number() {
    for accumulation_chunks in [1, 2] {
        on_ranks(2, |group| {
            let (rank, mut trainer) = (group.rank(), trainer(TrainConfig { accumulation_chunks, ..config(8) }, 5));
            trainer.join_ranks(Arc::new(group)).unwrap();
            train(&mut trainer, 1, rank, 2);
            if rank == 1 {
                let bias = trainer.model().get("ln_final.bias").shallow_clone();
                let _ = tch::no_grad(|| bias.get(0).fill_(f64::NAN));
            }
            let before = weights(&trainer);
            let error = trainer.step(&rows(1, rank * 4..rank * 4 + 4)).unwrap_err();
            assert!(matches!(&error, TrainError::NotFinite { step: 1, what, .. } if what == "loss"), "{error}");
            assert_eq!(format!("{before:?}"), format!("{:?}", weights(&trainer)));
        });
    }
}

#[test]
fn a_rank_that_does_not_come_is_an_error_in_time() {
    let (told, heard) = std::sync::mpsc::channel();
    let heard = std::sync::Mutex::new(heard);
    patient_ranks(3, Duration::from_secs(2), |group| {
        let (rank, mut trainer) = (group.rank(), trainer(config(6), 5));
        trainer.join_ranks(Arc::new(group)).unwrap();
        train(&mut trainer, 2, rank, 3);
        if rank == 1 {
            // Its connections are there until both others have given it up.
            let heard = heard.lock().unwrap();
            (0..2).for_each(|_| heard.recv_timeout(PATIENCE).unwrap());
            return;
        }
        let error = trainer.step(&rows(2, rank * 2..rank * 2 + 2)).unwrap_err();
        assert!(matches!(error, TrainError::Bridge(_)), "{error}");
        told.send(()).unwrap();
    });
}

/// One run folder, `batches(rank)` of them on each rank; the one that `fails` names by rank and number cannot be assembled.
fn run(
    folder: &Path,
    group: Group,
    batches: impl Fn(usize) -> u64,
    fails: Option<(usize, u64)>,
) -> Result<TrainSummary, TrainError> {
    let (rank, size, samples, mine) = (group.rank(), group.size(), 8, batches(group.rank()));
    let checkpoints = open(folder, None);
    let mut trainer = trainer(config(samples), 12);
    let found = checkpoints.newest().unwrap();
    if let Some(found) = &found {
        checkpoints.restore(found, &mut trainer).unwrap();
    }
    group.barrier().unwrap();
    trainer.join_ranks(Arc::new(group)).unwrap();
    let mut number = trainer.global_step();
    let mut logging = TrainerConfig::new(folder.join("logs"));
    logging.writes = rank == 0;
    logging.save_every = Some("2steps".parse().unwrap());
    let next = || {
        number += 1;
        (number <= mine).then_some(number - 1)
    };
    let share = samples / size;
    let assemble = |k: u64| {
        if fails == Some((rank, k)) {
            return Err(Cause::from("no room"));
        }
        let batch = rows(k, rank * share..(rank + 1) * share);
        Ok(Assembled {
            batch,
            pass: (k / 5) as u32,
            turns: k % 5,
            ends_pass: false,
            cursor: json!({"batch": k + 1}),
            samples: vec![],
        })
    };
    let mut said = 0;
    let done =
        run_trainer(&mut trainer, &logging, &checkpoints, found.as_ref(), (next, || ()), assemble, |_| said += 1);
    assert!(rank == 0 || said == 0);
    done
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Rank 1's data ends first: both stop there, and the run goes on from there with another number of ranks.
#[test]
fn all_stop_together_and_only_one_writes() {
    let (once, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let whole = on_ranks(1, |group| run(once.path(), group, |_| 99, None).unwrap()).remove(0);
    assert_eq!((whole.outcome, whole.global_step, whole.samples_seen), (RunEnd::Complete, 12, 96));
    let ranks = on_ranks(2, |group| run(parts.path(), group, |rank| if rank == 1 { 5 } else { 9 }, None).unwrap());
    for summary in &ranks {
        assert_eq!((summary.outcome, summary.global_step, summary.samples_seen), (RunEnd::Interrupted, 5, 40));
        assert_eq!(summary.losses, ranks[0].losses);
    }
    assert_eq!((ranks[0].left_over, ranks[1].left_over), (4, 0));
    assert!(ranks[0].checkpoint.is_some() && ranks[1].checkpoint.is_none());
    assert_eq!(names(parts.path()), ["checkpoints", "logs"]);
    let rest = on_ranks(4, |group| run(parts.path(), group, |_| 99, None).unwrap());
    for summary in &rest {
        assert_eq!((summary.outcome, summary.first_step, summary.global_step), (RunEnd::Complete, 5, 12));
    }
    let losses = [&ranks[0].losses[..], &rest[3].losses[..]].concat();
    for (a, b) in whole.losses.iter().zip(&losses) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
    let text = std::fs::read_to_string(parts.path().join("logs/metrics.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 12);
}

/// As [`super::step_tests`] has it for one process: for a number of ranks, resuming changes no bit.
#[test]
fn a_resumed_run_of_ranks_has_the_same_losses() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let once = on_ranks(4, |group| run(whole.path(), group, |_| 99, None).unwrap()).remove(0);
    let first = on_ranks(4, |group| run(parts.path(), group, |_| 7, None).unwrap()).remove(0);
    let second = on_ranks(4, |group| run(parts.path(), group, |_| 99, None).unwrap()).remove(0);
    assert_eq!((first.global_step, second.first_step, second.global_step), (7, 7, 12));
    assert_eq!(once.losses, [first.losses, second.losses].concat());
}

/// A rank that cannot assemble a batch says so; the others stop before that step, with a checkpoint.
#[test]
fn a_rank_without_its_batch_stops_all() {
    let folder = tempfile::tempdir().unwrap();
    let done = on_ranks(2, |group| run(folder.path(), group, |_| 99, Some((1, 3))));
    assert!(matches!(&done[1], Err(TrainError::Assemble { step: 3, .. })), "{done:?}");
    let first = done[0].as_ref().unwrap();
    assert_eq!((first.outcome, first.global_step, first.left_over), (RunEnd::Interrupted, 3, 4));
}
