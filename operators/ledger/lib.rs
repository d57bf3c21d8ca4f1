//! The fate of every sample, durable.
//!
//! ```text
//!  fates, shard ends ─▶ operator ─▶ committer (one thread) ─▶ parts aside, fsync, rename, fsync of the folder
//!                          ▲              │                  ─▶ manifest line, fsync
//!                          └── Committed ◀┘
//! ```
//!
//! Three nouns: a *part* is one shard's rows in one file; the *manifest* says which parts count; an *incarnation* is one
//! process's turn at a run folder, and every file it writes bears its number.
//!
//! # Invariants
//! 1. Durable before visible: a manifest line is appended only when the parts it names are durable.
//! 2. Killing the program at any step loses at most the shards in flight and counts none twice.
//! 3. What was committed does not depend on when the program was killed: the rows after recovery and completion are those
//!    of an undisturbed run.
#![forbid(missing_docs)]

pub mod checked;
pub mod committer;
pub mod decisions;
pub mod first_samples;
mod items;
pub mod manifest;
pub mod operator;
pub mod part;
pub mod read;
pub mod run_folder;
pub mod storage;
mod take_over;

use std::io;
use std::path::{Path, PathBuf};

use run_folder::Difference;
use storage::Storage;
use trommel_columnar::ColumnarError;
use trommel_core::sample::SampleId;

/// What can go wrong with a run folder. All of it is fatal for the run; the folder stays resumable.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file system refused: unwritable, full, gone.
    #[error("cannot {action} {}", path.display())]
    Storage {
        /// What was tried: `write`, `rename`, ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// What was given as a run folder is none.
    #[error("{} cannot be read as a run folder: {why}", path.display())]
    NoRun {
        /// What was given.
        path: PathBuf,
        /// What is not there.
        why: &'static str,
    },
    /// A part that cannot be written or read.
    #[error(transparent)]
    Columnar(ColumnarError),
    /// Somebody else works on the folder.
    #[error("{}: {what}", path.display())]
    Busy {
        /// The run folder.
        path: PathBuf,
        /// Who works on it, or what hinders this process.
        what: String,
    },
    /// The folder was made under other decisions.
    #[error("{}: this run folder was made with other settings; {}", path.display(), list(differences))]
    DecisionsDiffer {
        /// The run folder.
        path: PathBuf,
        /// Fields with both values.
        differences: Vec<Difference>,
    },
    /// The folder was made on another numeric part.
    #[error(
        "{}: this run folder was computed by another numeric part; {}; --mix-numerics accepts the mixture",
        path.display(),
        list(differences)
    )]
    NumericsDiffer {
        /// The run folder.
        path: PathBuf,
        /// Fields with both values.
        differences: Vec<Difference>,
    },
    /// The folder holds another plan.
    #[error("{}: this run folder holds another plan of shards; {}", path.display(), list(differences))]
    PlanDiffers {
        /// The run folder.
        path: PathBuf,
        /// Places with both values.
        differences: Vec<Difference>,
    },
    /// A file of the folder, or something in it, is no JSON of the expected form.
    #[error("{}: {what}", path.display())]
    Json {
        /// Path of the file.
        path: PathBuf,
        /// What was expected, or where.
        what: String,
        /// What is wrong with it.
        #[source]
        cause: serde_json::Error,
    },
    /// Written by a newer program.
    #[error("{}: schema version {found}; this program knows {known}", path.display())]
    NewerSchema {
        /// Path of the file.
        path: PathBuf,
        /// Schema version that the file states.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// A bad line of a manifest or journal that is not the last.
    #[error("{}: line {line} does not match its checksum, and good lines follow: the file was damaged", path.display())]
    CorruptManifest {
        /// The manifest or journal.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
    },
    /// A part that the manifest names is missing or of another length.
    #[error("{}: {detail}", path.display())]
    BadPart {
        /// Path of the part.
        path: PathBuf,
        /// What is wrong, in one line.
        detail: String,
    },
    /// A shard has two names.
    #[error("{}: shard {ordinal} is `{planned}` in plan.json and `{committed}` in the manifest: the folder is damaged", path.display())]
    Names {
        /// The run folder.
        path: PathBuf,
        /// The shard's ordinal.
        ordinal: u64,
        /// Its name in the plan.
        planned: String,
        /// Its name in the manifest.
        committed: String,
    },
    /// Two incarnations committed a shard differently.
    #[error("shard {ordinal} was committed by incarnations {first} and {second} with different content: {detail}")]
    Disagree {
        /// The shard's ordinal.
        ordinal: u64,
        /// The smaller incarnation.
        first: u64,
        /// The larger incarnation.
        second: u64,
        /// What differs, in one line.
        detail: String,
    },
    /// A fate came twice, beyond the shard's end, or not at all; or a shard ended twice.
    #[error("shard {ordinal} (`{name}`): {detail}; this is a bug in the graph")]
    Fates {
        /// The shard's ordinal.
        ordinal: u64,
        /// Stable name of the shard.
        name: String,
        /// What is wrong with them.
        detail: FatesError,
    },
    /// A shard that is not in the ledger was asked for.
    #[error("{}: shard {ordinal} is not committed", path.display())]
    NotCommitted {
        /// The run folder.
        path: PathBuf,
        /// The shard's ordinal.
        ordinal: u64,
    },
    /// The committer has ended.
    #[error("the ledger's committer has ended")]
    Ended,
}

