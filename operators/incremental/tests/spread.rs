//! The oracle with several processes: after each epoch every one of them says what the naive model and a single process say.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::exact::Dice;
use super::fleet::{Fleet, NEVER};
use super::naive::check;
use super::script::{Trial, simulated_parts};
use crate::IncrementalError;
use crate::changelog::Why;
use crate::engine::{Engine, IncrementalConfig};
use crate::inputs::{Change, ShardInput};
use crate::world::World;
use trommel_core::causes::Causes;
use trommel_decide::benchmark::Benchmark;

/// What the sequences have met.
#[derive(Debug, Default)]
struct Met {
    failed: Vec<usize>,
    impossible: usize,
    hit_reasons: usize,
    refreshed: u64,
    across: usize,
}

/// Every view against the naive model.
fn check_all(fleet: &Fleet, trial: &Trial, context: &str) {
    for (rank, engine) in fleet.engines.iter().enumerate() {
        check(&engine.views().latest(), &trial.inputs, &trial.pool, &format!("process {rank}, {context}"));
    }
}

/// Counts and maxima, those included that no split shows yet, against a single process's.
fn check_worlds(fleet: &Fleet, world: &World, context: &str) {
    for engine in &fleet.engines {
        let own = engine.world();
        assert_eq!((&own.tallies, &own.hits), (&world.tallies, &world.hits), "{context}");
        assert_eq!((&own.pool, &own.kept), (&world.pool, &world.kept), "{context}");
    }
}

/// The folder holds the parts of the newest state and no others.
fn check_files(fleet: &Fleet, root: &std::path::Path, context: &str) {
    let there = std::fs::read_dir(root).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let there: BTreeSet<String> = there.collect();
    for engine in &fleet.engines {
        let shards = engine.world().shards.values();
        let parts = shards.flat_map(|live| {
            let matches = live.matches.values().map(|part| part.record());
            matches.chain(live.scores.values().map(|part| part.record()))
        });
        assert_eq!(parts.map(|record| record.file).collect::<BTreeSet<_>>(), there, "{context}");
    }
}

fn run(seed: u64, ranks: usize, workers: usize, epochs: usize, met: &mut Met) {
    let (mut trial, root) = (Trial::new(seed, 1, simulated_parts()), tempfile::tempdir().unwrap());
    let slack = [0.0, 0.02, 0.3][seed as usize % 3];
    let config = IncrementalConfig { workers, floor_slack_cosine: slack, ..IncrementalConfig::default() };
    trial.engine = Engine::new(config.clone(), trial.pool.stored.clone(), simulated_parts()).unwrap();
    let mut fleet = Fleet::start(ranks, |_| config.clone(), &trial.pool.stored, root.path());
    for round in 0..epochs {
        let context = format!("seed {seed}, {ranks} processes of {workers} workers, round {round}");
        if trial.dice.below(8) == 0 {
            let changes = trial.impossible();
            for error in fleet.apply(&changes) {
                assert!(matches!(error, Err(IncrementalError::Change(_))), "{context}: {error:?}");
            }
            met.impossible += 1;
        }
        let changes = if round == 0 { trial.first() } else { trial.changes() };
        let slow = fleet.engines[0].views().latest();
        let rank = trial.dice.below(ranks);
        if trial.dice.below(3) == 0 {
            fleet.stores[rank].fuse.store(trial.dice.below(3) as u64, Ordering::Relaxed);
        }
        // The reading of one process may fail, at any of its steps; the others must go back with it.
        let mut results = fleet.apply(&changes);
        if results[rank].is_err() {
            for (at, result) in results.into_iter().enumerate() {
                let error = result.unwrap_err();
                match &error {
                    IncrementalError::Refused { process, .. } => assert_eq!(*process, rank, "{context}"),
                    IncrementalError::Storage(_) => {
                        let said = Causes(&error).to_string();
                        assert_eq!(
                            (at, said.as_str()),
                            (rank, "cannot read embeddings: the disk is gone"),
                            "{context}"
                        );
                    }
                    error => panic!("{context}: {error}"),
                }
            }
            check_all(&fleet, &trial, &format!("{context}, failed"));
            met.failed.push(round);
            results = fleet.apply(&changes);
        }
        fleet.stores[rank].fuse.store(NEVER, Ordering::Relaxed);
        trial.inputs = trial.inputs.after(&changes).unwrap();
        let context = format!("{context}\n{changes:?}");
        check_all(&fleet, &trial, &context);
        let expected = trial.engine.apply(&changes).unwrap();
        for result in results {
            let applied = result.unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(applied.changelog, expected.changelog, "{context}");
            assert_eq!(
                (applied.facts, applied.refreshed_vectors),
                (expected.facts, expected.refreshed_vectors),
                "{context}"
            );
        }
        // Whoever has not yet seen the new epoch in its process still reads the old one, the others' shards too.
        for (shard, benchmark) in slow.shards().flat_map(|at| slow.benchmarks().map(move |name| (at, name))) {
            assert!(slow.scores(shard, benchmark).unwrap().is_some(), "{context}");
        }
        let whys = expected.changelog.sides.iter().filter(|change| matches!(change.why, Why::Hit { .. }));
        met.hit_reasons += whys.clone().count();
        met.across +=
            usize::from(whys.map(|change| change.sample.ordinal % ranks as u64).collect::<BTreeSet<_>>().len() > 1);
        met.refreshed += expected.refreshed_vectors;
        check_worlds(&fleet, trial.engine.world(), &context);
    }
    fleet.applied(&[], "nothing"); // what the last epoch superseded goes with the next
    trial.engine.apply(&[]).unwrap();
    check_all(&fleet, &trial, "at the end");
    check_files(&fleet, root.path(), &format!("seed {seed}"));
}

