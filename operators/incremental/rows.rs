//! Tables of what is not a shard's: points, their cuts, maxima, takedown lists.

use std::ops::Range;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use half::f16;

use super::point_set::{NOTHING, Peak};
use super::tables::Table;
use trommel_columnar::parquet::{Column, ColumnType, Field};
use trommel_core::sample::SampleId;

fn all<T, U>(rows: &[T], of: impl Fn(&T) -> U) -> Vec<Option<U>> {
    rows.iter().map(|row| Some(of(row))).collect()
}

/// A point: lasting number, key, label, canonical vector.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StoredPoint {
    pub(super) number: u32,
    pub(super) key: String,
    pub(super) label: Option<String>,
    pub(super) vector: Vec<f16>,
}

/// Points of one benchmark, in their order. Vectors lie as base64 of little-endian f16.
#[derive(Debug, Default)]
pub(super) struct StoredPoints(pub(super) Vec<StoredPoint>);

impl Table for StoredPoints {
    const KIND: &'static str = "points";
    const GROUP_ROWS: usize = 1 << 12;

    fn fields() -> Vec<Field> {
        vec![
            Field::required("number", ColumnType::U32),
            Field::required("key", ColumnType::Text),
            Field::nullable("label", ColumnType::Text),
            Field::required("vector", ColumnType::Text),
        ]
    }

    fn rows(&self) -> usize {
        self.0.len()
    }

    fn columns(&self, rows: Range<usize>) -> Vec<Column> {
        let rows = &self.0[rows];
        let text = |row: &StoredPoint| {
            let bytes: Vec<u8> = row.vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            BASE64_STANDARD.encode(bytes)
        };
        vec![
            Column::U32(all(rows, |row| row.number)),
            Column::Text(all(rows, |row| row.key.clone())),
            Column::Text(rows.iter().map(|row| row.label.clone()).collect()),
            Column::Text(all(rows, text)),
        ]
    }

    fn take(&mut self, group: Vec<Column>) -> bool {
        let Ok([Column::U32(numbers), Column::Text(keys), Column::Text(labels), Column::Text(vectors)]) =
            <[Column; 4]>::try_from(group)
        else {
            return false;
        };
        for (((number, key), label), vector) in numbers.into_iter().zip(keys).zip(labels).zip(vectors) {
            let (Some(number), Some(key), Some(vector)) = (number, key, vector) else { return false };
            let Ok(bytes) = BASE64_STANDARD.decode(vector) else { return false };
            let vector = bytes.chunks_exact(2).map(|pair| f16::from_le_bytes([pair[0], pair[1]])).collect();
            self.0.push(StoredPoint { number, key, label, vector });
        }
        true
    }
}

/// Radius, where there are any, and floor of each point, in the order of the points.
#[derive(Debug, Default)]
pub(super) struct CutRows(pub(super) Vec<(Option<f64>, f64)>);

impl Table for CutRows {
    const KIND: &'static str = "cuts";

    fn fields() -> Vec<Field> {
        vec![Field::nullable("radius", ColumnType::F64), Field::required("floor", ColumnType::F64)]
    }

    fn rows(&self) -> usize {
        self.0.len()
    }

    fn columns(&self, rows: Range<usize>) -> Vec<Column> {
        let rows = &self.0[rows];
        vec![Column::F64(rows.iter().map(|row| row.0).collect()), Column::F64(all(rows, |row| row.1))]
    }

    fn take(&mut self, group: Vec<Column>) -> bool {
        let Ok([Column::F64(radii), Column::F64(floors)]) = <[Column; 2]>::try_from(group) else { return false };
        self.0.extend(radii.into_iter().zip(floors.into_iter().flatten()));
        true
    }
}

/// Maxima of one benchmark's points, in the order of the points; null where there is none.
#[derive(Debug, Default)]
pub(super) struct PeakRows(pub(super) Vec<Peak>);

impl Table for PeakRows {
    const KIND: &'static str = "peaks";

    fn fields() -> Vec<Field> {
        vec![
            Field::nullable("similarity", ColumnType::F64),
            Field::nullable("shard", ColumnType::U64),
            Field::nullable("index", ColumnType::U32),
        ]
    }

    fn rows(&self) -> usize {
        self.0.len()
    }

    fn columns(&self, rows: Range<usize>) -> Vec<Column> {
        let held: Vec<Option<Peak>> = self.0[rows].iter().map(|peak| (*peak != NOTHING).then_some(*peak)).collect();
        vec![
            Column::F64(held.iter().map(|peak| peak.map(|peak| peak.0)).collect()),
            Column::U64(held.iter().map(|peak| peak.map(|peak| peak.1.ordinal)).collect()),
            Column::U32(held.iter().map(|peak| peak.map(|peak| peak.1.index)).collect()),
        ]
    }

    fn take(&mut self, group: Vec<Column>) -> bool {
        let Ok([Column::F64(similarities), Column::U64(ordinals), Column::U32(indices)]) =
            <[Column; 3]>::try_from(group)
        else {
            return false;
        };
        let peak = |((s, ordinal), index): ((Option<f64>, Option<u64>), Option<u32>)| {
            Some((s?, SampleId { ordinal: ordinal?, index: index? }))
        };
        let rows = similarities.into_iter().zip(ordinals).zip(indices);
        self.0.extend(rows.map(|row| peak(row).unwrap_or(NOTHING)));
        true
    }
}

/// Samples taken down by id, ascending.
#[derive(Debug, Default)]
pub(super) struct TakenRows(pub(super) Vec<SampleId>);

impl Table for TakenRows {
    const KIND: &'static str = "taken";

    fn fields() -> Vec<Field> {
        vec![Field::required("shard", ColumnType::U64), Field::required("index", ColumnType::U32)]
    }

    fn rows(&self) -> usize {
        self.0.len()
    }

    fn columns(&self, rows: Range<usize>) -> Vec<Column> {
        let rows = &self.0[rows];
        vec![Column::U64(all(rows, |id| id.ordinal)), Column::U32(all(rows, |id| id.index))]
    }

    fn take(&mut self, group: Vec<Column>) -> bool {
        let Ok([Column::U64(ordinals), Column::U32(indices)]) = <[Column; 2]>::try_from(group) else { return false };
        let rows = ordinals.into_iter().flatten().zip(indices.into_iter().flatten());
        self.0.extend(rows.map(|(ordinal, index)| SampleId { ordinal, index }));
        true
    }
}

/// Keys taken down, ascending.
#[derive(Debug, Default)]
pub(super) struct KeyRows(pub(super) Vec<String>);

impl Table for KeyRows {
    const KIND: &'static str = "keys";

    fn fields() -> Vec<Field> {
        vec![Field::required("key", ColumnType::Text)]
    }

    fn rows(&self) -> usize {
        self.0.len()
    }

    fn columns(&self, rows: Range<usize>) -> Vec<Column> {
        vec![Column::Text(all(&self.0[rows], String::clone))]
    }

    fn take(&mut self, group: Vec<Column>) -> bool {
        let Ok([Column::Text(keys)]) = <[Column; 1]>::try_from(group) else { return false };
        self.0.extend(keys.into_iter().flatten());
        true
    }
}
