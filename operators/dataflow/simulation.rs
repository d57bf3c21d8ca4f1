//! The real operators under thousands of seeded schedules, checked against a naive model of the document.
//!
//! Each seed makes a plan with sizes and fates, a budget, workers, readers, faults and moments of stopping, and runs it in
//! attempts: an attempt ends, is stopped anywhere, or fails; the next one resumes from the cursor of the last batch that
//! the trainer took and from the shards that were committed. At the end the batches of all attempts must be those of
//! the model, and every fate must have been ticked off once. In a growing scenario the assignment grows under the run, and
//! the order must be that of the finished assignment. `TROMMEL_SIM_SCHEDULES` sets the number of seeds,
//! `TROMMEL_SIM_SEED` the first one.

#![allow(clippy::unwrap_used)]

mod explore;
mod given_up;
mod graph;
mod growth;
mod model;
mod scenario;
mod stages;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use self::graph::{Begin, attempt};
use self::scenario::{Dice, Fate, Fault, Holed, Scenario};
use self::stages::Ledger;
use super::sequencer::OrderError;
use super::watchdog::Watchdog;

/// Nothing takes this long; a run that does is stuck.
const STUCK: Duration = Duration::from_secs(40);

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// A seed's scenario.
type Make = fn(u64) -> Scenario;

/// Runs one seed; the error says what was broken.
fn run(seed: u64, make: Make, watchdog: &Watchdog) -> Result<(), String> {
    let scenario = make(seed);
    let mut dice = Dice(seed ^ 0xA77E);
    let (expected, left_over) = model::batches(&scenario, seed);
    let no_batch = scenario.train && scenario.kept() < scenario.batch;
    let (mut trained, mut cursor, mut committed) = (Vec::new(), None, Ledger::default());
    let (all, mut assigned) = (scenario.shards.len() as u64, 0);
    for number in 0.. {
        let disturbed = number < 3;
        let samples = scenario.shards.iter().flatten().count() as u64;
        let stop_at = (disturbed && dice.chance(40)).then(|| dice.below(4 * samples * u64::from(scenario.passes) + 2));
        let fault = match dice.below(30) {
            _ if !disturbed => None,
            0 => Some(Fault::ReaderPanics(dice.below(scenario.shards.len() as u64))),
            1 => Some(Fault::BatchPanics),
            2 => Some(Fault::NotMade),
            _ => None,
        };
        let ledger = Ledger { committed: std::mem::take(&mut committed.committed), ..Ledger::default() };
        let outcome =
            attempt(&scenario, Begin { cursor: cursor.clone(), committed: ledger, stop_at, fault, assigned }, watchdog);
        let check = |holds: bool, what: &str| if holds { Ok(()) } else { Err(format!("attempt {number}: {what}")) };
        check(outcome.errors.is_empty(), &outcome.errors.join("; "))?;
        check(outcome.held == 0, "samples are still held")?;
        let failure = outcome.failure.as_ref().map(ToString::to_string).unwrap_or_default();
        let no_batch_failure = outcome.failure.as_ref().and_then(|f| f.error.downcast_ref::<OrderError>());
        let no_batch_failed = matches!(no_batch_failure, Some(OrderError::NoFullBatch { .. }));
        let explained = failure.is_empty() || failure.contains("planned") || (no_batch && no_batch_failed);
        check(explained, &format!("failed: {failure}"))?;
        budget_kept(&scenario, &outcome).map_err(|what| format!("attempt {number}: {what}"))?;
        trained.extend(outcome.batches);
        check(trained.len() <= expected.len() && trained == expected[..trained.len()], "wrong order")?;
        cursor = outcome.cursor.or(cursor);
        committed = outcome.ledger;
        // The plan that the next attempt finds: as it was, longer, or not yet told again.
        assigned = if dice.chance(30) { 0 } else { all.min(outcome.assigned + dice.below(3)) };
        for (ordinal, row) in &committed.committed {
            check(*row == scenario.judged(*ordinal), &format!("wrong fates of shard {ordinal}"))?;
        }
        if !outcome.stopped {
            let judged = |ordinal: u64| {
                let hole = scenario.holes[ordinal as usize] != Holed::No;
                hole || committed.committed.contains_key(&ordinal)
            };
            check((0..all).all(judged), "shards were lost")?;
            check(committed.open.is_empty(), "shards were left open")?;
            check(outcome.gauge.record_bytes == 0, "records are still held")?;
            if scenario.train {
                check(trained == expected, "batches were lost")?;
                check(outcome.left_over == left_over, &format!("left over {} not {left_over}", outcome.left_over))?;
            }
            return Ok(());
        }
        if no_batch_failed {
            return Ok(());
        }
        check(disturbed, "stopped by nobody")?;
    }
    Ok(())
}

