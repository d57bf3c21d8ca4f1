//! Splits of a finished ledger: who is kept by which selection, exactly, without pixels, without a model, in bounded memory.
//!
//! ```text
//!  ledger ─▶ scan ─┬─▶ bits: one a sample for each test ──────────────┐
//!  tables ─▶ join ─┘─▶ values: one u64 a sample for each order ─▶ pick ┴─▶ bits of each split ─▶ ledger's names ─▶ writers
//! ```
//!
//! Three nouns: a `program::Program` is what several selections ask, each question once; [`select::select`] answers it in one reading
//! of the ledger, and a second one for the names of who is kept; a [`head::SplitHead`] is what a split says of itself.
//!
//! # Invariants
//! 1. Rows stand in the order of (shard's name, index), whatever the plan's order: that is the order of ties, of the files and of
//!    the hash of the kept keys.
//! 2. What decides stands in `trommel_decide`: this room asks policies, and counts.
//! 3. Memory: a bit a row for each question, a window of shards, and counters; values beyond that lie in files without a name, which
//!    are gone with the process.
#![forbid(missing_docs)]

mod apportion;
pub mod bits;
mod byte_order_mark;
pub mod compare;
mod external_sort;
pub mod head;
mod join;
mod keys_alone;
pub mod membership;
pub mod met;
pub mod pick;
mod program;
mod resolve;
pub mod scan;
pub mod select;
pub mod settle;
mod shortfall;
mod sink;
pub mod split;
mod table;
mod uid_list;
pub mod uids;
pub mod values;

use std::io;
use std::path::{Path, PathBuf};

use trommel_columnar::ColumnarError;
use trommel_core::causes::Cause;
use trommel_decide::checked_rule::RuleError;
use trommel_ledger::LedgerError;

/// Why there is no split.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// What was asked for, or what it was asked of, is wrong.
    #[error("{0}")]
    Input(String),
    /// The ledger is not finished.
    #[error("{0}")]
    Unfinished(String),
    /// A shard that is not the one which a split was made from.
    #[error("{0}")]
    Changed(String),
    /// A rule that cannot be asked of this run.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The run folder.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A table of embeddings, of a split or of the user's.
    #[error(transparent)]
    Columnar(#[from] ColumnarError),
    /// A file or folder.
    #[error("{}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// What is given as a split and is none.
    #[error("{}: no split", path.display())]
    NoSplit {
        /// The file or folder.
        path: PathBuf,
        /// What it is instead, or what is wrong with it.
        source: Cause,
    },
    /// The system gives no threads.
    #[error("no threads")]
    Threads(#[source] rayon::ThreadPoolBuildError),
    /// What a split says of itself cannot be written.
    #[error("the head of a split")]
    Head(#[source] serde_json::Error),
    /// A table that is joined, and cannot be found or read.
    #[error("--table {0}")]
    Table(#[source] Box<Self>),
}

impl SelectError {
    /// An error of the file system at a path.
    pub fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |cause| Self::Io { path, cause }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
