//! Shards that break before a checkpoint: wherever the order continues, the rest is the one that would have come, or it says what is missing.

use std::collections::HashMap;
use std::sync::Arc;

use super::graph::order_config;
use super::growth;
use super::scenario::{Dice, Fate, Scenario};
use crate::lanes::{Lanes, OrderConfig};
use crate::order::OrderService;
use crate::sequencer::{Ready, Sequencer, Slot};
use crate::window::{Cursor, GivenUp, Window};
use trommel_core::credit::{Credit, CreditConfig, Permit};
use trommel_core::stop::Stop;

/// Samples that a shard gives in a pass, where it gives less than it has.
type Cuts = HashMap<(u32, u64), u32>;

enum Arrival {
    Slot(Slot<()>),
    End(u32, u64, u32),
    GivenUp(u32, u64, u32),
}

fn arrivals(scenario: &Scenario, cuts: &Cuts, dice: &mut Dice) -> Vec<Arrival> {
    let mut all = Vec::new();
    for pass in 0..scenario.passes {
        for (shard, ordinal) in scenario.shards.iter().zip(0u64..) {
            let cut = cuts.get(&(pass, ordinal)).copied();
            let gives = cut.unwrap_or(shard.len() as u32);
            all.extend(shard.iter().zip(0..gives).map(|(made, index)| match made.fate {
                Fate::Kept => Arrival::Slot(Slot::kept(pass, ordinal, index, made.bytes / 2, ())),
                _ => Arrival::Slot(Slot::hole(pass, ordinal, index)),
            }));
            all.push(cut.map_or(Arrival::End(pass, ordinal, gives), |cut| Arrival::GivenUp(pass, ordinal, cut)));
        }
    }
    for at in (1..all.len()).rev() {
        all.swap(at, dice.below(at as u64 + 1) as usize);
    }
    all
}

/// The windows from the cursor on, or the shard for which the first one cannot be had again.
fn windows(
    scenario: &Scenario,
    cuts: &Cuts,
    cursor: &Cursor,
    dice: &mut Dice,
) -> Result<(Vec<Window<()>>, Vec<GivenUp>), GivenUp> {
    let lanes = growth::assignment(scenario, None, 0);
    let mut order = Sequencer::resume(&order_config(scenario), lanes, Some(scenario.passes), cursor).unwrap();
    let mut windows = Vec::new();
    let mut drain = |order: &mut Sequencer<()>| {
        while order.fill() {
            match order.take() {
                Some(Ready::Window(window)) => windows.push(window),
                Some(Ready::Torn(shard)) => return Err(shard),
                Some(Ready::PassEnd { .. }) | None => {}
            }
        }
        Ok(())
    };
    for arrival in arrivals(scenario, cuts, dice) {
        match arrival {
            Arrival::Slot(slot) => order.offer(slot).unwrap(),
            Arrival::End(pass, ordinal, count) => order.end(pass, ordinal, count).unwrap(),
            Arrival::GivenUp(pass, ordinal, count) => order.give_up(pass, ordinal, count).unwrap(),
        }
        if dice.chance(70) {
            drain(&mut order)?;
        }
    }
    drain(&mut order)?;
    assert!(order.finished(), "{:?}", order.waits_for());
    let given_up = order.given_up().to_vec();
    Ok((windows, given_up))
}

