//! What each test point has seen: per open shard, taken when the shard is done.
//!
//! For every benchmark and point: the largest canonical similarity and its sample, the number of samples above its radius, and the largest
//! similarity among the kept samples with its sample. Equal values go to the smaller (shard, index). All of it is a function of the shard's
//! samples and the rule, whatever the order in which they arrive.
//!
//! [`ItemsBoard::take`] leaves out points that the shard neither hits nor raises over what this incarnation has
//! committed ([`ItemsBoard::committed`]); merging parts (maxima, ties to the smaller sample; hits summed) gives the same either way.
//!
//! Cost: 40 bytes a point and open shard, 48 bytes a point for the committed maxima.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::benchmark::Benchmark;
use trommel_core::sample::SampleId;
use trommel_core::wake::locked;

/// One test point's view of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ItemRow {
    /// Index of the benchmark in the configuration.
    pub benchmark: u16,
    /// Index of the test point in the benchmark.
    pub point: u32,
    /// Largest similarity in the shard; `None` in decision-only mode.
    pub max_similarity: Option<f64>,
    /// The sample that has it (lowest index on ties).
    pub sample: Option<SampleId>,
    /// Samples with `s > r`; 0 without radii.
    pub hits: u64,
    /// Largest similarity among the kept samples; `None` where none was kept, and in decision-only mode.
    pub kept_max: Option<f64>,
    /// The kept sample that has it (lowest index on ties).
    pub kept_sample: Option<SampleId>,
}

/// The rows of one shard, by benchmark and point.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShardItems {
    /// Ordinal of the shard.
    pub ordinal: u64,
    /// Its rows.
    pub rows: Vec<ItemRow>,
}

/// A maximum and the sample's index in the shard that reached it.
type Peak = (f64, u32);

/// Nothing seen yet.
const NOTHING: Peak = (f64::NEG_INFINITY, u32::MAX);

/// One benchmark's columns of one shard.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    pub(super) pool: Vec<Peak>,
    pub(super) kept: Vec<Peak>,
    pub(super) hits: Vec<u64>,
}

/// Takes the larger value, of equal ones the smaller index.
pub(super) fn offer(peak: &mut Peak, value: f64, index: u32) {
    if value > peak.0 || (value == peak.0 && index < peak.1) {
        *peak = (value, index);
    }
}

/// One shard's columns, a benchmark each.
type Shard = Arc<Mutex<Vec<Columns>>>;

/// A maximum over committed parts and its sample.
type Committed = (f64, SampleId);

/// What every open shard has shown to every test point. Shared by all workers of the process.
#[derive(Debug)]
pub struct ItemsBoard {
    points: Vec<usize>,
    shards: Mutex<HashMap<u64, Shard>>,
    committed: Mutex<Vec<Vec<[Committed; 2]>>>,
}

impl ItemsBoard {
    /// An empty board for these benchmarks.
    #[must_use]
    pub fn new(benchmarks: &[Arc<Benchmark>]) -> Self {
        let points: Vec<usize> = benchmarks.iter().map(|benchmark| benchmark.points()).collect();
        let none = (f64::NEG_INFINITY, SampleId { ordinal: u64::MAX, index: u32::MAX });
        let committed = Mutex::new(points.iter().map(|&points| vec![[none; 2]; points]).collect());
        Self { points, shards: Mutex::default(), committed }
    }

    /// The columns of a shard, made when first asked for.
    pub(super) fn shard(&self, ordinal: u64) -> Shard {
        Arc::clone(locked(&self.shards).entry(ordinal).or_insert_with(|| {
            let columns = |&points: &usize| Columns {
                pool: vec![NOTHING; points],
                kept: vec![NOTHING; points],
                hits: vec![0; points],
            };
            Arc::new(Mutex::new(self.points.iter().map(columns).collect()))
        }))
    }

    /// Takes a shard off the board. To be called when all its samples have been joined.
    #[must_use]
    pub fn take(&self, ordinal: u64) -> ShardItems {
        let mut rows = Vec::new();
        let Some(shard) = locked(&self.shards).remove(&ordinal) else { return ShardItems { ordinal, rows } };
        let committed = locked(&self.committed);
        for (benchmark, (columns, committed)) in locked(&shard).iter().zip(committed.iter()).enumerate() {
            for (point, floor) in committed.iter().enumerate() {
                let peaks = [columns.pool[point], columns.kept[point]]
                    .map(|(value, index)| (index != u32::MAX).then_some((value, SampleId { ordinal, index })));
                let raises = peaks.iter().zip(floor).any(|(peak, floor)| peak.is_some_and(|peak| above(peak, *floor)));
                let hits = columns.hits[point];
                if hits > 0 || raises {
                    rows.push(ItemRow {
                        benchmark: benchmark as u16,
                        point: point as u32,
                        max_similarity: peaks[0].map(|peak| peak.0),
                        sample: peaks[0].map(|peak| peak.1),
                        hits,
                        kept_max: peaks[1].map(|peak| peak.0),
                        kept_sample: peaks[1].map(|peak| peak.1),
                    });
                }
            }
        }
        ShardItems { ordinal, rows }
    }

    /// Forgets a shard that will be read again.
    pub fn discard(&self, ordinal: u64) {
        locked(&self.shards).remove(&ordinal);
    }

    /// Notes that a shard's rows are committed: later shards need not repeat what they do not raise.
    pub fn committed(&self, items: &ShardItems) {
        let mut committed = locked(&self.committed);
        for row in &items.rows {
            let place = committed.get_mut(row.benchmark as usize).and_then(|points| points.get_mut(row.point as usize));
            let Some(floor) = place else { continue };
            let peaks = [row.max_similarity.zip(row.sample), row.kept_max.zip(row.kept_sample)];
            for (floor, peak) in floor.iter_mut().zip(peaks) {
                if let Some(peak) = peak.filter(|peak| above(*peak, *floor)) {
                    *floor = peak;
                }
            }
        }
    }

    /// Bytes held by open shards and committed maxima.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let points: usize = self.points.iter().sum();
        let open = locked(&self.shards).len();
        let shard = points * (2 * size_of::<Peak>() + size_of::<u64>());
        (open * shard + points * size_of::<[Committed; 2]>()) as u64
    }
}

/// Whether a peak beats another: larger, or as large with a smaller sample.
fn above(peak: Committed, floor: Committed) -> bool {
    peak.0 > floor.0 || (peak.0 == floor.0 && peak.1 < floor.1)
}
