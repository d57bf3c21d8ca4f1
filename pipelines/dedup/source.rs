//! Sets of stored embeddings as rows with names: vectors to a spool, names to files without a name, ranks by the hash of `random:`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use sha2::{Digest, Sha256};
use trommel_columnar::parquet::{Column, ColumnType};
use trommel_columnar::source::{EmbeddingBatch, EmbeddingReader};
use trommel_core::notices::Notices;
use trommel_core::sample::{Identity, NO_CAPTION, Status, TAKEN_DOWN};
use trommel_core::wake::locked;
use trommel_decide::hash::random_hash;
use trommel_dedup::DedupError;
use trommel_dedup::names::{Caption, Naming, RowName, RowNames};
use trommel_dedup::spool::{Filling, Spool};
use trommel_ledger::read::Ledger;
use trommel_select::membership::{Kept, Membership, Picker};
use trommel_select::met::Met;
use trommel_shard::plan::{PlanOptions, named};
use trommel_shard::store::Local;

use super::spooled;
use crate::error::PipelineError;
use crate::failures::failed;
use crate::stored::StoredEmbeddings;

/// The rows of a set, read: vectors, names, and what orders them.
pub(super) struct Set {
    pub vectors: Spool,
    pub names: RowNames,
    /// Names of the shards that it is of, those included of which no sample takes part.
    pub shards: BTreeSet<String>,
    /// Each row's place in a random order; empty where none was asked for.
    pub ranks: Vec<u64>,
    pub identity: Option<Identity>,
    pub facts: Facts,
    /// sha256 over the vectors, in their order, where it was asked for.
    pub sha256: String,
}

/// What was found on the way.
#[derive(Default)]
pub(super) struct Facts {
    /// Samples that could not be judged.
    pub rejected: u64,
    /// Samples that are taken down, of those that the split keeps.
    pub taken_down: u64,
    /// Samples that the split does not keep.
    pub outside: u64,
    /// What tells the split from others.
    pub of: Option<String>,
    /// How the inputs' own runs read samples, where all of them are runs.
    pub reading: BTreeMap<String, Value>,
    pub notices: Notices,
}

/// How a set is read.
pub(super) struct Reading<'a> {
    /// For files without a name.
    pub folder: &'a Path,
    /// Bytes of vectors that may stay in memory.
    pub memory_bytes: u64,
    /// Seed of the ranks; `None` where nobody asks for them.
    pub ranks: Option<u64>,
    /// Whether every row must have a uid.
    pub uids: bool,
    /// Whether the vectors are hashed.
    pub hash: bool,
    /// Whose samples alone take part.
    pub split: Option<&'a Membership>,
}

struct Gathering {
    filling: Filling,
    naming: Naming,
    ranks: Vec<u64>,
    hash: Sha256,
    facts: Facts,
    shards: BTreeSet<String>,
    last_shard: String,
    /// What the split keeps of the shard that is being read.
    kept: Option<(String, Option<Kept>)>,
    /// Of a list of keys: those of the shard that have come.
    came: HashSet<String>,
    /// Of a list of keys: how many of each shard's did not come.
    due: HashMap<String, u64>,
    /// Which names have come, of a list that does not say where its samples stand.
    met: Option<Arc<Mutex<Met>>>,
}

