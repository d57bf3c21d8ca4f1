//! What a run's ledger holds in memory: records in flight, what test points have seen, and what writing takes.

use std::sync::Arc;

use trommel_core::sample::Score;
use trommel_decide::benchmark::Benchmark;
use trommel_ledger::part::{GROUP_BYTES, GROUP_WRITING_FACTOR, OPEN_SHARD_BYTES, ROW_BYTES};

use crate::memory::MemoryPlan;

/// Longest texts of one record: key, uid, url and sha256, as long as the reader takes them.
const MOST_TEXT_BYTES: u64 = 6 * (64 << 10);

/// What one test point has seen of an unfinished shard.
const OPEN_POINT_BYTES: u64 = 40;

/// What one test point has seen of all committed shards, in the join and in the ledger, and its row while one is committed.
const POINT_BYTES: u64 = 40 + 96 + 112 + 200;

/// Sizes of what a run records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerMemory {
    /// Of a sample's vector.
    pub vector_bytes: u64,
    /// Bytes of a sample's scores.
    pub score_bytes: u64,
    /// Test points of all benchmarks.
    pub points: u64,
}

impl LedgerMemory {
    /// Of a run against these benchmarks, with vectors of so many elements where there are any.
    #[must_use]
    pub fn of(benchmarks: &[Arc<Benchmark>], dim: Option<usize>) -> Self {
        Self {
            vector_bytes: dim.map_or(0, |dim| 2 * dim as u64),
            score_bytes: (benchmarks.len() * size_of::<Score>()) as u64,
            points: benchmarks.iter().map(|benchmark| benchmark.points() as u64).sum(),
        }
    }

    /// What a sample leaves until the ledger has written it, beside its texts.
    #[must_use]
    pub const fn record_bytes(&self) -> u64 {
        ROW_BYTES + self.score_bytes + self.vector_bytes
    }

    /// The same of a shard.
    #[must_use]
    pub const fn shard_bytes(&self) -> u64 {
        OPEN_SHARD_BYTES + OPEN_POINT_BYTES * self.points
    }

    /// What each reader's lane may hold of records: a row group and one record more, so that it is written; and the shards
    /// they belong to.
    #[must_use]
    pub const fn lane_bytes(&self) -> u64 {
        GROUP_BYTES + self.record_bytes() + MOST_TEXT_BYTES + 2 * self.shard_bytes()
    }

    /// Sets aside what one process holds, however many lanes it has.
    pub fn take(&self, memory: &mut MemoryPlan) {
        let group = GROUP_BYTES + self.record_bytes() + MOST_TEXT_BYTES;
        memory.take("ledger's writing", GROUP_WRITING_FACTOR * group);
        memory.take("items", POINT_BYTES * self.points);
    }
}
