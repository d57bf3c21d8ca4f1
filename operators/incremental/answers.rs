//! What processes tell each other at the steps of an epoch: maxima by their bits, and shards by what is new of them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::IncrementalError;
use super::inputs::ShardInput;
use super::panel::{Peak, offer};
use super::parts::{Part, PartRecord, Shelf};
use super::world::{Live, Peaks};
use crate::sample::SampleId;

/// Maxima of some benchmarks: bits of the similarity, ordinal, index.
pub(super) type PeakRows = BTreeMap<u32, Vec<(u64, u64, u32)>>;

/// The maxima of the benchmarks for which `wanted` holds.
pub(super) fn peak_rows(peaks: &Peaks, wanted: impl Fn(u32) -> bool) -> PeakRows {
    let row = |&(s, sample): &Peak| (s.to_bits(), sample.ordinal, sample.index);
    let some = peaks.iter().filter(|(id, _)| wanted(**id));
    some.map(|(&id, peaks)| (id, peaks.iter().map(row).collect())).collect()
}

/// Offers another process's maxima; those of a benchmark that has none yet are taken.
pub(super) fn offer_rows(into: &mut Peaks, from: PeakRows) {
    for (id, rows) in from {
        let rows = rows.into_iter().map(|(s, ordinal, index)| (f64::from_bits(s), SampleId { ordinal, index }));
        match into.entry(id) {
            Entry::Vacant(empty) => {
                empty.insert(rows.collect());
            }
            Entry::Occupied(mut held) => held.get_mut().iter_mut().zip(rows).for_each(|(held, peak)| offer(held, peak)),
        }
    }
}

/// [`offer_rows`] for each split.
pub(super) fn offer_kept(into: &mut BTreeMap<u8, Peaks>, from: BTreeMap<u8, PeakRows>) {
    for (bit, rows) in from {
        offer_rows(into.entry(bit).or_default(), rows);
    }
}

/// What is new of one shard, for those who do not read it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ShardRecord {
    pub(super) ordinal: u64,
    /// Samples taken down, and those of them by key, where either differs.
    taken: Option<(Vec<u32>, Vec<u32>)>,
    /// New parts, by benchmark.
    matches: Vec<(u32, PartRecord)>,
    scores: Vec<(u32, PartRecord)>,
}

impl ShardRecord {
    /// What `live` has that `before` had not; `None` if nothing.
    pub(super) fn between(ordinal: u64, before: Option<&Live>, live: &Live) -> Option<Self> {
        let same = |before: &Live| before.taken == live.taken && before.taken_by_key == live.taken_by_key;
        let taken = (!before.is_some_and(same)).then(|| (live.taken.to_vec(), live.taken_by_key.to_vec()));
        let matches = fresh(before.map(|before| &before.matches), &live.matches);
        let scores = fresh(before.map(|before| &before.scores), &live.scores);
        let any = taken.is_some() || !matches.is_empty() || !scores.is_empty();
        any.then_some(Self { ordinal, taken, matches, scores })
    }

    /// The shard as its owner has it.
    ///
    /// # Errors
    /// Parts that are no files of this shelf.
    pub(super) fn onto(
        self,
        before: Option<&Live>,
        input: &Arc<ShardInput>,
        shelf: &Shelf,
    ) -> Result<Live, IncrementalError> {
        let mut live = before.cloned().unwrap_or_else(|| Live::bare(input.clone()));
        if let Some((taken, by_key)) = self.taken {
            (live.taken, live.taken_by_key) = (Arc::new(taken), Arc::new(by_key));
        }
        for (id, record) in self.matches {
            live.matches.insert(id, shelf.refer(&record)?);
        }
        for (id, record) in self.scores {
            live.scores.insert(id, shelf.refer(&record)?);
        }
        Ok(live)
    }
}

/// Records of the parts that are not the ones before.
fn fresh<T>(before: Option<&BTreeMap<u32, Arc<Part<T>>>>, parts: &BTreeMap<u32, Arc<Part<T>>>) -> Vec<(u32, PartRecord)>
where
    T: super::tables::Table,
{
    let held = |id: &u32, part| before.and_then(|before| before.get(id)).is_some_and(|held| Arc::ptr_eq(held, part));
    let new = parts.iter().filter(|(id, part)| !held(id, part));
    new.filter_map(|(&id, part)| Some((id, part.record()?))).collect()
}
