//! Column files: Parquet, Arrow IPC and npy. The only place that names `arrow2`, which writes our files, and Apache's
//! `parquet` and `arrow-*` crates, which read everybody's.
//!
//! Everything else speaks of [`parquet::Column`]s and [`embeddings::EmbeddingSet`]s, so that the crate behind them may be
//! replaced while the files stay what people exchange.
//!
//! # Invariants
//! 1. A file that is cut off, hostile or of another shape ends as a [`ColumnarError`] that names the path; never as a
//!    panic. The crate behind may panic on bad bytes: every reading call runs inside [`guarded`].
//! 2. Sizes named by a header are checked against the file's length, or against a limit, before memory is taken.
//! 3. Vectors that leave this room are canonical: see [`canonical`].
#![forbid(missing_docs)]

mod checksummed;
mod embedding_batch;
pub mod embeddings;
pub mod ipc;
pub mod leaving;
mod matrix;
pub mod npy;
pub mod parquet;
pub mod pieces;
mod sizes;
pub mod source;

pub use trommel_kernels::canonical;

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use trommel_core::causes::Cause;
use zip::result::ZipError;

/// What can be wrong with a column file. The text names the file.
#[derive(Debug, thiserror::Error)]
pub enum ColumnarError {
    /// The file system refused.
    #[error("{}", path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Who reads the format refused the bytes.
    #[error("{}: not a readable {format} file", path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// `Parquet`, `Arrow IPC`, `npy` or `npz`.
        format: &'static str,
        /// The reader's own error.
        #[source]
        cause: Cause,
    },
    /// What a file says of itself beside its columns is not of the form that it should be.
    #[error("{}: metadata `{key}`", path.display())]
    Metadata {
        /// Path of the file.
        path: PathBuf,
        /// Key of the metadata.
        key: &'static str,
        /// What is wrong with the value.
        #[source]
        cause: serde_json::Error,
    },
    /// The bytes are not what the format asks for.
    #[error("{}: not a readable {format} file: {detail}", path.display())]
    Malformed {
        /// Path of the file.
        path: PathBuf,
        /// `Parquet`, `Arrow IPC` or `npy`.
        format: &'static str,
        /// What exactly was seen.
        detail: String,
    },
    /// A column is missing or of another type.
    #[error("{}: column `{column}`: {detail}", path.display())]
    Column {
        /// Path of the file.
        path: PathBuf,
        /// The column's name.
        column: String,
        /// What was expected and seen.
        detail: String,
    },
    /// Files that belong together do not fit each other.
    #[error("{}: {detail}", path.display())]
    Mismatch {
        /// The file or folder.
        path: PathBuf,
        /// What each of the two says, in words.
        detail: String,
    },
    /// Vectors that have no direction.
    #[error("{}: row {row} (key `{key}`) is {what}; {count} such row(s)", path.display())]
    BadRow {
        /// The file or folder.
        path: PathBuf,
        /// Number of the first such row, from 0.
        row: u64,
        /// Key of the sample in that row.
        key: String,
        /// `zero` or `not finite`.
        what: String,
        /// How many rows of the file are so.
        count: u64,
    },
    /// Nothing here looks like embeddings.
    #[error("{}: no embeddings here: expected embeddings.arrow, a .arrow, .npy or .npz file, or a folder with img_emb/", path.display())]
    NoEmbeddings {
        /// The path asked for.
        path: PathBuf,
    },
}

impl ColumnarError {
    /// An error of the file system at `path`.
    #[must_use]
    pub fn io(path: &Path, cause: io::Error) -> Self {
        Self::Io { path: path.to_path_buf(), cause }
    }

    /// What a format's reader says of a file; the file system's own error, where that is what stopped it. A decoder puts what is wrong
    /// with the bytes into an error of the system, too, and so does who reads beyond the end, or to a place before the start.
    pub(crate) fn unreadable(path: &Path, format: &'static str, cause: impl Into<Cause>) -> Self {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        let of_the_bytes = |cause: &io::Error| matches!(cause.kind(), InvalidData | InvalidInput | UnexpectedEof);
        match cause.into().downcast::<io::Error>() {
            Ok(cause) if !of_the_bytes(&cause) => Self::io(path, *cause),
            Ok(cause) => Self::Unreadable { path: path.to_path_buf(), format, cause },
            Err(cause) => Self::Unreadable { path: path.to_path_buf(), format, cause },
        }
    }

    /// The same of an archive's reader.
    pub(crate) fn archive(path: &Path, error: ZipError) -> Self {
        match error {
            ZipError::Io(cause) => Self::unreadable(path, "npz", cause),
            other => Self::unreadable(path, "npz", other),
        }
    }

    pub(crate) fn metadata(path: &Path, key: &'static str) -> impl FnOnce(serde_json::Error) -> Self {
        move |cause| Self::Metadata { path: path.to_path_buf(), key, cause }
    }

    pub(crate) fn malformed(path: &Path, format: &'static str, detail: impl std::fmt::Display) -> Self {
        Self::Malformed { path: path.to_path_buf(), format, detail: detail.to_string() }
    }

    pub(crate) fn column(path: &Path, column: &str, detail: impl std::fmt::Display) -> Self {
        Self::Column { path: path.to_path_buf(), column: column.into(), detail: detail.to_string() }
    }

    pub(crate) fn mismatch(path: &Path, detail: impl std::fmt::Display) -> Self {
        Self::Mismatch { path: path.to_path_buf(), detail: detail.to_string() }
    }

    /// The file system's error behind it, if that is what it is.
    #[must_use]
    pub const fn io_cause(&self) -> Option<&io::Error> {
        if let Self::Io { cause, .. } = self { Some(cause) } else { None }
    }
}

thread_local! {
    static GUARDED: Cell<u32> = const { Cell::new(0) };
}

/// Whether this thread is inside [`guarded`]: a panic now is a malformed file about to become an error, and a panic
/// hook should stay silent and let it unwind.
#[must_use]
pub fn is_guarded() -> bool {
    GUARDED.with(Cell::get) > 0
}

/// Bytes that the texts of one batch of rows may have: a value of a dictionary is stored once and may stand in every row.
const MAX_TEXT_BYTES: usize = 256 << 20;

/// Runs a reading call of the crate behind, turning a panic on bad bytes into an error.
///
/// # Errors
/// What `read` returns, or [`ColumnarError::Malformed`] if it panicked.
pub fn guarded<T>(
    path: &Path,
    format: &'static str,
    read: impl FnOnce() -> Result<T, ColumnarError>,
) -> Result<T, ColumnarError> {
    struct Depth;
    impl Drop for Depth {
        fn drop(&mut self) {
            GUARDED.with(|d| d.set(d.get() - 1));
        }
    }
    GUARDED.with(|d| d.set(d.get() + 1));
    let depth = Depth;
    let result = catch_unwind(AssertUnwindSafe(read));
    drop(depth);
    result.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_string()))
            .unwrap_or_else(|| "the reader gave up".into());
        let line = text.lines().next().unwrap_or_default().to_string();
        Err(ColumnarError::malformed(path, format, line))
    })
}

/// What a reader of column files needs of a file.
pub trait ReadSeek: io::Read + io::Seek + Send {}
impl<T: io::Read + io::Seek + Send> ReadSeek for T {}

#[cfg(test)]
mod peers;
#[cfg(test)]
#[path = "../../tests/common/skipped.rs"]
mod skipped;
#[cfg(test)]
mod tests;
