//! What a file says of its own sizes, and cannot be.

/// Sizes and places in a file that do not fit it. They are refused before memory is taken for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SizeError {
    /// The header of a page is none that is known.
    #[error("a page header of another form")]
    PageHeader,
    /// The levels at a page's start end behind it.
    #[error("levels beyond their page")]
    Levels,
    /// A page decompresses to more than it says.
    #[error("a page of more than the {due} bytes that its header says")]
    Page {
        /// Bytes that its header says.
        due: u64,
    },
    /// A column's chunk is in a file of its own.
    #[error("lies in another file")]
    Elsewhere,
    /// A column's chunk ends behind the file.
    #[error("has {length} bytes from {start} on, in a file of {bytes}")]
    Chunk {
        /// Bytes of the chunk.
        length: u64,
        /// Where it begins.
        start: u64,
        /// Bytes of the file.
        bytes: u64,
    },
    /// A record batch ends behind the file.
    #[error("a record batch outside of the file's {bytes} bytes")]
    Batch {
        /// Bytes of the file.
        bytes: u64,
    },
    /// Two record batches are partly the same bytes.
    #[error("record batches overlap")]
    Overlap,
    /// A block does not begin with what it is.
    #[error("a block without a message")]
    NoMessage,
    /// A block decompresses to more than anybody means.
    #[error("{packed} compressed bytes that would become {plain} or more")]
    Block {
        /// Bytes of the block.
        packed: i64,
        /// Bytes that its buffers say they will have.
        plain: i64,
    },
}
