//! What is arranged does not grow with the rounds: by the arrangements' own counts.

use super::exact::Dice;
use super::script::{Trial, simulated_parts};
use crate::flow::{Hit, Tally};
use crate::workers::{Facts, Flow};
use trommel_core::sample::SampleId;

/// Hits of 1,000 samples; a hundred of them go and come back each round.
#[test]
fn a_thousand_rounds_leave_no_trace() {
    for workers in [1, 2] {
        let (mut flow, mut dice) = (Flow::start(workers).unwrap(), Dice(5));
        let hit = |index: u32| Hit {
            sample: SampleId { ordinal: 1 << 39, index },
            threshold: 0,
            point: index % 50,
            drops: 1,
            keeps: 0,
        };
        let facts = |some: &[u32], diff| Facts {
            hits: some.iter().map(|&index| (hit(index), diff)).collect(),
            ..Facts::default()
        };
        let all: Vec<u32> = (0..1000).collect();
        flow.advance(&facts(&all, 1)).unwrap();
        let mut held = Vec::new();
        for _ in 0..500 {
            let some: Vec<u32> = all.iter().copied().filter(|_| dice.below(10) == 0).collect();
            let outcome = flow.advance(&facts(&some, -1)).unwrap();
            assert_eq!(outcome.sides.len(), some.len());
            assert_eq!(outcome.tallies[&Tally::Samples(0)], 1000 - some.len() as i64);
            held.push(flow.advance(&facts(&some, 1)).unwrap().held);
        }
        // 2,000 marks, 50 points, 3 tallies; unmerged batches of some rounds may stand beside them.
        let most = |range: std::ops::Range<usize>| held[range].iter().map(|held| held.rows).max().unwrap();
        assert!(most(0..500) <= 2 * 2053 + 2048, "{}", most(0..500));
        assert!(most(400..500) <= most(0..100) + most(0..100) / 4, "{} then {}", most(0..100), most(400..500));
        assert!(held.iter().all(|held| held.batches < 64 * workers as u64));
    }
}

/// An engine whose inputs come and go: when all is gone, next to nothing is held.
#[test]
fn nothing_is_held_of_what_is_gone() {
    let mut trial = Trial::new(77, 1, simulated_parts());
    let mut rows = Vec::new();
    for round in 0..200 {
        let changes = trial.changes();
        trial.engine.apply(&changes).unwrap();
        trial.inputs = trial.inputs.after(&changes).unwrap();
        if round % 10 == 9 {
            rows.push(trial.engine.flow().held().rows);
        }
    }
    assert!(rows.iter().all(|rows| *rows < 4000), "{rows:?}");
}
