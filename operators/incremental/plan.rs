//! What the changes ask for, before anything is read: the new inputs and cuts, with what stays of the maxima.

use std::collections::BTreeMap;

use super::IncrementalError;
use super::cuts::Cuts;
use super::inputs::{Change, Inputs};
use super::peers::Round;
use super::world::{Peaks, Shift, World, realigned, shifts};

/// The state after an epoch as far as the changes alone say it: no shard is in it yet.
pub(super) struct Plan {
    pub(super) next: World,
    /// How the benchmarks differ.
    pub(super) shifts: BTreeMap<u32, Shift>,
}

impl Plan {
    /// From the state before.
    ///
    /// # Errors
    /// Changes that cannot be.
    pub(super) fn of(old: &World, changes: &[Change], slack: f64) -> Result<Self, IncrementalError> {
        let inputs = old.inputs.after(changes)?;
        let cuts = Cuts::of(&inputs, &old.cuts)?;
        let (shifts, floors) = shifts(old, &cuts, slack);
        let nobody = Peaks::new();
        let kept = |bit: &u8| realigned(old.kept.get(bit).unwrap_or(&nobody), &old.cuts, &cuts);
        let kept = inputs.splits.values().map(|split| (split.bit, kept(&split.bit))).collect();
        let pool = realigned(&old.pool, &old.cuts, &cuts);
        let (tallies, hits) = (old.tallies.clone(), old.hits.clone());
        let point_sets = old.point_sets_for(&cuts);
        let next = World { inputs, cuts, floors, point_sets, pool, kept, tallies, hits, ..World::default() };
        Ok(Self { next, shifts })
    }

    /// The plan of all processes: a change that one refuses, all refuse.
    ///
    /// # Errors
    /// Changes that cannot be, or that are not the same everywhere.
    pub(super) fn agreed(own: Result<Self, IncrementalError>, round: &Round) -> Result<Self, IncrementalError> {
        let rank = round.peers.rank();
        let (plan, others) = round.share("changes", own, |plan| (rank, fingerprint(&plan.next.inputs)))?;
        if !others.is_empty() {
            let here = fingerprint(&plan.next.inputs);
            if let Some((process, there)) = others.into_iter().find(|(_, there)| *there != here) {
                let said = |print: u32| format!("{} that lead to inputs {print:08x}", round.name);
                return Err(IncrementalError::OutOfStep { process, there: said(there), here: said(here) });
            }
        }
        Ok(plan)
    }
}

/// A checksum of the inputs, without vectors.
fn fingerprint(inputs: &Inputs) -> u32 {
    let mut sum = crc32c::crc32c(format!("{:?} {:?}", inputs.splits, inputs.taken_keys).as_bytes());
    let mut add = |bytes: &[u8]| sum = crc32c::crc32c_append(sum, bytes);
    for (ordinal, shard) in &inputs.shards {
        add(format!("{ordinal} {} {} {} {:?}", shard.name, shard.generation, shard.count, shard.rejected).as_bytes());
    }
    for points in &inputs.benchmarks {
        add(format!("{} {} {:?}", points.id, points.benchmark.name, points.numbers).as_bytes());
        points.benchmark.radii.iter().flatten().for_each(|radius| add(&radius.to_bits().to_le_bytes()));
    }
    for sample in inputs.taken.iter() {
        add(&sample.ordinal.to_le_bytes());
        add(&sample.index.to_le_bytes());
    }
    sum
}
