//! What is wrong with what an engine reads back: its journal, its parts, the stored embeddings. Where it lies, [`super::IncrementalError`] says.

use thiserror::Error;

use super::Epoch;

/// Why a journal tells no state.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum JournalError {
    /// A line that is not of the next epoch, or a whole state that is not the first line.
    #[error("line {line} does not follow: epoch {epoch}")]
    NotNext {
        /// The line, from 1.
        line: u64,
        /// The epoch that it tells.
        epoch: Epoch,
    },
    /// The first line is not there or damaged, and the others tell differences from it.
    #[error("line 1, a whole state, is damaged")]
    NoWholeState,
    /// A shard, by its ordinal, whose arrival no line tells.
    #[error("journal: shard {0} changes and never came")]
    NeverCame(u64),
}

/// Why a part is not what was written.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PartError {
    /// Another length, in bytes.
    #[error("{found} bytes, {due} are due")]
    Length {
        /// Bytes of the file.
        found: u64,
        /// Bytes that were written.
        due: u64,
    },
    /// Other bytes, by their CRC-32C.
    #[error("crc32c {found:08x}, {due:08x} is due")]
    Checksum {
        /// Checksum of the file.
        found: u32,
        /// Checksum of what was written.
        due: u32,
    },
    /// Another kind of table.
    #[error("columns of other types than were written")]
    OtherColumns,
    /// A record with a text in the place of a name in the folder of the parts.
    #[error("{0:?} is no file's name")]
    NoName(String),
}

/// Why the embeddings of a shard are not those of its judged samples.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RowsError {
    /// There are none of this generation.
    #[error("generation {0} is not stored")]
    NotStored(u64),
    /// One of a sample, by its raw index, that was rejected or lies beyond the shard's end.
    #[error("an embedding of sample {0}, which is not judged")]
    NotJudged(u32),
    /// A raw index that is not larger than the one before.
    #[error("sample {0} does not follow the one before")]
    OutOfOrder(u32),
    /// A vector that is not canonical, or of another length.
    #[error("the embedding of sample {index} is no unit vector of {dim} dimensions")]
    NoUnit {
        /// The sample's raw index.
        index: u32,
        /// Elements of a vector.
        dim: usize,
    },
    /// Too few of them.
    #[error("{found} embeddings, {due} samples are judged")]
    Count {
        /// Embeddings that came.
        found: u64,
        /// Samples that were judged.
        due: u64,
    },
}
