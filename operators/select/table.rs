//! A table that is joined to the ledger: which files it is made of, and by what its rows are known.
//!
//! | written | rows are found by |
//! |---|---|
//! | `TABLE.parquet` | `key` where it has such a column, else `uid` |
//! | `TABLE.parquet@uid`, `@image_path=key` | the column named, which is the sample's key, or its uid |
//! | `TABLE.parquet@row` | their place: as many rows as the ledger has in the order of its plan, or as it has without rejects |
//! | `FOLDER` | the same, over its Parquet files; files called like the shards (`00012.parquet` for `00012.tar`) tell of their own shard |
//!
//! A table with a column `shard` tells of each shard's own samples; `NAME=` before it names it, for columns that several tables have: `NAME.COLUMN`.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use trommel_columnar::parquet::{Column, ColumnType, TableReader};
use trommel_core::names::is_word;

use crate::SelectError;
use crate::scan::Shard;

/// By what a sample is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mine {
    /// The sample's key.
    Key,
    /// The sample's uid.
    Uid,
}

/// By what a table's rows are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum On {
    /// The row's place in the table is the sample's place in the shard.
    Row,
    /// A column of theirs.
    Column(String, Mine),
}

/// A table that the user joins to the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedTable {
    /// What it is called, where it has a name.
    pub name: Option<String>,
    /// A file, or a folder.
    pub path: PathBuf,
    /// By what its rows are found.
    pub on: On,
    /// Its files in their order, each with the shard that it tells of, by its place among the shards.
    pub files: Vec<(PathBuf, Option<usize>)>,
    /// Names of its columns.
    pub columns: Vec<String>,
    /// Number of rows in all files.
    pub rows: u64,
    /// Whether a row tells of a shard's own sample.
    pub is_scoped: bool,
}

impl JoinedTable {
    /// A table as written: `[NAME=]PATH[@HOW]`. Files that are called like a shard of `others`, the plan's that are not selected from, are not read.
    ///
    /// # Errors
    /// Nothing there, files of several kinds, or a table whose rows nobody can find.
    pub fn open(text: &str, shards: &[Shard], others: [&[String]; 2]) -> Result<Self, SelectError> {
        let bad = |what: String| SelectError::Input(format!("--table {text}: {what}"));
        let (name, rest) = match text.split_once('=') {
            Some((name, rest)) if !Path::new(text).exists() && is_word(name) => (Some(name.to_owned()), rest),
            _ => (None, text),
        };
        let (path, how) = match rest.rsplit_once('@') {
            Some((path, how)) if !Path::new(rest).exists() => (PathBuf::from(path), Some(how)),
            _ => (PathBuf::from(rest), None),
        };
        // Whoever reads a file names it.
        let files = files(&path, shards, others).map_err(|error| SelectError::Table(Box::new(error)))?;
        let Some((first, _)) = files.first() else { return Err(bad("no Parquet file is there".into())) };
        let columns = TableReader::column_names(first, Box::new(File::open(first).map_err(SelectError::at(first))?))?;
        let has = |column: &str| columns.iter().any(|name| name == column);
        let on = match how {
            Some("row") => On::Row,
            Some("key") => On::Column("key".into(), Mine::Key),
            Some("uid") => On::Column("uid".into(), Mine::Uid),
            Some(how) => match how.split_once('=') {
                Some((theirs, "key")) => On::Column(theirs.into(), Mine::Key),
                Some((theirs, "uid")) => On::Column(theirs.into(), Mine::Uid),
                _ => {
                    return Err(bad(format!(
                        "`@{how}`: rows are found by @row, @key, @uid, @COLUMN=key or @COLUMN=uid"
                    )));
                }
            },
            None if has("key") => On::Column("key".into(), Mine::Key),
            None if has("uid") => On::Column("uid".into(), Mine::Uid),
            None => {
                let columns = columns.join(", ");
                return Err(bad(format!(
                    "neither `key` nor `uid` is among its columns ({columns}): say @row or @COLUMN=key"
                )));
            }
        };
        if let On::Column(column, _) = &on
            && !has(column)
        {
            return Err(bad(format!("no column `{column}`; there is {}", columns.join(", "))));
        }
        let mut rows = 0;
        for (file, _) in &files {
            let input = File::open(file).map_err(SelectError::at(file))?;
            rows += TableReader::open_any(file, Box::new(input), &[])?.rows();
        }
        let is_scoped = has("shard") || files.iter().any(|(_, shard)| shard.is_some());
        Ok(Self { name, path, on, files, columns, rows, is_scoped })
    }

