//! Why a joiner cannot be made, or a call not be answered.

use thiserror::Error;
use trommel_core::sample::Reason;

use crate::kernel::KernelError;

/// Why a joiner cannot be made, or a call not be answered.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum JoinError {
    /// Benchmarks of different dimensions.
    #[error("benchmark {name} has {found} dimensions, {first} has {expected}: embed both with the same model")]
    Dimensions {
        /// The benchmark that differs.
        name: String,
        /// Its dimensions.
        found: usize,
        /// The first benchmark.
        first: String,
        /// The first benchmark's dimensions.
        expected: usize,
    },
    /// Two benchmarks of one name.
    #[error("two benchmarks are called {0}: give each a name of its own (NAME=DIR)")]
    Twice(String),
    /// Nobody could multiply.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// More benchmarks than can be numbered.
    #[error("{0} benchmarks, at most 65535 at once")]
    TooMany(usize),
    /// A row that cannot be judged: see [`Joiner::check`](super::Joiner::check).
    #[error("sample {key} of shard {shard}: {reason}")]
    Row {
        /// The shard's name.
        shard: String,
        /// The sample's key.
        key: String,
        /// What is wrong with its vector.
        reason: Reason,
    },
}
