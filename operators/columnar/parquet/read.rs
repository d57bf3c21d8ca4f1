//! Reading tables, ours and others', a few thousand rows at a time.
//!
//! Only the wanted columns' chunks are read and decoded, and only their types are looked at: whatever else a file holds
//! (nested columns, float16, timestamps, an Arrow schema of newer types) does not matter. What may matter is asked of the
//! footer before a byte of a page is read: that the chunk lies in the file and is not encrypted. Memory: one page and one
//! dictionary for each wanted column, each within the limit of [`super::input`].

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::DataType;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::Type;

use super::input::Input;
use super::{Column, Field, Kind};
use crate::{ColumnarError, MAX_TEXT_BYTES, ReadSeek, guarded};

const FORMAT: &str = "Parquet";

/// Rows that are read at a time.
const BATCH_ROWS: u64 = 8192;

/// Reads a table, some thousand rows at a time.
pub struct TableReader {
    input: Input,
    file: Arc<ParquetMetaData>,
    fields: Vec<Field>,
    /// Whether each field's whole numbers have no sign.
    unsigned: Vec<bool>,
    /// Number of each field's chunk in a row group.
    leaves: Vec<usize>,
    /// The next row group.
    group: usize,
    open: Vec<ColumnReader>,
    /// Rows of the open row group that are still to come.
    left: u64,
    path: PathBuf,
    failed: bool,
}

impl TableReader {
    /// Opens a table for the columns `wanted`, in that order; each must be there with a type that fits. Text is
    /// read from any text column, dictionaries and views included.
    ///
    /// # Errors
    /// A file that is no Parquet, or lacks a column.
    pub fn open(path: &Path, input: Box<dyn ReadSeek>, wanted: &[(&str, Kind)]) -> Result<Self, ColumnarError> {
        let input = Input::new(path, input)?;
        let file = footer(path, &input)?;
        guarded(path, FORMAT, || Self::of_footer(path, input, file, wanted, |_| false))
    }

    fn of_footer(
        path: &Path,
        input: Input,
        file: ParquetMetaData,
        wanted: &[(&str, Kind)],
        as_f64: impl Fn(&Type) -> bool,
    ) -> Result<Self, ColumnarError> {
        let schema = file.file_metadata().schema_descr();
        let (mut fields, mut leaves, mut unsigned) = (Vec::new(), Vec::new(), Vec::new());
        for &(name, kind) in wanted {
            let bad = |detail: String| ColumnarError::column(path, name, detail);
            let columns = schema.root_schema().get_fields();
            let mut found = columns.iter().enumerate().filter(|(_, column)| column.name() == name);
            let (root, column) = found.next().ok_or_else(|| {
                let names: Vec<&str> = columns.iter().map(|column| column.name()).collect();
                bad(format!("is missing; the file has {}", names.join(", ")))
            })?;
            if found.next().is_some() {
                return Err(bad("is there twice".into()));
            }
            let leaf = (0..schema.num_columns()).find(|&leaf| schema.get_column_root_idx(leaf) == root);
            let fits = fits(column, kind) || kind == Kind::F64 && as_f64(column);
            let (true, Some(leaf)) = (fits, leaf) else {
                return Err(bad(format!("is {}; {kind:?} is due", shown(column))));
            };
            let nullable = column.get_basic_info().repetition() == Repetition::OPTIONAL;
            fields.push(Field { name: name.into(), kind, nullable });
            leaves.push(leaf);
            unsigned.push(match column.get_basic_info().logical_type_ref() {
                Some(LogicalType::Integer(of)) => !of.is_signed,
                _ => is_unsigned(column.get_basic_info().converted_type()),
            });
        }
        let path = path.to_path_buf();
        let (file, open) = (Arc::new(file), Vec::new());
        Ok(Self { input, file, fields, unsigned, leaves, group: 0, open, left: 0, path, failed: false })
    }

    /// Opens a table for some columns, whatever they hold: texts come as texts, and numbers of every width, yes and no, as f64.
    ///
    /// # Errors
    /// A file that is no Parquet, lacks a column, or has neither texts nor numbers there.
    pub fn open_any(path: &Path, input: Box<dyn ReadSeek>, wanted: &[&str]) -> Result<Self, ColumnarError> {
        let input = Input::new(path, input)?;
        let file = footer(path, &input)?;
        guarded(path, FORMAT, || {
            let columns = file.file_metadata().schema().get_fields();
            let is_text = |name: &str| columns.iter().any(|column| column.name() == name && fits(column, Kind::Text));
            let kind = |name: &str| if is_text(name) { Kind::Text } else { Kind::F64 };
            let wanted: Vec<(&str, Kind)> = wanted.iter().map(|&name| (name, kind(name))).collect();
            Self::of_footer(path, input, file, &wanted, is_number)
        })
    }

