//! Decisions that stay right while data, benchmarks, rules and takedowns change; a change costs only its difference.
//!
//! Three nouns: a [`inputs::Change`] is one difference of what the decisions depend on; a `flow::Hit` is a similarity above a cut; an *epoch* is
//! a set of changes that takes effect at once, and what readers see is always one whole epoch ([`view::View`]).
//!
//! ```text
//!  changes ─▶ delta join ── hits, takedowns, sizes ──▶ differential dataflow ─▶ decisions, counts ─▶ refreshed maxima ─▶ view + changelog
//!              │  ▲           (ids and cuts, ±1)          (counts, in the diffs)                       │
//!              ▼  │                                                                                   ▼
//!          matches in files ◀── one streamed pass over stored embeddings, for the touched points ──▶ scores in files
//! ```
//!
//! Frontiers: the time of the dataflow is the epoch, a clock of its own beside that of passes and shards. When its frontier has passed an
//! epoch, decisions and counts of that epoch are complete; it is published when the maxima are refreshed.
//!
//! Several processes keep one state together, each reading its own shards: see `peers`. What a watch does next, [`planner`] says.
//!
//! Invariants:
//! 1. Vectors never enter an arrangement, nor do matches: those lie in files beside the embeddings, readable by point.
//! 2. After every epoch all that can be read equals a fresh run over the final inputs, to the bit.
//! 3. A reader never sees half a change; an epoch that fails has changed nothing. An engine of a folder survives its process ([`engine::Engine::open`]).
//! 4. Memory is bounded by [`engine::IncrementalConfig::budget_bytes`]: an epoch that would exceed it is refused. Old times are compacted.
//!
//! Cost, with decisions apart from refreshed maxima:
//!
//! | change | decisions, counts, hits, sizes | maxima |
//! |---|---|---|
//! | shard arrives | one pass over that shard | in the same pass |
//! | shard withdrawn | its matches | points whose maximum it had |
//! | benchmark removed, cut risen, takedown | the benchmark's matches, the list | samples and points that stood on them |
//! | benchmark or points added | one pass, for these points | points whose maximum is not kept |
//! | cut fallen, not below the floor | the benchmark's matches | one pass, for these points |
//! | cut fallen below the floor | one pass, for these points | one pass, for these points |
//!
//! ```
//! use std::sync::Arc;
//! use half::f16;
//! use trommel_incremental::embeddings::HeldEmbeddings;
//! use trommel_incremental::engine::{Engine, IncrementalConfig};
//! use trommel_incremental::inputs::{Change, ShardInput};
//! use trommel_decide::benchmark::Benchmark;
//! use trommel_ledger::storage::Disk;
//!
//! let row = |x: [f32; 2]| x.map(f16::from_f32).to_vec();
//! let stored = HeldEmbeddings::default();
//! stored.put(0, 0, vec![(0, "a".into(), row([1.0, 0.0])), (1, "b".into(), row([0.6, 0.8]))]);
//! let axis = Benchmark::new("axis", 2, row([1.0, 0.0]), vec![], vec![], Some(vec![0.5]), None)?;
//!
//! let folder = tempfile::tempdir()?;
//! let mut engine = Engine::open(IncrementalConfig::default(), Arc::new(stored), folder.path(), Arc::new(Disk))?;
//! let shard = ShardInput { name: "a.tar".into(), generation: 0, count: 2, rejected: vec![] };
//! engine.apply(&[
//!     Change::AddBenchmark(Arc::new(axis)),
//!     Change::SetSplit("near".into(), "drop-over-radius".parse()?),
//!     Change::Arrive(0, shard),
//! ])?;
//! assert_eq!(engine.views().latest().sizes("near").map(|sizes| sizes.dropped), Some(2));
//!
//! let raised = engine.apply(&[Change::SetRadii("axis".into(), vec![(0, 0.7)])])?;
//! assert_eq!(engine.views().latest().sizes("near").map(|sizes| sizes.kept), Some(1)); // b is at 0.6
//! assert_eq!(raised.changelog.sides.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(missing_docs)]

mod answers;
mod arrive;
mod budget;
pub mod changelog;
mod cuts;
mod damage;
mod delta_join;
mod delta_joined;
pub mod embeddings;
pub mod engine;
mod filed;
mod flow;
pub mod inputs;
mod journal;
pub mod parts;
mod peers;
mod plan;
pub mod planner;
mod point_set;
mod record;
mod refresh;
mod restore;
mod rows;
mod settle;
mod stale;
mod stream;
mod tables;
pub mod view;
mod workers;
mod world;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::path::PathBuf;

use damage::{JournalError, PartError, RowsError};
use thiserror::Error;

use trommel_cluster::ClusterError;
use trommel_core::causes::Cause;
use trommel_decide::benchmark::BenchmarkError;
use trommel_decide::checked_rule::RuleError;
use trommel_decide::radii::RadiiError;
use trommel_decide::rule::Rule;
use trommel_ledger::LedgerError;

/// Number of a set of changes; 0 is before the first.
pub type Epoch = u64;

