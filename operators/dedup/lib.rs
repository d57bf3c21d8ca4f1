//! Near-duplicates inside a set of embeddings: exactly among all pairs, or inside the clusters of a k-means (SemDeDup).
//!
//! ```text
//!  rows f16[n, dim] ─▶ spool ─┬─▶ scan of all pairs ───────────────────────────┬─▶ who is suppressed, by whom, how near
//!                             └─▶ k-means ─▶ clusters ─▶ scan of each cluster ─┘
//! ```
//!
//! Three nouns: a [`spool::Spool`] holds the rows, in memory or in a file without a name; a [`scan::Scanned`] says which of them lie above
//! a similarity of an earlier one; a [`clusters::Clustering`] says which rows lie together.
//!
//! # Invariants
//! 1. Answers are the canonical ones: fast products only find candidates, within their proven bound (`trommel_kernels::int8`, `trommel_kernels::join`), and the exact
//!    f64 product decides ([`trommel_kernels::dot`]). A similarity that equals the threshold does not suppress.
//! 2. Centres are f16, so that the nearest centre is decided by exact values too; means are sums of integers. Threads, block sizes and
//!    processors have no say in any of it.
//! 3. Memory: what is asked of [`scan::Machine`], beside a few bytes a row which each module states.
#![forbid(missing_docs)]

pub mod clusters;
pub mod inside;
mod known;
mod means;
pub mod names;
pub mod nearest;
pub mod neighbours;
mod products;
pub mod scan;
pub mod speed;
pub mod spool;
pub mod vectors;
pub mod work;

use std::io;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum DedupError {
    /// The files that hold the rows meanwhile.
    #[error("the files that hold the rows meanwhile")]
    Spool(#[from] io::Error),
    /// A vector that is no canonical one.
    #[error("row {row} has norm {norm}: rows are unit vectors rounded to f16")]
    Norm {
        /// Number of the row, from 0.
        row: usize,
        /// The norm of its vector, in f64.
        norm: f64,
    },
    /// A sample that stands in the set more than once.
    #[error(
        "samples of shard {shard} stand in the set more than once: give each embedding once, and files of one name under names of their own, NAME=EMB"
    )]
    Twice {
        /// The shard's name.
        shard: String,
    },
    /// More rows than are numbered.
    #[error("more than {} rows", u32::MAX)]
    TooMany,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
