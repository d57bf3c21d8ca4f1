//! Parquet tables with nullable columns, zstd inside, for pyarrow, polars and DuckDB.
//!
//! Our own tables are written by `arrow2`, row group by row group, so that memory is bounded by one group. Tables are read
//! by the `parquet` crate of Apache's, whoever wrote them: `arrow2` is kept no longer, and knows neither all codecs and
//! encodings nor the types that came after it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arrow2::array::{Array, PrimitiveArray, Utf8Array};
use arrow2::chunk::Chunk;
use arrow2::datatypes::{DataType, Field as ArrowField, Schema};
use arrow2::io::parquet::write;

use super::ColumnarError;
use trommel_core::wake::locked;

mod input;
mod pages;
mod read;

pub use read::TableReader;

/// Type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// A column of UTF-8 texts.
    Text,
    /// 32-bit unsigned.
    U32,
    /// 64-bit unsigned.
    U64,
    /// 64-bit floating point.
    F64,
}

/// Name, type and nullability of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name of the column.
    pub name: String,
    /// Type of its values.
    pub kind: ColumnType,
    /// Whether values may be missing.
    pub nullable: bool,
}

impl Field {
    /// A column without missing values.
    #[must_use]
    pub fn required(name: &str, kind: ColumnType) -> Self {
        Self { name: name.into(), kind, nullable: false }
    }

    /// A column that may miss values.
    #[must_use]
    pub fn nullable(name: &str, kind: ColumnType) -> Self {
        Self { name: name.into(), kind, nullable: true }
    }
}

/// Values of one column of a row group; `None` = null.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    /// UTF-8 texts; null where there is none.
    Text(Vec<Option<String>>),
    /// 32-bit unsigned.
    U32(Vec<Option<u32>>),
    /// 64-bit unsigned.
    U64(Vec<Option<u64>>),
    /// 64-bit floating point.
    F64(Vec<Option<f64>>),
}

impl Column {
    /// An empty column of a kind.
    #[must_use]
    pub const fn new(kind: ColumnType) -> Self {
        match kind {
            ColumnType::Text => Self::Text(Vec::new()),
            ColumnType::U32 => Self::U32(Vec::new()),
            ColumnType::U64 => Self::U64(Vec::new()),
            ColumnType::F64 => Self::F64(Vec::new()),
        }
    }

    /// Type of its values.
    #[must_use]
    pub const fn kind(&self) -> ColumnType {
        match self {
            Self::Text(_) => ColumnType::Text,
            Self::U32(_) => ColumnType::U32,
            Self::U64(_) => ColumnType::U64,
            Self::F64(_) => ColumnType::F64,
        }
    }

    /// Number of rows.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Text(v) => v.len(),
            Self::U32(v) => v.len(),
            Self::U64(v) => v.len(),
            Self::F64(v) => v.len(),
        }
    }

    /// Whether it has no rows.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn to_array(&self) -> Box<dyn Array> {
        match self {
            Self::Text(v) => Utf8Array::<i32>::from(v).boxed(),
            Self::U32(v) => PrimitiveArray::<u32>::from(v).boxed(),
            Self::U64(v) => PrimitiveArray::<u64>::from(v).boxed(),
            Self::F64(v) => PrimitiveArray::<f64>::from(v).boxed(),
        }
    }
}

fn data_type(kind: ColumnType) -> DataType {
    match kind {
        ColumnType::Text => DataType::Utf8,
        ColumnType::U32 => DataType::UInt32,
        ColumnType::U64 => DataType::UInt64,
        ColumnType::F64 => DataType::Float64,
    }
}

/// Writes a table, one row group a call.
pub struct TableWriter<W: Write> {
    writer: write::FileWriter<Told<W>>,
    refusal: Refusal,
    fields: Vec<Field>,
    metadata: Vec<(String, String)>,
    options: write::WriteOptions,
    path: PathBuf,
}

