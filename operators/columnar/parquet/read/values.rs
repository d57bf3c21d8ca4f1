//! The next values of a column, as its field has them.

use std::path::Path;

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::{ParquetError, Result as ParquetResult};

use super::FORMAT;
use crate::parquet::{Column, ColumnType, Field};
use crate::{ColumnarError, MAX_TEXT_BYTES};

/// Whole numbers up to here have an f64 of their own.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

/// The next `rows` values of a column; after the `last` no more may come.
pub(super) fn column(
    path: &Path,
    field: &Field,
    unsigned: bool,
    reader: &mut ColumnReader,
    rows: usize,
    last: bool,
) -> Result<Column, ColumnarError> {
    let bad = |error| failed(path, error);
    match (field.kind, reader) {
        (ColumnType::Text, ColumnReader::ByteArrayColumnReader(reader)) => {
            let not_text = |_| ColumnarError::column(path, &field.name, "holds text that is not UTF-8");
            let text = |value: &[u8]| std::str::from_utf8(value).map(String::from).map_err(not_text);
            let values = values(reader, rows, last).map_err(bad)?;
            // A dictionary's value may stand in every row.
            let bytes: usize = values.iter().flatten().map(|value| value.len()).sum();
            if bytes > MAX_TEXT_BYTES {
                return Err(ColumnarError::column(path, &field.name, format!("has {rows} texts of {bytes} bytes")));
            }
            let texts = values.into_iter().map(|value| value.map(|value| text(value.data())).transpose());
            texts.collect::<Result<_, _>>().map(Column::Text)
        }
        (ColumnType::U32, ColumnReader::Int32ColumnReader(reader)) => {
            let values = values(reader, rows, last).map_err(bad)?;
            Ok(Column::U32(values.into_iter().map(|value| value.map(i32::cast_unsigned)).collect()))
        }
        (ColumnType::U64, ColumnReader::Int64ColumnReader(reader)) => {
            let values = values(reader, rows, last).map_err(bad)?;
            Ok(Column::U64(values.into_iter().map(|value| value.map(i64::cast_unsigned)).collect()))
        }
        (ColumnType::F64, reader) => numbers(path, field, unsigned, reader, rows, last).map(Column::F64),
        _ => Err(ColumnarError::column(path, &field.name, "came as another type")),
    }
}

/// The next `rows` values of a column of numbers.
fn numbers(
    path: &Path,
    field: &Field,
    unsigned: bool,
    reader: &mut ColumnReader,
    rows: usize,
    last: bool,
) -> Result<Vec<Option<f64>>, ColumnarError> {
    let bad = |error| failed(path, error);
    let whole = |value: Option<f64>| match value {
        Some(x) if x.abs() >= MAX_WHOLE => {
            Err(ColumnarError::column(path, &field.name, format!("holds {x}, and whole numbers are read below 2^53")))
        }
        _ => Ok(value),
    };
    match reader {
        ColumnReader::DoubleColumnReader(reader) => values(reader, rows, last).map_err(bad),
        ColumnReader::FloatColumnReader(reader) => {
            Ok(values(reader, rows, last).map_err(bad)?.into_iter().map(|x| x.map(f64::from)).collect())
        }
        ColumnReader::BoolColumnReader(reader) => {
            let bits = values(reader, rows, last).map_err(bad)?;
            Ok(bits.into_iter().map(|bit| bit.map(|bit| f64::from(u8::from(bit)))).collect())
        }
        ColumnReader::Int32ColumnReader(reader) => {
            let number = |x: i32| if unsigned { f64::from(x.cast_unsigned()) } else { f64::from(x) };
            Ok(values(reader, rows, last).map_err(bad)?.into_iter().map(|x| x.map(number)).collect())
        }
        ColumnReader::Int64ColumnReader(reader) => {
            #[expect(clippy::cast_precision_loss, reason = "refused where it loses anything")]
            let number = |x: i64| if unsigned { x.cast_unsigned() as f64 } else { x as f64 };
            values(reader, rows, last).map_err(bad)?.into_iter().map(|x| whole(x.map(number))).collect()
        }
        ColumnReader::FixedLenByteArrayColumnReader(reader) => {
            let half = |bytes: &[u8]| Some(half::f16::from_le_bytes(bytes.try_into().ok()?).to_f64());
            let values = values(reader, rows, last).map_err(bad)?;
            Ok(values.into_iter().map(|value| value.and_then(|value| half(value.data()))).collect())
        }
        _ => Err(ColumnarError::column(path, &field.name, "came as another type")),
    }
}

fn values<T: DataType>(reader: &mut ColumnReaderImpl<T>, rows: usize, last: bool) -> ParquetResult<Vec<Option<T::T>>> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let (read, ..) = reader.read_records(rows, Some(&mut levels), None, &mut values)?;
    if read != rows || last && reader.read_records(1, Some(&mut Vec::new()), None, &mut Vec::new())?.0 > 0 {
        return Err(ParquetError::General("pages hold another number of rows than the footer says".into()));
    }
    let mut values = values.into_iter();
    // Levels are left empty where no value may miss.
    Ok(if levels.is_empty() {
        values.map(Some).collect()
    } else {
        levels.into_iter().map(|level| if level > 0 { values.next() } else { None }).collect()
    })
}

pub(super) fn failed(path: &Path, error: ParquetError) -> ColumnarError {
    match error {
        ParquetError::External(cause) => ColumnarError::unreadable(path, FORMAT, cause),
        other => ColumnarError::unreadable(path, FORMAT, other),
    }
}
