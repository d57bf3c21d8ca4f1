//! What lies in files: matches, readable by point, and scores. Points go by their lasting numbers.

use std::ops::Range;

use trommel_columnar::parquet::{Column, ColumnType, Field};
use trommel_core::sample::Score;

/// A table that can be a part; by default it has no rows.
pub trait Table: Default + Send + Sync + 'static {
    /// First word of its files' names.
    const KIND: &'static str;
    /// Rows of a row group.
    const GROUP_ROWS: usize = 1 << 16;
    /// Names and types of the columns, in order.
    fn fields() -> Vec<Field>;
    /// Number of rows.
    fn rows(&self) -> usize;
    /// The columns of some of its rows.
    fn columns(&self, rows: Range<usize>) -> Vec<Column>;
    /// Takes a row group in; false if the columns are of other types.
    fn take(&mut self, group: Vec<Column>) -> bool;
}

/// Similarities of one shard to the points of one benchmark, none below the points' floors; by point, then sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matches {
    /// Lasting numbers of the points, ascending.
    pub points: Vec<u32>,
    /// Raw indices, ascending inside a point.
    pub indices: Vec<u32>,
    /// Cosine of each match.
    pub scores: Vec<f64>,
}

impl Matches {
    /// From rows of (point, index, score) in any order.
    #[must_use]
    pub fn of(mut rows: Vec<(u32, u32, f64)>) -> Self {
        rows.sort_unstable_by_key(|row| (row.0, row.1));
        Self {
            points: rows.iter().map(|row| row.0).collect(),
            indices: rows.iter().map(|row| row.1).collect(),
            scores: rows.iter().map(|row| row.2).collect(),
        }
    }

    /// All rows, by point.
    pub fn by_point(&self) -> impl Iterator<Item = (u32, u32, f64)> + '_ {
        self.points.iter().zip(&self.indices).zip(&self.scores).map(|((&point, &index), &score)| (point, index, score))
    }

    /// The rows of one point.
    pub fn of_point(&self, point: u32) -> impl Iterator<Item = (u32, f64)> + '_ {
        let range = self.points.partition_point(|&p| p < point)..self.points.partition_point(|&p| p <= point);
        range.map(|at| (self.indices[at], self.scores[at]))
    }
}

impl Table for Matches {
    const KIND: &'static str = "matches";

    fn fields() -> Vec<Field> {
        let required = Field::required;
        vec![required("point", ColumnType::U32), required("index", ColumnType::U32), required("score", ColumnType::F64)]
    }

    fn rows(&self) -> usize {
        self.points.len()
    }

    fn columns(&self, rows: Range<usize>) -> Vec<Column> {
        let numbers = |values: &[u32]| Column::U32(values.iter().copied().map(Some).collect());
        vec![
            numbers(&self.points[rows.clone()]),
            numbers(&self.indices[rows.clone()]),
            Column::F64(self.scores[rows].iter().copied().map(Some).collect()),
        ]
    }

    fn take(&mut self, group: Vec<Column>) -> bool {
        let Ok([Column::U32(points), Column::U32(indices), Column::F64(scores)]) = <[Column; 3]>::try_from(group)
        else {
            return false;
        };
        self.points.extend(points.into_iter().flatten());
        self.indices.extend(indices.into_iter().flatten());
        self.scores.extend(scores.into_iter().flatten());
        true
    }
}

/// Scores of one shard's judged samples against one benchmark, by raw index; points are lasting numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// Raw index and score.
    pub rows: Vec<(u32, Score)>,
}

impl Scores {
    /// The score of a raw index.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&Score> {
        self.rows.binary_search_by_key(&index, |row| row.0).ok().map(|at| &self.rows[at].1)
    }
}

impl Table for Scores {
    const KIND: &'static str = "scores";

    fn fields() -> Vec<Field> {
        vec![
            Field::required("index", ColumnType::U32),
            Field::nullable("max_similarity", ColumnType::F64),
            Field::nullable("nearest", ColumnType::U32),
            Field::nullable("margin", ColumnType::F64),
            Field::nullable("exceeds", ColumnType::U32),
            Field::nullable("hits", ColumnType::U32),
        ]
    }

    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn columns(&self, rows: Range<usize>) -> Vec<Column> {
        let rows = &self.rows[rows];
        vec![
            Column::U32(rows.iter().map(|row| Some(row.0)).collect()),
            Column::F64(rows.iter().map(|row| row.1.max_similarity).collect()),
            Column::U32(rows.iter().map(|row| row.1.nearest).collect()),
            Column::F64(rows.iter().map(|row| row.1.margin).collect()),
            Column::U32(rows.iter().map(|row| row.1.exceeds).collect()),
            Column::U32(rows.iter().map(|row| row.1.hits).collect()),
        ]
    }

    fn take(&mut self, group: Vec<Column>) -> bool {
        let Ok(
            [
                Column::U32(indices),
                Column::F64(maxima),
                Column::U32(nearest),
                Column::F64(margins),
                Column::U32(exceeds),
                Column::U32(hits),
            ],
        ) = <[Column; 6]>::try_from(group)
        else {
            return false;
        };
        for (at, index) in indices.into_iter().enumerate() {
            let Some(index) = index else { return false };
            let (max_similarity, nearest) = (maxima[at], nearest[at]);
            let score = Score { max_similarity, nearest, margin: margins[at], exceeds: exceeds[at], hits: hits[at] };
            self.rows.push((index, score));
        }
        true
    }
}
