//! What an order refuses.

use thiserror::Error;

/// What contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OrderError {
    /// A shard that is not in the plan, or a pass beyond the last.
    #[error("pass {pass} has no shard {ordinal}")]
    UnknownShard {
        /// Pass over the data, from 0.
        pass: u32,
        /// Ordinal of the shard in the plan, from 0.
        ordinal: u64,
    },
    /// A sample's turn came twice.
    #[error("pass {pass}, shard {ordinal}: sample {index} came twice")]
    Twice {
        /// Pass over the data, from 0.
        pass: u32,
        /// Ordinal of the shard in the plan, from 0.
        ordinal: u64,
        /// Raw index of the sample in its shard, from 0.
        index: u32,
    },
    /// A shard ended twice.
    #[error("pass {pass}: shard {ordinal} ended twice")]
    EndedTwice {
        /// Pass over the data, from 0.
        pass: u32,
        /// Ordinal of the shard in the plan, from 0.
        ordinal: u64,
    },
    /// A sample's number is not below its shard's count.
    #[error("pass {pass}, shard {ordinal}: sample {index} of {count}")]
    BeyondEnd {
        /// Pass over the data, from 0.
        pass: u32,
        /// Ordinal of the shard in the plan, from 0.
        ordinal: u64,
        /// Raw index of the sample in its shard, from 0.
        index: u32,
        /// The shard's count.
        count: u32,
    },
    /// A cursor that belongs to another order.
    #[error("the cursor is of {found} lanes, the order has {lanes}")]
    Cursor {
        /// Lanes of the cursor.
        found: usize,
        /// Lanes of the order.
        lanes: usize,
    },
    /// A cursor that stands behind the end of a growing assignment, which has not ended there.
    #[error(
        "the cursor stands behind the end of a deal that was closed with {closed_at} shards; deal just those and close"
    )]
    Closed {
        /// Shards of the closed assignment.
        closed_at: u64,
    },
    /// A whole pass did not fill one batch.
    #[error("pass {pass} has {kept} samples to train, fewer than one batch of {batch}")]
    NoFullBatch {
        /// Pass over the data, from 0.
        pass: u32,
        /// Kept samples of it.
        kept: u64,
        /// The batch's size.
        batch: usize,
    },
}
