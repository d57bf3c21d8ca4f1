//! The disk is stopped before and in the middle of every step of epochs of each kind, with every fate for what was not synced: the state is that
//! before or after the epoch, and the epoch can be made again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::naive::check;
use super::reopened::{no_orphans, root};
use super::script::{Pool, Trial};
use super::simulated::{Crash, Fault, Simulated};
use crate::IncrementalError;
use crate::engine::{Engine, IncrementalConfig};
use crate::inputs::{Change, Inputs};
use trommel_core::sample::SampleId;
use trommel_ledger::storage::Storage;

/// An epoch: what the folder held before it, what it changes, and the inputs before and after.
struct Scene {
    name: &'static str,
    files: BTreeMap<PathBuf, Vec<u8>>,
    changes: Vec<Change>,
    before: Inputs,
    after: Inputs,
    number: u64,
    steps: u64,
}

/// A sequence of epochs of each kind; the last one folds the journal.
fn scenes() -> (Vec<Scene>, Pool) {
    let disk = Simulated::new();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let mut trial = Trial::open(5, 1, &root(), storage.clone());
    let mut scenes = Vec::new();
    let names = [
        "first",
        "arrive",
        "replace",
        "withdraw",
        "add a benchmark",
        "set radii",
        "take down",
        "restore",
        "remove a benchmark",
        "drop the first split",
        "long",
        "fold",
    ];
    for (number, name) in (1..).zip(names) {
        let changes = match name {
            "first" => trial.first(),
            "arrive" => vec![trial.arrive(3)],
            "replace" => vec![trial.arrive(0)],
            "withdraw" => vec![Change::Withdraw(1)],
            "add a benchmark" => vec![Change::AddBenchmark(trial.benchmark("new".into(), true))],
            "set radii" => {
                let with_radii = trial.inputs.benchmarks.iter().find(|points| points.benchmark.radii.is_some());
                let points = with_radii.unwrap().benchmark.clone();
                let radii = (0..points.points() as u32).map(|place| (place, trial.cosine())).collect();
                vec![Change::SetRadii(points.name.clone(), radii)]
            }
            "take down" => {
                let samples = (0..4).map(|index| SampleId { ordinal: index % 4, index: index as u32 }).collect();
                vec![Change::TakeDown(samples, vec!["k1".into(), "k5".into()])]
            }
            "restore" => vec![Change::Restore(vec![SampleId { ordinal: 0, index: 0 }], vec!["k5".into()])],
            "remove a benchmark" => vec![Change::RemoveBenchmark("new".into())],
            "drop the first split" => vec![Change::RemoveSplit("s0".into())],
            _ => vec![trial.arrive(4), trial.long_line(1_100_000)],
        };
        let (files, before) = (disk.files(), trial.inputs.clone());
        let after = before.after(&changes).unwrap();
        let from = disk.steps();
        trial.engine.apply(&changes).unwrap();
        let steps = disk.steps() - from;
        trial.inputs = after.clone();
        check(&trial.engine.views().latest(), &after, &trial.pool, name);
        scenes.push(Scene { name, files, changes, before, after, number, steps });
    }
    trial.close();
    assert!(disk.files().contains_key(&root().join("journal.1.jsonl")), "it is folded");
    (scenes, trial.pool)
}

impl Scene {
    fn disk(&self) -> (Simulated, Arc<dyn Storage>) {
        let disk = Simulated::new();
        self.files.iter().for_each(|(path, bytes)| disk.put(path, bytes));
        let storage: Arc<dyn Storage> = Arc::new(disk.clone());
        storage.create_dir(&root()).unwrap();
        storage.create_dir(&root().join("parts")).unwrap();
        (disk, storage)
    }

    /// Opens; says whether the epoch is there.
    fn open(&self, pool: &Pool, storage: &Arc<dyn Storage>, context: &str) -> (Engine, bool) {
        let engine = open(pool, storage).unwrap_or_else(|error| panic!("{context}: {error}"));
        let view = engine.views().latest();
        let made = view.epoch() == self.number;
        assert!(made || view.epoch() + 1 == self.number, "{context}: epoch {}", view.epoch());
        check(&view, if made { &self.after } else { &self.before }, pool, context);
        drop(view);
        no_orphans(&root(), &**storage, context);
        (engine, made)
    }

    /// Opens, makes the epoch if it is not there, and compares.
    fn finish(&self, pool: &Pool, storage: &Arc<dyn Storage>, context: &str) -> bool {
        let (mut engine, made) = self.open(pool, storage, context);
        if !made {
            engine.apply(&self.changes).unwrap();
            check(&engine.views().latest(), &self.after, pool, context);
        }
        no_orphans(&root(), &**storage, context);
        drop(engine);
        assert!(self.open(pool, storage, context).1, "{context}");
        made
    }
}

