//! What each test point has seen of one shard.
//!
//! For every benchmark and point: the largest canonical similarity and its sample, the number of samples above its radius, and the largest
//! similarity among the kept samples with its sample. Equal values go to the smaller index. All of it is a function of the shard's
//! samples and the rule, whatever the order in which they arrive.
//!
//! The stage that decides owns them, shard by shard (`open_shards.rs`); a lock lets the threads that join several
//! micro-batches of one shard add to them. Cost: 40 bytes a point and open shard.

use std::sync::{Arc, Mutex, MutexGuard};

use trommel_core::peak;
use trommel_core::sample::{PointRow, SampleId};
use trommel_core::wake::locked;

use super::benchmark::Benchmark;

/// A maximum and the sample's index in the shard that reached it.
pub(crate) type Peak = peak::Peak<u32>;

/// Nothing seen yet.
pub(crate) const NOTHING: Peak = (f64::NEG_INFINITY, u32::MAX);

/// One benchmark's columns: a value a point.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    pub(crate) pool: Vec<Peak>,
    pub(crate) kept: Vec<Peak>,
    pub(crate) hits: Vec<u64>,
}

impl Columns {
    /// Of so many points that saw nothing.
    pub(crate) fn new(points: usize) -> Self {
        Self { pool: vec![NOTHING; points], kept: vec![NOTHING; points], hits: vec![0; points] }
    }
}

/// What every test point of all benchmarks has seen of one shard.
#[derive(Debug)]
pub struct Points {
    ordinal: u64,
    columns: Mutex<Vec<Columns>>,
}

impl Points {
    /// Nothing seen yet of the shard.
    #[must_use]
    pub fn new(ordinal: u64, benchmarks: &[Arc<Benchmark>]) -> Self {
        let columns = |benchmark: &Arc<Benchmark>| Columns::new(benchmark.points());
        Self::above(ordinal, benchmarks.iter().map(columns).collect())
    }

    /// The same, maxima beginning with values of no sample: what lies below them is not looked for.
    pub(crate) fn above(ordinal: u64, columns: Vec<Columns>) -> Self {
        Self { ordinal, columns: Mutex::new(columns) }
    }

    /// The columns, a benchmark each.
    pub(crate) fn columns(&self) -> MutexGuard<'_, Vec<Columns>> {
        locked(&self.columns)
    }

    /// The rows of points that saw anything, by benchmark and point; a maximum that no sample of the shard has is none.
    #[must_use]
    pub fn rows(&self) -> Vec<PointRow> {
        let mut rows = Vec::new();
        let peak =
            |(value, index): Peak| (index != u32::MAX).then_some((value, SampleId { ordinal: self.ordinal, index }));
        for (benchmark, columns) in self.columns().iter().enumerate() {
            for point in 0..columns.hits.len() {
                let (pool, kept, hits) = (peak(columns.pool[point]), peak(columns.kept[point]), columns.hits[point]);
                if hits > 0 || pool.is_some() || kept.is_some() {
                    rows.push(PointRow {
                        benchmark: benchmark as u16,
                        point: point as u32,
                        max_similarity: pool.map(|peak| peak.0),
                        sample: pool.map(|peak| peak.1),
                        hits,
                        kept_max: kept.map(|peak| peak.0),
                        kept_sample: kept.map(|peak| peak.1),
                    });
                }
            }
        }
        rows
    }
}
