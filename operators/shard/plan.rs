//! Arguments to a numbered list of shards with stable names.
//!
//! An argument is `[NAME=]SHARDS`, where SHARDS is a `::` list of paths, globs, brace ranges, folders, `file:` URLs or `-`. In order:
//! split at `::`, `${X}` from the store's variable `WDS_X`, braces, then wildcards (sorted) and folders (their [`SHARD_ENDINGS`],
//! sorted, not deeper).
//!
//! A shard's **name** is what hashes, ties and ledgers use: its path relative to its argument's literal folder, the one before the
//! first wildcard or brace; of another store's URL, all but scheme, credentials and query. So data may move without changing
//! one decision. Two shards of one name are refused; `NAME=SHARDS` puts `NAME/` before the names of its argument. What is there
//! wins over that notation: in `lang=en/0.tar` nothing is a name where a folder `lang=en` is.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::store::{FileInfo, Store};
use trommel_core::notices::Notices;

mod barren;
mod endings;
mod error;
mod growing;
mod item;
mod look;
mod lost;
mod notation;
mod wildcards;

pub use self::barren::Barren;
pub use self::endings::{SHARD_ENDINGS, is_shard_name, shards_in, stem};
pub use self::error::PlanError;
pub use self::growing::{GrowingPlan, ReaderPlan};
use self::item::one;
pub(crate) use self::look::Look;
pub(crate) use self::lost::gone_from;
pub use self::lost::{Lost, losses};
pub use self::notation::{named, substitute};
pub use self::wildcards::{LINKS_TO_NOTHING, found_by};

/// One shard of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardRef {
    /// Number in the plan, from 0.
    pub ordinal: u64,
    /// Stable name: the URL without scheme, query and credentials.
    pub name: String,
    /// The URL or path that it is opened by.
    pub url: String,
    /// Size in bytes when planned; `None` where it is not known (standard input).
    pub bytes: Option<u64>,
}

/// Every shard of a run, in order. Plans are equal by their shards.
#[derive(Clone, Debug, Default, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The shards; the ordinal of each is its position.
    pub shards: Vec<ShardRef>,
    /// Shards that were asked for and are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<Lost>,
    /// What was found where shards were looked for, and passed over.
    #[serde(default, skip_serializing_if = "Notices::is_empty")]
    pub passed_over: Notices,
}

impl PartialEq for Plan {
    fn eq(&self, other: &Self) -> bool {
        self.shards == other.shards
    }
}

impl Plan {
    /// Number of shards.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.len()
    }

    /// Whether there is no shard.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    /// The shard with this ordinal.
    #[must_use]
    pub fn shard(&self, ordinal: u64) -> Option<&ShardRef> {
        usize::try_from(ordinal).ok().and_then(|at| self.shards.get(at))
    }

    /// The shards of one slice: those whose ordinal modulo `part.count` is `part.index`.
    pub fn part(&self, part: PlanSlice) -> impl Iterator<Item = &ShardRef> {
        self.shards.iter().filter(move |shard| shard.ordinal % part.count == part.index)
    }

    /// Bytes of all shards; `None` when one is not known.
    #[must_use]
    pub fn total_bytes(&self) -> Option<u64> {
        self.shards.iter().map(|shard| shard.bytes).sum()
    }

    /// The first difference from a stored plan that matters: number, names, sizes. Where the files lie does not.
    #[must_use]
    pub fn difference(&self, stored: &Self) -> Option<String> {
        let pairs = self.shards.iter().zip(&stored.shards);
        let differs = |(now, then): (&ShardRef, &ShardRef)| {
            let at = now.ordinal;
            if now.name != then.name {
                return Some(format!("shard {at} is {} and was {}", now.name, then.name));
            }
            match (now.bytes, then.bytes) {
                (Some(a), Some(b)) if a != b => Some(format!("shard {at} ({}) has {a} bytes and had {b}", now.name)),
                _ => None,
            }
        };
        let counts =
            || (self.len() != stored.len()).then(|| format!("{} shards now, {} before", self.len(), stored.len()));
        pairs.filter_map(differs).next().or_else(counts)
    }
}

