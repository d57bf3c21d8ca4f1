//! How a split's files get their names, and how a list is told from another split's.
//!
//! A Parquet file says by itself of which split it is; a list does not. So the head beside it has the length and the sha256 of each list.
//!
//! # Invariants
//! 1. All files of a split are whole before anything that lies under their names is touched: who is refused changes nothing.
//! 2. What an earlier head tells of is gone before the first new file has its name, unless it is of the same samples, and the new head tells of it too.

use std::fs::File;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use trommel_core::durable;

use crate::SelectError;
use crate::head::{ListFact, SplitHead};
use crate::sink::{Sink, Whole};
use crate::split::{Format, TABLES_BESIDE, head_path, read_head};

/// The files of a split, whole and without their names.
pub struct Unnamed {
    head: SplitHead,
    files: Vec<Whole>,
}

impl Unnamed {
    /// Brings the files of a split to their ends.
    ///
    /// # Errors
    /// What cannot be written, or not be told apart in a file.
    pub fn of(sinks: Vec<Box<dyn Sink>>, head: SplitHead) -> Result<Self, SelectError> {
        let files = sinks.into_iter().map(|sink| sink.finish(&head)).collect::<Result<Vec<_>, _>>()?;
        Self { head, files: Vec::new() }.with(files)
    }

    /// The same with more files, such as tables that stand beside the split.
    ///
    /// # Errors
    /// A file that does not come to the disk, or whose name a folder bears.
    pub fn with(mut self, files: Vec<Whole>) -> Result<Self, SelectError> {
        files.iter().try_for_each(Whole::make_ready)?;
        self.files.extend(files);
        Ok(self)
    }

    /// Gives the files their names, in place of what an earlier split has there. Its head, by now of no split, is gone; the new one, which is given
    /// with remarks for people, is to be written last.
    ///
    /// # Errors
    /// A file that cannot be removed, read or renamed.
    pub fn settle(self) -> Result<(SplitHead, Vec<String>), SelectError> {
        let Self { mut head, files } = self;
        let paths: Vec<&Path> = files.iter().filter_map(|whole| Some(whole.file.as_ref()?.0.as_path())).collect();
        if let Some(first) = paths.first() {
            let of_list = |whole: &Whole| {
                let (path, list) = (&whole.file.as_ref()?.0, whole.list.clone()?);
                Some((Format::of(path)?.extension().to_owned(), list))
            };
            let lists = head.lists.insert(files.iter().filter_map(of_list).collect());
            let beside = head_path(first);
            match read_head(&beside) {
                // Of the same samples they stay true.
                Ok(old) if old.keys_sha256 == head.keys_sha256 => {
                    for ending in LISTS.map(Format::extension) {
                        if lists.contains_key(ending) {
                            continue;
                        }
                        let list = first.with_extension(ending);
                        let fact = match &old.lists {
                            Some(told) => told.get(ending).cloned(),
                            None => durable::if_there(fact_of(&list)).map_err(SelectError::at(&list))?,
                        };
                        lists.extend(fact.map(|fact| (ending.to_owned(), fact)));
                    }
                }
                // Only where a head says that they are a split's.
                Ok(_) => {
                    let endings = Format::ALL.into_iter().map(Format::extension).chain(TABLES_BESIDE);
                    endings.map(|ending| first.with_extension(ending)).try_for_each(|other| remove(&other))?;
                }
                Err(_) => {}
            }
            // It goes last: until then it says what lies here.
            remove(&beside)?;
        }
        let remarks = files.iter().filter_map(|whole| whole.remark.clone()).collect();
        files.into_iter().try_for_each(Whole::commit)?;
        Ok((head, remarks))
    }
}

/// Formats that do not say themselves of which split they are.
const LISTS: [Format; 3] = [Format::Uids, Format::Keys, Format::KeysAlone];

fn remove(path: &Path) -> Result<(), SelectError> {
    durable::remove(path).map_err(SelectError::at(path))
}

/// What a head tells of a list.
fn fact_of(path: &Path) -> std::io::Result<ListFact> {
    let mut hash = Sha256::new();
    let bytes = std::io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(ListFact { bytes, sha256: format!("{:x}", hash.finalize()) })
}

/// sha256 of a file's bytes, lower-case hex.
pub(crate) fn file_sha256(path: &Path) -> std::io::Result<String> {
    fact_of(path).map(|fact| fact.sha256)
}

/// The lists that lie beside a split's head.
#[must_use]
pub fn lists_beside(head: &Path) -> Vec<PathBuf> {
    let Some(stem) = head.file_name().and_then(|name| name.to_str()?.strip_suffix(".split.json")) else {
        return Vec::new();
    };
    let lists = LISTS.map(|format| head.with_file_name(format!("{stem}.{}", format.extension())));
    lists.into_iter().filter(|list| list.exists()).collect()
}

/// Whether a list is the one that the head beside it tells of. A head of an earlier version does not say, which is no.
///
/// # Errors
/// A list that is another one, or cannot be read.
pub fn is_told(head: &SplitHead, list: &Path) -> Result<bool, SelectError> {
    told(head, list, |due| fact_of(list).map(|fact| fact == *due))
}

/// The same by the length alone: who searches a list reads little of it, once for each shard that a trainer opens.
///
/// # Errors
/// As [`is_told`].
pub fn is_of_told_length(head: &SplitHead, list: &Path) -> Result<bool, SelectError> {
    told(head, list, |due| std::fs::metadata(list).map(|metadata| metadata.len() == due.bytes))
}

fn told(
    head: &SplitHead,
    list: &Path,
    is_due: impl FnOnce(&ListFact) -> std::io::Result<bool>,
) -> Result<bool, SelectError> {
    let Some(lists) = &head.lists else { return Ok(false) };
    let due = Format::of(list).and_then(|format| lists.get(format.extension()));
    match due {
        Some(due) if is_due(due).map_err(SelectError::at(list))? => Ok(true),
        _ => Err(SelectError::Input(format!(
            "{}: it is not the list that {} tells of: it was changed since, or is another split's",
            list.display(),
            head_path(list).display()
        ))),
    }
}
