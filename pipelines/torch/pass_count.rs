//! How many samples a pass has, as far as anybody knows before it is read: what the length of a run in passes stands on.
//!
//! Asked in this order: a split, or a ledger that has judged all, which nobody contradicts; the user (`--train-num-samples`); the ledger, for shards that are judged; img2dataset's
//! `00012_stats.json` beside `00012.tar`; open_clip's `sizes.json` beside it; its `__len__` for all shards of a folder, where of one of them nobody
//! else says it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;

use serde::{Deserialize, Serialize};
use trommel_core::causes::Cause;
use trommel_core::names::STDIN;
use trommel_ledger::manifest::Merged;
use trommel_shard::plan::ShardRef;
use trommel_shard::promised::{STATS_ENDING, promised as stats, unreadable};
use trommel_shard::store::{Metered, Store, shown};

use crate::run_setup::Input;
use trommel_pipelines::error::PipelineError;

/// Raw samples of a pass, kept, dropped and rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PassCount {
    /// How many raw samples.
    pub(crate) samples: u64,
    /// Where the number is from, for people.
    pub(crate) source: String,
}

/// A pass that is known to the last sample: a split says that it `keeps` so many, or the ledger has judged all of the plan's `shards`. Its
/// batches are known then.
pub(crate) fn exact(keeps: Option<u64>, judged: &Merged, shards: usize) -> Option<PassCount> {
    if let Some(samples) = keeps {
        return Some(PassCount { samples, source: "the split".into() });
    }
    let counts = judged.counts();
    let samples = counts.kept + counts.dropped + counts.rejected;
    (judged.read().count() == shards).then(|| PassCount { samples, source: "the ledger".into() })
}

/// What the input, or what lies beside it, says of a pass that is not known exactly.
///
/// # Errors
/// A shard of which nothing is known, or a file that cannot be what its name says: one line.
pub(crate) fn promised(input: &Input, store: &dyn Store, judged: &Merged) -> Result<PassCount, PipelineError> {
    let plan = match input {
        Input::Folders(folders) => {
            return Ok(PassCount { samples: folders.pictures, source: "the files".into() });
        }
        Input::Shards(plan) => plan,
    };
    let (mut folders, mut sizes) = (BTreeMap::<_, Folder<'_>>::new(), Sizes::default());
    for shard in &plan.shards {
        let folder = folders.entry(place(shard).map(|(folder, _)| folder)).or_default();
        if folder.unknown.is_some() {
            continue;
        }
        let known = match judged.committed.get(&shard.ordinal) {
            Some((_, line)) if line.rejected.is_none() => {
                Some((line.counts.kept + line.counts.dropped + line.counts.rejected, "the ledger"))
            }
            unread => match stats(store, &shard.url).samples() {
                Some(count) => Some((count, STATS_ENDING)),
                None => {
                    sizes.of(store, shard)?.map(|count| (count, "sizes.json")).or(unread.map(|_| (0, "the ledger")))
                }
            },
        };
        match known {
            Some((count, source)) => {
                folder.samples = folder.samples.saturating_add(count);
                folder.sources.insert(source);
            }
            None => folder.unknown = Some(shard),
        }
    }
    let (mut samples, mut sources) = (0u64, BTreeSet::new());
    for (place, folder) in folders {
        let (count, of) = match folder.unknown {
            None => (folder.samples, folder.sources),
            Some(shard) => (whole(store, place, shard)?, BTreeSet::from(["__len__"])),
        };
        samples = samples.saturating_add(count);
        sources.extend(of);
    }
    Ok(PassCount { samples, source: sources.into_iter().collect::<Vec<_>>().join(" and ") })
}

/// What is known of a folder's shards one by one.
#[derive(Default)]
struct Folder<'a> {
    samples: u64,
    sources: BTreeSet<&'static str>,
    /// The first of which nothing is.
    unknown: Option<&'a ShardRef>,
}

/// open_clip's `__len__` of a folder: a number for all shards of it, and for no others.
fn whole(store: &dyn Store, folder: Option<&str>, unknown: &ShardRef) -> Result<u64, PipelineError> {
    if let Some(url) = folder.map(|folder| format!("{folder}__len__"))
        && let Some(text) = read(store, &url)?
    {
        return text.trim().parse::<u64>().map_err(|_| no_count(&url, "holds no number"));
    }
    let beside = match unreadable(store, &unknown.url) {
        Some(why) => format!("{why}, and no sizes.json or __len__ lies beside it"),
        None => "no _stats.json, sizes.json or __len__ lies beside it".into(),
    };
    Err(PipelineError::usage(format!(
        "--passes needs to know how many samples a pass has, and of shard {} nobody says it (it is not judged yet, and \
         {beside}): give --train-num-samples, or --steps or --samples instead of --passes",
        unknown.name
    )))
}

/// The folder that a shard lies in, with its slash, and its name there.
fn place(shard: &ShardRef) -> Option<(&str, &str)> {
    let slash = shard.url.rfind('/').map_or(0, |slash| slash + 1);
    (shard.url != STDIN).then(|| shard.url.split_at(slash))
}

