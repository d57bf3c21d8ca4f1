//! The next values of a column, as its field has them.

use std::fmt::Display;
use std::path::Path;

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::{ParquetError, Result as ParquetResult};

use super::FORMAT;
use crate::parquet::{Column, ColumnType, Field};
use crate::{ColumnarError, MAX_TEXT_BYTES};

/// Whole numbers up to here have an f64 of their own.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

/// A read of the next values of a column.
#[derive(Clone, Copy)]
pub(super) struct ColumnRead<'a> {
    /// The file, for errors.
    pub(super) path: &'a Path,
    pub(super) field: &'a Field,
    /// Whether the file's whole numbers have no sign.
    pub(super) unsigned: bool,
    /// How many values are due.
    pub(super) rows: usize,
    /// Whether no more may come after them.
    pub(super) last: bool,
}

impl ColumnRead<'_> {
    /// The values, as the field has them.
    pub(super) fn column(self, reader: &mut ColumnReader) -> Result<Column, ColumnarError> {
        match (self.field.kind, reader) {
            (ColumnType::Text, ColumnReader::ByteArrayColumnReader(reader)) => {
                let not_text = |_| self.bad("holds text that is not UTF-8");
                let text = |value: &[u8]| std::str::from_utf8(value).map(String::from).map_err(not_text);
                let values = self.values(reader)?;
                // A dictionary's value may stand in every row.
                let bytes: usize = values.iter().flatten().map(|value| value.len()).sum();
                if bytes > MAX_TEXT_BYTES {
                    return Err(self.bad(format!("has {} texts of {bytes} bytes", self.rows)));
                }
                let texts = values.into_iter().map(|value| value.map(|value| text(value.data())).transpose());
                texts.collect::<Result<_, _>>().map(Column::Text)
            }
            (ColumnType::U32, ColumnReader::Int32ColumnReader(reader)) => {
                let values = self.values(reader)?;
                Ok(Column::U32(values.into_iter().map(|value| value.map(i32::cast_unsigned)).collect()))
            }
            (ColumnType::U64, ColumnReader::Int64ColumnReader(reader)) => {
                let values = self.values(reader)?;
                Ok(Column::U64(values.into_iter().map(|value| value.map(i64::cast_unsigned)).collect()))
            }
            (ColumnType::F64, reader) => self.numbers(reader).map(Column::F64),
            _ => Err(self.bad("came as another type")),
        }
    }

    /// The values of a column of numbers.
    fn numbers(self, reader: &mut ColumnReader) -> Result<Vec<Option<f64>>, ColumnarError> {
        let unsigned = self.unsigned;
        let whole = |value: Option<f64>| match value {
            Some(x) if x.abs() >= MAX_WHOLE => {
                Err(self.bad(format!("holds {x}, and whole numbers are read below 2^53")))
            }
            _ => Ok(value),
        };
        match reader {
            ColumnReader::DoubleColumnReader(reader) => self.values(reader),
            ColumnReader::FloatColumnReader(reader) => {
                Ok(self.values(reader)?.into_iter().map(|x| x.map(f64::from)).collect())
            }
            ColumnReader::BoolColumnReader(reader) => {
                let bits = self.values(reader)?;
                Ok(bits.into_iter().map(|bit| bit.map(|bit| f64::from(u8::from(bit)))).collect())
            }
            ColumnReader::Int32ColumnReader(reader) => {
                let number = |x: i32| if unsigned { f64::from(x.cast_unsigned()) } else { f64::from(x) };
                Ok(self.values(reader)?.into_iter().map(|x| x.map(number)).collect())
            }
            ColumnReader::Int64ColumnReader(reader) => {
                #[expect(clippy::cast_precision_loss, reason = "refused where it loses anything")]
                let number = |x: i64| if unsigned { x.cast_unsigned() as f64 } else { x as f64 };
                self.values(reader)?.into_iter().map(|x| whole(x.map(number))).collect()
            }
            ColumnReader::FixedLenByteArrayColumnReader(reader) => {
                let half = |bytes: &[u8]| Some(half::f16::from_le_bytes(bytes.try_into().ok()?).to_f64());
                let values = self.values(reader)?;
                Ok(values.into_iter().map(|value| value.and_then(|value| half(value.data()))).collect())
            }
            _ => Err(self.bad("came as another type")),
        }
    }

    fn values<T: DataType>(self, reader: &mut ColumnReaderImpl<T>) -> Result<Vec<Option<T::T>>, ColumnarError> {
        values(reader, self.rows, self.last).map_err(|error| failed(self.path, error))
    }

    fn bad(self, detail: impl Display) -> ColumnarError {
        ColumnarError::column(self.path, &self.field.name, detail)
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