    /// The column that a rule's word means, if this table has it.
    #[must_use]
    pub fn column<'w>(&self, word: &'w str) -> Option<&'w str> {
        let own = self.name.as_ref().and_then(|name| word.strip_prefix(name.as_str())?.strip_prefix('.'));
        own.into_iter().chain([word]).find(|word| self.columns.iter().any(|column| column == word))
    }

    /// Calls with every batch of rows: the file's shard, and some columns.
    ///
    /// # Errors
    /// A file that cannot be read or lacks a column, or what `each` says.
    pub fn read(
        &self,
        columns: &[&str],
        mut each: impl FnMut(Option<usize>, &[Column]) -> Result<(), SelectError>,
    ) -> Result<(), SelectError> {
        let mut kinds: Option<Vec<ColumnType>> = None;
        for (path, shard) in &self.files {
            let file = File::open(path).map_err(SelectError::at(path))?;
            let table = TableReader::open_any(path, Box::new(file), columns)?;
            let here: Vec<ColumnType> = table.fields().iter().map(|field| field.kind).collect();
            if *kinds.get_or_insert_with(|| here.clone()) != here {
                let path = path.display();
                return Err(SelectError::Input(format!(
                    "{path}: its columns are of other types than those of the files before"
                )));
            }
            for group in table {
                each(*shard, &group?)?;
            }
        }
        Ok(())
    }
}

/// A shard's name without its ending.
fn stem(name: &str) -> &str {
    let (folder, file) = name.rfind('/').map_or(("", name), |at| name.split_at(at + 1));
    let end = file.find('.').filter(|&at| at > 0).unwrap_or(file.len());
    &name[..folder.len() + end]
}

/// What a file is called like.
#[derive(Clone, Copy, PartialEq)]
enum Like {
    Shard(usize),
    /// A shard of the plan that is not selected from.
    Other,
    Several,
    Nothing,
}

fn files(path: &Path, shards: &[Shard], others: [&[String]; 2]) -> Result<Vec<(PathBuf, Option<usize>)>, SelectError> {
    if !path.is_dir() {
        let there = std::fs::metadata(path);
        return there.map(|_| vec![(path.into(), None)]).map_err(SelectError::at(path));
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(SelectError::at(path))? {
        let file = entry.map_err(SelectError::at(path))?.path();
        let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && file.extension().is_some_and(|ending| ending == "parquet") {
            files.push(file);
        }
    }
    files.sort_by(|a, b| numerically(&a.to_string_lossy(), &b.to_string_lossy()));
    // By the whole name, and by its last part where no other shard has it.
    let mut known: HashMap<&str, Like> = HashMap::new();
    let here = shards.iter().enumerate().map(|(at, shard)| (&shard.name, Like::Shard(at)));
    for (name, like) in here.chain(others.into_iter().flatten().map(|name| (name, Like::Other))) {
        let name = stem(name);
        let last = name.rsplit('/').next().unwrap_or(name);
        known.entry(last).and_modify(|one| *one = Like::Several).or_insert(like);
    }
    let of = |file: &PathBuf| file.file_stem().and_then(|name| known.get(name.to_str()?).copied());
    let called: Vec<Like> = files.iter().map(|file| of(file).unwrap_or(Like::Nothing)).collect();
    let (some, all) = (called.iter().filter(|like| **like != Like::Nothing).count(), files.len());
    match called.iter().zip(&files).find(|(like, _)| matches!(like, Like::Several | Like::Nothing) && some > 0) {
        Some((Like::Several, file)) => Err(SelectError::Input(format!(
            "{}: several shards are called so; join tables with a column `shard`",
            file.display()
        ))),
        Some((_, file)) => {
            let file = file.display();
            Err(SelectError::Input(format!(
                "{}: {some} of {all} files are called like shards of the run, and others are not (first: {file})",
                path.display()
            )))
        }
        None => {
            let of = |like: Like| if let Like::Shard(at) = like { Some(at) } else { None };
            let read = files.into_iter().zip(called).filter(|(_, like)| *like != Like::Other);
            let mut files: Vec<_> = read.map(|(file, like)| (file, of(like))).collect();
            // Rows that are found by their place come in the plan's order.
            files.sort_by_key(|(_, shard)| shard.map(|at| shards[at].ordinal));
            Ok(files)
        }
    }
}

/// Names in the order of the numbers in them.
fn numerically(a: &str, b: &str) -> Ordering {
    let pieces = |text: &str| -> Vec<(u128, String)> {
        let mut pieces = vec![(0u128, String::new())];
        for c in text.chars() {
            let last = pieces.len() - 1;
            match c.to_digit(10) {
                Some(digit) if pieces[last].1.is_empty() => {
                    pieces[last].0 = pieces[last].0.saturating_mul(10).saturating_add(u128::from(digit));
                }
                Some(digit) => pieces.push((u128::from(digit), String::new())),
                None => pieces[last].1.push(c),
            }
        }
        pieces
    };
    pieces(a).cmp(&pieces(b)).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_in_the_order_of_their_numbers() {
        let mut names =
            ["metadata_10.parquet", "metadata_9.parquet", "a", "metadata_0.parquet", "metadata_010.parquet"];
        names.sort_by(|a, b| numerically(a, b));
        assert_eq!(
            names,
            ["a", "metadata_0.parquet", "metadata_9.parquet", "metadata_010.parquet", "metadata_10.parquet"]
        );
        assert_eq!([stem("a.b/00001.tar.gz"), stem("x/.hidden"), stem("7")], ["a.b/00001", "x/.hidden", "7"]);
    }
}