/// open_clip's `sizes.json` of each folder, `{"00000.tar": 10000}`, read once.
#[derive(Default)]
struct Sizes(HashMap<String, Option<HashMap<String, u64>>>);

impl Sizes {
    fn of(&mut self, store: &dyn Store, shard: &ShardRef) -> Result<Option<u64>, PipelineError> {
        let Some((folder, name)) = place(shard) else { return Ok(None) };
        if !self.0.contains_key(folder) {
            let url = format!("{folder}sizes.json");
            let parse = |text: String| serde_json::from_str(&text).map_err(|error| no_count(&url, error));
            let sizes = read(store, &url)?.map(parse).transpose()?;
            self.0.insert(folder.into(), sizes);
        }
        Ok(self.0.get(folder).and_then(Option::as_ref).and_then(|sizes| sizes.get(name)).copied())
    }
}

fn no_count(url: &str, why: impl Into<Cause>) -> PipelineError {
    let remedy = "--train-num-samples says instead how many samples a pass has";
    PipelineError::usage(why).within(shown(url)).with_remedy(remedy)
}

/// Largest `sizes.json`: of half a million shards.
const MAX_SIZES_BYTES: u64 = 16 << 20;

/// A file's text; `None` where there is no file.
fn read(store: &dyn Store, url: &str) -> Result<Option<String>, PipelineError> {
    let (file, _) = match Metered::open(store, url) {
        Err(error) if error.is_nothing() => return Ok(None),
        opened => opened.map_err(PipelineError::usage)?,
    };
    let mut text = String::new();
    match file.take(MAX_SIZES_BYTES + 1).read_to_string(&mut text) {
        Ok(_) if text.len() as u64 > MAX_SIZES_BYTES => {
            Err(no_count(url, format!("has more than {MAX_SIZES_BYTES} bytes, too many for counts of shards")))
        }
        Ok(_) => Ok(Some(text)),
        Err(error) => Err(PipelineError::usage(error).within(shown(url))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use trommel_shard::plan::Plan;
    use trommel_shard::store::Stores;
    use trommel_shard::store::memory::Memory;

    use super::*;
    use crate::faulty::{Fault, Faulty};

    #[test]
    fn what_is_too_large_for_counts_is_not_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sizes.json").display().to_string();
        let read = |path: &str| read(&Stores::default(), path);
        assert_eq!(read(&path).unwrap(), None);
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(MAX_SIZES_BYTES).unwrap();
        assert_eq!(read(&path).unwrap().map(|text| text.len() as u64), Some(MAX_SIZES_BYTES));
        file.set_len(1 << 40).unwrap(); // more than any memory
        let error = read(&path).unwrap_err().line();
        assert!(error.contains("sizes.json: has more than 16777216 bytes"), "{error}");
    }

    /// What lies beside shards of another store counts as what lies beside local ones.
    #[test]
    fn counts_come_through_the_store() {
        let memory = Memory::of([("mem://pool/0.tar", ""), ("mem://pool/b/1.tar", "")]);
        let shard = |ordinal: u64, url: &str| ShardRef { ordinal, name: url.into(), url: url.into(), bytes: None };
        let shards = vec![shard(0, "mem://pool/0.tar"), shard(1, "mem://pool/b/1.tar")];
        let input = Input::Shards(Arc::new(Plan { shards, ..Plan::default() }));
        let faulty = Faulty::new(memory.clone(), [Fault::FailsOnceAt(3), Fault::ShortReads(2)]);
        let stores = Stores::default().with("mem", faulty.clone());
        let said = || {
            let counted = promised(&input, &stores, &Merged::default());
            counted.map(|it| format!("{} by {}", it.samples, it.source)).map_err(|it| it.line())
        };
        assert!(said().unwrap_err().contains("of shard mem://pool/0.tar nobody says it"));
        // What a folder says is no word on the shards of another one.
        memory.put("mem://pool/__len__", "77\n");
        assert!(said().unwrap_err().contains("of shard mem://pool/b/1.tar nobody says it"));
        memory.put("mem://pool/b/1_stats.json", r#"{"successes": 5}"#);
        assert_eq!(said(), Ok("82 by __len__ and _stats.json".into()));
        memory.remove("mem://pool/b/1_stats.json");
        memory.put("mem://pool/b/__len__", "3");
        assert_eq!(said(), Ok("80 by __len__".into()));
        memory.put("mem://pool/0_stats.json", "cut off");
        assert_eq!(said(), Ok("80 by __len__".into()));
        memory.remove("mem://pool/__len__");
        let unread = "not judged yet, and mem://pool/0_stats.json: expected value at line 1 column 1, and no sizes.json or __len__";
        assert!(said().unwrap_err().contains(unread), "{said:?}", said = said());
        memory.put("mem://pool/__len__", "77\n");
        memory.put("mem://pool/0_stats.json", r#"{"successes": 30}"#);
        memory.put("mem://pool/b/sizes.json", r#"{"1.tar": 12}"#);
        assert_eq!(said(), Ok("42 by _stats.json and sizes.json".into()));
        memory.remove("mem://pool/b/sizes.json");
        faulty.add("__len__", Fault::FailsAt(1));
        assert_eq!(said(), Err("mem://pool/b/__len__: the disk is on fire".into()));
    }
}
