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
//! A list is compared with what its head tells of it when it is opened: one that is searched by its length, the other by its hash. Without a head,
//! one that is searched is read once for its order.
//!
//! # Invariants
//! 1. Memory: what one shard keeps, and a footer; never the split. Only where a list has a shard's lines in several places, a hash of each such line.
//! 2. A sample is in the split when its shard, its index and its key say so. A shard whose key at an index is another one has changed: that
//!    is an error before anything is made of the sample.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};
use trommel_ledger::LedgerError;
use trommel_ledger::manifest::PartKind;
use trommel_ledger::read::Ledger;

use crate::SelectError;
use crate::head::SplitHead;
use crate::keys_alone::KeyList;
use crate::met::Met;
use crate::select::RunFacts;
use crate::settle::{file_sha256, is_of_told_length, is_told};
use crate::split::{Format, head_path, read_head};
pub use crate::uid_list::UidList;

mod keys;
mod picker;
mod run;
mod table;
pub mod told;

use keys::Keys;
pub use picker::Picker;
use run::Run;
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

impl Membership {
    /// Opens a split: one of its files, its `.split.json` (the file beside it is read), or a run folder, whose kept samples are the split.
    ///
    /// # Errors
    /// What is none of these, or damaged.
    pub fn open(path: &Path) -> Result<Self, SelectError> {
        if path.is_dir() {
            // An epoch of a watch is shown by a link that moves on: one epoch is read to its end.
            let path = std::fs::canonicalize(path).map_err(SelectError::at(path))?;
            let run = Run::open(&path).map_err(|error| match (&error, split_in(&path)) {
                (SelectError::Ledger(LedgerError::NoRun { .. }), Some(file)) => {
                    let (path, file) = (path.display(), file.display());
                    SelectError::Input(format!(
                        "{path}: a folder, and no run's; give a split that lies in it, such as {file}"
                    ))
                }
                _ => error,
            })?;
            return Ok(Self { path, head: None, source: Source::Run(run) });
        }
        let file = file_of(path)?;
        let beside = head_path(&file);
        let head = match Format::of(&file) {
            Some(Format::Parquet) => Some(read_head(&file)?),
            _ if beside.exists() => Some(read_head(&beside)?),
            _ => None,
        };
        let is_told = match (&head, Format::of(&file)) {
            (Some(head), Some(Format::Keys)) => is_told(head, &file)?,
            (Some(head), Some(Format::Uids | Format::KeysAlone)) => is_of_told_length(head, &file)?,
            _ => false,
        };
        let source = match Format::of(&file) {
            Some(Format::Parquet) => Source::Table(Table::open(&file)?),
            Some(Format::Keys) => Source::Keys(Keys::open(&file)?),
            // A search in a list that is not sorted would miss names and not know it; the one that its head tells of is.
            Some(Format::Uids) => {
                let uids = UidList::open(&file)?;
                if !is_told {
                    uids.each(|_, _| ())?;
                }
                Source::Uids(Arc::new(uids))
            }
            Some(Format::KeysAlone) => {
                let keys = KeyList::open(&file)?;
                if !is_told {
                    keys.count()?;
                }
                Source::KeysAlone(Arc::new(keys))
            }
            None if !path.exists() => return Err(SelectError::at(path)(io::ErrorKind::NotFound.into())),
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
            Source::Table(_) | Source::Keys(_) | Source::Uids(_) | Source::KeysAlone(_) => {
                self.head.as_ref()?.reading.get(name).cloned()
            }
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
            Source::Table(_) | Source::Keys(_) | Source::Uids(_) | Source::KeysAlone(_) => {
                let file = file_of(&self.path)?;
                return file_sha256(&file).map_err(SelectError::at(&file));
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

    /// Refuses that more samples were `taken` by their names than the split keeps, `elsewhere` at least so many of those: others have the names too,
    /// which whoever wrote a list of keys alone or of uids did not see.
    ///
    /// # Errors
    /// More samples than the split's head tells of.
    pub fn refuse_more(&self, taken: u64, elsewhere: u64) -> Result<(), SelectError> {
        let due = self.head.as_ref().map(|head| head.count.saturating_sub(elsewhere));
        match due.filter(|due| taken > *due) {
            Some(due) => Err(SelectError::Input(format!(
                "{}: {taken} samples here have its names, and it keeps {due} of them: it does not tell them from others; .parquet does",
                self.path.display()
            ))),
            None => Ok(()),
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
        if let Source::KeysAlone(keys) = &self.source { Some(keys) } else { None }
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

    /// Whether a shard was not judged when the split was made: that nothing of it is kept says nothing then.
    #[must_use]
    pub fn had_not_judged(&self, shard: &str) -> bool {
        let unfinished = self.head.as_ref().map_or(&[][..], |head| &head.unfinished);
        unfinished.binary_search_by(|name| name.as_str().cmp(shard)).is_ok()
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
        self.ledger().is_some()
    }

    /// A run folder's ledger.
    #[must_use]
    pub const fn ledger(&self) -> Option<&Ledger> {
        if let Source::Run(run) = &self.source { Some(&run.ledger) } else { None }
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
                    Some(Ok((name.clone(), run.ledger.shards().get(&ordinal)?.1.counts.kept)))
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
    /// Lines of a list that stand there for one of these samples once more.
    pub repeated: u64,
    /// The first of them.
    pub first_repeated: Option<String>,
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
    if found.is_none() && !path.exists() {
        return Err(SelectError::at(path)(io::ErrorKind::NotFound.into()));
    }
    found.ok_or_else(|| SelectError::Input(format!("{}: the split's rows are not beside it", path.display())))
}

/// The rows of the first split that lies in a folder.
#[must_use]
pub fn split_in(folder: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let heads = files.filter(|path| path.to_string_lossy().ends_with(".split.json"));
    file_of(&heads.min()?).ok()
}

fn no_split(path: &Path) -> SelectError {
    let path = path.display();
    SelectError::Input(format!(
        "{path}: no split: .parquet (or .split.json) of `trommel select`, .txt (SHARD/KEY a line), .keys (a key a line, sorted), .npy (DataComp's \
         uids), or a run folder"
    ))
}