/// The bytes that were alive at once, counted by the samples themselves.
fn budget_kept(scenario: &Scenario, outcome: &graph::Outcome) -> Result<(), String> {
    let largest = scenario.largest();
    // What fits in a quantum never passes outside.
    let outside = match (largest > scenario.quantum, scenario.train) {
        (false, _) => 0,
        (true, true) => scenario.readers as u64,
        (true, false) => 1,
    };
    let windows = 2 * scenario.window_bytes.max(largest) + scenario.batch as u64 * largest;
    let reserve = if scenario.train { windows } else { 0 };
    // The lane in turn does not wait for others' samples to make room for its workspace.
    let workspaces = scenario.workspaces.iter().max().unwrap_or(&0) * scenario.readers as u64;
    let bound = scenario.budget + outside * largest + reserve + if scenario.train { workspaces } else { 0 };
    if outcome.peak_held > bound as i64 {
        return Err(format!("{} bytes alive, {bound} allowed", outcome.peak_held));
    }
    if outcome.gauge.peak_bytes > scenario.budget || outcome.gauge.peak_oversized as u64 > outside {
        return Err(format!("budget exceeded: {:?}", outcome.gauge));
    }
    Ok(())
}

/// Panics of the scenario are not news.
fn quiet_planned_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let words = info.payload().downcast_ref::<&str>().copied();
        let words = words.or_else(|| info.payload().downcast_ref::<String>().map(String::as_str));
        if words != Some("planned") {
            usual(info);
        }
    }));
}

fn schedules(first: u64, count: u64, side_by_side: u64, make: Make) {
    quiet_planned_panics();
    let next = Arc::new(AtomicU64::new(first));
    let (tell, told) = crossbeam_channel::unbounded();
    for _ in 0..side_by_side {
        let (next, tell) = (next.clone(), tell.clone());
        thread::spawn(move || {
            loop {
                let seed = next.fetch_add(1, Ordering::SeqCst);
                if seed >= first + count {
                    break;
                }
                let (watchdog, (done, finished)) = (Watchdog::default(), crossbeam_channel::bounded(1));
                let watched = watchdog.clone();
                thread::spawn(move || done.send(run(seed, make, &watched)));
                let outcome = finished.recv_timeout(STUCK).unwrap_or_else(|error| {
                    Err(format!("{error}: stuck or panicked\n{}", watchdog.report().join("\n")))
                });
                let _test_is_over = tell.send((seed, outcome));
            }
        });
    }
    drop(tell);
    let mut seen = 0;
    for (seed, outcome) in told {
        if let Err(what) = outcome {
            panic!("TROMMEL_SIM_SEED={seed} TROMMEL_SIM_SCHEDULES=1: {what}\n{:?}", make(seed));
        }
        seen += 1;
    }
    assert_eq!(seen, count);
}

#[test]
fn thousands_of_schedules_end_right() {
    schedules(from_env("TROMMEL_SIM_SEED", 1), from_env("TROMMEL_SIM_SCHEDULES", 2000), 6, Scenario::new);
}

#[test]
fn growing_assignments_end_right() {
    let count = from_env("TROMMEL_SIM_SCHEDULES", 1000);
    schedules(from_env("TROMMEL_SIM_SEED", 1), count, 6, Scenario::growing);
}

#[test]
#[ignore = "minutes: a hundred thousand schedules"]
fn very_many_schedules_end_right() {
    schedules(1_000_000, from_env("TROMMEL_SIM_SCHEDULES", 100_000), 6, Scenario::new);
}

#[test]
fn the_scenarios_are_as_varied_as_they_should_be() {
    let scenarios: Vec<Scenario> = (1..2001).map(Scenario::new).collect();
    let count = |what: &dyn Fn(&Scenario) -> bool| scenarios.iter().filter(|scenario| what(scenario)).count();
    assert!(count(&|s| s.train && s.kept() >= s.batch) > 500);
    assert!(count(&|s| s.largest() > s.budget) > 300);
    assert!(count(&|s| s.budget == s.quantum * s.readers as u64) > 300);
    assert!(count(&|s| s.shards.iter().any(Vec::is_empty)) > 300);
    assert!(count(&|s| s.shards.iter().flatten().any(|made| made.fate == Fate::PanicsInDecode)) > 300);
    assert!(count(&|s| s.shards.len() < s.readers) > 100);
    assert!(count(&|s| !s.train && s.workspaces.iter().sum::<u64>() > s.budget - s.quantum * s.readers as u64) > 100);
    assert!(count(&|s| s.train && s.workspaces.iter().any(|bytes| *bytes > 0)) > 200);
    let growing: Vec<Scenario> = (1..1001).map(Scenario::growing).collect();
    let count = |what: &dyn Fn(&Scenario) -> bool| growing.iter().filter(|scenario| what(scenario)).count();
    assert!(count(&|s| s.kept() >= s.batch) > 500);
    assert!(count(&|s| s.shards.is_empty()) > 10);
    assert!(count(&|s| s.holes.contains(&Holed::Ahead)) > 300);
    assert!(count(&|s| s.holes.contains(&Holed::WhileRead)) > 200);
    assert!([1, 2, 4].into_iter().all(|workers| count(&|s| s.workers == workers) > 200));
}