/// Reads the inputs, one after the other: each is `[NAME=]EMB`, see [`StoredEmbeddings`].
pub(super) fn read(inputs: &[String], reading: &Reading<'_>) -> Result<Set, PipelineError> {
    let mut all: Option<(Gathering, usize, Option<Identity>)> = None;
    let sets = inputs.iter().map(|argument| StoredEmbeddings::find(std::slice::from_ref(argument)));
    let sets = sets.collect::<Result<Vec<_>, _>>()?;
    let read_as = StoredEmbeddings::reading(&sets)?;
    for (argument, found) in inputs.iter().zip(&sets) {
        let (gathering, dim, identity) = match &mut all {
            None => {
                let gathering = Gathering {
                    filling: Filling::begin(found.dim, reading.memory_bytes, reading.folder),
                    naming: Naming::begin(reading.folder).map_err(spooled)?,
                    ranks: Vec::new(),
                    hash: Sha256::new(),
                    facts: Facts { reading: read_as.clone(), ..Facts::default() },
                    shards: BTreeSet::new(),
                    last_shard: String::new(),
                    kept: None,
                    came: HashSet::new(),
                    due: HashMap::new(),
                    met: reading.split.and_then(Membership::met).map(|met| Arc::new(Mutex::new(met))),
                };
                all.insert((gathering, found.dim, found.identity.clone()))
            }
            Some(all) => all,
        };
        if (*dim, &*identity) != (found.dim, &found.identity) {
            let show = |of: &Option<Identity>| of.as_ref().map_or_else(|| "none".into(), ToString::to_string);
            return Err(PipelineError::usage(format!(
                "{argument} has vectors of {} elements by {}, {} has {dim} by {}",
                found.dim,
                show(&found.identity),
                inputs[0],
                show(identity)
            )));
        }
        gathering.input(argument, found, reading)?;
    }
    let (mut gathering, _, identity) = all.ok_or_else(|| PipelineError::usage("no embeddings were given"))?;
    let unmet = reading.split.map_or(Ok(0), |split| gathering.unmet(split))?;
    let Gathering { filling, naming, ranks, hash, mut facts, shards, met, .. } = gathering;
    if let Some(split) = reading.split {
        facts.of_split(split, filling.len() as u64, unmet)?;
        // Of all others it is known by now how many are lost.
        if let (Some(met), true) = (met, split.needs_uids() && split.head().is_none()) {
            locked(&met).note(split.path(), &mut facts.notices).map_err(failed)?;
        }
    }
    let names = naming.finish().map_err(spooled)?;
    let vectors = filling.finish().map_err(spooled)?;
    let sha256 = format!("{:x}", hash.finalize());
    Ok(Set { vectors, names, shards, ranks, identity, facts, sha256 })
}

impl Gathering {
    fn input(&mut self, argument: &str, found: &StoredEmbeddings, reading: &Reading<'_>) -> Result<(), PipelineError> {
        self.facts.notices.merge(&found.notices);
        let (prefix, _) = named(argument, &Local::default(), PlanOptions::default().max_shards);
        for shard in &found.plan.shards {
            let run = found.run_of(shard.ordinal);
            if let Some((ledger, ordinal)) = run {
                self.shards.insert(shard.name.clone());
                self.facts.rejected += ledger.shards().get(&ordinal).map_or(0, |(_, line)| line.counts.rejected);
            }
            let Some(piece) = found.piece(shard.ordinal).map_err(PipelineError::usage)? else { continue };
            let uids = reading.uids || reading.split.is_some_and(Membership::needs_uids);
            let run = run.map(|(ledger, ordinal)| RunShard::of(ledger, ordinal, uids)).transpose()?;
            let called = Called { shard: &shard.name, prefix, run };
            let mut reader = EmbeddingReader::of(piece).map_err(PipelineError::usage)?;
            let dim = reader.dim();
            for batch in &mut reader {
                self.batch(&batch.map_err(PipelineError::usage)?, dim, &called, reading)?;
            }
            for remark in &reader.notes().remarks {
                remark.note(&mut self.facts.notices);
            }
        }
        Ok(())
    }