/// A change that cannot be. Nothing has changed.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ChangeError {
    /// A shard whose counts are no counts.
    #[error("shard {0}: the ordinal has more than 40 bits, or its rejects are not ascending raw indices")]
    Shard(u64),
    /// A change that names a shard which is not there.
    #[error("shard {0} is not there")]
    NoShard(u64),
    /// No such benchmark.
    #[error("benchmark {0} is not there")]
    NoBenchmark(String),
    /// Two benchmarks of one name.
    #[error("benchmark {0} is there already: remove it in the same epoch to replace it")]
    BenchmarkTwice(String),
    /// A place beyond the points.
    #[error("benchmark {0} has no point {1}")]
    NoPoint(String, u32),
    /// Radii on one side only.
    #[error("benchmark {0}: some points would have radii and others none")]
    NoRadii(String),
    /// Points have come and gone 2^32 times.
    #[error("benchmark {0}: all 2^32 lasting numbers of points are used up: remove it and add it again")]
    NumbersUsedUp(String),
    /// A benchmark that cannot be.
    #[error(transparent)]
    Benchmark(BenchmarkError),
    /// A reference that cannot be.
    #[error(transparent)]
    Reference(RadiiError),
    /// Benchmarks of different dimensions.
    #[error("a benchmark of {found} dimensions beside one of {expected}: embed both with the same model")]
    Dimensions {
        /// Dimension of the benchmark that is to be added.
        found: usize,
        /// Dimension of the benchmarks that are there.
        expected: usize,
    },
    /// A change that names a split which is not there.
    #[error("split {0} is not there")]
    NoSplit(String),
    /// More splits than have bits.
    #[error("more than 32 splits at once, those that go in this epoch included")]
    TooManySplits,
    /// More thresholds than have numbers.
    #[error("more than 65536 pairs of benchmark and threshold")]
    TooManyThresholds,
    /// A rule that depends on nothing that changes here, or on all samples at once.
    #[error(
        "rule `{0}` is not maintained: exact numbers need a finished ledger (`trommel select`), random draws never change"
    )]
    Rule(String),
    /// A rule that the final inputs do not satisfy.
    #[error(transparent)]
    Unsatisfied(RuleError),
}

/// Why an epoch was not made. Nothing has changed.
#[derive(Debug, Error)]
pub enum IncrementalError {
    /// A change that cannot be.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// More memory than is allowed.
    #[error("this epoch would need {needed} bytes and the budget is {limit}: give more, or change less at once")]
    Budget {
        /// Bytes accounted for when it was noticed.
        needed: u64,
        /// Bytes that the configuration allows.
        limit: u64,
    },
    /// A slack that is no cosine.
    #[error("floor_slack_cosine {0} is not between 0 and 2")]
    Slack(f64),
    /// Stored embeddings that are not what they should be.
    #[error("embeddings of shard {ordinal}: {what}")]
    Embeddings {
        /// Ordinal of the shard in the plan, from 0.
        ordinal: u64,
        /// What is wrong with them.
        what: RowsError,
    },
    /// A part that is not what was written.
    #[error("{}: {detail}", path.display())]
    BadPart {
        /// Path of the part.
        path: PathBuf,
        /// What is wrong with it.
        detail: PartError,
    },
    /// A journal that tells no state.
    #[error("{}: {detail}", path.display())]
    Journal {
        /// Path of the journal, or of the engine's folder.
        path: PathBuf,
        /// What is wrong with it.
        detail: JournalError,
    },
    /// Whoever prepares what others read of the epoch could not.
    #[error(transparent)]
    Unpublished(Cause),
    /// A journal holds a state that cannot be.
    #[error("{}: journal: {place}", path.display())]
    Unfit {
        /// The folder of the engine.
        path: PathBuf,
        /// Which part of the state.
        place: String,
        /// What is wrong with it.
        source: Cause,
    },
    /// A rule that cannot be written down: it would be read again as another.
    #[error("rule `{0}` cannot be written down and read again")]
    Unwritable(Rule),
    /// The journal can no longer be trusted.
    #[error(
        "{}: it may be torn since epoch {epoch} ({cause}): open the folder again to see which epoch is durable, nothing more is done until then",
        path.display()
    )]
    Torn {
        /// Path of the journal.
        path: PathBuf,
        /// The epoch that was being made durable.
        epoch: Epoch,
        /// What the file system said.
        cause: String,
    },
    /// The file system refused.
    #[error(transparent)]
    Storage(#[from] LedgerError),
    /// The dataflow is gone; the engine is of no use any more.
    #[error(transparent)]
    Ended(#[from] workers::FlowEnded),
    /// Another process could not do its part of the epoch. Nothing has changed in any.
    #[error("process {process} refuses this epoch: {why}")]
    Refused {
        /// The first that could not.
        process: usize,
        /// The error of that process, in one line.
        why: String,
    },
    /// Another process is gone; the engine is of no use any more, and the last published epoch stands.
    #[error(transparent)]
    Peer(#[from] ClusterError),
    /// Another process does something else.
    #[error(
        "process {process} is at \"{there}\" and this one at \"{here}\": all must apply the same changes in the same order"
    )]
    OutOfStep {
        /// Number of the process in the run, from 0.
        process: usize,
        /// The step that the other process is at.
        there: String,
        /// The step of this process.
        here: String,
    },
    /// Another process's answer cannot be read.
    #[error("process {process} gave no answer that can be read")]
    Garbled {
        /// Number of the process in the run, from 0.
        process: usize,
        /// What is wrong with it.
        source: Cause,
    },
}
