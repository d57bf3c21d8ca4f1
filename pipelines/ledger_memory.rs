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

/// And its hits by the rows that one call of the join has of that shard.
const CALL_POINT_BYTES: u64 = 4;

/// What one test point has seen of all committed shards, in the join and in the ledger, and its row while one is committed.
const POINT_BYTES: u64 = 40 + 96 + 112 + 200;

/// Unfinished shards of a lane, where nobody gives it more.
const LANE_SHARDS: u64 = 2;

/// Most unfinished shards of a process on a card: 16,000 samples in shards of 500, where full stages hold some 6,000.
const MOST_OPEN_SHARDS: usize = 32;

/// The part of the budget's spare that unfinished shards may take: the rest is for their samples.
const OPEN_SHARDS_PART: u64 = 16;

/// Sizes of what a run records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerMemory {
    /// Of a sample's vector.
    pub vector_bytes: u64,
    /// Bytes of a sample's scores.
    pub score_bytes: u64,
    /// Test points of all benchmarks.
    pub points: u64,
    /// Calls of the join at once.
    pub calls: u64,
    /// Unfinished shards that each reader's lane has room for.
    pub lane_shards: u64,
}

impl LedgerMemory {
    /// Of a run against these benchmarks, with vectors of so many elements where there are any, that makes so many calls of the join at once.
    #[must_use]
    pub fn of(benchmarks: &[Arc<Benchmark>], dim: Option<usize>, calls: usize) -> Self {
        Self {
            vector_bytes: dim.map_or(0, |dim| 2 * dim as u64),
            score_bytes: (benchmarks.len() * size_of::<Score>()) as u64,
            points: benchmarks.iter().map(|benchmark| benchmark.points() as u64).sum(),
            calls: calls as u64,
            lane_shards: LANE_SHARDS,
        }
    }

    /// The same with room in `lanes` lanes for as many of a plan's `shards` unfinished ones as keep a card's stages full, whose budget has
    /// `spare_bytes` beside what must be: shards of few samples starve them otherwise. A processor is full with fewer, and an interrupt
    /// waits for them.
    #[must_use]
    pub fn on_card(self, lanes: usize, shards: usize, spare_bytes: u64) -> Self {
        let lanes = lanes.max(1) as u64;
        let room = spare_bytes / OPEN_SHARDS_PART / (lanes * self.shard_bytes());
        let wanted = (MOST_OPEN_SHARDS.min(shards) as u64).div_ceil(lanes);
        Self { lane_shards: wanted.clamp(LANE_SHARDS, LANE_SHARDS + room), ..self }
    }

    /// What a sample leaves until the ledger has written it, beside its texts.
    #[must_use]
    pub const fn record_bytes(&self) -> u64 {
        ROW_BYTES + self.score_bytes + self.vector_bytes
    }

    /// The same of a shard.
    #[must_use]
    pub const fn shard_bytes(&self) -> u64 {
        OPEN_SHARD_BYTES + (OPEN_POINT_BYTES + CALL_POINT_BYTES * self.calls) * self.points
    }

    /// What each reader's lane may hold of records: a row group and one record more, so that it is written; and the shards
    /// they belong to.
    #[must_use]
    pub const fn lane_bytes(&self) -> u64 {
        GROUP_BYTES + self.record_bytes() + MOST_TEXT_BYTES + self.lane_shards * self.shard_bytes()
    }

    /// Sets aside what one process holds, however many lanes it has.
    pub fn take(&self, memory: &mut MemoryPlan) {
        let group = GROUP_BYTES + self.record_bytes() + MOST_TEXT_BYTES;
        memory.take("ledger's writing", GROUP_WRITING_FACTOR * group);
        memory.take("items", POINT_BYTES * self.points);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bench_on_a_card_knows_how_many_shards_may_be_open() {
        let told = format!("    args.open_shards = {MOST_OPEN_SHARDS}\n");
        assert!(include_str!("../benches/gpu/run.py").contains(&told), "{told}");
    }

    #[test]
    fn a_card_has_as_many_shards_open_as_memory_and_plan_allow() {
        let points =
            LedgerMemory { vector_bytes: 1280, score_bytes: 96, points: 167_000, calls: 2, lane_shards: LANE_SHARDS };
        let open = |lanes, shards, spare_bytes| points.on_card(lanes, shards, spare_bytes).lane_shards * lanes as u64;
        assert_eq!(open(4, 1000, 24 << 30), 32);
        assert_eq!(open(4, 10, 24 << 30), 12, "a lane's part is whole");
        assert_eq!(open(4, 1000, 0), 8, "never fewer than without a card");
        assert_eq!(open(16, 1000, 24 << 30), 32);
        assert_eq!(open(20, 1000, 24 << 30), 40);
        for spare_bytes in (0..64).map(|at| at * (64 << 20)) {
            let more = points.on_card(4, 1000, spare_bytes).lane_bytes() - points.lane_bytes();
            assert!(4 * more <= spare_bytes / OPEN_SHARDS_PART, "{spare_bytes}: {more}");
        }
    }
}
