//! The dataflow against plain maps, the budget, what is read, and what an error leaves behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use half::f16;

use super::exact::{Dice, cosine};
use super::fleet::unread;
use super::naive::check;
use super::script::{Pool, Trial, simulated_parts};
use crate::IncrementalError;
use crate::embeddings::{Embeddings, HeldEmbeddings, Visitor};
use crate::engine::{Engine, IncrementalConfig};
use crate::flow::{Hit, Side, Taken, Tally};
use crate::inputs::{Change, Inputs, ShardInput};
use crate::workers::{Facts, Flow};
use trommel_core::sample::SampleId;
use trommel_decide::benchmark::Benchmark;

/// Random facts, some of them taken back: dataflows of 1, 2 and 4 workers and plain maps say the same.
#[test]
fn differential_flow_equals_plain_maps() {
    let mut flows: Vec<Flow> = [1, 2, 4].into_iter().map(|workers| Flow::start(workers).unwrap()).collect();
    let mut dice = Dice(11);
    let (mut hits, mut taken) = (BTreeMap::<Hit, i32>::new(), BTreeMap::<Taken, i32>::new());
    let mut sides = BTreeSet::<Side>::new();
    for round in 0..60 {
        let mut facts = Facts::default();
        for _ in 0..dice.below(30) {
            let sample = SampleId { ordinal: (dice.below(3) as u64) << 38 | 5, index: dice.below(6) as u32 };
            let hit =
                Hit { sample, threshold: dice.below(3) as u16, point: dice.below(4) as u32, drops: 0b101, keeps: 0b10 };
            let held = hits.entry(hit).or_default();
            let diff = if *held > 0 && dice.below(2) == 0 { -1 } else { 1 };
            *held += diff;
            facts.hits.push((hit, diff));
            let fact = Taken { sample, drops: 0b101, keeps: 0b10 };
            let held = taken.entry(fact).or_default();
            if dice.below(4) == 0 {
                let diff = if *held > 0 { -1 } else { 1 };
                *held += diff;
                facts.taken.push((fact, diff));
            }
        }
        let outcomes: Vec<_> = flows.iter_mut().map(|flow| flow.advance(&facts).unwrap()).collect();
        let mut now = BTreeSet::new();
        let live: Vec<&Hit> = hits.iter().filter(|(_, count)| **count > 0).map(|(hit, _)| hit).collect();
        let is_taken = |sample: SampleId| taken.iter().any(|(fact, count)| fact.sample == sample && *count > 0);
        for sample in hits.keys().map(|hit| hit.sample).chain(taken.keys().map(|fact| fact.sample)) {
            let hit = live.iter().any(|hit| hit.sample == sample);
            for (split, keeps) in [(0, false), (2, false), (1, true)] {
                if (keeps && hit && !is_taken(sample)) || (!keeps && (hit || is_taken(sample))) {
                    now.insert(Side { sample, split, keeps });
                }
            }
        }
        let mut expected: Vec<(Side, isize)> = now.difference(&sides).map(|side| (*side, 1)).collect();
        expected.extend(sides.difference(&now).map(|side| (*side, -1)));
        expected.sort();
        sides = now;
        for outcome in &outcomes {
            assert_eq!(outcome.sides, expected, "round {round}");
            assert_eq!((&outcome.tallies, &outcome.points), (&outcomes[0].tallies, &outcomes[0].points));
            for (tally, count) in &outcome.tallies {
                let expected = match *tally {
                    Tally::Samples(s) => {
                        live.iter().filter(|h| h.threshold == s).map(|h| h.sample).collect::<BTreeSet<_>>().len()
                    }
                    Tally::Points(s) => {
                        live.iter().filter(|h| h.threshold == s).map(|h| h.point).collect::<BTreeSet<_>>().len()
                    }
                    Tally::Marked(split, keeps) => {
                        sides.iter().filter(|s| (s.split, s.keeps) == (split, keeps)).count()
                    }
                    Tally::Taken => taken.values().sum::<i32>() as usize,
                    Tally::Judged | Tally::Rejected => 0,
                };
                assert_eq!(*count, expected as i64, "{tally:?} in round {round}");
            }
            for ((threshold, point), count) in &outcome.points {
                let of = hits.iter().filter(|(hit, _)| (hit.threshold, hit.point) == (*threshold, *point));
                assert_eq!(*count, of.map(|(_, count)| i64::from(*count)).sum::<i64>());
            }
        }
    }
}

/// Fails when its fuse has burnt down.
struct Fragile {
    inner: Arc<HeldEmbeddings>,
    fuse: AtomicU64,
}

impl Embeddings for Fragile {
    fn visit(&self, ordinal: u64, generation: u64, each: &mut Visitor<'_>) -> Result<(), IncrementalError> {
        if self.fuse.fetch_sub(1, Ordering::Relaxed) == 0 {
            self.fuse.store(u64::MAX / 2, Ordering::Relaxed);
            return Err(unread("the disk is gone"));
        }
        self.inner.visit(ordinal, generation, each)
    }

    fn find(&self, ordinal: u64, generation: u64, keys: &BTreeSet<String>) -> Result<Vec<u32>, IncrementalError> {
        self.inner.find(ordinal, generation, keys)
    }
}