impl<W: Write> TableWriter<W> {
    /// Begins a table. `path` is for messages only; `metadata` goes into the file's key-value metadata.
    ///
    /// # Errors
    /// What the writer says.
    pub fn new(
        path: &Path,
        out: W,
        fields: Vec<Field>,
        metadata: Vec<(String, String)>,
    ) -> Result<Self, ColumnarError> {
        let schema = Schema::from(
            fields.iter().map(|f| ArrowField::new(&f.name, data_type(f.kind), f.nullable)).collect::<Vec<_>>(),
        );
        let options = write::WriteOptions {
            write_statistics: false,
            version: write::Version::V1,
            compression: write::CompressionOptions::Zstd(None),
            data_pagesize_limit: None,
        };
        let refusal = Refusal::default();
        let out = Told { out, refusal: Arc::clone(&refusal) };
        let writer = write::FileWriter::try_new(out, schema, options).map_err(|e| written(path, e))?;
        Ok(Self { writer, refusal, fields, metadata, options, path: path.to_path_buf() })
    }

    /// The same, with the least and the largest value of each column in each row group, by which readers pass groups over.
    #[must_use]
    pub fn with_statistics(mut self) -> Self {
        self.options.write_statistics = true;
        self
    }

    /// Writes one row group; its columns stand in the order of the fields.
    ///
    /// # Errors
    /// Columns of other types or lengths, a null in a required column, or what the writer says.
    pub fn write(&mut self, columns: &[Column]) -> Result<(), ColumnarError> {
        if columns.len() != self.fields.len() {
            let detail = format!("{} columns for {} fields", columns.len(), self.fields.len());
            return Err(ColumnarError::mismatch(&self.path, detail));
        }
        let rows = columns.first().map_or(0, Column::len);
        let mut arrays = Vec::with_capacity(columns.len());
        for (column, field) in columns.iter().zip(&self.fields) {
            let array = column.to_array();
            if column.kind() != field.kind || column.len() != rows || (!field.nullable && array.null_count() > 0) {
                let detail = format!(
                    "{:?} with {} rows and {} nulls; {:?} with {rows} rows{} is due",
                    column.kind(),
                    column.len(),
                    array.null_count(),
                    field.kind,
                    if field.nullable { "" } else { " and no nulls" }
                );
                return Err(ColumnarError::column(&self.path, &field.name, detail));
            }
            arrays.push(array);
        }
        if rows == 0 {
            return Ok(());
        }
        let encodings = self.fields.iter().map(|_| vec![write::Encoding::Plain]).collect();
        let types = self.writer.parquet_schema().fields().to_vec();
        let group = write::row_group_iter(Chunk::new(arrays), encodings, types, self.options);
        self.writer.write(group).map_err(|e| self.error(e))
    }

    /// The file system's own error, where there is one behind the writer's.
    fn error(&self, error: arrow2::error::Error) -> ColumnarError {
        match locked(&self.refusal).take() {
            Some(cause) => ColumnarError::io(&self.path, cause),
            None => written(&self.path, error),
        }
    }

    /// [`finish`](Self::finish) with more metadata: what is known at the end only.
    ///
    /// # Errors
    /// What the writer says.
    pub fn finish_with(mut self, metadata: Vec<(String, String)>) -> Result<W, ColumnarError> {
        self.metadata.extend(metadata);
        self.finish()
    }

    /// Writes the footer and gives the output back.
    ///
    /// # Errors
    /// What the writer says.
    pub fn finish(mut self) -> Result<W, ColumnarError> {
        let metadata =
            self.metadata.iter().map(|(k, v)| write::KeyValue { key: k.clone(), value: Some(v.clone()) }).collect();
        self.writer.end(Some(metadata)).map_err(|e| self.error(e))?;
        Ok(self.writer.into_inner().out)
    }
}

/// What the file system has refused last.
type Refusal = Arc<Mutex<Option<io::Error>>>;

/// An output that keeps the file system's own errors: of these the Parquet writer passes on the words alone, so that a full disk would look like a
/// file that is malformed.
struct Told<W> {
    out: W,
    refusal: Refusal,
}

impl<W> Told<W> {
    fn keep<T>(&self, done: io::Result<T>) -> io::Result<T> {
        done.map_err(|cause| {
            let kind = cause.kind();
            *locked(&self.refusal) = Some(cause);
            kind.into()
        })
    }
}

impl<W: Write> Write for Told<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let done = self.out.write(bytes);
        self.keep(done)
    }

    fn flush(&mut self) -> io::Result<()> {
        let done = self.out.flush();
        self.keep(done)
    }
}

/// A writer's error: the file system's own, where there is one behind it.
pub(super) fn written(path: &Path, error: arrow2::error::Error) -> ColumnarError {
    match error {
        arrow2::error::Error::Io(cause) => ColumnarError::io(path, cause),
        other => ColumnarError::unreadable(path, "column", other),
    }
}
