//! The pure sequencer under every kind of arrival, without threads: all orders of arrival give the same windows and
//! cursors, and any cursor resumes to the same rest.

use std::sync::Arc;

use super::graph::order_config;
use super::model;
use super::scenario::{Dice, Fate, Scenario};
use crate::dataflow::lanes::Lanes;
use crate::dataflow::sequencer::{OrderError, Ready, Sequencer, Slot};
use crate::dataflow::window::{Cursor, Window};

fn lanes(scenario: &Scenario) -> Arc<Lanes> {
    let names = (0..scenario.shards.len()).map(|at| (at as u64, Scenario::name(at)));
    Arc::new(Lanes::new(scenario.readers, scenario.seed, names))
}

/// Everything there is to offer, shuffled; a shard's end is `Err`.
fn arrivals(scenario: &Scenario, dice: &mut Dice) -> Vec<Result<Slot<()>, (u32, u64, u32)>> {
    let mut all = Vec::new();
    for pass in 0..scenario.passes {
        for (shard, ordinal) in scenario.shards.iter().zip(0u64..) {
            for (made, index) in shard.iter().zip(0u32..) {
                all.push(Ok(match made.fate {
                    Fate::Kept => Slot::kept(pass, ordinal, index, made.bytes / 2, ()),
                    _ => Slot::hole(pass, ordinal, index),
                }));
            }
            all.push(Err((pass, ordinal, shard.len() as u32)));
        }
    }
    for at in (1..all.len()).rev() {
        all.swap(at, dice.below(at as u64 + 1) as usize);
    }
    all
}

fn windows(scenario: &Scenario, cursor: Option<&Cursor>, dice: &mut Dice) -> Vec<Window<()>> {
    let (config, lanes) = (order_config(scenario), lanes(scenario));
    let begin = cursor.cloned().unwrap_or_else(|| Cursor::start_of(0, scenario.readers));
    let mut order = Sequencer::resume(&config, lanes, Some(scenario.passes), &begin).unwrap();
    let mut windows = Vec::new();
    let mut drain = |order: &mut Sequencer<()>| {
        while order.fill() {
            if let Some(Ready::Window(window)) = order.take() {
                windows.push(window);
            }
        }
    };
    for arrival in arrivals(scenario, dice) {
        match arrival {
            Ok(slot) => order.offer(slot).unwrap(),
            Err((pass, ordinal, count)) => order.end(pass, ordinal, count).unwrap(),
        }
        if dice.chance(70) {
            drain(&mut order);
        }
    }
    drain(&mut order);
    assert!(order.finished(), "{:?}", order.waits_for());
    windows
}

#[test]
fn any_arrival_gives_the_models_order_and_any_cursor_its_rest() {
    for seed in 0..3000 {
        let scenario = Scenario::new(seed);
        let mut dice = Dice(seed);
        let windows = windows(&scenario, None, &mut dice);
        assert_eq!(windows, self::windows(&scenario, None, &mut dice), "seed {seed}");
        let whole = Scenario { batch: 1, ..scenario.clone() };
        let expected: Vec<_> = model::batches(&whole, seed).0.into_iter().map(|(pass, ids)| (pass, ids[0])).collect();
        let ids = |window: &Window<()>| {
            let pass = window.start.pass;
            window.samples.iter().map(move |s| (pass, (s.id.ordinal, s.id.index))).collect::<Vec<_>>()
        };
        assert_eq!(windows.iter().flat_map(ids).collect::<Vec<_>>(), expected, "seed {seed}");
        if !windows.is_empty() {
            let at = dice.below(windows.len() as u64) as usize;
            assert_eq!(self::windows(&scenario, Some(&windows[at].start), &mut dice), windows[at..], "seed {seed}");
            assert_eq!(self::windows(&scenario, Some(&windows[at].next), &mut dice), windows[at + 1..], "seed {seed}");
        }
    }
}

#[test]
fn contradictions_are_refused() {
    let scenario = Scenario::new(1);
    let names = [(0, "a".to_owned()), (1, "b".to_owned())];
    let mut order = Sequencer::<()>::new(&order_config(&scenario), Arc::new(Lanes::new(1, 0, names)), Some(2));
    let first = if lanes_first() { 0 } else { 1 };
    order.offer(Slot::hole(0, first, 3)).unwrap();
    let twice = OrderError::Twice { pass: 0, ordinal: first, index: 3 };
    assert_eq!(order.offer(Slot::hole(0, first, 3)), Err(twice.clone()));
    let beyond = OrderError::BeyondEnd { pass: 0, ordinal: first, index: 3, count: 3 };
    assert_eq!(order.end(0, first, 3), Err(beyond));
    order.end(0, first, 4).unwrap();
    assert_eq!(order.end(0, first, 4), Err(OrderError::EndedTwice { pass: 0, ordinal: first }));
    let beyond = OrderError::BeyondEnd { pass: 0, ordinal: first, index: 4, count: 4 };
    assert_eq!(order.offer(Slot::hole(0, first, 4)), Err(beyond));
    for index in 0..3 {
        order.offer(Slot::hole(0, first, index)).unwrap();
    }
    order.fill();
    assert_eq!(order.offer(Slot::hole(0, first, 3)), Err(twice));
    assert_eq!(order.end(0, first, 4), Err(OrderError::EndedTwice { pass: 0, ordinal: first }));
    assert_eq!(order.offer(Slot::hole(2, 0, 0)), Err(OrderError::UnknownShard { pass: 2, ordinal: 0 }));
    assert_eq!(order.end(0, 2, 0), Err(OrderError::UnknownShard { pass: 0, ordinal: 2 }));
    let foreign = Cursor::start_of(0, 3);
    let resumed = Sequencer::<()>::resume(&order_config(&scenario), Arc::new(Lanes::new(1, 0, [])), None, &foreign);
    assert_eq!(resumed.err(), Some(OrderError::Cursor { found: 3, lanes: 1 }));
}

fn lanes_first() -> bool {
    Lanes::new(1, 0, [(0, "a".to_owned()), (1, "b".to_owned())]).ordinal(0, 0, 0) == Some(0)
}
