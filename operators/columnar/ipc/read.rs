//! Reading embeddings files, ours and others' (pyarrow, polars), a few thousand rows at a time.

use std::collections::BTreeMap;
use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Float16Type, Float32Type, Float64Type, UInt32Type};
use arrow_array::{Array, RecordBatch};
use arrow_ipc::Block;
use arrow_ipc::reader::FileDecoder;
use arrow_schema::{ArrowError, DataType};

use super::super::npy::StoredRows;
use super::super::source::{BATCH_ROWS, Details};
use super::blocks::{FORMAT, check_blocks, check_ends, check_inflated, message, read_at, read_block};
use super::{MAX_DIM, META_SCHEMA, SCHEMA_VERSION};
use crate::sizes::SizeError;
use crate::{ColumnarError, MAX_TEXT_BYTES, ReadSeek, guarded};

/// Some rows as they are stored.
#[derive(Clone, Debug)]
pub struct StoredBatch {
    /// Keys; empty where the file has none.
    pub keys: Vec<String>,
    /// Class label of each row; null where there is none.
    pub labels: Vec<Option<String>>,
    /// Names of the shards.
    pub shards: Vec<Option<String>>,
    /// Raw index in that shard.
    pub indices: Vec<Option<u32>>,
    /// Vectors as stored.
    pub rows: StoredRows,
    /// Radii; empty where the file has none.
    pub radii: Vec<Option<f64>>,
    /// What is known more of the rows.
    pub details: Details,
}

/// Reads an embeddings file. Columns of other names are not decoded.
pub struct IpcReader {
    input: Box<dyn ReadSeek>,
    decoder: FileDecoder,
    blocks: std::vec::IntoIter<Block>,
    /// The record batch in hand, and how many of its rows are done.
    current: Option<(RecordBatch, usize)>,
    columns: Vec<&'static str>,
    metadata: BTreeMap<String, String>,
    dim: usize,
    path: PathBuf,
    failed: bool,
}

impl IpcReader {
    /// Opens a file and checks its columns. Text may be stored in any of Arrow's ways, dictionaries and views included;
    /// buffers may be compressed.
    ///
    /// # Errors
    /// A file that is no Arrow IPC file, or whose `embedding` column is missing or of another type.
    pub fn open(path: &Path, mut input: Box<dyn ReadSeek>) -> Result<Self, ColumnarError> {
        let bytes = input.seek(SeekFrom::End(0)).map_err(|e| ColumnarError::io(path, e))?;
        let footer_bytes = check_ends(path, &mut input, bytes)?;
        let footer = read_at(path, &mut input, bytes - 10 - footer_bytes, footer_bytes)?;
        guarded(path, FORMAT, || Self::of_footer(path, input, &footer, bytes))
    }

