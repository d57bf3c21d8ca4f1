//! What the dataflow says of an epoch, written into the state.

use std::sync::Arc;

use super::workers::EpochOutcome;
use super::world::{Live, World};
use trommel_core::sample::SampleId;

/// Writes the dataflow's consequences into the state.
pub(super) fn settle(old: &World, next: &mut World, outcome: &EpochOutcome) {
    let mut at = 0;
    let replaced = next.shards.iter().filter_map(|(ordinal, live)| {
        let before = old.shards.get(ordinal).filter(|before| !Arc::ptr_eq(&before.input, &live.input))?;
        Some((*ordinal, before.marks.clone()))
    });
    for (ordinal, marks) in replaced.collect::<Vec<_>>() {
        edit(next, ordinal, |live| live.marks = marks);
    }
    while at < outcome.sides.len() {
        let ordinal = outcome.sides[at].0.sample.ordinal;
        let end = at + outcome.sides[at..].partition_point(|(side, _)| side.sample.ordinal == ordinal);
        edit(next, ordinal, |live| {
            for (side, diff) in &outcome.sides[at..end] {
                let SampleId { index, .. } = side.sample;
                live.marks.entry(side.split).or_default().set(index, *diff > 0);
            }
        });
        at = end;
    }
    for (&tally, &count) in &outcome.tallies {
        if count == 0 {
            next.tallies.remove(&tally);
        } else {
            next.tallies.insert(tally, count);
        }
    }
    for (&(threshold, point), &count) in &outcome.points {
        let counts = Arc::make_mut(next.hits.entry(threshold).or_default());
        if count == 0 {
            counts.remove(&point);
        } else {
            counts.insert(point, count);
        }
    }
    next.hits.retain(|_, counts| !counts.is_empty());
}

fn edit(world: &mut World, ordinal: u64, with: impl FnOnce(&mut Live)) {
    if let Some(live) = world.shards.get_mut(&ordinal) {
        with(Arc::make_mut(live));
    }
}
