//! A split, asked shard by shard who is in it: what `stream` and `train` read beside the shards.
//!
//! | it was written as | it says of a shard | reading |
//! |---|---|---|
//! | `NAME.parquet` | indices and keys | the row groups that hold the shard, found by what the footer says of each |
//! | `NAME.txt` | keys, SHARD/KEY a line | the lines once through at [`Membership::coverage`], then the shard's own; without it all lines |
//! | `NAME.npy` | nothing: uids, which are compared with each sample's | a search in the file, a uid |
//! | `NAME.keys` | nothing: keys, whatever shard they stand in | a search in the file, a key |
//! | a run folder | indices and keys of who is kept | the shard's part of the ledger |
//!
//! # Invariants
//! 1. Memory: what one shard keeps, and a footer; never the split.
//! 2. A sample is in the split when its shard, its index and its key say so. A shard whose key at an index is another one has changed: that
//!    is an error before anything is made of the sample.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use sha2::{Digest, Sha256};
use trommel_columnar::parquet::{Column, Kind};
use trommel_core::sample::TAKEN_DOWN;
use trommel_core::wake::locked;
use trommel_ledger::manifest::PartKind;
use trommel_ledger::read::Ledger;
use trommel_shard::plan::Plan;

use crate::SelectError;
use crate::head::SplitHead;
use crate::keys_alone::KeyList;
use crate::met::Met;
use crate::select::RunFacts;
use crate::split::{Format, head_path, read_head};
use crate::uids;

mod lists;
mod table;

use lists::Keys;
pub use lists::UidList;
use table::Table;

/// A sample that a split keeps of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRow {
    /// Its raw index in the shard.
    pub index: u32,
    /// Key of the sample, as its members are named.
    pub key: String,
}

/// What a split says of one shard.
#[derive(Clone, Debug)]
pub enum Kept {
    /// These, by their indices, sorted.
    Rows(Vec<KeptRow>),
    /// Whoever has one of these keys.
    Keys(HashSet<String>),
    /// Whoever has one of these uids.
    Uids(Arc<UidList>),
    /// Whoever has one of these keys, in whatever shard.
    KeysAlone(Arc<KeyList>),
}

impl Kept {
    /// How many of the shard are kept; `None` where only the shard can say.
    #[must_use]
    pub fn count(&self) -> Option<u64> {
        match self {
            Self::Rows(rows) => Some(rows.len() as u64),
            Self::Keys(keys) => Some(keys.len() as u64),
            Self::Uids(_) | Self::KeysAlone(_) => None,
        }
    }
}

/// An opened split.
pub struct Membership {
    path: PathBuf,
    head: Option<SplitHead>,
    source: Source,
}

enum Source {
    Table(Table),
    Keys(Keys),
    Uids(Arc<UidList>),
    KeysAlone(Arc<KeyList>),
    Run(Run),
}

/// A run folder, with the ordinals of its shards by their names.
struct Run {
    ledger: Ledger,
    ordinals: HashMap<String, u64>,
}

impl Membership {
    /// Opens a split: one of its files, its `.split.json` (the file beside it is read), or a run folder, whose kept samples are the split.
    ///
    /// # Errors
    /// What is none of these, or damaged.
    pub fn open(path: &Path) -> Result<Self, SelectError> {
        if path.is_dir() {
            // An epoch of a watch is shown by a link that moves on: one epoch is read to its end.
            let path = &std::fs::canonicalize(path).map_err(SelectError::at(path))?;
            let ledger = Ledger::open(path)?;
            let plan: Plan = ledger.plan()?;
            let ordinals = plan.shards.into_iter().map(|shard| (shard.name, shard.ordinal)).collect();
            return Ok(Self { path: path.into(), head: None, source: Source::Run(Run { ledger, ordinals }) });
        }
        let file = file_of(path)?;
        let beside = head_path(&file);
        let head = match Format::of(&file) {
            Some(Format::Parquet) => Some(read_head(&file)?),
            _ if beside.exists() => Some(read_head(&beside)?),
            _ => None,
        };
        let source = match Format::of(&file) {
            Some(Format::Parquet) => Source::Table(Table::open(&file)?),
            Some(Format::Keys) => Source::Keys(Keys::open(&file)?),
            Some(Format::Uids) => Source::Uids(Arc::new(UidList::open(&file)?)),
            Some(Format::KeysAlone) => {
                let keys = KeyList::open(&file)?;
                // A search in a list that is not sorted would miss keys and not know it; what `select` has written is.
                if head.is_none() {
                    keys.count()?;
                }
                Source::KeysAlone(Arc::new(keys))
            }
            None => return Err(no_split(path)),
        };
        Ok(Self { path: path.into(), head, source })
    }

