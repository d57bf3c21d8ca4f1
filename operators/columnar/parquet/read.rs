//! Reading tables, ours and others', a few thousand rows at a time.
//!
//! Only the wanted columns' chunks are read and decoded, and only their types are looked at: whatever else a file holds
//! (nested columns, float16, timestamps, an Arrow schema of newer types) does not matter. What may matter is asked of the
//! footer before a byte of a page is read: that the chunk lies in the file and is not encrypted. Memory: one page and one
//! dictionary for each wanted column, each within the limit of [`super::input`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition};
use parquet::column::reader::{ColumnReader, get_column_reader};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::Type;

use self::types::{fits, is_number, is_unsigned, shown};
use self::values::{ColumnRead, failed};
use super::input::Input;
use super::{Column, ColumnType, Field};
use crate::{ColumnarError, ReadSeek, guarded};

mod types;
mod values;

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
    pub fn open(path: &Path, input: Box<dyn ReadSeek>, wanted: &[(&str, ColumnType)]) -> Result<Self, ColumnarError> {
        let input = Input::new(path, input)?;
        let file = footer(path, &input)?;
        guarded(path, FORMAT, || Self::of_footer(path, input, file, wanted, |_| false, |kind| format!("{kind:?}")))
    }

    fn of_footer(
        path: &Path,
        input: Input,
        file: ParquetMetaData,
        wanted: &[(&str, ColumnType)],
        as_f64: impl Fn(&Type) -> bool,
        due: impl Fn(ColumnType) -> String,
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
            let fits = fits(column, kind) || kind == ColumnType::F64 && as_f64(column);
            let (true, Some(leaf)) = (fits, leaf) else {
                return Err(bad(format!("is {}; {due} is due", shown(column), due = due(kind))));
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
            let is_text =
                |name: &str| columns.iter().any(|column| column.name() == name && fits(column, ColumnType::Text));
            let kind = |name: &str| if is_text(name) { ColumnType::Text } else { ColumnType::F64 };
            let wanted: Vec<(&str, ColumnType)> = wanted.iter().map(|&name| (name, kind(name))).collect();
            Self::of_footer(path, input, file, &wanted, is_number, |_| "a text or a number".into())
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
        for ((reader, field), &unsigned) in self.open.iter_mut().zip(&self.fields).zip(&self.unsigned) {
            let read = ColumnRead { path: &self.path, field, unsigned, rows, last: self.left == 0 };
            columns.push(read.column(reader)?);
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