/// `I/N`: slice I (from 0) of N.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanSlice {
    /// Which slice, from 0.
    pub index: u64,
    /// How many slices.
    pub count: u64,
}

/// What is no slice of a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a part is I/N with I from 0 to N-1, not {0:?}")]
pub struct PartError(String);

impl FromStr for PlanSlice {
    type Err = PartError;

    fn from_str(text: &str) -> Result<Self, PartError> {
        let parsed = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parsed {
            Some((index, count)) if index < count => Ok(Self { index, count }),
            _ => Err(PartError(text.to_owned())),
        }
    }
}

/// What planning may see and how far it goes.
#[derive(Clone, Copy)]
pub struct PlanOptions {
    /// Most shards of a plan.
    pub max_shards: usize,
    /// Every file is opened once, so that what cannot be read is found before a run starts. Not worth it for who looks again and again.
    pub opens: bool,
    /// Statistics without their shard mean that it is gone once they lie there for so long: where shards arrive, they may be first.
    pub settle: Duration,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self { max_shards: 10_000_000, opens: true, settle: Duration::ZERO }
    }
}

/// The plan that `arguments` stand for.
///
/// # Errors
/// The first argument that cannot be expanded, is missing, or repeats a name.
pub fn expand(arguments: &[String], store: &dyn Store, options: &PlanOptions) -> Result<Plan, PlanError> {
    look_up(arguments, store, options).map(|found| found.plan)
}

/// A plan with what was seen on the way.
pub struct LookedUp {
    /// The plan; without a shard only where files are not opened, by who looks again and again.
    pub plan: Plan,
    /// What the store says of each shard.
    pub seen: Vec<FileInfo>,
    /// Folders and wildcards by which no shard is found.
    pub barren: Vec<Barren>,
}

/// The same, and what was seen on the way.
///
/// # Errors
/// As [`expand`].
pub fn look_up(arguments: &[String], store: &dyn Store, options: &PlanOptions) -> Result<LookedUp, PlanError> {
    let look = Look::at(store);
    let (mut shards, mut all_seen): (Vec<ShardRef>, _) = (Vec::new(), Vec::new());
    let mut barren = Vec::new();
    let (mut gone, mut passed_over) = (BTreeMap::new(), Notices::default());
    for argument in arguments {
        let (prefix, list) = named(argument, store, options.max_shards);
        let prefixed = |name: String| prefix.map_or(name.clone(), |prefix| format!("{prefix}/{name}"));
        for item in list.split("::").filter(|item| !item.is_empty()) {
            let found = one(&substitute(item, store)?, &look, options)?;
            passed_over.merge(&found.passed_over);
            barren.extend(found.barren);
            for (name, url, seen) in found.shards {
                shards.push(ShardRef { ordinal: shards.len() as u64, name: prefixed(name), url, bytes: seen.bytes });
                all_seen.push(seen);
            }
            gone.extend(found.gone.into_iter().map(|(path, lost)| (path, Lost { name: prefixed(lost.name), ..lost })));
            if shards.len() > options.max_shards {
                return Err(PlanError::TooMany(options.max_shards));
            }
        }
    }
    let mut names = HashMap::new();
    for shard in &shards {
        if let Some(first) = names.insert(&shard.name, &shard.url) {
            let (name, first, second) = (shard.name.clone(), first.clone(), shard.url.clone());
            return Err(PlanError::SameName { name, first, second });
        }
    }
    if shards.is_empty() && options.opens {
        return Err(PlanError::Empty);
    }
    let plan = Plan { shards, lost: gone.into_values().collect(), passed_over };
    Ok(LookedUp { plan, seen: all_seen, barren })
}

#[cfg(test)]
mod tests;
