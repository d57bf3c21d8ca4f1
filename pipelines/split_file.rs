//! A split that a run trains on: whom it keeps of each shard, and what it says of itself.
//!
//! Its file is read once, at the start: the hash of its kept keys must be the one that its head tells, since the head is what a run is resumed by.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use trommel_core::notices::Notices;
use trommel_core::wake::locked;
use trommel_select::head::{KeysHash, SplitHead};
use trommel_select::membership::{Kept, Membership};
use trommel_select::split::{Format, SplitRow, read_head, read_rows};
use trommel_shard::plan::{Plan, ShardRef};
use trommel_shard::reader::{Members, key_hash};

use crate::decision::DecisionConfig;
use crate::error::PipelineError;
use crate::select::failed;

/// A split as far as it decides: a run is resumed with an equal one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitConfig {
    /// Its rule.
    pub rule: String,
    /// Seed of `random` in it.
    pub seed: u64,
    /// Samples that it keeps.
    pub count: u64,
    /// The hash of the kept keys.
    pub keys_sha256: String,
}

/// An opened split.
pub struct SplitFile {
    path: PathBuf,
    head: SplitHead,
    /// Names of the shards that it keeps something of.
    shards: BTreeSet<String>,
    /// Asked by one reader at a time.
    membership: Mutex<Membership>,
}

impl SplitFile {
    /// Opens `NAME.parquet`, or the one beside `NAME.split.json`.
    ///
    /// # Errors
    /// A file that is no split of `trommel select`, or one whose rows are not those that it tells of.
    pub fn open(path: &Path) -> Result<Self, PipelineError> {
        let shown = path.display();
        let table = table_of(path).ok_or_else(|| {
            PipelineError::Usage(match Format::of(path) {
                Some(Format::Uids | Format::Keys) => format!(
                    "{shown}: a list of keys or uids does not say where its samples stand; give the .parquet that `trommel select --format \
                     parquet` writes"
                ),
                Some(Format::Parquet) | None => {
                    format!("{shown}: no split; give the .parquet that `trommel select` writes, or its .split.json beside it")
                }
            })
        })?;
        let head = read_head(&table).map_err(failed)?;
        let (mut shards, mut hash, mut count) = (BTreeSet::new(), KeysHash::default(), 0);
        let mut last: Option<(String, u32)> = None;
        for row in read_rows(&table).map_err(failed)? {
            let SplitRow { shard, index, key } = row.map_err(failed)?;
            if last.as_ref().is_some_and(|(before, at)| (before, *at) >= (&shard, index)) {
                return Err(PipelineError::Usage(format!(
                    "{}: its rows are not in the order of (shard, index)",
                    table.display()
                )));
            }
            hash.add(&shard, index, &key);
            count += 1;
            if last.as_ref().is_none_or(|(before, _)| *before != shard) {
                shards.insert(shard.clone());
            }
            last = Some((shard, index));
        }
        if (count, &hash.finish()) != (head.count, &head.keys_sha256) {
            return Err(PipelineError::Usage(format!(
                "{}: its rows are not those that it tells of ({} samples, keys {})",
                table.display(),
                head.count,
                head.keys_sha256
            )));
        }
        if count == 0 {
            return Err(PipelineError::Usage(format!("{}: it keeps no sample", table.display())));
        }
        let membership = Mutex::new(Membership::open(&table).map_err(failed)?);
        Ok(Self { path: table, head, shards, membership })
    }

    /// What it says of itself.
    #[must_use]
    pub const fn head(&self) -> &SplitHead {
        &self.head
    }

    /// As far as it decides.
    #[must_use]
    pub fn config(&self) -> SplitConfig {
        let SplitHead { rule, seed, count, keys_sha256, .. } = &self.head;
        SplitConfig { rule: rule.clone(), seed: *seed, count: *count, keys_sha256: keys_sha256.clone() }
    }

    /// Refuses settings of reading under which its indices are other samples'.
    ///
    /// # Errors
    /// The first setting that differs, with both values.
    pub fn check_reading(&self, decision: &DecisionConfig) -> Result<(), PipelineError> {
        let here = serde_json::json!(decision);
        let differs = |(name, there): &(&String, &Value)| here.get(name.as_str()) != Some(there);
        match self.head.reading.iter().find(differs) {
            None => Ok(()),
            Some((name, there)) => Err(PipelineError::Usage(format!(
                "{}: its samples were read with {name} {there}, here it is {}",
                self.path.display(),
                here.get(name.as_str()).unwrap_or(&Value::Null)
            ))),
        }
    }

    /// The shards that it names. What else the plan has is told: nothing of it is kept, so it is not read.
    ///
    /// # Errors
    /// A shard that the split names, and the plan has not.
    pub fn plan_of(&self, plan: &Plan) -> Result<(Plan, Notices), PipelineError> {
        let known: BTreeSet<&str> = plan.shards.iter().map(|shard| shard.name.as_str()).collect();
        let mut missing = self.shards.iter().filter(|name| !known.contains(name.as_str()));
        if let Some(first) = missing.next() {
            let (count, of) = (1 + missing.count(), self.shards.len());
            return Err(PipelineError::Usage(format!(
                "{}: {count} of its {of} shards are not among those that were given (first: {first}); shards are known by their names, \
                 NAME=SHARDS gives one another",
                self.path.display()
            )));
        }
        let (named, others): (Vec<&ShardRef>, Vec<_>) =
            plan.shards.iter().partition(|shard| self.shards.contains(&shard.name));
        let mut notices = Notices::default();
        let first = others.first().map_or("", |shard| shard.name.as_str());
        notices.note("not_in_split", "shards of which the split keeps nothing, not read", first, others.len() as u64);
        let shards = (0..).zip(named).map(|(ordinal, shard)| ShardRef { ordinal, ..shard.clone() });
        Ok((Plan { shards: shards.collect(), ..Plan::default() }, notices))
    }
}

/// Who of a plan's shards is kept.
pub struct SplitMembers {
    /// The split.
    pub split: Arc<SplitFile>,
    /// The plan.
    pub plan: Arc<Plan>,
}

impl Members for SplitMembers {
    fn shard(&self, ordinal: u64) -> Result<Vec<(u32, u64)>, String> {
        let shard = self.plan.shard(ordinal).ok_or_else(|| format!("the plan has no shard {ordinal}"))?;
        match locked(&self.split.membership).shard(&shard.name).map_err(|error| error.to_string())? {
            Some(Kept::Rows(rows)) => Ok(rows.into_iter().map(|row| (row.index, key_hash(&row.key))).collect()),
            Some(Kept::Keys(_) | Kept::Uids(_)) => Err("the split does not say where its samples stand".into()),
            None => Ok(Vec::new()),
        }
    }
}

/// The rows of a split: the file itself, or the one beside its head.
pub(crate) fn table_of(split: &Path) -> Option<PathBuf> {
    if Format::of(split) == Some(Format::Parquet) {
        return Some(split.into());
    }
    let name = split.file_name()?.to_str()?.strip_suffix(".split.json")?;
    Some(split.with_file_name(format!("{name}.parquet"))).filter(|table| table.exists())
}