    fn of_footer(path: &Path, mut input: Box<dyn ReadSeek>, footer: &[u8], bytes: u64) -> Result<Self, ColumnarError> {
        let bad = |detail: &dyn std::fmt::Display| ColumnarError::malformed(path, FORMAT, detail);
        let sizes = |error: SizeError| ColumnarError::unreadable(path, FORMAT, error);
        let footer = arrow_ipc::root_as_footer(footer).map_err(|e| bad(&format!("the footer: {e}")))?;
        let stored = footer.schema().ok_or_else(|| bad(&"a footer without a schema"))?;
        if !stored.endianness().equals_to_target_endianness() {
            return Err(bad(&"numbers of the other byte order"));
        }
        let schema = arrow_ipc::convert::fb_to_schema(stored);
        let (mut columns, mut projection, mut dim) = (Vec::new(), Vec::new(), None);
        for (at, field) in schema.fields().iter().enumerate() {
            let name = field.name().as_str();
            let Some((name, seen)) = wanted(path, name, field.data_type())? else { continue };
            if columns.contains(&name) {
                return Err(ColumnarError::column(path, name, "is there twice"));
            }
            dim = seen.or(dim);
            columns.push(name);
            projection.push(at);
        }
        let dim = dim.ok_or_else(|| ColumnarError::column(path, "embedding", "is missing"))?;
        let metadata: BTreeMap<_, _> = schema.metadata().clone().into_iter().collect();
        if let Some(version) = metadata.get(META_SCHEMA)
            && version.parse::<u32>().map_or(true, |v| v > SCHEMA_VERSION)
        {
            let detail = format!("embeddings schema version {version}; this program reads up to {SCHEMA_VERSION}");
            return Err(bad(&detail));
        }
        let dictionaries: Vec<Block> = footer.dictionaries().into_iter().flatten().copied().collect();
        let blocks: Vec<Block> = footer.recordBatches().into_iter().flatten().copied().collect();
        check_blocks(dictionaries.iter().chain(&blocks), bytes).map_err(sizes)?;
        // Other columns' dictionaries are not decoded either.
        let fields = stored.fields();
        let ids: Vec<i64> = projection
            .iter()
            .filter_map(|&at| fields.as_ref().map(|fields| fields.get(at)).and_then(|field| field.dictionary()))
            .map(|dictionary| dictionary.id())
            .collect();
        let mut decoder = FileDecoder::new(Arc::new(schema), footer.version()).with_projection(projection);
        for block in &dictionaries {
            let buffer = read_block(path, &mut input, block)?;
            let id = message(&buffer, block).and_then(|message| message.header_as_dictionary_batch()).map(|d| d.id());
            if id.is_none_or(|id| ids.contains(&id)) {
                check_inflated(&buffer, block).map_err(sizes)?;
                decoder.read_dictionary(block, &buffer).map_err(|e| failure(path, e))?;
            }
        }
        let (blocks, path) = (blocks.into_iter(), path.to_path_buf());
        Ok(Self { input, decoder, blocks, current: None, columns, metadata, dim, path, failed: false })
    }

    /// Elements of a vector.
    #[must_use]
    pub const fn dim(&self) -> usize {
        self.dim
    }

    /// Whether the rows carry radii.
    #[must_use]
    pub fn has_radii(&self) -> bool {
        self.columns.contains(&"radius")
    }

    /// The schema's metadata.
    #[must_use]
    pub const fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn batch(&mut self) -> Result<Option<StoredBatch>, ColumnarError> {
        let path = &self.path;
        let (batch, done) = loop {
            match self.current.take() {
                Some((batch, done)) if done < batch.num_rows() => break (batch, done),
                _ => {}
            }
            let Some(block) = self.blocks.next() else { return Ok(None) };
            let buffer = read_block(path, &mut self.input, &block)?;
            check_inflated(&buffer, &block).map_err(|error| ColumnarError::unreadable(path, FORMAT, error))?;
            let batch = self.decoder.read_record_batch(&block, &buffer).map_err(|e| failure(path, e))?;
            self.current = batch.map(|batch| (batch, 0));
        };
        let rows = (batch.num_rows() - done).min(BATCH_ROWS);
        let part = batch.slice(done, rows);
        self.current = Some((batch, done + rows));
        let mut out = StoredBatch {
            keys: Vec::new(),
            labels: vec![None; rows],
            shards: vec![None; rows],
            indices: vec![None; rows],
            rows: StoredRows::F16(Vec::new()),
            radii: Vec::new(),
            details: Details::default(),
        };
        for (&name, array) in self.columns.iter().zip(part.columns()) {
            let array = array.as_ref();
            let other = || {
                ColumnarError::column(
                    path,
                    name,
                    format!("came as {:?}, or as more text than a batch may have", array.data_type()),
                )
            };
            match name {
                "key" => {
                    let missing = || ColumnarError::column(path, name, "has a null");
                    let keys = texts(array).ok_or_else(other)?;
                    out.keys = keys.into_iter().map(|k| k.ok_or_else(missing)).collect::<Result<_, _>>()?;
                }
                "label" => out.labels = texts(array).ok_or_else(other)?,
                "shard" => out.shards = texts(array).ok_or_else(other)?,
                "index" => out.indices = numbers::<UInt32Type>(array).ok_or_else(other)?,
                "radius" => out.radii = numbers::<Float64Type>(array).ok_or_else(other)?,
                _ => out.rows = vectors(array, rows * self.dim).map_err(|e| ColumnarError::column(path, name, e))?,
            }
        }
        Ok(Some(out))
    }
}

