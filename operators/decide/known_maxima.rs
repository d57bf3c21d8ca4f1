//! What every test point's maxima are among the shards that are durable: what a shard has to reach for its own to matter.
//!
//! A shard's part names only points whose maximum it raises over what its incarnation has committed
//! ([`ledger::items`](https://docs.rs/trommel-ledger)). Without this a shard of few samples would confirm nearly every point's maximum canonically, only
//! for the ledger to leave it out: among 167,000 points 334 products a row in shards of 500 samples.
//!
//! What is known grows while shards are decided, and a shard begins with what was known at its first sample. It changes no answer: a maximum
//! that lies below a durable one is the merged maximum in no case, and one that equals it is still looked at, since of equal ones the
//! smaller sample counts.

use std::sync::{Arc, RwLock};

use trommel_core::sample::PointRow;

use super::benchmark::Benchmark;
use super::points::{Columns, NOTHING, Points};

/// Maxima that are durable. Of one ledger, and of those that are written to it now.
#[derive(Debug)]
pub struct KnownMaxima(RwLock<Arc<Vec<Columns>>>);

impl KnownMaxima {
    /// Nothing is known.
    #[must_use]
    pub fn new(benchmarks: &[Arc<Benchmark>]) -> Self {
        Self(RwLock::new(Arc::new(benchmarks.iter().map(|benchmark| Columns::new(benchmark.points())).collect())))
    }

    /// Takes in what a shard's part says, which is durable.
    pub fn raise(&self, rows: &[PointRow]) {
        let mut columns = self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let columns = Arc::make_mut(&mut columns);
        for row in rows {
            let (Some(columns), at) = (columns.get_mut(usize::from(row.benchmark)), row.point as usize) else {
                continue;
            };
            for (known, new) in [(&mut columns.pool, row.max_similarity), (&mut columns.kept, row.kept_max)] {
                if let (Some(known), Some(new)) = (known.get_mut(at), new) {
                    *known = (known.0.max(new), NOTHING.1);
                }
            }
        }
    }

    /// Where the statistics of a shard's points are to gather.
    #[must_use]
    pub fn points(&self, ordinal: u64) -> Points {
        let columns = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        Points::above(ordinal, columns.to_vec())
    }
}
