//! Where the stored canonical embeddings come from: the seam to a run folder, or to memory in tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use half::f16;

use super::IncrementalError;
use super::damage::RowsError;
use trommel_core::wake::locked;

/// Takes one judged sample: its raw index and its canonical vector, f16\[dim\].
pub type Visitor<'a> = dyn FnMut(u32, &[f16]) -> Result<(), IncrementalError> + 'a;

/// Stored embeddings, by shard and generation.
pub trait Embeddings: Send + Sync {
    /// Streams the judged samples of a shard in ascending raw index.
    ///
    /// # Errors
    /// What cannot be read, or what `each` says.
    fn visit(&self, ordinal: u64, generation: u64, each: &mut Visitor<'_>) -> Result<(), IncrementalError>;

    /// Raw indices, ascending, of the shard's samples that have one of the keys. No vectors are read.
    ///
    /// # Errors
    /// What cannot be read.
    fn find(&self, ordinal: u64, generation: u64, keys: &BTreeSet<String>) -> Result<Vec<u32>, IncrementalError>;
}

/// One shard in memory: raw index, key, vector; ascending.
pub type HeldShard = Vec<(u32, String, Vec<f16>)>;

/// Embeddings in memory.
#[derive(Debug, Default)]
pub struct HeldEmbeddings {
    shards: Mutex<BTreeMap<(u64, u64), HeldShard>>,
    read: Mutex<u64>,
}

impl HeldEmbeddings {
    /// Adds the embeddings of a shard, or replaces them.
    pub fn put(&self, ordinal: u64, generation: u64, rows: HeldShard) {
        locked(&self.shards).insert((ordinal, generation), rows);
    }

    /// Vectors read so far.
    #[must_use]
    pub fn vectors_read(&self) -> u64 {
        *locked(&self.read)
    }

    fn with<T>(
        &self,
        (ordinal, generation): (u64, u64),
        then: impl FnOnce(&HeldShard) -> Result<T, IncrementalError>,
    ) -> Result<T, IncrementalError> {
        let shards = locked(&self.shards);
        let missing = || IncrementalError::Embeddings { ordinal, what: RowsError::NotStored(generation) };
        then(shards.get(&(ordinal, generation)).ok_or_else(missing)?)
    }
}

impl Embeddings for HeldEmbeddings {
    fn visit(&self, ordinal: u64, generation: u64, each: &mut Visitor<'_>) -> Result<(), IncrementalError> {
        self.with((ordinal, generation), |rows| {
            *locked(&self.read) += rows.len() as u64;
            rows.iter().try_for_each(|(index, _, vector)| each(*index, vector))
        })
    }

    fn find(&self, ordinal: u64, generation: u64, keys: &BTreeSet<String>) -> Result<Vec<u32>, IncrementalError> {
        self.with((ordinal, generation), |rows| {
            Ok(rows.iter().filter(|row| keys.contains(&row.1)).map(|row| row.0).collect())
        })
    }
}
