//! The right to read a shard, and who gives it.

use trommel_core::sample::Time;
use trommel_core::wake::Registration;

/// The right to read one shard once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Pass over the data, from 0.
    pub pass: u32,
    /// Ordinal of the shard in the plan.
    pub ordinal: u64,
    /// Lane of the credit, and of the order while training.
    pub lane: usize,
    /// Samples with a smaller raw index are for the ledger only; `u32::MAX`: all of them.
    pub train_from: u32,
    /// Whether the ledger's decisions are to be replayed instead of judging.
    pub replay: bool,
}

/// What a reader is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Read this shard.
    Shard(Lease),
    /// Nothing now, perhaps later.
    Wait,
    /// Nothing for ever.
    Done,
}

/// A lease that is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redeemed {
    /// Ordinal of the leased shard.
    pub ordinal: u64,
    /// Whether the shard was given up: it has no decisions.
    pub failed: bool,
}

/// Who reads which shard when. Called on workers: answer at once.
pub trait Leases: Send + Sync {
    /// What reader `reader` is to do next.
    fn next(&self, reader: usize) -> Next;

    /// A lower bound of the times of all leases to come; `None` = none will come. It never falls.
    fn floor(&self) -> Option<Time>;

    /// Takes a lease back: its shard is durable, or was given up.
    fn redeem(&self, lease: Redeemed);

    /// Calls `waker` whenever a reader that was told to wait should ask again. `None`: this cannot be told, readers
    /// ask again every few milliseconds.
    fn on_change(&self, waker: Box<dyn Fn() + Send + Sync>) -> Option<Registration> {
        drop(waker);
        None
    }
}