    /// Where it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the split says of itself; `None` for a list of somebody else's, and for a run folder.
    #[must_use]
    pub const fn head(&self) -> Option<&SplitHead> {
        self.head.as_ref()
    }

    /// A setting by which the run read its samples; `None` where nobody says.
    #[must_use]
    pub fn reading(&self, name: &str) -> Option<Value> {
        match &self.source {
            Source::Run(run) => RunFacts::of(&run.ledger).reading.remove(name),
            _ => self.head.as_ref()?.reading.get(name).cloned(),
        }
    }

    /// What tells this split from every other one, lower-case hex: a hash of the file's bytes, or of the checksums of a run's ledger.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn sha256(&self) -> Result<String, SelectError> {
        let mut hash = Sha256::new();
        match &self.source {
            Source::Run(run) => {
                for (ordinal, (_, line)) in run.ledger.shards() {
                    let crc32c = line.part(PartKind::Ledger).map_or("", |part| part.crc32c.as_str());
                    hash.update(format!("{ordinal} {crc32c}\n"));
                }
            }
            _ => {
                let file = file_of(&self.path)?;
                let mut input = File::open(&file).map_err(SelectError::at(&file))?;
                std::io::copy(&mut input, &mut hash).map_err(SelectError::at(&file))?;
            }
        }
        Ok(format!("{:x}", hash.finalize()))
    }

    /// What is kept of these shards, and of all others; `None` for uids and keys alone, of which only reading can tell. A list of keys is read once, and
    /// asked for `shards` and `others` without reading the rest afterwards.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn coverage(&self, shards: &[&str], others: &[&str]) -> Result<Option<Coverage>, SelectError> {
        if let Source::Keys(keys) = &self.source {
            return keys.cover(shards, others).map(Some);
        }
        let Some(named) = self.shards()? else { return Ok(None) };
        let mut unnamed: HashSet<&str> = shards.iter().copied().collect();
        let mut coverage = Coverage::default();
        for shard in named {
            let (name, count) = shard?;
            // Each shard is named once.
            if unnamed.remove(name.as_str()) {
                coverage.kept += count;
            } else if count > 0 {
                if coverage.absent == 0 {
                    coverage.first = name;
                }
                coverage.absent += 1;
                coverage.absent_samples += count;
            }
        }
        coverage.unnamed = shards.iter().find(|name| unnamed.contains(*name)).map(|name| (*name).to_owned());
        Ok(Some(coverage))
    }

    /// Lines or uids of a list; `None` for what says of each shard how many samples it keeps.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn listed(&self) -> Result<Option<u64>, SelectError> {
        match &self.source {
            Source::Keys(keys) => keys.count().map(Some),
            Source::Uids(uids) => Ok(Some(uids.count())),
            Source::KeysAlone(keys) => keys.count().map(Some),
            Source::Table(_) | Source::Run(_) => Ok(None),
        }
    }

    /// Whether a list of keys has any of a shard, once [`Membership::coverage`] has asked for it; else `None`.
    #[must_use]
    pub fn lists(&self, shard: &str) -> Option<bool> {
        if let Source::Keys(keys) = &self.source { keys.names(shard) } else { None }
    }

    /// The keys, where they stand alone.
    #[must_use]
    pub const fn keys_alone(&self) -> Option<&Arc<KeyList>> {
        match &self.source {
            Source::KeysAlone(keys) => Some(keys),
            _ => None,
        }
    }

    /// Which names have come: none yet. `None` for what says where its samples stand.
    #[must_use]
    pub fn met(&self) -> Option<Met> {
        match &self.source {
            Source::KeysAlone(keys) => Some(Met::none_of(keys)),
            Source::Uids(uids) => Some(Met::none_of_uids(uids)),
            Source::Table(_) | Source::Keys(_) | Source::Run(_) => None,
        }
    }

    /// Whether the split was made from a shard of which it keeps nothing; `None` where it does not say.
    #[must_use]
    pub fn leaves_out(&self, name: &str) -> Option<bool> {
        match &self.source {
            Source::Table(table) => table.leaves_out(name),
            Source::Run(run) => Some(run.ordinals.contains_key(name)),
            Source::Keys(_) | Source::Uids(_) | Source::KeysAlone(_) => None,
        }
    }

    /// A shard that it names, where it names shards: of a table the first, of a list what may be the first.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn first_shard(&self) -> Result<Option<String>, SelectError> {
        match &self.source {
            Source::Table(table) => table.first_shard(),
            Source::Keys(keys) => keys.first_shard(),
            Source::Run(run) => {
                Ok(run.ordinals.iter().min_by_key(|(_, ordinal)| **ordinal).map(|(name, _)| name.clone()))
            }
            Source::Uids(_) | Source::KeysAlone(_) => Ok(None),
        }
    }

    /// Whether it is a list of keys, which is best asked for all shards at once.
    #[must_use]
    pub const fn lists_keys(&self) -> bool {
        matches!(self.source, Source::Keys(_))
    }

    /// Whether it is a run folder, which names all shards that it has judged.
    #[must_use]
    pub const fn is_run(&self) -> bool {
        matches!(self.source, Source::Run(_))
    }

    /// Whether samples are known by their uids only.
    #[must_use]
    pub const fn needs_uids(&self) -> bool {
        matches!(self.source, Source::Uids(_))
    }

    /// What is kept of a shard; `None` where the split does not name it: nothing of it is kept then.
    ///
    /// # Errors
    /// A file that cannot be read or is not in order, or a shard that the run has not judged yet.
    pub fn shard(&self, name: &str) -> Result<Option<Kept>, SelectError> {
        match &self.source {
            Source::Table(table) => table.shard(name).map(|rows| rows.map(Kept::Rows)),
            Source::Keys(keys) => keys.shard(name).map(|keys| keys.map(Kept::Keys)),
            Source::Uids(uids) => Ok(Some(Kept::Uids(Arc::clone(uids)))),
            Source::KeysAlone(keys) => Ok(Some(Kept::KeysAlone(Arc::clone(keys)))),
            Source::Run(run) => {
                let Some(&ordinal) = run.ordinals.get(name) else { return Ok(None) };
                if !run.ledger.is_committed(ordinal) {
                    let path = self.path.display();
                    return Err(SelectError::Unfinished(format!("{path}: shard {name} is not judged yet")));
                }
                run.kept(ordinal).map(|rows| Some(Kept::Rows(rows)))
            }
        }
    }

    /// Names of the shards that the split names, each with the number of samples kept, in the order of names (of a run: of its plan), as a stream;
    /// `None` for lists of keys and of uids, which do not say.
    ///
    /// # Errors
    /// A file that cannot be read; each shard may be an error of its own.
    pub fn shards(&self) -> Result<Option<ShardCounts<'_>>, SelectError> {
        Ok(match &self.source {
            Source::Table(table) => Some(Box::new(table.shards()?)),
            Source::Run(run) => {
                let mut named: Vec<(&String, u64)> =
                    run.ordinals.iter().map(|(name, ordinal)| (name, *ordinal)).collect();
                named.sort_by_key(|(_, ordinal)| *ordinal);
                let committed = |(name, ordinal): (&String, u64)| {
                    let line = &run.ledger.shards().get(&ordinal)?.1;
                    Some(Ok((name.clone(), line.counts.kept)))
                };
                Some(Box::new(named.into_iter().filter_map(committed)))
            }
            Source::Keys(_) | Source::Uids(_) | Source::KeysAlone(_) => None,
        })
    }
}