/// Wherever reading fails, the epoch before stands, and the same changes go through at the next try.
#[test]
fn oracle_errors_leave_nothing_behind() {
    let mut failures = 0;
    for seed in 0..60 {
        let mut trial = Trial::new(4000 + seed, 1 + seed as usize % 2, simulated_parts());
        let store = Arc::new(Fragile { inner: trial.pool.stored.clone(), fuse: AtomicU64::new(u64::MAX / 2) });
        trial.engine = Engine::new(IncrementalConfig::default(), store.clone(), simulated_parts()).unwrap();
        for round in 0..8 {
            let changes = trial.changes();
            store.fuse.store(trial.dice.below(6) as u64, Ordering::Relaxed);
            if trial.engine.apply(&changes).is_err() {
                failures += 1;
                check(&trial.engine.views().latest(), &trial.inputs, &trial.pool, &format!("{seed} {round} failed"));
            } else {
                trial.inputs = trial.inputs.after(&changes).unwrap();
                continue;
            }
            store.fuse.store(u64::MAX / 2, Ordering::Relaxed);
            trial.engine.apply(&changes).unwrap();
            trial.inputs = trial.inputs.after(&changes).unwrap();
            check(&trial.engine.views().latest(), &trial.inputs, &trial.pool, &format!("{seed} {round} {changes:?}"));
        }
    }
    assert!(failures > 50, "{failures}");
}

/// One shard of near copies of the points, all over radius 0.5.
fn crowded(samples: u32) -> (Arc<HeldEmbeddings>, Vec<Change>, Pool) {
    let (mut dice, stored) = (Dice(3), Arc::new(HeldEmbeddings::default()));
    let centre = dice.unit(8);
    let rows = (0..samples).map(|index| (index, format!("{index}"), dice.near(&centre, 0.3))).collect();
    stored.put(0, 0, rows);
    let points: Vec<f16> = (0..4).flat_map(|_| dice.near(&centre, 0.3)).collect();
    let benchmark = Benchmark::new("b", 8, points, vec![], vec![], Some(vec![0.5; 4]), None).unwrap();
    let shard = ShardInput { name: "s".into(), generation: 0, count: samples, rejected: vec![] };
    let changes = vec![
        Change::AddBenchmark(Arc::new(benchmark)),
        Change::SetSplit("near".into(), "near".parse().unwrap()),
        Change::Arrive(0, shard),
    ];
    (stored, changes, Pool::default())
}

#[test]
fn the_budget_refuses_and_nothing_has_changed() {
    let (stored, changes, _) = crowded(500);
    let config = IncrementalConfig { budget_bytes: 100_000, ..IncrementalConfig::default() };
    let mut engine = Engine::new(config, stored, simulated_parts()).unwrap();
    let error = engine.apply(&changes).unwrap_err();
    assert!(matches!(error, IncrementalError::Budget { limit: 100_000, .. }), "{error}");
    assert_eq!((engine.views().latest().epoch(), engine.flow().held().rows), (0, 0));
    engine.apply(&changes[..2]).unwrap();
    assert_eq!(engine.views().latest().epoch(), 1);
}

/// Decisions after a raised radius, a takedown and a fall above the floor come from stored matches alone.
#[test]
fn no_vectors_for_what_is_stored() {
    let (stored, changes, _) = crowded(200);
    let config = IncrementalConfig { floor_slack_cosine: 0.2, ..IncrementalConfig::default() };
    let mut engine = Engine::new(config, stored.clone(), simulated_parts()).unwrap();
    engine.apply(&changes).unwrap();
    let at_first = stored.vectors_read();
    assert_eq!(at_first, 200);
    for change in [
        Change::SetRadii("b".into(), vec![(0, 0.9), (1, 0.95)]),
        Change::TakeDown((0..20).map(|index| SampleId { ordinal: 0, index }).collect(), vec!["77".into()]),
        Change::SetRadii("b".into(), vec![(1, 0.45)]),
        Change::RemoveBenchmark("b".into()),
    ] {
        let gone = matches!(change, Change::RemoveBenchmark(_));
        let changes = if gone { vec![Change::RemoveSplit("near".into()), change] } else { vec![change] };
        let before = stored.vectors_read();
        let applied = engine.apply(&changes).unwrap();
        assert_eq!(
            stored.vectors_read() - before,
            applied.refreshed_vectors,
            "only the refreshing may read: {changes:?}"
        );
    }
}

/// A radius that is a sample's similarity does not drop it; the next f64 below does.
#[test]
fn ties_stay() {
    let mut dice = Dice(8);
    let (x, t) = (dice.unit(16), dice.unit(16));
    let s = cosine(&x, &t);
    let stored = Arc::new(HeldEmbeddings::default());
    stored.put(0, 0, vec![(0, "a".into(), x)]);
    let mut engine = Engine::new(IncrementalConfig::default(), stored, simulated_parts()).unwrap();
    let benchmark = Benchmark::new("b", 16, t, vec![], vec![], Some(vec![s]), None).unwrap();
    let shard = ShardInput { name: "s".into(), generation: 0, count: 1, rejected: vec![] };
    let split = |rule: String| Change::SetSplit(rule.clone(), rule.parse().unwrap());
    let rules = [format!("drop-above:{s}"), format!("drop-from:{s}"), format!("drop-below:{s}"), "near".into()];
    let mut changes = vec![Change::AddBenchmark(Arc::new(benchmark)), Change::Arrive(0, shard)];
    changes.extend(rules.iter().cloned().map(split));
    engine.apply(&changes).unwrap();
    let kept = |engine: &Engine| rules.each_ref().map(|rule| engine.views().latest().sizes(rule).unwrap().kept);
    assert_eq!(kept(&engine), [1, 0, 1, 1]);
    engine.apply(&[Change::SetRadii("b".into(), vec![(0, s.next_down())])]).unwrap();
    assert_eq!(kept(&engine), [1, 0, 1, 0]);
    assert!(Inputs::default().after(&[Change::SetSplit("r".into(), "random:5".parse().unwrap())]).is_err());
}
