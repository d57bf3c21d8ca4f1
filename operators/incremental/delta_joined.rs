//! The first half of an epoch, shard by shard: each process goes through its own, then all know what is new of every shard.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::IncrementalError;
use super::answers::{PeakBits, offer_kept, offer_rows, peak_rows};
use super::delta_join::DeltaJoin;
use super::parts::PartStore;
use super::peers::Round;
use super::record::ShardRecord;
use super::workers::Facts;
use super::world::{Live, Peaks, World};

/// What the first half found.
pub(super) struct DeltaJoined {
    /// Of this process's shards.
    pub(super) facts: Facts,
    /// The similarity of every hit, beside it.
    pub(super) similarities: Vec<f64>,
    /// Hits over a radius that scores still have to learn, of this process's shards.
    pub(super) hit_changes: BTreeMap<(u64, u32), Vec<(u32, i32)>>,
    /// Maxima over the arriving shards of all processes.
    pub(super) arrived: (Peaks, BTreeMap<u8, Peaks>),
    /// Facts of all processes.
    pub(super) all_facts: u64,
}

/// One process's part of it, as the others are told.
#[derive(Serialize, Deserialize)]
struct DeltaPart {
    shards: Vec<(u64, ShardRecord)>,
    /// Maxima of the pool where points are new.
    pool: PeakBits,
    arrived: PeakBits,
    arrived_kept: BTreeMap<u8, PeakBits>,
    facts: u64,
}

impl DeltaJoin<'_> {
    /// Does all of it, and shares it.
    ///
    /// # Errors
    /// A budget exceeded, files that cannot be read or written, here or in another process.
    pub(super) fn run(mut self, round: &Round) -> Result<DeltaJoined, IncrementalError> {
        let done = self.shards(round);
        let (old, part_store, shifts) = (self.old, self.part_store, self.shifts);
        let Self { next, facts, similarities, arrived, hit_changes, .. } = self;
        let is_fresh = |id: u32| shifts.get(&id).is_some_and(|shift| !shift.fresh.is_empty());
        let own_facts = (facts.hits.len() + facts.taken.len()) as u64;
        let tell = |(): &()| DeltaPart {
            shards: news(old, next, round),
            pool: peak_rows(&next.pool, is_fresh),
            arrived: peak_rows(&arrived.0, |_| true),
            arrived_kept: arrived.1.iter().map(|(&bit, peaks)| (bit, peak_rows(peaks, |_| true))).collect(),
            facts: own_facts,
        };
        let ((), others) = round.share("shards", done, tell)?;
        let mut delta_joined = DeltaJoined { facts, similarities, hit_changes, arrived, all_facts: own_facts };
        for part in others {
            offer_rows(&mut next.pool, part.pool);
            offer_rows(&mut delta_joined.arrived.0, part.arrived);
            offer_kept(&mut delta_joined.arrived.1, part.arrived_kept);
            delta_joined.all_facts += part.facts;
            learn(next, part.shards, part_store)?;
        }
        Ok(delta_joined)
    }

    /// Goes through this process's shards; the others' that stay are as they were.
    fn shards(&mut self, round: &Round) -> Result<(), IncrementalError> {
        let old = self.old;
        let shards = self.next.inputs.shards.clone();
        for (&ordinal, live) in &old.shards {
            let stays = shards.get(&ordinal).is_some_and(|input| Arc::ptr_eq(input, &live.input));
            match (round.owns(ordinal), stays) {
                (true, true) => self.remain(ordinal, live)?,
                (true, false) => self.withdraw(ordinal, live)?,
                (false, true) => self.leave(ordinal, live),
                (false, false) => {}
            }
            self.budget.next_shard();
        }
        for (&ordinal, input) in shards.iter().filter(|(ordinal, _)| round.owns(**ordinal)) {
            if old.shards.get(&ordinal).is_none_or(|live| !Arc::ptr_eq(input, &live.input)) {
                self.arrive(ordinal, input)?;
                self.budget.next_shard();
            }
        }
        Ok(())
    }

    /// Another process's shard, without the benchmarks that go.
    fn leave(&mut self, ordinal: u64, live: &Arc<Live>) {
        let mut live = live.clone();
        for (id, _) in self.shifts.iter().filter(|(_, shift)| shift.new.is_none()) {
            let live = Arc::make_mut(&mut live);
            live.matches.remove(id);
            live.scores.remove(id);
        }
        self.next.shards.insert(ordinal, live);
    }
}

/// What is new of this process's shards.
fn news(old: &World, next: &World, round: &Round) -> Vec<(u64, ShardRecord)> {
    let own = next.shards.iter().filter(|(ordinal, _)| round.owns(**ordinal));
    let new = own.filter_map(|(ordinal, live)| {
        let before = old.shards.get(ordinal);
        if before.is_some_and(|before| Arc::ptr_eq(before, live)) {
            return None;
        }
        Some((*ordinal, ShardRecord::news(before, live)?))
    });
    new.collect()
}

/// Writes what is new of another process's shards into the state.
pub(super) fn learn(
    next: &mut World,
    shards: Vec<(u64, ShardRecord)>,
    part_store: &PartStore,
) -> Result<(), IncrementalError> {
    for (ordinal, record) in shards {
        let Some(input) = next.inputs.shards.get(&ordinal) else { continue };
        let before = next.shards.get(&ordinal).map_or_else(|| Live::bare(input.clone()), |live| (**live).clone());
        let live = record.onto(before, part_store, false)?;
        next.shards.insert(ordinal, Arc::new(live));
    }
    Ok(())
}