fn open(pool: &Pool, storage: &Arc<dyn Storage>) -> Result<Engine, IncrementalError> {
    Engine::open(IncrementalConfig::default(), pool.stored.clone(), &root(), storage.clone())
}

#[test]
fn a_crash_at_any_step_leaves_the_epoch_before_or_after() {
    let (scenes, pool) = scenes();
    for scene in &scenes {
        let (mut made_at, mut not_made_at) = (Vec::new(), Vec::new());
        for step in 0..scene.steps {
            let fates = [
                (Fault::Die, &[Crash::KeepAll, Crash::ForgetAll, Crash::KeepSome(step)][..]),
                (Fault::DieHalfway, &[Crash::KeepAll, Crash::KeepSome(step + 7777)]),
            ];
            for (fault, crashes) in fates {
                for &crash in crashes {
                    let context = format!("{}: step {step} of {}, {fault:?}, {crash:?}", scene.name, scene.steps);
                    let (disk, storage) = scene.disk();
                    let mut engine = open(&pool, &storage).unwrap();
                    disk.fail_at(Some((disk.steps() + step, fault)));
                    let result = engine.apply(&scene.changes);
                    let published = engine.views().latest().epoch() == scene.number;
                    assert_eq!(result.is_ok(), published, "{context}");
                    drop(engine);
                    disk.crash(crash);
                    // The opening is stopped too, somewhere.
                    disk.fail_at(Some((disk.steps() + step % 5, fault)));
                    drop(open(&pool, &storage));
                    disk.crash(crash);
                    let made = scene.finish(&pool, &storage, &context);
                    assert!(made || !published, "{context}: an epoch that was published is gone");
                    if made { &mut made_at } else { &mut not_made_at }.push(step);
                }
            }
        }
        // Some step before which it is never made, and one after which it always is.
        assert!(made_at.first() > not_made_at.first(), "{}: {made_at:?}, {not_made_at:?}", scene.name);
    }
}

#[test]
fn a_crash_while_a_folder_is_made_is_made_good() {
    let pool = Pool::default();
    for step in 0..12 {
        for crash in [Crash::KeepAll, Crash::ForgetAll, Crash::KeepSome(step)] {
            let disk = Simulated::new();
            let storage: Arc<dyn Storage> = Arc::new(disk.clone());
            disk.fail_at(Some((step, Fault::DieHalfway)));
            let made = open(&pool, &storage).is_ok();
            assert!(!made || step > 5, "step {step}");
            disk.crash(crash);
            let engine = open(&pool, &storage).unwrap();
            assert_eq!(engine.views().latest().epoch(), 0);
            no_orphans(&root(), &*storage, "made");
        }
    }
}

#[test]
fn a_full_or_read_only_disk_is_an_error_and_the_engine_goes_on_or_says_why_not() {
    let (scenes, pool) = scenes();
    let (mut torn, mut went_on) = (0, 0);
    for scene in &scenes {
        for step in 0..scene.steps {
            for fault in [Fault::Full, Fault::ReadOnly] {
                let context = format!("{}: step {step} of {}, {fault:?}", scene.name, scene.steps);
                let (disk, storage) = scene.disk();
                let mut engine = open(&pool, &storage).unwrap();
                disk.fail_at(Some((disk.steps() + step, fault)));
                let result = engine.apply(&scene.changes);
                disk.fail_at(None);
                let (now, inputs) =
                    if result.is_ok() { (scene.number, &scene.after) } else { (scene.number - 1, &scene.before) };
                assert_eq!(engine.views().latest().epoch(), now, "{context}");
                check(&engine.views().latest(), inputs, &pool, &context);
                let again = engine.apply(&scene.changes);
                match again {
                    Ok(_) => {
                        went_on += 1;
                        check(&engine.views().latest(), &scene.after, &pool, &context);
                        if result.is_ok() {
                            continue; // the same changes once more, a later epoch
                        }
                    }
                    Err(IncrementalError::Torn { path, .. }) => {
                        torn += 1;
                        assert!(path.to_string_lossy().contains("journal."), "{context}");
                    }
                    // Withdrawn is withdrawn.
                    Err(IncrementalError::Change(_)) if result.is_ok() => {}
                    Err(error) => panic!("{context}: {error}"),
                }
                drop(engine);
                scene.finish(&pool, &storage, &context);
            }
        }
    }
    assert!(torn > 10 && went_on > 300, "{torn} torn, {went_on} went on");
}