    /// Names of all top-level columns of a file.
    ///
    /// # Errors
    /// A file that is no Parquet.
    pub fn column_names(path: &Path, input: Box<dyn ReadSeek>) -> Result<Vec<String>, ColumnarError> {
        let file = footer(path, &Input::new(path, input)?)?;
        Ok(file.file_metadata().schema().get_fields().iter().map(|column| column.name().to_owned()).collect())
    }

    /// The columns that are read.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Rows in the whole file.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.file.row_groups().iter().map(|group| group.num_rows() as u64).sum()
    }

    /// Row groups in the file.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.file.num_row_groups()
    }

    /// The same table from a row group on. The file and what its footer says are shared.
    #[must_use]
    pub fn from_group(&self, group: usize) -> Self {
        Self {
            input: self.input.clone(),
            file: Arc::clone(&self.file),
            fields: self.fields.clone(),
            unsigned: self.unsigned.clone(),
            leaves: self.leaves.clone(),
            group,
            open: Vec::new(),
            left: 0,
            path: self.path.clone(),
            failed: false,
        }
    }

    /// The smallest text of a wanted column in a row group, as the footer says; `None` where it does not, or says less than that.
    #[must_use]
    pub fn least_text(&self, group: usize, column: usize) -> Option<&str> {
        let chunk = self.file.row_groups().get(group)?.column(*self.leaves.get(column)?);
        // Some writers cut long values, and say so; `arrow2` does not cut, and does not say.
        let whole = self.file.file_metadata().created_by().is_some_and(|by| by.starts_with("Arrow2"));
        let statistics = chunk.statistics().filter(|it| whole || it.min_is_exact())?;
        std::str::from_utf8(statistics.min_bytes_opt()?).ok()
    }

    /// A value of the file's key-value metadata.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&str> {
        let pairs = self.file.file_metadata().key_value_metadata()?;
        pairs.iter().find(|pair| pair.key == key)?.value.as_deref()
    }

    /// Opens the wanted chunks of the next row group that has rows; whether there is one.
    fn enter(&mut self) -> Result<bool, ColumnarError> {
        loop {
            let Some(group) = self.file.row_groups().get(self.group) else { return Ok(false) };
            self.group += 1;
            self.left = group.num_rows() as u64;
            if self.left == 0 {
                continue;
            }
            self.open.clear();
            for (field, &leaf) in self.fields.iter().zip(&self.leaves) {
                let chunk = group.column(leaf);
                self.input.holds(chunk).map_err(|detail| ColumnarError::column(&self.path, &field.name, detail))?;
                let input = Arc::new(self.input.of_pages(chunk.compression()));
                let pages = SerializedPageReader::new(input, chunk, self.left as usize, None)
                    .map_err(|error| failed(&self.path, error))?;
                self.open.push(get_column_reader(chunk.column_descr_ptr(), Box::new(pages)));
            }
            return Ok(true);
        }
    }

    fn batch(&mut self) -> Result<Option<Vec<Column>>, ColumnarError> {
        if self.left == 0 && !self.enter()? {
            return Ok(None);
        }
        let rows = self.left.min(BATCH_ROWS) as usize;
        self.left -= rows as u64;
        let mut columns = Vec::with_capacity(self.open.len());
        for ((reader, field), unsigned) in self.open.iter_mut().zip(&self.fields).zip(&self.unsigned) {
            columns.push(column(&self.path, field, *unsigned, reader, rows, self.left == 0)?);
        }
        Ok(Some(columns))
    }
}

impl Iterator for TableReader {
    type Item = Result<Vec<Column>, ColumnarError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let path = self.path.clone();
        let batch = guarded(&path, FORMAT, || self.batch());
        self.failed = batch.is_err();
        batch.transpose()
    }
}

fn failed(path: &Path, error: ParquetError) -> ColumnarError {
    let told = error.to_string();
    if let ParquetError::External(cause) = error
        && let Ok(cause) = cause.downcast::<std::io::Error>()
        && cause.kind() != ErrorKind::UnexpectedEof
    {
        return ColumnarError::io(path, *cause);
    }
    ColumnarError::malformed(path, FORMAT, told)
}

