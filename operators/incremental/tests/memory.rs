//! Memory and time on a large number of matches; run by hand:
//! `cargo test --release -p trommel-incremental tests::memory -- --ignored --nocapture`

use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use half::f16;

use super::exact::Dice;
use super::script::simulated_parts;
use crate::embeddings::HeldEmbeddings;
use crate::engine::{Engine, IncrementalConfig};
use crate::flow::{Hit, Tally};
use crate::inputs::{Change, ShardInput};
use crate::workers::{Facts, Flow};
use trommel_core::sample::SampleId;
use trommel_decide::benchmark::Benchmark;

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn report(line: &str) {
    use std::io::Write;
    writeln!(std::io::stderr(), "{line}").unwrap();
}

/// One million matches of one split, one a sample or four a sample; then a thousandth of them goes and comes back.
#[test]
#[ignore = "takes memory and time; prints"]
fn bytes_per_million_matches() {
    for (samples, each) in [(1_000_000u32, 1u32), (250_000, 4)] {
        let before = resident_bytes();
        let mut flow = Flow::start(1).unwrap();
        let hit = |at: u32| {
            let sample = SampleId { ordinal: u64::from(at / each % samples / 10_000), index: at / each % 10_000 };
            Hit {
                sample,
                threshold: (at % each) as u16,
                point: at.wrapping_mul(2_654_435_761) >> 16,
                drops: 1,
                keeps: 0,
            }
        };
        let all = |some: &dyn Fn(u32) -> bool, diff| Facts {
            hits: (0..samples * each).filter(|&at| some(at)).map(|at| (hit(at), diff)).collect(),
            ..Facts::default()
        };
        let begun = Instant::now();
        for slice in 0..10 {
            flow.advance(&all(&|at| at / each % 10 == slice, 1)).unwrap();
        }
        let loaded = begun.elapsed();
        let mut text = format!("{samples} samples, {each} matches each: {:?} to load", loaded);
        let begun = Instant::now();
        let rounds = 100;
        for _ in 0..rounds {
            flow.advance(&all(&|at| at % 1000 == 0, -1)).unwrap();
            let outcome = flow.advance(&all(&|at| at % 1000 == 0, 1)).unwrap();
            assert_eq!(outcome.held, flow.held());
        }
        let held = flow.held();
        write!(text, ", {:?} a round of 1,000 matches; ", begun.elapsed() / rounds / 2).unwrap();
        write!(text, "arranged {} rows, {} bytes in {} batches; ", held.rows, held.bytes, held.batches).unwrap();
        write!(text, "resident {} bytes more than before", resident_bytes() - before).unwrap();
        report(&text);
        let none = flow.advance(&Facts::default()).unwrap();
        assert!(!none.tallies.contains_key(&Tally::Judged));
    }
}

/// What each change costs beside a fresh run: 40,000 samples, six benchmarks of 1,000 points, 64 dimensions; about one sample in ten over a radius.
#[test]
#[ignore = "takes time; prints"]
fn cost_of_each_change() {
    const DIM: usize = 64;
    const SHARD: u32 = 4_000;
    let (mut dice, stored) = (Dice(1), Arc::new(HeldEmbeddings::default()));
    let points = |dice: &mut Dice| -> Vec<f16> { (0..1000).flat_map(|_| dice.unit(DIM)).collect() };
    let named = |name: &str, vectors: Vec<f16>| {
        let radii = Some(vec![0.55; 1000]);
        Change::AddBenchmark(Arc::new(Benchmark::new(name, DIM, vectors, vec![], vec![], radii, None).unwrap()))
    };
    let all: Vec<Vec<f16>> = (0..7).map(|_| points(&mut dice)).collect();
    let arrive = |ordinal: u64, dice: &mut Dice| {
        let row = |index: u32| {
            let near = dice.below(60);
            let vector = match all.get(near) {
                Some(points) => {
                    let at = dice.below(1000) * DIM;
                    dice.near(&points[at..at + DIM], 1.5)
                }
                None => dice.unit(DIM),
            };
            (index, format!("{ordinal}-{index}"), vector)
        };
        stored.put(ordinal, 0, (0..SHARD).map(row).collect());
        Change::Arrive(
            ordinal,
            ShardInput { name: format!("{ordinal}").into(), generation: 0, count: SHARD, rejected: vec![] },
        )
    };
    let mut engine = Engine::new(IncrementalConfig::default(), stored.clone(), simulated_parts()).unwrap();
    let mut first: Vec<Change> = (0..6).map(|at| named(&format!("b{at}"), all[at].clone())).collect();
    first.push(Change::SetSplit("near".into(), "near".parse().unwrap()));
    first.extend((0..10).map(|ordinal| arrive(ordinal, &mut dice)));
    let last = arrive(10, &mut dice);
    let taken = (0..1000).map(|at| SampleId { ordinal: u64::from(at % 10), index: at });
    let changes: Vec<(&str, Vec<Change>)> = vec![
        ("fresh run", first),
        ("a shard of 4,000 arrives", vec![last]),
        ("a radius raised", vec![Change::SetRadii("b0".into(), vec![(7, 0.7)])]),
        ("all radii of a benchmark raised", vec![Change::SetRadii("b1".into(), (0..1000).map(|p| (p, 0.6)).collect())]),
        ("a radius lowered, above the floor", vec![Change::SetRadii("b0".into(), vec![(8, 0.54)])]),
        ("a radius lowered, below the floor", vec![Change::SetRadii("b0".into(), vec![(9, 0.4)])]),
        ("1,000 samples taken down", vec![Change::TakeDown(taken.collect(), vec![])]),
        ("a benchmark removed", vec![Change::RemoveBenchmark("b2".into())]),
        ("a benchmark added", vec![named("b6", all[6].clone())]),
        ("a shard withdrawn", vec![Change::Withdraw(3)]),
    ];
    for (what, changes) in changes {
        let before = stored.vectors_read();
        let applied = engine.apply(&changes).unwrap();
        let sides = applied.changelog.sides.len();
        report(&format!(
            "{what}: decided {:?}, refreshed {:?}; {} facts, {sides} sides, {} vectors read, {} of them to refresh; {:?}",
            applied.decided,
            applied.refreshed,
            applied.facts,
            stored.vectors_read() - before,
            applied.refreshed_vectors,
            engine.views().latest().sizes("near").unwrap(),
        ));
    }
}
