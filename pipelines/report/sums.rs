//! What is summed up for one benchmark while the ledger streams by: bins, and a bounded choice of samples to show.

use std::collections::BTreeMap;

use trommel_core::hash::mix;
use trommel_core::sample::SampleId;
use trommel_ledger::read::LedgerRow;
use trommel_report::near_threshold;

use crate::past_run::Evidence;
use crate::pictures::WantedPicture;

/// Bins over -1..1 that similarities are counted in while they stream by.
pub(super) const FINE_BINS: usize = 1 << 16;
/// Samples a benchmark among which pairs are chosen: of the dropped the nearest to the limit, and as many by hash; of the kept the nearest.
const CANDIDATES: usize = 4096;

/// What is summed up for one benchmark while the ledger streams by.
pub(super) struct Sums {
    pub(super) all: Vec<u64>,
    pub(super) dropped: Vec<u64>,
    pub(super) least: f64,
    pub(super) most: f64,
    pub(super) removed: u64,
    near: BTreeMap<(u64, SampleId), Candidate>,
    spread: BTreeMap<(u64, SampleId), Candidate>,
    /// Kept ones, the nearest to the limit.
    below: BTreeMap<(u64, SampleId), Candidate>,
}

impl Default for Sums {
    fn default() -> Self {
        let (least, most) = (f64::INFINITY, f64::NEG_INFINITY);
        let bins = || vec![0; FINE_BINS];
        Self {
            all: bins(),
            dropped: bins(),
            least,
            most,
            removed: 0,
            near: BTreeMap::new(),
            spread: BTreeMap::new(),
            below: BTreeMap::new(),
        }
    }
}

impl Sums {
    pub(super) fn add(&mut self, similarity: f64, dropped: bool) {
        (self.least, self.most) = (self.least.min(similarity), self.most.max(similarity));
        let bin = (((similarity + 1.0) / 2.0 * FINE_BINS as f64).max(0.0) as usize).min(FINE_BINS - 1);
        self.all[bin] += 1;
        self.dropped[bin] += u64::from(dropped);
    }

    /// A dropped sample at this margin; it is made where it is among the chosen so far.
    pub(super) fn offer(&mut self, id: SampleId, margin: f64, make: impl Fn() -> Candidate) {
        keep(&mut self.near, (distance(margin), id), &make);
        keep(&mut self.spread, (place_hash(id), id), &make);
    }

    /// A kept sample at this margin; it is made where it is among the chosen so far.
    pub(super) fn offer_kept(&mut self, id: SampleId, margin: f64, make: impl Fn() -> Candidate) {
        keep(&mut self.below, (distance(margin), id), make);
    }

    /// At most `count` kept candidates, the nearest to the limit first.
    pub(super) fn choose_kept(&self, count: usize) -> Vec<&Candidate> {
        self.below.values().take(count).collect()
    }

    /// At most `count` candidates, those with the largest margins first.
    pub(super) fn choose(&self, count: usize) -> Vec<&Candidate> {
        let all: BTreeMap<SampleId, &Candidate> =
            self.near.iter().chain(&self.spread).map(|((_, id), candidate)| (*id, candidate)).collect();
        let all: Vec<&Candidate> = all.into_values().collect();
        let margins: Vec<f64> = all.iter().map(|candidate| candidate.evidence.margin).collect();
        near_threshold(&margins, count).into_iter().map(|at| all[at]).collect()
    }
}

/// Distances from the limit in their order: the bits of a float that is not negative are in the float's.
const fn distance(margin: f64) -> u64 {
    margin.abs().to_bits()
}

fn keep(chosen: &mut BTreeMap<(u64, SampleId), Candidate>, key: (u64, SampleId), make: impl Fn() -> Candidate) {
    if chosen.len() < CANDIDATES || chosen.last_key_value().is_some_and(|(last, _)| key < *last) {
        chosen.insert(key, make());
        if chosen.len() > CANDIDATES {
            chosen.pop_last();
        }
    }
}

/// A hash of a sample's place: an order that has nothing to do with the data.
const fn place_hash(id: SampleId) -> u64 {
    mix(id.ordinal.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(id.index as u64 + 1))
}

/// A sample that may be shown.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) id: SampleId,
    pub(super) shard: String,
    pub(super) wanted: WantedPicture,
    pub(super) evidence: Evidence,
    pub(super) planted: Option<String>,
}

impl Candidate {
    pub(super) fn new(row: &LedgerRow, evidence: Evidence, planted: Option<String>) -> Self {
        let info = &row.fate.info;
        let wanted = WantedPicture { offset: info.offset, size: info.size, key: info.key.clone() };
        Self { id: info.id, shard: row.shard.clone(), wanted, evidence, planted }
    }
}