    fn batch(
        &mut self,
        batch: &EmbeddingBatch,
        dim: usize,
        called: &Called<'_>,
        reading: &Reading<'_>,
    ) -> Result<(), PipelineError> {
        for (row, why) in &batch.bad {
            let row = *row;
            let first = format!(
                "{}: row {} ({}) is {}",
                called.shard,
                batch.first_row + row as u64,
                batch.keys[row],
                why.as_str()
            );
            self.facts.notices.loss("rows", "rows without a direction, left out", first, 1, 1);
        }
        let bad: BTreeSet<usize> = batch.bad.iter().map(|(row, _)| *row).collect();
        let rows = batch.keys.iter().zip(batch.vectors.chunks_exact(dim)).enumerate();
        for (at, (key, vector)) in rows {
            let (shard, index, caption) = called.row(batch, at)?;
            if self.last_shard != shard {
                self.shards.insert(shard.clone());
                self.last_shard.clone_from(&shard);
            }
            if bad.contains(&at) {
                continue;
            }
            if let Some(split) = reading.split
                && !self.keeps(split, &shard, (index, key), || called.uid(batch, at))?
            {
                self.facts.outside += 1;
                continue;
            }
            // After the split: what is taken down outside of it must not stand for one of its own that is missing.
            let Some(caption) = caption else {
                self.facts.taken_down += 1;
                continue;
            };
            self.filling.push(vector).map_err(spooled)?;
            if reading.hash {
                self.hash.update(vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
            }
            self.ranks.extend(reading.ranks.map(|seed| random_hash(seed, &shard, key)));
            let uid = called.uid(batch, at).filter(|_| reading.uids);
            if uid.is_none() && reading.uids {
                return Err(PipelineError::usage(format!("{shard}/{key} has no uid: parquet and txt need none")));
            }
            self.naming.push(&shard, &RowName { index, key: key.clone(), uid, caption }).map_err(spooled)?;
        }
        Ok(())
    }
}

impl Gathering {
    /// Whether a split keeps a sample.
    fn keeps(
        &mut self,
        split: &Membership,
        shard: &str,
        (index, key): (u32, &str),
        uid: impl FnOnce() -> Option<String>,
    ) -> Result<bool, PipelineError> {
        if self.kept.as_ref().is_none_or(|(name, _)| name != shard) {
            self.leave();
            self.kept = Some((shard.to_owned(), split.shard(shard).map_err(failed)?));
        }
        match self.kept.as_ref().and_then(|(_, kept)| kept.as_ref()) {
            None => Ok(false),
            Some(Kept::Keys(keys)) => Ok(keys.get(key).is_some_and(|key| {
                self.came.insert(key.clone());
                true
            })),
            Some(kept @ (Kept::Uids(_) | Kept::KeysAlone(_))) => {
                Picker::new(split.path(), shard, kept).after(self.met.clone()).keeps(index, key, uid).map_err(failed)
            }
            Some(Kept::Rows(rows)) => match rows.binary_search_by_key(&index, |row| row.index) {
                Err(_) => Ok(false),
                Ok(at) if rows[at].key == key => Ok(true),
                Ok(at) => Err(PipelineError::usage(format!(
                    "shard {shard}: sample {index} is `{key}`, and `{}` in {}: it is another shard",
                    rows[at].key,
                    split.path().display()
                ))),
            },
        }
    }

    /// Takes that another shard comes next.
    fn leave(&mut self) {
        let came = std::mem::take(&mut self.came).len() as u64;
        if let Some((shard, Some(Kept::Keys(keys)))) = self.kept.take() {
            // One that comes in parts has the same keys again.
            let due = self.due.entry(shard).or_insert(keys.len() as u64);
            *due = due.saturating_sub(came);
        }
    }

    /// Names of a list that no row had: two samples of one name do not make up for a name that is missing.
    fn unmet(&mut self, split: &Membership) -> Result<u64, PipelineError> {
        if let Some(met) = self.met.as_ref().filter(|_| split.head().is_some()) {
            return Ok(locked(met).unmet().map_err(failed)?.count);
        }
        self.leave();
        let shards: Vec<&str> = self.due.keys().map(String::as_str).collect();
        let others = if split.lists_keys() { split.coverage(&shards, &[]).map_err(failed)? } else { None };
        Ok(self.due.values().sum::<u64>() + others.map_or(0, |others| others.absent_samples))
    }
}

impl Facts {
    /// Notes which split took part, and what of it has no embedding: `unmet` names of a list, which others may have.
    fn of_split(&mut self, split: &Membership, found: u64, unmet: u64) -> Result<(), PipelineError> {
        let path = split.path().display().to_string();
        self.of = Some(sha256_of(split)?);
        let due = match (split.head(), split.shards().map_err(failed)?) {
            (Some(head), _) => head.count,
            (None, Some(mut shards)) => {
                shards.try_fold(0, |sum, shard| shard.map(|(_, count)| sum + count)).map_err(failed)?
            }
            // Of uids nobody knows whose others are.
            (None, None) if split.needs_uids() => found,
            (None, None) => split.listed().map_err(failed)?.unwrap_or(found),
        };
        let found = found + self.taken_down;
        let lost = if split.lists_keys() { unmet } else { due.saturating_sub(found).max(unmet) };
        split.refuse_more(found, lost).map_err(failed)?;
        self.notices.loss("split_samples", "samples of the split that have no embedding here", path, lost, lost);
        Ok(())
    }
}

/// What tells a split from others: the hash of its keys, or of a list's or a run's own bytes.
pub(super) fn sha256_of(split: &Membership) -> Result<String, PipelineError> {
    split.head().map_or_else(|| split.sha256().map_err(failed), |head| Ok(head.keys_sha256.clone()))
}

/// What the rows of a file are called: by the run that they are of, by the file where it says so of each, or by the file itself and their
/// numbers.
struct Called<'a> {
    shard: &'a str,
    prefix: Option<&'a str>,
    run: Option<RunShard>,
}

