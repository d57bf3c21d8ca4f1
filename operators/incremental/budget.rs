//! Memory: what a fact costs, and a budget that an epoch may not exceed.
//!
//! A match above a cut is a hit. A hit leaves one row a (sample, threshold), one a (sample, split) that its threshold serves, and one a (threshold, point);
//! hits that share a sample or a point share these rows. A row is a packed key, an offset, a time and a diff; where neighbours have equal time and
//! diff, only the first pays for them. While batches are merged, old and new ones are there at the same time, hence the factor 2.
//!
//! Before the dataflow sees an epoch, its facts are counted as they are found: the first that would exceed the budget ends the epoch with
//! [`IncrementalError::Budget`], and nothing has changed.

use super::IncrementalError;

/// Bytes of one arranged row at most: key, offset, time, diff.
pub const ROW_BYTES: u64 = 32;

/// Bytes of one fact on its way through an epoch, without the rows that it becomes: kept for the reasons, sent, exchanged, sorted.
pub const FACT_BYTES: u64 = 256;

/// Bytes of one match of a shard while its part is made.
pub const MATCH_BYTES: u64 = 96;

/// What is left of a budget.
#[derive(Clone, Debug)]
pub struct EpochBudget {
    limit: u64,
    held: u64,
    a_hit: u64,
    hits: u64,
    matches: u64,
}

impl EpochBudget {
    /// A budget for one epoch: `held` bytes are arranged already, a hit may serve `splits` splits.
    #[must_use]
    pub fn new(limit: u64, held: u64, splits: usize) -> Self {
        let rows = 2 + splits as u64;
        Self { limit, held: 2 * held, a_hit: FACT_BYTES + 2 * rows * ROW_BYTES, hits: 0, matches: 0 }
    }

    /// Bytes that are accounted for.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.held + self.hits * self.a_hit + self.matches * MATCH_BYTES
    }

    fn check(&self) -> Result<(), IncrementalError> {
        let (needed, limit) = (self.bytes(), self.limit);
        if needed > limit { Err(IncrementalError::Budget { needed, limit }) } else { Ok(()) }
    }

    /// One more hit that comes or goes.
    pub(super) fn spend_hit(&mut self) -> Result<(), IncrementalError> {
        self.hits += 1;
        self.check()
    }

    /// One more match of the shard at hand.
    pub(super) fn spend_match(&mut self) -> Result<(), IncrementalError> {
        self.matches += 1;
        self.check()
    }

    /// Matches of the shard at hand that there still is room for.
    pub(super) fn room_for_matches(&self) -> u64 {
        self.limit.saturating_sub(self.bytes()) / MATCH_BYTES
    }

    /// The matches of the last shard are written.
    pub(super) fn next_shard(&mut self) {
        self.matches = 0;
    }
}