/// What a split keeps of some shards, and of all others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Samples kept of the shards that were asked for.
    pub kept: u64,
    /// Other shards of which samples are kept; of a list of keys, whose names may hold slashes, about so many.
    pub absent: u64,
    /// Samples kept of these.
    pub absent_samples: u64,
    /// The first of these.
    pub first: String,
    /// The first shard that was asked for and is not named: nothing of it is kept, or a run has not judged it. A list of keys does not say.
    pub unnamed: Option<String>,
}

/// Names of shards, each with the number of samples kept.
pub type ShardCounts<'a> = Box<dyn Iterator<Item = Result<(String, u64), SelectError>> + 'a>;

impl Run {
    fn kept(&self, ordinal: u64) -> Result<Vec<KeptRow>, SelectError> {
        let wanted = [("index", Kind::U32), ("key", Kind::Text), ("status", Kind::Text), ("reason", Kind::Text)];
        let mut kept = Vec::new();
        for group in self.ledger.columns(ordinal, &wanted)? {
            let group = group?;
            let [Column::U32(indices), Column::Text(keys), Column::Text(words), Column::Text(reasons)] =
                group.as_slice()
            else {
                continue;
            };
            for (((index, key), word), reason) in indices.iter().zip(keys).zip(words).zip(reasons) {
                if word.as_deref() == Some("kept") && reason.as_deref() != Some(TAKEN_DOWN) {
                    kept.push(KeptRow { index: index.unwrap_or_default(), key: key.clone().unwrap_or_default() });
                }
            }
        }
        Ok(kept)
    }
}