impl Called<'_> {
    /// Shard, index and caption of a row; no caption where it is taken down.
    fn row(&self, batch: &EmbeddingBatch, at: usize) -> Result<(String, u32, Option<Caption>), PipelineError> {
        let (own, index) = (batch.shards[at].as_deref(), batch.indices[at]);
        if let Some(run) = &self.run {
            let index = index.ok_or_else(|| PipelineError::usage(format!("{}: a row without index", self.shard)))?;
            return Ok((self.shard.to_owned(), index, run.caption(index)));
        }
        let caption = match batch.details.captions.get(at) {
            None => Caption::Unknown,
            Some(text) if text.as_deref().is_none_or(|text| text.trim().is_empty()) => Caption::Missing,
            Some(_) => Caption::There,
        };
        if let (Some(own), Some(index)) = (own, index) {
            let shard = self.prefix.map_or_else(|| own.to_owned(), |prefix| format!("{prefix}/{own}"));
            return Ok((shard, index, Some(caption)));
        }
        let index = u32::try_from(batch.first_row + at as u64).map_err(|_| spooled(DedupError::TooMany))?;
        Ok((self.shard.to_owned(), index, Some(caption)))
    }
}

impl Called<'_> {
    /// DataComp's uid of a row.
    fn uid(&self, batch: &EmbeddingBatch, at: usize) -> Option<String> {
        match &self.run {
            Some(run) => run.uids.get(&batch.indices[at]?).cloned(),
            None => batch.details.uids.get(at).cloned().flatten(),
        }
    }
}

/// What a run says of a shard.
struct RunShard {
    taken_down: HashSet<u32>,
    captionless: HashSet<u32>,
    /// The run's rule dropped them, and so says nothing of their captions.
    unknown: HashSet<u32>,
    uids: HashMap<u32, String>,
}

impl RunShard {
    fn of(ledger: &Ledger, ordinal: u64, uids: bool) -> Result<Self, PipelineError> {
        let none = HashSet::new;
        let mut shard = Self { taken_down: none(), captionless: none(), unknown: none(), uids: HashMap::new() };
        let wanted = [
            ("index", ColumnType::U32),
            ("status", ColumnType::Text),
            ("reason", ColumnType::Text),
            ("uid", ColumnType::Text),
        ];
        for group in ledger.columns(ordinal, &wanted[..if uids { 4 } else { 3 }]).map_err(PipelineError::usage)? {
            let mut columns = group.map_err(PipelineError::usage)?.into_iter();
            let (Some(Column::U32(indices)), Some(Column::Text(statuses)), Some(Column::Text(reasons))) =
                (columns.next(), columns.next(), columns.next())
            else {
                continue;
            };
            if let Some(Column::Text(uids)) = columns.next() {
                let of = |(index, uid): (&Option<u32>, Option<String>)| Some(((*index)?, uid?));
                shard.uids.extend(indices.iter().zip(uids).filter_map(of));
            }
            for ((index, status), reason) in indices.into_iter().zip(statuses).zip(reasons) {
                let index = index.unwrap_or_default();
                match (status.as_deref(), reason.as_deref()) {
                    (_, Some(TAKEN_DOWN)) => shard.taken_down.insert(index),
                    (_, Some(NO_CAPTION)) => shard.captionless.insert(index),
                    (Some(status), _) if status == Status::Dropped.as_str() => shard.unknown.insert(index),
                    _ => false,
                };
            }
        }
        Ok(shard)
    }

    /// What is known of a sample's caption; `None` where it is taken down.
    fn caption(&self, index: u32) -> Option<Caption> {
        let known = if self.captionless.contains(&index) { Caption::Missing } else { Caption::There };
        let caption = if self.unknown.contains(&index) { Caption::Unknown } else { known };
        (!self.taken_down.contains(&index)).then_some(caption)
    }
}
