//! Random sequences of changes, each epoch against the naive model.

use std::sync::atomic::{AtomicBool, Ordering};

use super::naive::check;
use super::script::{Trial, simulated_parts};
use crate::changelog::Why;
use crate::parts::PartStore;
use trommel_core::sample::Status;

/// What the sequences have met, so that a comparison of nothing with nothing is noticed.
#[derive(Debug, Default)]
pub(super) struct Met {
    sides: usize,
    refreshed: u64,
    facts: u64,
    whys: [usize; 6],
}

fn index_of(why: &Why) -> usize {
    match why {
        Why::Hit { .. } => 0,
        Why::NoLongerHit { .. } => 1,
        Why::TakenDown => 2,
        Why::Restored => 3,
        Why::Rule => 4,
        Why::Replaced => 5,
    }
}

pub(super) fn run(seed: u64, workers: usize, epochs: usize, part_store: PartStore, met: &mut Met) {
    let mut trial = Trial::new(seed, workers, part_store);
    let views = trial.engine.views();
    let mut epoch = 0;
    for round in 0..epochs {
        let context = format!("seed {seed}, workers {workers}, round {round}");
        if trial.dice.below(8) == 0 {
            let changes = trial.impossible();
            trial.engine.apply(&changes).unwrap_err();
            assert_eq!(views.latest().epoch(), epoch, "{context}");
        }
        let changes = if round == 0 { trial.first() } else { trial.changes() };
        let before = views.latest();
        let applied = trial.engine.apply(&changes).unwrap_or_else(|error| panic!("{context}: {error}\n{changes:?}"));
        trial.inputs = trial.inputs.after(&changes).unwrap();
        epoch += 1;
        let after = views.latest();
        let context = format!("{context}\n{changes:?}");
        assert_eq!((after.epoch(), applied.changelog.epoch), (epoch, epoch));
        check(&after, &trial.inputs, &trial.pool, &context);
        // The changelog is what separates the two views.
        let mut crossed = Vec::new();
        for split in before.splits().keys().filter(|split| after.splits().contains_key(*split)) {
            for ordinal in after.shards() {
                let was = before.statuses(ordinal, split).unwrap_or_default();
                for (index, (was, is)) in was.iter().zip(after.statuses(ordinal, split).unwrap()).enumerate() {
                    if *was != is && *was != Status::Rejected && is != Status::Rejected {
                        crossed.push((split.clone(), ordinal, index as u32, is));
                    }
                }
            }
        }
        let sides = applied.changelog.sides.iter();
        let logged: Vec<_> = sides.map(|c| (c.split.to_string(), c.sample.ordinal, c.sample.index, c.now)).collect();
        assert_eq!(logged, crossed, "{context}");
        met.sides += logged.len();
        met.refreshed += applied.refreshed_vectors;
        met.facts += applied.facts;
        applied.changelog.sides.iter().for_each(|change| met.whys[index_of(&change.why)] += 1);
    }
}

fn runs(seeds: std::ops::Range<u64>, workers: usize) {
    let (mut met, count) = (Met::default(), seeds.end - seeds.start);
    seeds.for_each(|seed| run(seed, workers, 14, simulated_parts(), &mut met));
    let few = count as usize / 10; // one in ten sequences, at the least
    assert!(met.sides > 50 * few && met.refreshed > 30 * count && met.facts > 100 * count, "{met:?}");
    assert!(met.whys.iter().all(|met| *met > few), "{met:?}");
}

#[test]
fn oracle_one_worker() {
    runs(0..1000, 1);
}

#[test]
fn oracle_two_workers() {
    runs(10_000..10_150, 2);
}

#[test]
fn oracle_four_workers() {
    runs(20_000..20_060, 4);
}

/// Whoever reads while epochs are made sees whole ones: sizes, statuses and scores of one view agree, and epochs only grow.
#[test]
fn readers_see_whole_epochs() {
    let mut trial = Trial::new(31, 2, simulated_parts());
    let (views, done) = (trial.engine.views(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut last, mut seen) = (0, 0);
            while !done.load(Ordering::Relaxed) || seen == 0 {
                let view = views.latest();
                assert!(view.epoch() >= last);
                (last, seen) = (view.epoch(), seen + 1);
                for split in view.splits().keys() {
                    let statuses: Vec<Status> =
                        view.shards().flat_map(|at| view.statuses(at, split).unwrap()).collect();
                    let count = |status| statuses.iter().filter(|is| **is == status).count() as u64;
                    let sizes = [Status::Kept, Status::Dropped, Status::Rejected].map(count);
                    let said = view.sizes(split).unwrap();
                    assert_eq!(sizes, [said.kept, said.dropped, said.rejected]);
                }
                for (shard, benchmark) in view.shards().flat_map(|at| view.benchmarks().map(move |name| (at, name))) {
                    assert!(view.scores(shard, benchmark).unwrap().is_some());
                }
            }
            last
        });
        for round in 0..300 {
            let changes = if round == 0 { trial.first() } else { trial.changes() };
            trial.engine.apply(&changes).unwrap();
            trial.inputs = trial.inputs.after(&changes).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() <= 300);
    });
}
