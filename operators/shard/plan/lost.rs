//! Shards of which only what img2dataset writes beside them is left: `NNNNN_stats.json`, or `NNNNN.parquet`.
//!
//! Who gives a folder or a wildcard means all that belongs there, so a shard that is gone is a loss; who names shards one by one means
//! these. Any file may end so: it speaks of a shard where its name is as those of its neighbours are but for the digits, or nothing but digits.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Plan, SHARD_ENDINGS};
use crate::promised::{STATS_ENDING, promised_by};
use trommel_core::notices::Notices;

/// A shard that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lost {
    /// Its stable name, without what shards' names end with.
    pub name: String,
    /// Samples that its statistics promise; `None` where they cannot be read, or only metadata is left.
    pub promised: Option<u64>,
}

impl Plan {
    /// What was lost before anything was read.
    #[must_use]
    pub fn losses(&self) -> Notices {
        losses(&self.lost)
    }
}

/// What is lost with shards that are gone. One of which nobody knows what it held counts as one sample, so that it never counts as nothing.
#[must_use]
pub fn losses<'l>(lost: impl IntoIterator<Item = &'l Lost>) -> Notices {
    let mut notices = Notices::default();
    for Lost { name, promised } in lost {
        let place = match promised {
            Some(samples) => format!("{name}, {samples} samples"),
            None => format!("{name}, nobody knows how many samples"),
        };
        let text = "shards that are gone, with their statistics or metadata left";
        notices.loss("shard_gone", text, place, 1, promised.unwrap_or(1));
    }
    notices
}

/// What stands behind a shard's stem in the name of its metadata.
const METADATA_ENDING: &str = ".parquet";

/// A folder's names, as far as they speak of shards.
#[derive(Default)]
struct Names {
    shards: BTreeSet<String>,
    folders: BTreeSet<String>,
    statistics: BTreeSet<String>,
    metadata: BTreeSet<String>,
}

impl Names {
    fn of(folder: &Path) -> Self {
        let mut names = Self::default();
        // What cannot be listed is the plan's to say.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let stem_before = |ending: &str| name.strip_suffix(ending).map(str::to_owned);
            if name.starts_with('.') {
            } else if let Some(stem) = SHARD_ENDINGS.iter().find_map(|ending| stem_before(ending)) {
                names.shards.insert(stem);
            } else if let Some(stem) = stem_before(STATS_ENDING) {
                names.statistics.insert(stem);
            } else if let Some(stem) = stem_before(METADATA_ENDING) {
                names.metadata.insert(stem);
            } else if entry.file_type().is_ok_and(|kind| !kind.is_file()) && entry.path().is_dir() {
                names.folders.insert(name);
            }
        }
        names
    }
}

/// Whether a file lies there for so long that its shard would have come by now.
fn is_old(path: &Path, settle: Duration) -> bool {
    let age = || SystemTime::now().duration_since(path.metadata().ok()?.modified().ok()?).ok();
    settle.is_zero() || age().is_some_and(|age| age >= settle)
}

/// Which shards are gone from a folder, of those that `is_asked` wants by their paths without an ending; and what they promised.
pub(crate) fn gone_from(
    folder: &Path,
    settle: Duration,
    is_asked: impl Fn(&Path) -> bool,
) -> Vec<(PathBuf, Option<u64>)> {
    let Names { shards, folders, statistics, metadata } = Names::of(folder);
    let is_there = |stem: &str| shards.contains(stem) || folders.contains(stem);
    let kinds: BTreeSet<String> = shards.iter().chain(&folders).map(|stem| kind(stem)).collect();
    // Only where others have it too, metadata says that a shard was there.
    let has_metadata = metadata.iter().any(|stem| is_there(stem));
    let is_gone = |stem: &str, ending: &str| {
        let is_old = || is_old(&folder.join(format!("{stem}{ending}")), settle);
        !is_there(stem) && is_asked(&folder.join(stem)) && is_old()
    };
    let promised = |stem: &String| promised_by(&folder.join(format!("{stem}{STATS_ENDING}")));
    let by_statistics = statistics.iter().filter(|stem| is_gone(stem, STATS_ENDING)).filter_map(|stem| {
        let samples = promised(stem);
        let is_shard = kinds.contains(&kind(stem)) || samples.is_some() && kind(stem) == "#";
        (is_shard && samples != Some(0)).then(|| (folder.join(stem), samples))
    });
    let by_metadata = metadata
        .iter()
        .filter(|stem| is_gone(stem, METADATA_ENDING))
        .filter(|stem| has_metadata && kinds.contains(&kind(stem)) && !statistics.contains(*stem));
    by_statistics.chain(by_metadata.map(|stem| (folder.join(stem), None))).collect()
}

/// A name with each run of digits as one `#`.
fn kind(stem: &str) -> String {
    let mut kind = String::new();
    for letter in stem.chars() {
        match letter.is_ascii_digit() {
            true if kind.ends_with('#') => {}
            true => kind.push('#'),
            false => kind.push(letter),
        }
    }
    kind
}

/// The folders that a pattern's last word stands in, and whether it would find a shard of a path without ending.
pub(super) fn asked_by(pattern: &str) -> Option<(Vec<PathBuf>, impl Fn(&Path) -> bool + use<>)> {
    let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
    let parent = Path::new(pattern).parent()?;
    let folders = match parent.to_str()? {
        "" => vec![PathBuf::from(".")],
        text if text.contains(['*', '?', '[']) => {
            glob::glob(text).ok()?.flatten().filter(|path| path.is_dir()).collect()
        }
        _ => vec![parent.to_path_buf()],
    };
    let options = glob::MatchOptions {
        require_literal_separator: true,
        require_literal_leading_dot: true,
        ..glob::MatchOptions::default()
    };
    let pattern = glob::Pattern::new(pattern).ok()?;
    let is_asked = move |stem: &Path| {
        let stem = stem.strip_prefix("./").unwrap_or(stem).to_str().unwrap_or_default();
        SHARD_ENDINGS.iter().any(|ending| pattern.matches_with(&format!("{stem}{ending}"), options))
    };
    Some((folders, is_asked))
}