fn footer(path: &Path, input: &Input) -> Result<ParquetMetaData, ColumnarError> {
    guarded(path, FORMAT, || {
        let file = ParquetMetaDataReader::new().parse_and_finish(input).map_err(|error| failed(path, error))?;
        let add = |sum: i64, rows: i64| sum.checked_add(rows).filter(|_| rows >= 0);
        if file.row_groups().iter().try_fold(0, |sum, group| add(sum, group.num_rows())).is_none() {
            return Err(ColumnarError::malformed(path, FORMAT, "row groups of an impossible number of rows"));
        }
        Ok(file)
    })
}

/// Whether a top-level column can be read as `kind`.
fn fits(column: &Type, kind: Kind) -> bool {
    let info = column.get_basic_info();
    if !column.is_primitive() || info.repetition() == Repetition::REPEATED {
        return false;
    }
    let unsigned = |bits: i8| match info.logical_type_ref() {
        Some(LogicalType::Integer(of)) => of.bit_width == bits && !of.is_signed,
        _ => info.converted_type() == if bits == 32 { ConvertedType::UINT_32 } else { ConvertedType::UINT_64 },
    };
    match (kind, column.get_physical_type()) {
        (Kind::Text, Physical::BYTE_ARRAY) => match info.logical_type_ref() {
            Some(logical) => matches!(logical, LogicalType::String | LogicalType::Enum | LogicalType::Json),
            None => matches!(info.converted_type(), ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON),
        },
        (Kind::U32, Physical::INT32) => unsigned(32),
        (Kind::U64, Physical::INT64) => unsigned(64),
        (Kind::F64, Physical::DOUBLE) => true,
        _ => false,
    }
}

/// Whether a top-level column holds numbers.
fn is_number(column: &Type) -> bool {
    let info = column.get_basic_info();
    if !column.is_primitive() || info.repetition() == Repetition::REPEATED {
        return false;
    }
    match (column.get_physical_type(), info.logical_type_ref()) {
        (Physical::FIXED_LEN_BYTE_ARRAY, logical) => matches!(logical, Some(LogicalType::Float16)),
        (Physical::INT32 | Physical::INT64, Some(logical)) => matches!(logical, LogicalType::Integer(_)),
        (physical, None) => {
            let number = matches!(physical, Physical::INT32 | Physical::INT64 | Physical::FLOAT | Physical::DOUBLE);
            number && is_plain(info.converted_type()) || physical == Physical::BOOLEAN
        }
        _ => false,
    }
}

/// Whether numbers mean what they say, and no date, time or decimal.
fn is_plain(converted: ConvertedType) -> bool {
    use ConvertedType as Of;
    let signed = matches!(converted, Of::INT_8 | Of::INT_16 | Of::INT_32 | Of::INT_64);
    signed || is_unsigned(converted) || converted == Of::NONE
}

fn is_unsigned(converted: ConvertedType) -> bool {
    use ConvertedType as Of;
    matches!(converted, Of::UINT_8 | Of::UINT_16 | Of::UINT_32 | Of::UINT_64)
}

/// Whole numbers up to here have an f64 of their own.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

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

/// A column's type in words of the format.
fn shown(column: &Type) -> String {
    let info = column.get_basic_info();
    let mut text = match column {
        Type::PrimitiveType { physical_type, .. } => physical_type.to_string(),
        Type::GroupType { .. } => "a group of columns".into(),
    };
    if let Some(logical) = info.logical_type_ref() {
        text += &format!(" ({logical:?})");
    } else if info.converted_type() != ConvertedType::NONE {
        text += &format!(" ({})", info.converted_type());
    }
    if info.repetition() == Repetition::REPEATED { format!("repeated {text}") } else { text }
}

/// The next `rows` values of a column; after the `last` no more may come.
fn column(
    path: &Path,
    field: &Field,
    unsigned: bool,
    reader: &mut ColumnReader,
    rows: usize,
    last: bool,
) -> Result<Column, ColumnarError> {
    let bad = |error| failed(path, error);
    match (field.kind, reader) {
        (Kind::Text, ColumnReader::ByteArrayColumnReader(reader)) => {
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
        (Kind::U32, ColumnReader::Int32ColumnReader(reader)) => {
            let values = values(reader, rows, last).map_err(bad)?;
            Ok(Column::U32(values.into_iter().map(|value| value.map(i32::cast_unsigned)).collect()))
        }
        (Kind::U64, ColumnReader::Int64ColumnReader(reader)) => {
            let values = values(reader, rows, last).map_err(bad)?;
            Ok(Column::U64(values.into_iter().map(|value| value.map(i64::cast_unsigned)).collect()))
        }
        (Kind::F64, reader) => numbers(path, field, unsigned, reader, rows, last).map(Column::F64),
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
