//! A row of the columns that are read, and where a question finds its value in it.

use trommel_columnar::parquet::Column;
use trommel_decide::column::Cell;

/// Where a question finds its value among the columns that are read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// The scores, or names alone.
    Scores,
    /// A column of the ledger.
    Column(usize),
    /// The first folder in a sample's key: [`FOLDER`](super::FOLDER).
    Folder,
}

/// A row of some columns.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) group: &'a [Column],
    pub(super) at: usize,
}

impl<'a> Row<'a> {
    pub(super) fn text(self, column: usize) -> Option<&'a str> {
        match self.group.get(column) {
            Some(Column::Text(values)) => values[self.at].as_deref(),
            _ => None,
        }
    }

    pub(super) fn number(self, column: usize) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "sizes and offsets below 2^53")]
        match self.group.get(column)? {
            Column::F64(values) => values[self.at].filter(|x| !x.is_nan()),
            Column::U32(values) => values[self.at].map(f64::from),
            Column::U64(values) => values[self.at].map(|x| x as f64),
            Column::Text(_) => None,
        }
    }

    pub(super) fn cell(self, source: Source, key: &'a str) -> Cell<'a> {
        match source {
            Source::Folder => key.split_once('/').map_or(Cell::Missing, |(folder, _)| Cell::Text(folder)),
            Source::Column(column) => match self.text(column) {
                Some(text) => Cell::Text(text),
                None => self.number(column).map_or(Cell::Missing, Cell::Number),
            },
            Source::Scores => Cell::Missing,
        }
    }
}
