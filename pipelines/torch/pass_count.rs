//! How many samples a pass has, as far as anybody knows before it is read: what the length of a run in passes stands on.
//!
//! Asked in this order: the user (`--train-num-samples`); the ledger, for shards that are judged; img2dataset's
//! `00012_stats.json` beside `00012.tar`; open_clip's `sizes.json` or `__len__` beside the shards.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use trommel_ledger::manifest::Merged;
use trommel_shard::plan::{Plan, ShardRef};
use trommel_shard::promised::promised as stats;
use trommel_shard::store::{Local, local_path};

use crate::judging::Input;
use trommel_pipelines::error::PipelineError;

/// Raw samples of a pass, kept, dropped and rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PassCount {
    /// How many.
    pub(crate) samples: u64,
    /// Who says so.
    pub(crate) source: String,
}

/// What the input, or what lies beside it, says; `None` where the ledger has judged all of it, and knows more than that.
///
/// # Errors
/// The first shard of which nothing is known, or a file that cannot be what its name says: one line.
pub(crate) fn promised(input: &Input, judged: &Merged) -> Result<Option<PassCount>, PipelineError> {
    if judged.read().count() == input.plan().len() {
        return Ok(None);
    }
    let plan = match input {
        Input::Folders(folders) => {
            return Ok(Some(PassCount { samples: folders.pictures, source: "the files".into() }));
        }
        Input::Shards(plan) => plan,
    };
    let store = Local::default();
    let (mut sources, mut samples, mut sizes) = (BTreeSet::new(), 0u64, Sizes::default());
    for shard in &plan.shards {
        let known = match judged.committed.get(&shard.ordinal) {
            Some((_, line)) if line.rejected.is_none() => {
                Some((line.counts.kept + line.counts.dropped + line.counts.rejected, "the ledger"))
            }
            unread => match stats(&store, &shard.url) {
                Some(count) => Some((count, "_stats.json")),
                None => sizes.of(shard)?.map(|count| (count, "sizes.json")).or(unread.map(|_| (0, "the ledger"))),
            },
        };
        let Some((count, source)) = known else { return whole(plan, shard).map(Some) };
        samples = samples.saturating_add(count);
        sources.insert(source);
    }
    Ok(Some(PassCount { samples, source: sources.into_iter().collect::<Vec<_>>().join(" and ") }))
}

/// open_clip's `__len__` beside the first shard: a number for all of them.
fn whole(plan: &Plan, unknown: &ShardRef) -> Result<PassCount, PipelineError> {
    if let Some(path) = plan.shards.first().and_then(folder).map(|folder| folder.join("__len__"))
        && let Some(text) = read(&path)?
    {
        let samples = text.trim().parse::<u64>().map_err(|_| no_count(&path, &"holds no number"))?;
        return Ok(PassCount { samples, source: "__len__".into() });
    }
    Err(PipelineError::Usage(format!(
        "--passes needs to know how many samples a pass has, and of shard {} nobody says it (it is not judged yet, and \
         no _stats.json, sizes.json or __len__ lies beside it): give --train-num-samples, or --steps or --samples \
         instead of --passes",
        unknown.name
    )))
}

/// The folder of a shard on this machine.
fn folder(shard: &ShardRef) -> Option<PathBuf> {
    let is_local = !shard.url.contains("://") || shard.url.starts_with("file:");
    let folder = || local_path(&shard.url).parent().map(Path::to_path_buf);
    (is_local && shard.url != "-" && !shard.url.starts_with("pipe:")).then(folder).flatten()
}

/// open_clip's `sizes.json` of each folder, `{"00000.tar": 10000}`, read once.
#[derive(Default)]
struct Sizes(HashMap<PathBuf, Option<HashMap<String, u64>>>);

impl Sizes {
    fn of(&mut self, shard: &ShardRef) -> Result<Option<u64>, PipelineError> {
        let name = local_path(&shard.url).file_name().map(|name| name.to_string_lossy().into_owned());
        let Some((folder, name)) = folder(shard).zip(name) else { return Ok(None) };
        if !self.0.contains_key(&folder) {
            let path = folder.join("sizes.json");
            let parse = |text: String| serde_json::from_str(&text).map_err(|error| no_count(&path, &error));
            let sizes = read(&path)?.map(parse).transpose()?;
            self.0.insert(folder.clone(), sizes);
        }
        Ok(self.0.get(&folder).and_then(Option::as_ref).and_then(|sizes| sizes.get(&name)).copied())
    }
}

fn no_count(path: &Path, why: &dyn std::fmt::Display) -> PipelineError {
    PipelineError::Usage(format!(
        "{}: {why}; --train-num-samples says instead how many samples a pass has",
        path.display()
    ))
}

/// Largest `sizes.json`: of half a million shards.
const MAX_SIZES_BYTES: u64 = 16 << 20;

/// A file's text; `None` where there is no file.
fn read(path: &Path) -> Result<Option<String>, PipelineError> {
    let text = File::open(path).and_then(|file| {
        let mut text = String::new();
        file.take(MAX_SIZES_BYTES + 1).read_to_string(&mut text).map(|_| text)
    });
    match text {
        Ok(text) if text.len() as u64 > MAX_SIZES_BYTES => {
            Err(no_count(path, &format_args!("has more than {MAX_SIZES_BYTES} bytes, too many for counts of shards")))
        }
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PipelineError::Usage(format!("{}: {error}", path.display()))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_for_counts_is_not_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sizes.json");
        assert_eq!(read(&path).unwrap(), None);
        let file = File::create(&path).unwrap();
        file.set_len(MAX_SIZES_BYTES).unwrap();
        assert_eq!(read(&path).unwrap().map(|text| text.len() as u64), Some(MAX_SIZES_BYTES));
        file.set_len(1 << 40).unwrap(); // more than any memory
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("sizes.json: has more than 16777216 bytes"), "{error}");
    }
}