/// The file with the rows: itself, or the one that a `.split.json` stands beside.
///
/// # Errors
/// A `.split.json` alone.
pub fn file_of(path: &Path) -> Result<PathBuf, SelectError> {
    let Some(stem) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".split.json")) else {
        return Ok(path.into());
    };
    let beside = Format::ALL.map(|format| path.with_file_name(format!("{stem}.{}", format.extension())));
    let found = beside.into_iter().find(|file| file.exists());
    found.ok_or_else(|| SelectError::Input(format!("{}: the split's rows are not beside it", path.display())))
}

fn no_split(path: &Path) -> SelectError {
    let path = path.display();
    SelectError::Input(format!(
        "{path}: no split: .parquet (or .split.json) of `trommel select`, .txt (SHARD/KEY a line), .keys (a key a line, sorted), .npy (DataComp's \
         uids), or a run folder"
    ))
}

/// Compares a shard's samples, which come in the order of their indices, with what a split says.
#[derive(Debug)]
pub struct Picker<'a> {
    split: Cow<'a, Path>,
    shard: Cow<'a, str>,
    kept: Cow<'a, Kept>,
    /// The next kept row, or the number of keys found.
    next: usize,
    found: HashSet<String>,
    /// Places of the keys that came, of this shard, and of those before where they are told.
    places: HashSet<u64>,
    met: Option<Arc<Mutex<Met>>>,
    repeated_uids: u64,
}

impl<'a> Picker<'a> {
    /// Compares the samples of `shard`.
    #[must_use]
    pub fn new(split: &'a Path, shard: &'a str, kept: &'a Kept) -> Self {
        Self::with(Cow::Borrowed(split), Cow::Borrowed(shard), Cow::Borrowed(kept))
    }

    fn with(split: Cow<'a, Path>, shard: Cow<'a, str>, kept: Cow<'a, Kept>) -> Self {
        let (found, places) = Default::default();
        Self { split, shard, kept, next: 0, found, places, met: None, repeated_uids: 0 }
    }

    /// Notes which names have come. Keys that stood in shards before this one too are refused: of keys alone, who reads them is told all.
    #[must_use]
    pub fn after(self, met: Option<Arc<Mutex<Met>>>) -> Self {
        Self { met, ..self }
    }

