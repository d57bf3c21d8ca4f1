//! A split that a run trains on: whom it keeps of each shard, and what it says of itself.
//!
//! A table is read once, at the start: the hash of its kept keys must be the one that its head tells, since the head is what a run is resumed by.
//! Of a list, which says no indices, it is the hash of its bytes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use trommel_columnar::parquet::{Column, ColumnType};
use trommel_core::notices::Notices;
use trommel_core::sample::Status;
use trommel_core::wake::locked;
use trommel_ledger::read::Ledger;
use trommel_select::SelectError;
use trommel_select::head::{KeysHash, SplitHead};
use trommel_select::membership::told::{not_in_split, not_judged, repeated_keys};
use trommel_select::membership::{Kept, Membership, Picker, file_of, split_in};
use trommel_select::split::{Format, SplitRow, read_head, read_rows};
use trommel_shard::plan::{Plan, ShardRef};
use trommel_shard::reader::{KnownError, Listed, Members, Named, key_hash};

use crate::decision::DecisionConfig;
pub use crate::decision::SplitConfig;
use crate::error::PipelineError;
use crate::failures::failed;
use crate::reading_flags::reading_flag;
use crate::stream::by_keys_alone;

/// An opened split.
pub struct SplitFile {
    path: PathBuf,
    config: SplitConfig,
    head: Option<SplitHead>,
    /// Names of the shards that a table keeps something of.
    shards: Option<BTreeSet<String>>,
    /// Asked by one reader at a time.
    membership: Mutex<Membership>,
}

impl SplitFile {
    /// Opens a split's file, `.parquet`, `.txt`, `.keys` or `.npy`, or the one beside `NAME.split.json`.
    ///
    /// # Errors
    /// A file that is no split, or one whose rows are not those that it tells of.
    pub fn open(path: &Path) -> Result<Self, PipelineError> {
        if path.is_dir() {
            let file = split_in(path);
            let path = path.display();
            return Err(PipelineError::usage(match file {
                Some(file) => {
                    format!("--split {path}: a folder; give a split that lies in it, such as {}", file.display())
                }
                None => format!("--split {path}: a folder; --decisions {path} takes over what a run decided"),
            }));
        }
        let file = file_of(path).map_err(failed)?;
        let split = match Format::of(&file) {
            Some(Format::Parquet) => Self::of_table(file)?,
            Some(Format::Uids | Format::Keys | Format::KeysAlone) | None => Self::of_list(file)?,
        };
        match split.config.count {
            0 => Err(PipelineError::usage(format!("{}: it keeps no sample", split.path.display()))),
            _ => Ok(split),
        }
    }

    /// Opens a list, which says no indices: who is in it is known when a sample's key has come, or its uid.
    fn of_list(file: PathBuf) -> Result<Self, PipelineError> {
        let membership = Membership::open(&file).map_err(failed)?;
        let (head, count) = (membership.head().cloned(), membership.listed().map_err(failed)?.unwrap_or_default());
        // Samples may share a uid.
        let are_keys = membership.lists_keys() || membership.keys_alone().is_some();
        if let Some(head) = head.as_ref().filter(|head| are_keys && head.count != count) {
            let (path, due) = (file.display(), head.count);
            return Err(PipelineError::usage(format!(
                "{path}: it has {count} lines, and its .split.json tells of {due} samples"
            )));
        }
        let what = if are_keys { "a list of keys" } else { "a list of uids" };
        let config = SplitConfig {
            rule: head.as_ref().map_or_else(|| what.into(), |head| head.rule.clone()),
            seed: head.as_ref().map_or(0, |head| head.seed),
            count,
            keys_sha256: membership.sha256().map_err(failed)?,
        };
        Ok(Self { path: file, config, head, shards: None, membership: Mutex::new(membership) })
    }

