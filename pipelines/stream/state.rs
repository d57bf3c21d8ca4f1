//! What a folder of new shards says of itself: from what it was made, and how far it has come. The same command goes on there, another one is refused.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use trommel_core::durable;
use trommel_core::notices::Notices;
use trommel_select::membership::Membership;
use trommel_shard::plan::Plan;

use super::{Cursor, KeptBy};
use crate::error::PipelineError;
use crate::failures::failed;

/// Name of the file in the folder.
pub(super) const FILE: &str = "stream.json";

/// From what a folder was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Made {
    /// Version of this file.
    schema: u32,
    /// Who is kept: a rule and its seed, or a hash of the split's rows.
    kept_by: Value,
    /// Samples of a shard.
    shard_samples: u64,
    /// Shards that were read.
    shards: u64,
    /// Their names and sizes, hashed.
    shards_sha256: String,
}

impl Made {
    pub fn of(
        kept_by: &KeptBy,
        split: Option<&Membership>,
        plan: &Plan,
        shard_samples: u64,
    ) -> Result<Self, PipelineError> {
        let kept_by = match (kept_by, split) {
            (KeptBy::Random { percent, seed }, _) => json!({ "rule": format!("random:{percent}%"), "seed": seed }),
            (KeptBy::Split(_), split) => {
                json!({ "split_sha256": split.map(Membership::sha256).transpose().map_err(failed)? })
            }
        };
        let mut hash = Sha256::new();
        for shard in &plan.shards {
            hash.update(format!("{}\n{}\n{:?}\n", shard.name.len(), shard.name, shard.bytes));
        }
        let shards_sha256 = format!("{:x}", hash.finalize());
        Ok(Self { schema: 1, kept_by, shard_samples, shards: plan.len() as u64, shards_sha256 })
    }

    /// Begins a folder, or finds that it was begun in the same way.
    pub fn settle(&self, folder: &Path) -> Result<(), PipelineError> {
        let path = folder.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                refuse_strangers(folder)?;
                let text = serde_json::to_string_pretty(self).map_err(PipelineError::failed)? + "\n";
                return durable::write(&path, text.as_bytes()).map_err(PipelineError::at(&path));
            }
            text => text.map_err(PipelineError::at(&path))?,
        };
        let there: Self = serde_json::from_str(&text).map_err(|error| {
            PipelineError::usage(error).within(format_args!("{}: not of `trommel stream`", path.display()))
        })?;
        if there == *self {
            return Ok(());
        }
        let (was, is) = (json!(there), json!(self));
        let keys = was.as_object().into_iter().flat_map(|fields| fields.keys());
        let differs = keys.filter(|key| was[key.as_str()] != is[key.as_str()]);
        let all: Vec<String> =
            differs.map(|key| format!("{key} {} and was {}", is[key.as_str()], was[key.as_str()])).collect();
        Err(PipelineError::usage(format!(
            "{}: its shards were made by another command: {}; give another folder",
            folder.display(),
            all.join("; ")
        )))
    }
}

/// Refuses a folder with shards of somebody else's.
fn refuse_strangers(folder: &Path) -> Result<(), PipelineError> {
    for entry in std::fs::read_dir(folder).map_err(PipelineError::at(folder))? {
        let name = entry.map_err(PipelineError::at(folder))?.file_name();
        if trommel_shard::plan::is_shard_name(&name.to_string_lossy()) {
            let (folder, name) = (folder.display(), name.display());
            return Err(PipelineError::usage(format!(
                "{folder}: there is {name}, which this command has not written; give another folder"
            )));
        }
    }
    Ok(())
}

/// What stands beside a new shard: img2dataset's counts, and where the next one begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Stats {
    count: u64,
    pub successes: u64,
    failed_to_download: u64,
    failed_to_resize: u64,
    status_dict: Value,
    pub trommel: Progress,
}

/// How far the stream had come when a shard was whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// The first sample that may stand in the next shard.
    pub next: Cursor,
    /// Bytes of this shard.
    pub bytes: u64,
    /// Its samples that open_clip reads.
    pub trainable: u64,
    /// What had been lost, passed over, or renamed by then, of all shards.
    pub notices: Notices,
}

impl Stats {
    pub fn new(samples: u64, trommel: Progress) -> Self {
        Self {
            count: samples,
            successes: samples,
            failed_to_download: 0,
            failed_to_resize: 0,
            status_dict: json!({ "success": samples }),
            trommel,
        }
    }

    /// Those beside a shard that is whole; `None` where it is not.
    pub fn read(shard: &Path, stats: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(stats).ok()?;
        let read: Self = serde_json::from_str(&text).ok()?;
        (std::fs::metadata(shard).ok()?.len() == read.trommel.bytes).then_some(read)
    }
}
