//! Assignments that grow under the run: shards come at random moments, or not for a long time, and at last no more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::scenario::{Dice, Holed, Scenario, jitter};
use super::stages::World;
use crate::lanes::Lanes;
use crate::window::Cursor;

/// The assignment of a scenario; of a growing one the first `assigned` shards are there, or all where the cursor says so.
pub fn assignment(scenario: &Scenario, cursor: Option<&Cursor>, assigned: u64) -> Arc<Lanes> {
    if !scenario.growing {
        let names = (0..scenario.shards.len()).map(|at| (at as u64, Scenario::name(at)));
        return Arc::new(Lanes::new(scenario.readers, scenario.seed, names));
    }
    let (lanes, all) = (Lanes::growing(scenario.readers), scenario.shards.len() as u64);
    let closed = cursor.is_some_and(|cursor| cursor.closed_at.is_some());
    grow(scenario, &lanes, if closed { all } else { assigned });
    if closed {
        lanes.close();
    }
    Arc::new(lanes)
}

/// Assigns the shards up to `shards`, those withdrawn before they came as holes.
pub fn grow(scenario: &Scenario, lanes: &Lanes, shards: u64) {
    let holes = (lanes.shards() as u64..shards).filter(|at| scenario.holes[*at as usize] == Holed::Ahead);
    holes.for_each(|ordinal| _ = lanes.hole(ordinal));
    lanes.grow(shards);
}

/// Lets the rest come and closes, unless the run is stopped first.
pub fn feed(world: &World, mut dice: Dice) {
    let (scenario, lanes) = (&world.scenario, &world.assignment);
    while !world.stop.is_requested() && lanes.is_open() {
        match dice.below(4) {
            0 => {}
            1 => until_quiet(world),
            _ => jitter(&mut dice, false),
        }
        let (assigned, all) = (lanes.shards() as u64, scenario.shards.len() as u64);
        if assigned == all {
            lanes.close();
        } else {
            grow(scenario, lanes, all.min(assigned + dice.range(1, 3)));
        }
    }
}

/// Until nothing moves any more without us: whoever then waits has only the assignment's wakers.
fn until_quiet(world: &World) {
    let (mut seen, mut still) = (u64::MAX, 0);
    while still < 4 && !world.stop.is_requested() {
        let now = world.ticks.load(Ordering::SeqCst);
        still = if now == seen { still + 1 } else { 0 };
        seen = now;
        thread::sleep(Duration::from_micros(400));
    }
}