    /// The same, for who holds the shard no longer than this.
    #[must_use]
    pub fn owning(split: PathBuf, shard: String, kept: Kept) -> Picker<'static> {
        Picker::with(Cow::Owned(split), Cow::Owned(shard), Cow::Owned(kept))
    }

    /// Whether a sample's uid must be known before it can be compared.
    #[must_use]
    pub fn needs_uids(&self) -> bool {
        matches!(self.kept.as_ref(), Kept::Uids(_))
    }

    /// Whether the next sample is kept; `uid` is asked for where the split needs uids.
    ///
    /// # Errors
    /// Another key than the split's at this index, or a uid that is missing or none.
    pub fn keeps(&mut self, index: u32, key: &str, uid: impl FnOnce() -> Option<String>) -> Result<bool, SelectError> {
        match self.kept.as_ref() {
            Kept::Rows(rows) => match rows.get(self.next) {
                Some(row) if row.index == index && row.key == key => {
                    self.next += 1;
                    Ok(true)
                }
                Some(row) if row.index <= index => Err(self.changed(format!(
                    "its sample {index} is `{key}`, and the split keeps `{}` as sample {}",
                    row.key, row.index
                ))),
                Some(_) | None => Ok(false),
            },
            Kept::Keys(keys) => Ok(keys.get(key).is_some_and(|key| {
                self.found.insert(key.clone());
                true
            })),
            Kept::Uids(list) => {
                let bad = |what: String| {
                    let (split, shard) = (self.split.display(), &self.shard);
                    SelectError::Input(format!("{split} is a list of uids, and sample {shard}/{key} {what}"))
                };
                let uid = uid().ok_or_else(|| bad("has none".into()))?;
                let number = uids::parse(&uid).ok_or_else(|| bad(format!("has the uid `{uid}`")))?;
                let places = list.places(number)?;
                self.repeated_uids += u64::from(places.end - places.start > 1);
                if let Some(met) = self.met.as_ref().filter(|_| !places.is_empty()) {
                    locked(met).first(places.start);
                }
                Ok(!places.is_empty())
            }
            Kept::KeysAlone(list) => {
                let Some(place) = list.place(key)? else { return Ok(false) };
                let before = self.met.as_ref().is_some_and(|met| !locked(met).first(place));
                if self.places.insert(place) && !before {
                    return Ok(true);
                }
                Err(SelectError::Input(format!(
                    "{}/{key}: another sample of this key came before, and {} says nothing but keys: it does not tell them apart",
                    self.shard,
                    self.split.display()
                )))
            }
        }
    }

    /// Whether no sample behind those that came can be kept.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match self.kept.as_ref() {
            Kept::Rows(rows) => self.next >= rows.len(),
            Kept::Keys(_) | Kept::Uids(_) | Kept::KeysAlone(_) => false,
        }
    }

    /// Kept samples that did not come; of uids nobody knows.
    #[must_use]
    pub fn missing(&self) -> u64 {
        match self.kept.as_ref() {
            Kept::Rows(rows) => rows.len().saturating_sub(self.next) as u64,
            Kept::Keys(keys) => keys.len().saturating_sub(self.found.len()) as u64,
            Kept::Uids(_) | Kept::KeysAlone(_) => 0,
        }
    }

    /// The shard has ended.
    ///
    /// # Errors
    /// Kept samples that did not come.
    pub fn finish(&self) -> Result<(), SelectError> {
        match self.kept.as_ref() {
            Kept::Rows(rows) => match rows.get(self.next) {
                None => Ok(()),
                Some(row) => Err(self
                    .changed(format!("it ends before `{}`, which the split keeps as sample {}", row.key, row.index))),
            },
            Kept::Keys(keys) => match keys.iter().filter(|key| !self.found.contains(key.as_str())).min() {
                None => Ok(()),
                Some(key) => Err(self.changed(format!(
                    "{} keys that the split keeps are not in it (first: `{key}`)",
                    keys.len() - self.found.len()
                ))),
            },
            Kept::Uids(_) | Kept::KeysAlone(_) => Ok(()),
        }
    }

    /// Samples whose uid stands in the list more than once.
    #[must_use]
    pub const fn repeated_uids(&self) -> u64 {
        self.repeated_uids
    }

    fn changed(&self, what: String) -> SelectError {
        SelectError::Changed(format!(
            "{}: {what}: it is not the shard that {} was made from",
            self.shard,
            self.split.display()
        ))
    }
}
