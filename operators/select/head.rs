//! What a split says of itself: enough to check it against a run of somebody else's.
//!
//! The hash of the kept keys, to the bit:
//! ```text
//! message = "trommel split 1"           15 bytes of ASCII
//!         | for each kept sample, in the order of (shard's name, index):
//!             length of the shard's name  8 bytes, little-endian, in bytes | shard's name  UTF-8
//!           | index in the shard          4 bytes, little-endian
//!           | length of the key           8 bytes, little-endian           | key           UTF-8
//! hash    = SHA-256(message), lower-case hex
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Version of splits.
pub const SPLIT_SCHEMA: u32 = 1;

/// The key of a split's head in the metadata of its Parquet file.
pub const META_SPLIT: &str = "trommel.split";

/// The key of the run's shards of which nothing is kept, a JSON list of names, beside it.
pub const META_NOTHING_OF: &str = "trommel.nothing_of";

/// Which of equal samples are kept where an exact number ends among them.
pub const EXACT_TIES: &str = "at an exact number: the smaller (shard, index), shards by name";

/// A split, without its rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitHead {
    /// [`SPLIT_SCHEMA`].
    pub schema: u32,
    /// The rule, all names replaced by what they stand for.
    pub rule: String,
    /// Seed of `random`.
    pub seed: u64,
    /// On which side equal values fall.
    pub ties: String,
    /// Who made the embeddings; null where the run embedded nothing.
    pub identity: Value,
    /// The benchmarks that the rule looks at: name, points, dim, and sha256 over vectors and radii.
    pub benchmarks: Vec<Value>,
    /// How samples were read: settings of the run that have a say in what a sample is.
    pub reading: BTreeMap<String, Value>,
    /// Joined columns that the rule reads: sha256 over what it made of their values, in the order of the rows.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
    /// As how many inputs the embeddings were given; `None` where they are a run's, and in heads of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<u64>,
    /// Shards that were selected from.
    pub shards: u64,
    /// Shards of the plan that were left out by name.
    #[serde(default)]
    pub without: Vec<String>,
    /// Shards of the plan that were not judged when it was made, sorted: nobody knows what it would keep of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfinished: Vec<String>,
    /// Samples that took part.
    pub judged: u64,
    /// Samples that could not be judged, and took no part.
    pub rejected: u64,
    /// Samples that are taken down, and took no part.
    pub taken_down: u64,
    /// Samples that the split keeps.
    pub count: u64,
    /// Of these, samples without a caption, which no trainer uses.
    pub captionless: u64,
    /// Of these, samples that the run's own rule has dropped: it does not say whether they have one.
    #[serde(default)]
    pub captions_unknown: u64,
    /// The hash of the kept keys, see above.
    pub keys_sha256: String,
    /// Each list of the split that lies beside its head, by the list's ending: a list does not say itself whose it is. `None` in heads
    /// of earlier versions, and in Parquet files, which know nothing of what lies beside them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lists: Option<BTreeMap<String, ListFact>>,
}

/// What a head tells of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListFact {
    /// Its length in bytes.
    pub bytes: u64,
    /// sha256 of its bytes, lower-case hex.
    pub sha256: String,
}

impl SplitHead {
    /// Samples that a trainer finds in it, those of which nobody knows included.
    #[must_use]
    pub const fn trainable(&self) -> u64 {
        self.count - self.captionless
    }
}

/// The hash of the kept keys, being taken.
#[derive(Clone, Debug)]
pub struct KeysHash(Sha256);

impl Default for KeysHash {
    fn default() -> Self {
        Self(Sha256::new_with_prefix(b"trommel split 1"))
    }
}

impl KeysHash {
    /// Adds the next sample.
    pub fn add(&mut self, shard: &str, index: u32, key: &str) {
        self.0.update((shard.len() as u64).to_le_bytes());
        self.0.update(shard.as_bytes());
        self.0.update(index.to_le_bytes());
        self.0.update((key.len() as u64).to_le_bytes());
        self.0.update(key.as_bytes());
    }

    /// The sha256 of all that was added, as 64 hex digits.
    #[must_use]
    pub fn finish(self) -> String {
        format!("{:x}", self.0.finalize())
    }
}
