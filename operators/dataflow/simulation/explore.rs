//! The pure sequencer under every kind of arrival, without threads: all orders of arrival give the same windows and
//! cursors, and any cursor resumes to the same rest.

use std::sync::Arc;

use super::graph::order_config;
use super::growth;
use super::model;
use super::scenario::{Dice, Fate, Holed, Scenario};
use crate::lanes::{Lanes, OrderConfig};
use crate::sequencer::{OrderError, Ready, Sequencer, Slot};
use crate::window::{Cursor, Window};

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
    let (config, lanes) = (order_config(scenario), growth::assignment(scenario, cursor, 0));
    let begin = cursor.cloned().unwrap_or_else(|| Cursor::start_of(0, scenario.readers));
    let mut order = Sequencer::resume(&config, lanes.clone(), Some(scenario.passes), &begin).unwrap();
    let mut windows = Vec::new();
    let mut drain = |order: &mut Sequencer<()>| {
        while order.fill() {
            if let Some(Ready::Window(window)) = order.take() {
                windows.push(window);
            }
        }
    };
    for arrival in arrivals(scenario, dice) {
        let (ordinal, index) = match &arrival {
            Ok(slot) => (slot.id.ordinal, Some(slot.id.index)),
            Err((_, ordinal, _)) => (*ordinal, None),
        };
        if scenario.growing {
            growth::grow(scenario, &lanes, (ordinal + 1 + dice.below(2)).min(scenario.shards.len() as u64));
        }
        if scenario.holes[ordinal as usize] == Holed::WhileRead && index == Some(0) {
            lanes.hole(ordinal); // other samples of it may wait already
        }
        match arrival {
            Ok(slot) => order.offer(slot).unwrap(),
            Err((pass, ordinal, count)) => order.end(pass, ordinal, count).unwrap(),
        }
        if dice.chance(70) {
            drain(&mut order);
        }
    }
    drain(&mut order);
    if scenario.growing {
        assert!(!order.finished() || !lanes.is_open());
        growth::grow(scenario, &lanes, scenario.shards.len() as u64);
        lanes.close();
        drain(&mut order);
    }
    assert!(order.finished(), "{:?}", order.waits_for());
    windows
}

#[test]
fn any_arrival_gives_the_models_order_and_any_cursor_its_rest() {
    let fixed = (0..3000).map(|seed| (seed, Scenario::new(seed)));
    for (seed, scenario) in fixed.chain((0..3000).map(|seed| (seed, Scenario::growing(seed)))) {
        let mut dice = Dice(seed);
        let windows = windows(&scenario, None, &mut dice);
        assert_eq!(windows, self::windows(&scenario, None, &mut dice), "seed {seed}");
        let whole = Scenario { batch: 1, ..scenario.clone() };
        let expected: Vec<_> =
            model::batches(&whole, seed).0.into_iter().map(|(pass, ids, _)| (pass, ids[0])).collect();
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

#[test]
fn a_shard_that_cannot_be_had_any_more_ends_where_the_order_was() {
    let config = OrderConfig { lanes: 1, window_samples: 2, ..OrderConfig::default() };
    let lanes = || Arc::new(Lanes::new(1, 0, [(0, "a".to_owned()), (1, "b".to_owned())]));
    let order_of = lanes();
    let [first, second] = [0, 1].map(|position| order_of.ordinal(0, 0, position).unwrap());
    let mut order = Sequencer::<()>::new(&config, lanes(), Some(1));
    (0..3).for_each(|index| order.offer(Slot::kept(0, first, index, 1, ())).unwrap());
    assert!(order.fill());
    let Some(Ready::Window(window)) = order.take() else { panic!("two samples are a window") };
    let resume = || Sequencer::<()>::resume(&config, lanes(), Some(1), &window.next).unwrap();
    let mut resumed = resume();
    assert!(resumed.end(0, first, 0).is_err());
    resumed.give_up(0, first, 0).unwrap();
    resumed.end(0, second, 1).unwrap();
    resumed.offer(Slot::kept(0, second, 0, 1, ())).unwrap();
    assert!(resumed.fill());
    let Some(Ready::Window(last)) = resumed.take() else { panic!("the rest is a window") };
    assert_eq!(last.samples.iter().map(|sample| sample.id.ordinal).collect::<Vec<_>>(), [second]);
    // Of what can be had, all that was read counts.
    let mut resumed = resume();
    resumed.give_up(0, first, 3).unwrap();
    resumed.offer(Slot::kept(0, first, 2, 1, ())).unwrap();
    resumed.end(0, second, 0).unwrap();
    assert!(resumed.fill());
    let Some(Ready::Window(last)) = resumed.take() else { panic!("the rest is a window") };
    assert_eq!(last.samples.len(), 1);
}

fn lanes_first() -> bool {
    Lanes::new(1, 0, [(0, "a".to_owned()), (1, "b".to_owned())]).ordinal(0, 0, 0) == Some(0)
}

#[test]
fn an_open_assignment_holds_the_order_at_the_lane_that_has_no_shard_yet() {
    let config = OrderConfig { lanes: 2, window_samples: 2, ..OrderConfig::default() };
    let lanes = Arc::new(Lanes::growing(2));
    let mut order = Sequencer::<()>::new(&config, lanes.clone(), None);
    assert!(!order.fill() && !order.finished());
    assert_eq!((order.waits_for(), order.waits_for_growth()), (None, Some(0)));
    lanes.grow(1);
    order.end(0, 0, 3).unwrap();
    (0..3).for_each(|index| order.offer(Slot::kept(0, 0, index, 1, ())).unwrap());
    assert!(!order.fill());
    assert_eq!((order.waits_for_growth(), order.waiting_slots()), (Some(1), 2));
    lanes.grow(2);
    order.offer(Slot::kept(0, 1, 0, 1, ())).unwrap();
    assert!(order.fill());
    let Some(Ready::Window(first)) = order.take() else { panic!("two samples are a window") };
    assert_eq!((first.next.closed_at, first.samples.len()), (None, 2));
    order.end(0, 1, 1).unwrap();
    assert!(!order.fill());
    lanes.close();
    assert!(order.fill());
    let Some(Ready::Window(last)) = order.take() else { panic!("the rest is a window") };
    assert_eq!((last.start.closed_at, last.samples.len()), (Some(2), 2));
    // The first window is that of any longer assignment, the last one is not.
    let longer = Arc::new(Lanes::growing(2));
    longer.grow(5);
    assert!(Sequencer::<()>::resume(&config, longer.clone(), None, &first.start).is_ok());
    let refused = Sequencer::<()>::resume(&config, longer, None, &last.start).err();
    assert_eq!(refused, Some(OrderError::Closed { closed_at: 2 }));
    assert!(Sequencer::<()>::resume(&config, lanes, None, &last.start).is_ok());
}