impl Iterator for IpcReader {
    type Item = Result<StoredBatch, ColumnarError>;

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

/// A column that is read, by its name, with the dimension where it holds the vectors; its type must fit.
fn wanted(path: &Path, name: &str, stored: &DataType) -> Result<Option<(&'static str, Option<usize>)>, ColumnarError> {
    let is_text = |stored: &DataType| matches!(stored, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let text = is_text(stored) || matches!(stored, DataType::Dictionary(_, values) if is_text(values));
    let (name, fits, due) = match name {
        "key" => ("key", text, "text"),
        "label" => ("label", text, "text"),
        "shard" => ("shard", text, "text"),
        "index" => ("index", *stored == DataType::UInt32, "u32"),
        "radius" => ("radius", *stored == DataType::Float64, "f64"),
        "embedding" => {
            let due = "a fixed-size list of f16 or f32, of a dimension of 1 to 65,536,";
            let DataType::FixedSizeList(item, size) = stored else {
                return Err(ColumnarError::column(path, name, format!("is {stored:?}; {due} is due")));
            };
            let size = usize::try_from(*size).unwrap_or(0);
            let float = matches!(item.data_type(), DataType::Float16 | DataType::Float32);
            if float && (1..=MAX_DIM).contains(&size) {
                return Ok(Some(("embedding", Some(size))));
            }
            ("embedding", false, due)
        }
        _ => return Ok(None),
    };
    if fits {
        return Ok(Some((name, None)));
    }
    Err(ColumnarError::column(path, name, format!("is {stored:?}; {due} is due")))
}

fn failure(path: &Path, error: ArrowError) -> ColumnarError {
    ColumnarError::unreadable(path, FORMAT, error)
}

/// Values of a text column, however they are stored.
fn texts(array: &dyn Array) -> Option<Vec<Option<String>>> {
    let mut rows: Vec<Option<usize>> = (0..array.len()).map(Some).collect();
    let mut values = array;
    if let Some(dictionary) = array.as_any_dictionary_opt() {
        values = dictionary.values().as_ref();
        // Only what the rows name is copied, not the whole dictionary for each few thousand rows.
        rows.fill(None);
        if !values.is_empty() {
            for (row, key) in dictionary.normalized_keys().into_iter().enumerate() {
                rows[row] = dictionary.keys().is_valid(row).then_some(key);
            }
        }
    }
    let text = text_at(values)?;
    let found = |row: Option<usize>| row.and_then(&text);
    // One value may stand in every row.
    let bytes: usize = rows.iter().filter_map(|row| found(*row)).map(str::len).sum();
    (bytes <= MAX_TEXT_BYTES).then(|| rows.into_iter().map(|row| found(row).map(String::from)).collect())
}

/// Gives single values of a text column.
fn text_at<'a>(array: &'a dyn Array) -> Option<Box<dyn Fn(usize) -> Option<&'a str> + 'a>> {
    if let Some(array) = array.as_string_opt::<i32>() {
        return Some(Box::new(|row| array.is_valid(row).then(|| array.value(row))));
    }
    if let Some(array) = array.as_string_opt::<i64>() {
        return Some(Box::new(|row| array.is_valid(row).then(|| array.value(row))));
    }
    let array = array.as_string_view_opt()?;
    Some(Box::new(|row| array.is_valid(row).then(|| array.value(row))))
}

fn numbers<T: ArrowPrimitiveType>(array: &dyn Array) -> Option<Vec<Option<T::Native>>> {
    array.as_primitive_opt::<T>().map(|array| array.iter().collect())
}

fn vectors(array: &dyn Array, cells: usize) -> Result<StoredRows, &'static str> {
    let list = array.as_fixed_size_list_opt().ok_or("is not a fixed-size list")?;
    let values = list.values().as_ref();
    if list.null_count() > 0 || values.null_count() > 0 {
        return Err("has a null");
    }
    if values.len() != cells {
        return Err("has another number of elements than rows x dim");
    }
    if let Some(values) = values.as_primitive_opt::<Float16Type>() {
        return Ok(StoredRows::F16(values.values().to_vec()));
    }
    let values = values.as_primitive_opt::<Float32Type>().ok_or("holds neither f16 nor f32")?;
    Ok(StoredRows::F32(values.values().to_vec()))
}
