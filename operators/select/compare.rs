//! A split against what a run says: row by row where they differ.

use std::iter::Peekable;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde::Serialize;
use trommel_core::wake::locked;

use crate::SelectError;
use crate::head::SplitHead;
use crate::split::{Kept, Sink, SplitRow, Whole, read_rows};

/// Where split and run differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// Samples that the split alone keeps.
    pub only_in_split: u64,
    /// Samples that the run alone keeps.
    pub only_in_run: u64,
    /// The first of them, in order: whether the run keeps it, and which it is.
    pub first: Vec<(bool, SplitRow)>,
}

/// Rows of a split, compared with what is kept.
struct Comparison<I: Iterator> {
    rows: Peekable<I>,
    last: Option<SplitRow>,
    shown: usize,
    found: Arc<Mutex<Differences>>,
}

/// What takes the rows of a selection, and what is found to differ.
pub type Comparing = (Box<dyn Sink>, Arc<Mutex<Differences>>);

/// Compares what is kept with the rows of a split's Parquet file. What is found stands in the second value, when the sink is finished; `shown` is
/// how many of the rows that differ are named.
///
/// # Errors
/// A file that is none.
pub fn comparison(path: &Path, shown: usize) -> Result<Comparing, SelectError> {
    let found = Arc::new(Mutex::new(Differences::default()));
    let rows = read_rows(path)?.peekable();
    let comparison = Comparison { rows, last: None, shown, found: Arc::clone(&found) };
    Ok((Box::new(comparison), found))
}

impl<I: Iterator<Item = Result<SplitRow, SelectError>>> Comparison<I> {
    /// The split's next row, if it stands before `end`.
    fn next_before(&mut self, end: Option<&SplitRow>) -> Result<Option<SplitRow>, SelectError> {
        let before =
            |row: &Result<SplitRow, SelectError>| row.as_ref().map_or(true, |row| end.is_none_or(|end| row < end));
        let Some(row) = self.rows.next_if(before).transpose()? else { return Ok(None) };
        if self.last.as_ref().is_some_and(|last| *last >= row) {
            return Err(SelectError::Input(format!(
                "the split's rows are not in the order of shard and index, at {row}"
            )));
        }
        self.last = Some(row.clone());
        Ok(Some(row))
    }

    fn differs(&self, in_run: bool, row: SplitRow) {
        let mut found = locked(&self.found);
        if in_run {
            found.only_in_run += 1;
        } else {
            found.only_in_split += 1;
        }
        if found.first.len() < self.shown {
            found.first.push((in_run, row));
        }
    }
}

impl<I: Iterator<Item = Result<SplitRow, SelectError>> + Send> Sink for Comparison<I> {
    fn add(&mut self, Kept { shard, index, key, .. }: Kept<'_>) -> Result<(), SelectError> {
        let kept = SplitRow { shard: shard.into(), index, key: key.into() };
        while let Some(row) = self.next_before(Some(&kept))? {
            self.differs(false, row);
        }
        let same = |row: &Result<SplitRow, SelectError>| row.as_ref().is_ok_and(|row| *row == kept);
        match self.rows.next_if(same) {
            Some(_) => self.last = Some(kept),
            None => self.differs(true, kept),
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, _: &SplitHead) -> Result<Whole, SelectError> {
        while let Some(row) = self.next_before(None)? {
            self.differs(false, row);
        }
        Ok(Whole::default())
    }
}
