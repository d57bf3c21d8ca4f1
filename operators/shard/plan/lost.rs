//! Shards of which only what img2dataset writes beside them is left: `NNNNN_stats.json`, or `NNNNN.parquet`.
//!
//! Who gives a folder or a wildcard means all that belongs there, so a shard that is gone is a loss; who names shards one by one means
//! these. Any file may end so: it speaks of a shard where its name is as those of its neighbours are but for the digits, or nothing but digits.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::look::{Look, with_slash};
use super::{Plan, PlanError, SHARD_ENDINGS};
use crate::promised::{STATS_ENDING, promised_by};
use crate::store::{Entry, EntryKind};
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
    /// What was lost before anything was read, or passed over.
    #[must_use]
    pub fn losses(&self) -> Notices {
        let mut found = losses(&self.lost);
        found.merge(&self.passed_over);
        found
    }
}

/// What is lost with shards that are gone.
#[must_use]
pub fn losses<'l>(lost: impl IntoIterator<Item = &'l Lost>) -> Notices {
    let mut notices = Notices::default();
    for Lost { name, promised } in lost {
        let place = match promised {
            Some(samples) => format!("{name}, {samples} samples"),
            None => format!("{name}, nobody knows how many samples"),
        };
        let text = "shards that are gone, with their statistics or metadata left";
        notices.file_loss("shard_gone", text, place, *promised);
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
    fn of(entries: &[Entry]) -> Self {
        let mut names = Self::default();
        for Entry { name, kind, .. } in entries.iter().filter(|entry| entry.is_utf8) {
            let stem_before = |ending: &str| name.strip_suffix(ending).map(str::to_owned);
            if name.starts_with('.') {
            } else if let Some(stem) = SHARD_ENDINGS.iter().find_map(|ending| stem_before(ending)) {
                names.shards.insert(stem);
            } else if let Some(stem) = stem_before(STATS_ENDING) {
                names.statistics.insert(stem);
            } else if let Some(stem) = stem_before(METADATA_ENDING) {
                names.metadata.insert(stem);
            } else if *kind == EntryKind::Folder {
                names.folders.insert(name.clone());
            }
        }
        names
    }
}

/// Whether a file lies there for so long that its shard would have come by now.
fn is_old(look: &Look<'_>, url: &str, settle: Duration) -> bool {
    let modified = || Some(look.look(url).ok()?.modified);
    // Where the store keeps no times, nobody knows better.
    let has_age = |modified: SystemTime| SystemTime::now().duration_since(modified).is_ok_and(|age| age >= settle);
    settle.is_zero() || modified().is_some_and(|modified| modified.is_none_or(has_age))
}

/// Which shards are gone from a folder, of those that `is_asked` wants by their URLs without an ending; and what they promised.
///
/// # Errors
/// A list that cannot be had just now.
pub(crate) fn gone_from(
    look: &Look<'_>,
    folder: &str,
    settle: Duration,
    is_asked: impl Fn(&str) -> bool,
) -> Result<Vec<(String, Option<u64>)>, PlanError> {
    let entries = match look.list(folder) {
        // What may not be listed is the plan's to say.
        Err(error) if error.is_denied() || error.is_nothing() => return Ok(Vec::new()),
        entries => entries?,
    };
    let Names { shards, folders, statistics, metadata } = Names::of(&entries);
    let at = |stem: &str, ending: &str| format!("{}{stem}{ending}", with_slash(folder));
    let is_there = |stem: &str| shards.contains(stem) || folders.contains(stem);
    let kinds: BTreeSet<String> = shards.iter().chain(&folders).map(|stem| kind(stem)).collect();
    // Only where others have it too, metadata says that a shard was there.
    let has_metadata = metadata.iter().any(|stem| is_there(stem));
    let is_gone = |stem: &str, ending: &str| {
        !is_there(stem) && is_asked(&at(stem, "")) && is_old(look, &at(stem, ending), settle)
    };
    let by_statistics = statistics.iter().filter(|stem| is_gone(stem, STATS_ENDING)).filter_map(|stem| {
        let samples = promised_by(look.store(), &at(stem, STATS_ENDING)).samples();
        let is_shard = kinds.contains(&kind(stem)) || samples.is_some() && kind(stem) == "#";
        (is_shard && samples != Some(0)).then(|| (at(stem, ""), samples))
    });
    let by_metadata = metadata
        .iter()
        .filter(|stem| is_gone(stem, METADATA_ENDING))
        .filter(|stem| has_metadata && kinds.contains(&kind(stem)) && !statistics.contains(*stem));
    Ok(by_statistics.chain(by_metadata.map(|stem| (at(stem, ""), None))).collect())
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