#[test]
fn a_window_is_filled_again_as_it_was_or_not_at_all() {
    let (mut readable, mut torn) = (0, 0);
    for seed in 0..4000 {
        let (scenario, mut dice) = (Scenario::new(seed), Dice(seed ^ 0x61E2));
        let mut cuts = Cuts::new();
        for pass in 0..scenario.passes {
            for (shard, ordinal) in scenario.shards.iter().zip(0u64..) {
                if dice.chance(30) {
                    cuts.insert((pass, ordinal), dice.below(shard.len() as u64 + 1) as u32);
                }
            }
        }
        let beginning = Cursor::start_of(0, scenario.readers);
        let (whole, given_up) = windows(&scenario, &cuts, &beginning, &mut dice).unwrap();
        let named: Cuts = given_up.iter().map(|it| ((it.pass, it.ordinal), it.count)).collect();
        assert_eq!(named, cuts, "seed {seed}");
        if whole.is_empty() {
            continue;
        }
        let at = dice.below(whole.len() as u64) as usize;
        let Window { start, next, samples } = &whole[at];
        // As a checkpoint has it after the window's first sample.
        let cursor = Cursor { offset: 1, given_up: next.given_up.clone(), ..start.clone() };
        let written = serde_json::to_string(&cursor).unwrap();
        let cursor: Cursor = serde_json::from_str(&written).unwrap();
        // What was given up may be had by now, or more of it.
        let mut now = cuts.clone();
        for it in &cursor.given_up {
            let shard = scenario.shards[it.ordinal as usize].len() as u32;
            match dice.below(3) {
                0 => _ = now.remove(&(it.pass, it.ordinal)),
                1 => {
                    _ = now.insert((it.pass, it.ordinal), it.count + dice.below(u64::from(shard - it.count) + 1) as u32)
                }
                _ => {}
            }
            readable += usize::from(!start.given_up.contains(it) && now.get(&(it.pass, it.ordinal)) != Some(&it.count));
        }
        let (rest, all) = windows(&scenario, &now, &cursor, &mut dice).unwrap();
        let content = |windows: &[Window<()>]| -> Vec<_> {
            windows.iter().map(|window| (window.samples.clone(), window.next.clone())).collect()
        };
        assert_eq!((content(&rest), all), (content(&whole[at..]), given_up), "seed {seed}");
        // A shard that now ends before one of the window's samples.
        let id = samples[dice.below(samples.len() as u64) as usize].id;
        now.insert((cursor.pass, id.ordinal), id.index);
        let missing = GivenUp { pass: cursor.pass, ordinal: id.ordinal, count: id.index };
        assert_eq!(windows(&scenario, &now, &cursor, &mut dice).err(), Some(missing), "seed {seed}");
        // Of a window of which nothing is used up nobody has seen a sample.
        assert!(windows(&scenario, &now, start, &mut dice).is_ok(), "seed {seed}");
        torn += 1;
    }
    assert!(readable > 300 && torn > 1000, "{readable} {torn}: too few to prove anything");
}

#[test]
fn a_checkpoint_inside_a_window_knows_who_was_given_up_in_it() {
    let config = OrderConfig { lanes: 1, window_samples: 6, ..OrderConfig::default() };
    let lanes = || Arc::new(Lanes::new(1, 0, [(0, "a".to_owned()), (1, "b".to_owned())]));
    let [first, second] = [0, 1].map(|position| lanes().ordinal(0, 0, position).unwrap());
    let begin = |cursor: Option<&Cursor>, stop: &Stop| {
        let credit = CreditConfig { budget_bytes: 100, lanes: 1, quantum_bytes: 10 };
        let credit = Credit::new(credit, stop.clone());
        OrderService::<()>::new(&config, lanes(), Some(1), cursor, credit, stop.clone()).unwrap()
    };
    let give = |order: &OrderService<()>, ordinal: u64, count: u32| {
        (0..count).for_each(|index| order.offer(Slot::kept(0, ordinal, index, 1, (Permit::free(), ()))).unwrap());
    };
    let rest = |order: &OrderService<()>| {
        let batches = std::iter::from_fn(|| order.next_batch(2));
        let ids = batches.map(|batch| batch.samples.iter().map(|sample| sample.id).collect::<Vec<_>>());
        ids.collect::<Vec<_>>()
    };
    let stop = Stop::new();
    let order = begin(None, &stop);
    give(&order, first, 2);
    order.give_up(0, first, 2).unwrap();
    give(&order, second, 4);
    order.end(0, second, 4).unwrap();
    let cursor = order.next_batch(2).unwrap().cursor_after;
    let lost = GivenUp { pass: 0, ordinal: first, count: 2 };
    assert_eq!((cursor.offset, &cursor.given_up), (2, &vec![lost]));
    let expected = rest(&order);
    assert_eq!((expected.len(), order.given_up()), (2, vec![lost]));

    let order = begin(Some(&cursor), &stop);
    give(&order, first, 4);
    order.end(0, first, 4).unwrap();
    give(&order, second, 4);
    order.end(0, second, 4).unwrap();
    assert_eq!((rest(&order), order.given_up(), order.torn()), (expected, vec![lost], None));
    assert!(!stop.is_requested());

    let order = begin(Some(&cursor), &stop);
    give(&order, first, 1);
    order.give_up(0, first, 1).unwrap();
    assert!(order.next_batch(2).is_none() && stop.is_requested());
    assert_eq!(order.torn(), Some(GivenUp { count: 1, ..lost }));

    let old = r#"{"pass":0,"window":0,"offset":0,"first_number":0,"turn":0,"lanes":[{"position":0,"index":0}]}"#;
    assert_eq!(serde_json::from_str::<Cursor>(old).unwrap(), Cursor::start_of(0, 1));
}