#[test]
fn oracle_two_processes() {
    let mut met = Met::default();
    (5000..5010).for_each(|seed| run(seed, 2, 1 + seed as usize % 2, 24, &mut met));
    assert!(met.hit_reasons > 60 && met.refreshed > 500 && met.across > 5, "{met:?}");
    assert!(met.impossible > 10 && met.failed.len() > 15, "{met:?}");
}

#[test]
fn oracle_three_processes() {
    let mut met = Met::default();
    (5100..5103).for_each(|seed| run(seed, 3, 1 + seed as usize % 2, 24, &mut met));
    assert!(met.hit_reasons > 10 && met.across > 1 && met.failed.len() > 3, "{met:?}");
}

/// Engines of one folder end and are opened again by another number of processes, each time at the epoch before, without a vector being read;
/// and go on as a single one that never ended.
#[test]
fn oracle_reopened_by_another_number_of_processes() {
    for seed in 5200..5206 {
        let (mut trial, root) = (Trial::new(seed, 1, simulated_parts()), tempfile::tempdir().unwrap());
        let mut first = true;
        for (life, ranks) in [2, 3, 1, 2].into_iter().enumerate() {
            let workers = 1 + (life + seed as usize) % 2;
            let config = IncrementalConfig { workers, ..IncrementalConfig::default() };
            let read = trial.pool.stored.vectors_read();
            let mut fleet = Fleet::open(ranks, |_| config.clone(), &trial.pool.stored, root.path());
            assert_eq!(trial.pool.stored.vectors_read(), read);
            for round in 0..5 {
                let context = format!("seed {seed}, life {life} of {ranks} processes, round {round}");
                check_all(&fleet, &trial, &context);
                let (one, maxima) = (trial.engine.world(), |world: &World| (world.pool.clone(), world.kept.clone()));
                for engine in &fleet.engines {
                    // Thresholds are numbered afresh, what is counted on them is checked above.
                    assert_eq!(maxima(engine.world()), maxima(one), "{context}");
                }
                let changes = if std::mem::take(&mut first) { trial.first() } else { trial.changes() };
                fleet.applied(&changes, &context);
                trial.engine.apply(&changes).unwrap();
                trial.inputs = trial.inputs.after(&changes).unwrap();
            }
        }
    }
}

/// One process's budget is too small for its own shard: none makes the epoch; without that shard all do.
#[test]
fn a_budget_of_one_process_refuses_in_all() {
    let (mut dice, trial) = (Dice(3), Trial::new(1, 1, simulated_parts()));
    let (centre, root) = (dice.unit(6), tempfile::tempdir().unwrap());
    let mut arrive = |ordinal: u64, count: u32| {
        let rows = (0..count).map(|index| (index, format!("{index}"), dice.near(&centre, 0.1)));
        trial.pool.stored.put(ordinal, 0, rows.collect());
        Change::Arrive(ordinal, ShardInput { name: "s".into(), generation: 0, count, rejected: vec![] })
    };
    let shards = [arrive(0, 400), arrive(1, 10), arrive(3, 400)];
    let benchmark = Benchmark::new("b", 6, centre.clone(), vec![], vec![], Some(vec![0.5]), None).unwrap();
    let first = [Change::AddBenchmark(Arc::new(benchmark)), Change::SetSplit("near".into(), "near".parse().unwrap())];
    let config = |rank| IncrementalConfig {
        budget_bytes: if rank == 1 { 60_000 } else { 1 << 30 },
        ..IncrementalConfig::default()
    };
    let mut fleet = Fleet::start(2, config, &trial.pool.stored, root.path());
    fleet.applied(&[&first[..], &shards[..2]].concat(), "both fit");
    let (process, error) = fleet.refused(&shards[2..]);
    assert!(matches!(error, IncrementalError::Budget { limit: 60_000, .. }), "{error}");
    assert_eq!(process, 1);
    let sizes = |fleet: &Fleet| -> Vec<u64> {
        fleet.engines.iter().map(|engine| engine.views().latest().sizes("near").unwrap().dropped).collect()
    };
    assert_eq!(sizes(&fleet), [410, 410]);
    fleet.applied(&[Change::Withdraw(0)], "the engine lives on");
    assert_eq!(sizes(&fleet), [10, 10]);
    fleet.applied(&[], "nothing");
    check_files(&fleet, root.path(), "of the refused epoch nothing is left");
}

/// Points that come before there is a split: nobody asks for their maxima, and all have them.
#[test]
fn new_points_without_splits() {
    let (mut trial, root) = (Trial::new(9, 1, simulated_parts()), tempfile::tempdir().unwrap());
    let mut fleet = Fleet::start(2, |_| IncrementalConfig::default(), &trial.pool.stored, root.path());
    trial.engine = Engine::new(IncrementalConfig::default(), trial.pool.stored.clone(), simulated_parts()).unwrap();
    let mut shards: Vec<Change> = (0..6).map(|ordinal| trial.arrive(ordinal)).collect();
    shards.push(trial.add_benchmark());
    let more: Vec<Change> = (0..3).map(|_| trial.add_benchmark()).collect();
    let split = vec![Change::SetSplit("s0".into(), "drop-above:0.9".parse().unwrap())];
    for changes in [shards, more, split] {
        fleet.applied(&changes, "without splits");
        trial.engine.apply(&changes).unwrap();
        trial.inputs = trial.inputs.after(&changes).unwrap();
        check_worlds(&fleet, trial.engine.world(), &format!("{changes:?}"));
        check_all(&fleet, &trial, &format!("{changes:?}"));
    }
}