/// What cannot be of the fates of a shard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FatesError {
    /// The end of another shard.
    #[error("the end of shard {0} came at its time")]
    OtherEnd(u64),
    /// A second end of the same shard.
    #[error("its end came twice")]
    SecondEnd,
    /// The fate of another shard's sample.
    #[error("the fate of sample {}:{} came at its time", .0.ordinal, .0.index)]
    OtherFate(SampleId),
    /// A second fate of one sample.
    #[error("the fate of sample {0} came twice")]
    SecondFate(u32),
    /// A sample beyond the end.
    #[error("it has {0} samples, but a fate with a larger index came")]
    Beyond(u32),
    /// A row out of turn.
    #[error("the fate of sample {}:{} stands where {due} is due", found.ordinal, found.index)]
    OutOfTurn {
        /// Whose fate it is.
        found: SampleId,
        /// The index that is due.
        due: u32,
    },
    /// Points of a benchmark that the run has not.
    #[error("items of benchmark {number}; there are {benchmarks}")]
    NoBenchmark {
        /// Number of the benchmark.
        number: u16,
        /// How many the run has.
        benchmarks: usize,
    },
    /// Its time is over, and so many fates have come without an end.
    #[error("its time has passed, but its end has not come ({0} fates have)")]
    NoEnd(u32),
    /// Its time is over, and fates are missing.
    #[error("its time has passed, but {came} of {due} fates have come")]
    Missing {
        /// Fates that have come.
        came: u32,
        /// Samples that it has.
        due: u32,
    },
}

impl From<ColumnarError> for LedgerError {
    fn from(error: ColumnarError) -> Self {
        match error {
            ColumnarError::Io { path, cause } => Self::Storage { action: "access", path, cause },
            other => Self::Columnar(other),
        }
    }
}

impl LedgerError {
    /// Wraps a storage error with what was tried and where.
    pub fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |cause| Self::Storage { action, path, cause }
    }

    /// Why a run folder's configuration cannot be read: what is no run folder is named once, and by nothing that its user has never heard of.
    fn unopened(storage: &dyn Storage, root: &Path, config: &Path, cause: io::Error) -> Self {
        let none = |why| Self::NoRun { path: root.to_path_buf(), why };
        match (cause.kind(), storage.list(root).map_err(|error| error.kind())) {
            (io::ErrorKind::NotFound, Ok(_)) => none("it holds no config.json"),
            (io::ErrorKind::NotFound, Err(io::ErrorKind::NotFound)) => none("there is no such folder"),
            (io::ErrorKind::NotADirectory, _) => none("it is no folder"),
            _ => Self::at("read", config)(cause),
        }
    }

    /// Wraps an error of JSON with what was expected and where.
    pub fn json(path: &Path, what: impl Into<String>) -> impl FnOnce(serde_json::Error) -> Self {
        let (path, what) = (path.to_path_buf(), what.into());
        move |cause| Self::Json { path, what, cause }
    }

    /// Whether the disk is full or a quota used up: room must be made, then the same command resumes.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Storage { cause, .. }
            if matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

fn list(differences: &[Difference]) -> String {
    differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
extern crate self as trommel_ledger; // other rooms' tests take `tests/simulated.rs` in by its path
#[cfg(test)]
#[path = "../../tests/common/skipped.rs"]
mod skipped;
#[cfg(test)]
mod tests;
