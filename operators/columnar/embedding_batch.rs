//! Some rows of stored embeddings, column by column.

use half::f16;

use super::canonical::NoDirection;

/// Rows of a batch read from npy.
pub const BATCH_ROWS: usize = 4096;

/// Canonical rows, column by column.
#[derive(Clone, Debug, Default)]
pub struct EmbeddingBatch {
    /// Number of the first row in the whole set.
    pub first_row: u64,
    /// Canonical vectors, f16\[rows, dim\]; a row without direction is all zeros and named in `bad`.
    pub vectors: Vec<f16>,
    /// Keys; the row's number where the files have none.
    pub keys: Vec<String>,
    /// Class label of each row; null where there is none.
    pub labels: Vec<Option<String>>,
    /// Names of the shards that the rows come from.
    pub shards: Vec<Option<String>>,
    /// Raw index in that shard.
    pub indices: Vec<Option<u32>>,
    /// Radii as cosines; empty where the files have none.
    pub radii: Vec<Option<f64>>,
    /// Rows without direction: position in this batch, and why.
    pub bad: Vec<(usize, NoDirection)>,
    /// What the tables beside the vectors say more of the rows; only where a file is read as a shard.
    pub details: Details,
}

/// What a table says of rows besides their keys, column by column; a column that it has not is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Column `uid`, an entry for each row.
    pub uids: Vec<Option<String>>,
    /// Column `url`, an entry for each row.
    pub urls: Vec<Option<String>>,
    /// Column `sha256`, an entry for each row, in hexadecimal.
    pub sha256s: Vec<Option<String>>,
    /// Column `caption`, an entry for each row.
    pub captions: Vec<Option<String>>,
}
