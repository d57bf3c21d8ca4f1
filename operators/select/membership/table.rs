//! A split's Parquet file, shard by shard. Its rows stand in the order of (shard, index), so that a search over the first row of each group finds
//! the groups that hold a shard. The footer says these first rows, where the split was written with statistics; else each is read.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use trommel_columnar::parquet::{Column, ColumnType, TableReader};

use super::KeptRow;
use crate::SelectError;
use crate::head::META_NOTHING_OF;

/// Columns, the shard first.
const COLUMNS: [(&str, ColumnType); 3] =
    [("shard", ColumnType::Text), ("index", ColumnType::U32), ("key", ColumnType::Text)];

pub(super) struct Table {
    path: PathBuf,
    reader: TableReader,
    /// The run's shards of which nothing is kept, where it says.
    nothing_of: OnceLock<Option<HashSet<String>>>,
}

/// A row: shard, index, key.
type Row = (String, u32, String);

impl Table {
    pub fn open(path: &Path) -> Result<Self, SelectError> {
        let file = File::open(path).map_err(SelectError::at(path))?;
        let reader = TableReader::open(path, Box::new(file), &COLUMNS)?;
        Ok(Self { path: path.into(), reader, nothing_of: OnceLock::new() })
    }

    /// Whether the split was made from a shard of which it keeps nothing; `None` where it does not say.
    pub fn leaves_out(&self, name: &str) -> Option<bool> {
        let read = || serde_json::from_str(self.reader.metadata(META_NOTHING_OF)?).ok();
        self.nothing_of.get_or_init(read).as_ref().map(|names| names.contains(name))
    }

    /// The first shard that it keeps something of.
    pub fn first_shard(&self) -> Result<Option<String>, SelectError> {
        let Some(group) = self.reader.from_group(0).next().transpose()? else { return Ok(None) };
        Ok(self.rows(group)?.into_iter().next().map(|(shard, ..)| shard))
    }

    /// What is kept of a shard, in order; `None` where no row is the shard's.
    pub fn shard(&self, name: &str) -> Result<Option<Vec<KeptRow>>, SelectError> {
        let mut rows = Vec::<KeptRow>::new();
        let mut last = String::new();
        for group in self.reader.from_group(self.first_group(name)?) {
            for (shard, index, key) in self.rows(group?)? {
                let in_order = match rows.last() {
                    Some(row) if shard == name => row.index < index,
                    _ => last <= shard,
                };
                if !in_order {
                    return Err(self.disorder(&shard, index));
                }
                match shard.as_str().cmp(name) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => rows.push(KeptRow { index, key }),
                    std::cmp::Ordering::Greater => return Ok((!rows.is_empty()).then_some(rows)),
                }
                last = shard;
            }
        }
        Ok((!rows.is_empty()).then_some(rows))
    }

    /// The last group that begins before the shard, or the first one.
    fn first_group(&self, name: &str) -> Result<usize, SelectError> {
        let (mut low, mut high) = (0, self.reader.groups());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.begins_before(middle, name)? {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low.saturating_sub(1))
    }

    fn begins_before(&self, group: usize, name: &str) -> Result<bool, SelectError> {
        if let Some(least) = self.reader.least_text(group, 0) {
            return Ok(least < name);
        }
        let first = match self.reader.from_group(group).next().transpose()? {
            Some(rows) => self.rows(rows)?.into_iter().next(),
            None => None,
        };
        Ok(first.is_some_and(|(shard, ..)| shard.as_str() < name))
    }

    fn rows(&self, group: Vec<Column>) -> Result<Vec<Row>, SelectError> {
        let mut columns = group.into_iter();
        let (Some(Column::Text(shards)), Some(Column::U32(indices)), Some(Column::Text(keys))) =
            (columns.next(), columns.next(), columns.next())
        else {
            return Err(SelectError::Input(format!("{}: no split: columns of other types", self.path.display())));
        };
        let row = |((shard, index), key): ((Option<String>, Option<u32>), Option<String>)| Some((shard?, index?, key?));
        let rows: Option<Vec<Row>> = shards.into_iter().zip(indices).zip(keys).map(row).collect();
        rows.ok_or_else(|| {
            SelectError::Input(format!("{}: no split: a row without shard, key or index", self.path.display()))
        })
    }

    fn disorder(&self, shard: &str, index: u32) -> SelectError {
        let path = self.path.display();
        SelectError::Input(format!("{path}: rows are not in the order of shard and index, at {shard}, index {index}"))
    }

    /// Every shard with the number of its rows.
    pub fn shards(&self) -> Result<impl Iterator<Item = Result<(String, u64), SelectError>> + use<>, SelectError> {
        let file = File::open(&self.path).map_err(SelectError::at(&self.path))?;
        let groups = TableReader::open(&self.path, Box::new(file), &COLUMNS[..1])?;
        let (path, mut open, mut ended) = (self.path.clone(), None::<(String, u64)>, false);
        let mut names = groups.flat_map(|group| {
            let (names, error) = match group {
                Ok(group) => (group.into_iter().next(), None),
                Err(error) => (None, Some(Err(SelectError::from(error)))),
            };
            let names = if let Some(Column::Text(names)) = names { names } else { Vec::new() };
            names.into_iter().map(|name| Ok(name.unwrap_or_default())).chain(error)
        });
        Ok(std::iter::from_fn(move || {
            while !ended {
                match (names.next(), &mut open) {
                    (Some(Err(error)), _) => {
                        ended = true;
                        return Some(Err(error));
                    }
                    (Some(Ok(name)), Some((shard, count))) if name == *shard => *count += 1,
                    (Some(Ok(name)), Some((shard, _))) if name < *shard => {
                        ended = true;
                        let path = path.display();
                        return Some(Err(SelectError::Input(format!("{path}: shards are not in order, at {name}"))));
                    }
                    (Some(Ok(name)), _) => {
                        if let Some(done) = open.replace((name, 1)) {
                            return Some(Ok(done));
                        }
                    }
                    (None, _) => {
                        ended = true;
                        return open.take().map(Ok);
                    }
                }
            }
            None
        }))
    }
}
