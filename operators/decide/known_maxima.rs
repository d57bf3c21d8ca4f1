//! What every test point's maxima are among the shards that are durable: what a shard has to reach for its own to matter.
//!
//! A shard's part names only points whose maximum it raises over what its incarnation has committed
//! (`operators/ledger/items.rs`). Without this a shard of few samples would confirm nearly every point's maximum canonically, only
//! for the ledger to leave it out: among 167,000 points 334 products a row in shards of 500 samples.
//!
//! What is known grows while shards are decided, and a shard begins with what was known at its first sample. It changes no answer: a maximum
//! that lies below a durable one is the merged maximum in no case, and one that equals it is still looked at, since of equal ones the
//! smaller sample counts.

use std::sync::{Arc, Mutex};

use trommel_core::peak::offer;
use trommel_core::sample::PointRow;
use trommel_core::wake::locked;

use super::benchmark::Benchmark;
use super::points::{Columns, NOTHING, Points};

/// Maxima that are durable. Of one ledger, and of those that are written to it now.
#[derive(Debug)]
pub struct KnownMaxima(Mutex<Vec<Columns>>);

impl KnownMaxima {
    /// Nothing is known.
    #[must_use]
    pub fn new(benchmarks: &[Arc<Benchmark>]) -> Self {
        Self(Mutex::new(benchmarks.iter().map(|benchmark| Columns::new(benchmark.points())).collect()))
    }

    /// Takes in what a shard's part says, which is durable.
    pub fn raise(&self, rows: &[PointRow]) {
        let mut all = locked(&self.0);
        for row in rows {
            let (Some(columns), at) = (all.get_mut(usize::from(row.benchmark)), row.point as usize) else {
                continue;
            };
            for (known, new) in [(&mut columns.pool, row.max_similarity), (&mut columns.kept, row.kept_max)] {
                if let (Some(known), Some(new)) = (known.get_mut(at), new) {
                    offer(known, (new, NOTHING.1));
                }
            }
        }
    }

    /// Where the statistics of a shard's points are to gather.
    #[must_use]
    pub fn points(&self, ordinal: u64) -> Points {
        Points::above(ordinal, locked(&self.0).clone())
    }
}