    /// Opens a table, and reads it.
    fn of_table(table: PathBuf) -> Result<Self, PipelineError> {
        let head = read_head(&table).map_err(failed)?;
        let (mut shards, mut hash, mut count) = (BTreeSet::new(), KeysHash::default(), 0);
        let mut last: Option<(String, u32)> = None;
        for row in read_rows(&table).map_err(failed)? {
            let SplitRow { shard, index, key } = row.map_err(failed)?;
            if last.as_ref().is_some_and(|(before, at)| (before, *at) >= (&shard, index)) {
                return Err(PipelineError::usage(format!(
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
            return Err(PipelineError::usage(format!(
                "{}: its rows are not those that it tells of ({} samples, keys {})",
                table.display(),
                head.count,
                head.keys_sha256
            )));
        }
        let membership = Mutex::new(Membership::open(&table).map_err(failed)?);
        let SplitHead { rule, seed, keys_sha256, .. } = head.clone();
        let config = SplitConfig { rule, seed, count, keys_sha256 };
        Ok(Self { path: table, config, head: Some(head), shards: Some(shards), membership })
    }

    /// As far as it decides.
    #[must_use]
    pub const fn config(&self) -> &SplitConfig {
        &self.config
    }

    /// Samples that a trainer finds in it, where that is known: of a list nobody has looked who has a caption, and of a table not always.
    #[must_use]
    pub fn trainable(&self) -> Option<u64> {
        let head = self.head.as_ref().filter(|head| self.shards.is_some() && head.captions_unknown == 0)?;
        Some(head.trainable())
    }

    /// Refuses settings of reading under which its indices are other samples'.
    ///
    /// # Errors
    /// The first setting that differs, with both values.
    pub fn check_reading(&self, decision: &DecisionConfig) -> Result<(), PipelineError> {
        let here = serde_json::json!(decision);
        let differs = |(name, there): &(&String, &Value)| here.get(name.as_str()) != Some(there);
        match self.head.iter().flat_map(|head| &head.reading).find(differs) {
            None => Ok(()),
            Some((name, there)) => {
                let error = PipelineError::usage(format!(
                    "{}: its samples were read with {name} {there}, here it is {}",
                    self.path.display(),
                    here.get(name.as_str()).unwrap_or(&Value::Null)
                ));
                Err(match reading_flag(name, there) {
                    Some(flag) => error.with_remedy(format_args!("give {flag}")),
                    None => error.with_remedy("leave out the flag for it"),
                })
            }
        }
    }

    /// The shards that it names. What else the plan has is told: nothing of it is kept, so it is not read. A list of uids names none, and all
    /// are read.
    ///
    /// # Errors
    /// A shard that the split names, and the plan has not.
    pub fn plan_of(&self, plan: &Plan) -> Result<(Plan, Notices), PipelineError> {
        let missing = |missing: String, first: &str| {
            Err(PipelineError::usage(format!(
                "{}: {missing} not among those that were given (first: {first}); shards are known by their names, NAME=SHARDS gives one \
                 another{}",
                self.path.display(),
                by_keys_alone(first)
            )))
        };
        let (membership, mut notices) = (locked(&self.membership), Notices::default());
        if let Some(shards) = &self.shards {
            let known: BTreeSet<&str> = plan.shards.iter().map(|shard| shard.name.as_str()).collect();
            let mut absent = shards.iter().filter(|name| !known.contains(name.as_str()));
            if let Some(first) = absent.next() {
                return missing(format!("{} of its {} shards are", 1 + absent.count(), shards.len()), first);
            }
        } else {
            let names: Vec<&str> = plan.shards.iter().map(|shard| shard.name.as_str()).collect();
            let coverage = membership.coverage(&names, &[]).map_err(failed)?.unwrap_or_default();
            if coverage.absent_samples > 0 {
                let what =
                    format!("the shards of {} of its {} samples are", coverage.absent_samples, self.config.count);
                return missing(what, &coverage.first);
            }
            coverage.note_repeated(&mut notices);
        }
        let is_named = |shard: &&ShardRef| match &self.shards {
            Some(shards) => shards.contains(&shard.name),
            None => membership.lists(&shard.name).unwrap_or(true),
        };
        let (named, others): (Vec<&ShardRef>, Vec<_>) = plan.shards.iter().partition(is_named);
        let (unjudged, others): (Vec<&ShardRef>, Vec<_>) =
            others.into_iter().partition(|shard| membership.had_not_judged(&shard.name));
        unjudged.iter().for_each(|shard| not_judged(&mut notices, &shard.name));
        let first = others.first().map_or("", |shard| shard.name.as_str());
        not_in_split(&mut notices, first, others.len() as u64);
        let shards = (0..).zip(named).map(|(ordinal, shard)| ShardRef { ordinal, ..shard.clone() });
        // A shard that is gone and that the split names was missed above. Of a list that names no shards nobody knows whether it has samples of it.
        let names_shards = self.shards.is_some() || membership.lists_keys();
        let lost = if names_shards { Vec::new() } else { plan.lost.clone() };
        Ok((Plan { shards: shards.collect(), lost, passed_over: plan.passed_over.clone() }, notices))
    }
}

impl SplitFile {
    /// Notes which names of a list no sample of a run has: of uids and of keys alone, which do not say where their samples stand. Nothing where the
    /// run has not judged all of its shards: nobody knows then. Keys and uids of the ledger are read once.
    ///
    /// # Errors
    /// A list or a ledger that cannot be read.
    pub fn never_met(&self, ledger: &Ledger) -> Result<Notices, PipelineError> {
        let mut notices = Notices::default();
        let Some(mut met) = locked(&self.membership).met() else { return Ok(notices) };
        let plan: Plan = ledger.plan().map_err(PipelineError::failed)?;
        if ledger.shards().len() < plan.len() {
            return Ok(notices);
        }
        let (mut again, mut first_again) = (0, String::new());
        let wanted = [("key", ColumnType::Text), ("status", ColumnType::Text), ("uid", ColumnType::Text)];
        for (ordinal, (_, line)) in ledger.shards() {
            for group in ledger.columns(*ordinal, &wanted).map_err(PipelineError::failed)? {
                let group = group.map_err(PipelineError::failed)?;
                let [Column::Text(keys), Column::Text(statuses), Column::Text(uids)] = group.as_slice() else {
                    continue;
                };
                for ((key, status), uid) in keys.iter().zip(statuses).zip(uids) {
                    let key = key.as_deref().unwrap_or_default();
                    // The list has whoever was not dropped.
                    if status.as_deref() != Some(Status::Dropped.as_str())
                        && met.again(key, uid.as_deref()).map_err(failed)?
                    {
                        if again == 0 {
                            first_again = format!("{}/{key}", line.name);
                        }
                        again += 1;
                    }
                }
            }
        }
        met.note(&self.path, &mut notices).map_err(failed)?;
        // Of a list that a head tells of it is known how many have its names.
        if let Some(head) = &self.head {
            let more = (self.config.count + again).saturating_sub(head.count);
            let text = "samples that have a name of the split and are not its own: names alone do not tell them apart";
            notices.loss("more_than_kept", text, first_again, more, more);
            return Ok(notices);
        }
        if !locked(&self.membership).needs_uids() {
            repeated_keys(&mut notices, first_again, again);
        }
        Ok(notices)
    }
}

/// Who of a plan's shards is kept.
pub struct SplitMembers {
    /// The split, which says who is kept.
    pub split: Arc<SplitFile>,
    /// The plan that ordinals are of.
    pub plan: Arc<Plan>,
}

impl Members for SplitMembers {
    fn shard(&self, ordinal: u64) -> Result<Named, KnownError> {
        let shard = self.plan.shard(ordinal).ok_or(KnownError::NoShard(ordinal))?;
        Ok(match locked(&self.split.membership).shard(&shard.name).map_err(KnownError::unread)? {
            Some(Kept::Rows(rows)) => {
                Named::Rows(rows.into_iter().map(|row| (row.index, key_hash(&row.key))).collect())
            }
            Some(kept) => {
                let (path, name) = (self.split.path.clone(), shard.name.clone());
                Named::Listed(Box::new(Asked(Picker::owning(path, name, kept))))
            }
            None => Named::Rows(Vec::new()),
        })
    }
}

/// A list that is asked about one shard.
struct Asked(Picker<'static>);

impl Listed for Asked {
    fn by_uid(&self) -> bool {
        self.0.needs_uids()
    }

    fn keeps(&mut self, index: u32, key: &str, uid: Option<&str>) -> Result<bool, KnownError> {
        self.0.keeps(index, key, || uid.map(str::to_owned)).map_err(|error| match error {
            SelectError::Input(_) => KnownError::Untold(error.into()),
            error => KnownError::unread(error),
        })
    }

    fn counts(&self) -> bool {
        self.0.counts()
    }

    fn repeated_uids(&self) -> u64 {
        self.0.repeated_uids()
    }

    fn finish(&self) -> Result<(), KnownError> {
        self.0.finish().map_err(|error| KnownError::Absent(error.into()))
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
