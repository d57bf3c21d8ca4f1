//! Maxima as processes tell them to each other at the steps of an epoch: by their bits.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::point_set::Peak;
use super::world::Peaks;
use trommel_core::peak::offer;
use trommel_core::sample::SampleId;

/// Maxima of some benchmarks: bits of the similarity, ordinal, index.
pub(super) type PeakBits = BTreeMap<u32, Vec<(u64, u64, u32)>>;

/// The maxima of the benchmarks for which `wanted` holds.
pub(super) fn peak_rows(peaks: &Peaks, wanted: impl Fn(u32) -> bool) -> PeakBits {
    let row = |&(s, sample): &Peak| (s.to_bits(), sample.ordinal, sample.index);
    let some = peaks.iter().filter(|(id, _)| wanted(**id));
    some.map(|(&id, peaks)| (id, peaks.iter().map(row).collect())).collect()
}

/// Offers another process's maxima; those of a benchmark that has none yet are taken.
pub(super) fn offer_rows(into: &mut Peaks, from: PeakBits) {
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
pub(super) fn offer_kept(into: &mut BTreeMap<u8, Peaks>, from: BTreeMap<u8, PeakBits>) {
    for (bit, rows) in from {
        offer_rows(into.entry(bit).or_default(), rows);
    }
}
