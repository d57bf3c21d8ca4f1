//! Arrow IPC files of embeddings: one record batch per few thousand rows, read and written as a stream.
//!
//! Columns: `key` text, `label` text?, `shard` text?, `index` u32?, `embedding` FixedSizeList&lt;f16&gt;\[dim\], and `radius` f64
//! where the rows have radii. Schema metadata: `trommel.schema`, `trommel.identity` (JSON), and what the writer adds.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use arrow2::array::{Array, FixedSizeListArray, PrimitiveArray, Utf8Array};
use arrow2::chunk::Chunk;
use arrow2::datatypes::{DataType, Field, Schema};
use arrow2::io::ipc::{read, write};
use arrow2::types::f16 as arrow_f16;
use half::f16;

use super::npy::Rows;
use super::parquet::written;
use super::{ColumnarError, ReadSeek, guarded};

const FORMAT: &str = "Arrow IPC";

/// Largest dimension that is read or written.
pub const MAX_DIM: usize = 65_536;

/// Largest footer that is read.
const MAX_FOOTER_BYTES: u64 = 64 << 20;

/// Version of the embeddings' schema.
pub const SCHEMA_VERSION: u32 = 1;

/// Metadata key of the schema version.
pub const META_SCHEMA: &str = "trommel.schema";

/// Metadata key of the identity, as JSON.
pub const META_IDENTITY: &str = "trommel.identity";

/// Rows of a record batch, column by column. All columns have the same number of rows.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Keys.
    pub keys: Vec<String>,
    /// Class labels.
    pub labels: Vec<Option<String>>,
    /// Names of the shards that the rows come from.
    pub shards: Vec<Option<String>>,
    /// Raw index in that shard.
    pub indices: Vec<Option<u32>>,
    /// Canonical vectors, f16\[rows, dim\].
    pub vectors: Vec<f16>,
    /// Radii as cosines, where the file has them.
    pub radii: Vec<Option<f64>>,
}

fn schema(dim: usize, radii: bool, metadata: &BTreeMap<String, String>) -> Schema {
    let item = Field::new("item", DataType::Float16, false);
    let mut fields = vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("label", DataType::Utf8, true),
        Field::new("shard", DataType::Utf8, true),
        Field::new("index", DataType::UInt32, true),
        Field::new("embedding", DataType::FixedSizeList(Box::new(item), dim), false),
    ];
    if radii {
        fields.push(Field::new("radius", DataType::Float64, true));
    }
    Schema { fields, metadata: metadata.clone() }
}

/// Writes an embeddings file batch by batch.
pub struct IpcWriter<W: Write> {
    writer: write::FileWriter<W>,
    dim: usize,
    radii: bool,
    path: PathBuf,
}

impl<W: Write> IpcWriter<W> {
    /// Begins a file. `path` is for messages only.
    ///
    /// # Errors
    /// A dimension outside `1..=MAX_DIM`, or what the writer says.
    pub fn new(
        path: &Path,
        out: W,
        dim: usize,
        radii: bool,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, ColumnarError> {
        if dim == 0 || dim > MAX_DIM {
            return Err(ColumnarError::mismatch(path, format!("embeddings of dimension {dim} (1 to {MAX_DIM})")));
        }
        let options = write::WriteOptions { compression: None };
        let writer = write::FileWriter::try_new(out, schema(dim, radii, metadata), None, options)
            .map_err(|e| written(path, e))?;
        Ok(Self { writer, dim, radii, path: path.to_path_buf() })
    }

    /// Writes one record batch.
    ///
    /// # Errors
    /// Columns of different lengths, or what the writer says.
    pub fn write(&mut self, batch: &Batch) -> Result<(), ColumnarError> {
        let rows = batch.keys.len();
        let radii = if self.radii { batch.radii.len() } else { rows };
        if [batch.labels.len(), batch.shards.len(), batch.indices.len(), radii].iter().any(|&n| n != rows)
            || batch.vectors.len() != rows * self.dim
        {
            let detail = format!("columns of different lengths in a batch of {rows} rows");
            return Err(ColumnarError::mismatch(&self.path, detail));
        }
        let values: &[arrow_f16] = bytemuck::cast_slice(&batch.vectors);
        let item = Field::new("item", DataType::Float16, false);
        let vectors = FixedSizeListArray::try_new(
            DataType::FixedSizeList(Box::new(item), self.dim),
            PrimitiveArray::from_slice(values).boxed(),
            None,
        )
        .map_err(|e| written(&self.path, e))?;
        let mut arrays: Vec<Box<dyn Array>> = vec![
            Utf8Array::<i32>::from_slice(&batch.keys).boxed(),
            Utf8Array::<i32>::from(&batch.labels).boxed(),
            Utf8Array::<i32>::from(&batch.shards).boxed(),
            PrimitiveArray::<u32>::from(&batch.indices).boxed(),
            vectors.boxed(),
        ];
        if self.radii {
            arrays.push(PrimitiveArray::<f64>::from(&batch.radii).boxed());
        }
        self.writer.write(&Chunk::new(arrays), None).map_err(|e| written(&self.path, e))
    }

    /// Writes the footer and gives the output back.
    ///
    /// # Errors
    /// What the writer says.
    pub fn finish(mut self) -> Result<W, ColumnarError> {
        self.writer.finish().map_err(|e| written(&self.path, e))?;
        Ok(self.writer.into_inner())
    }
}

/// One record batch as it is stored.
#[derive(Clone, Debug)]
pub struct StoredBatch {
    /// Keys; empty where the file has none.
    pub keys: Vec<String>,
    /// Class labels.
    pub labels: Vec<Option<String>>,
    /// Names of the shards.
    pub shards: Vec<Option<String>>,
    /// Raw index in that shard.
    pub indices: Vec<Option<u32>>,
    /// Vectors as stored.
    pub rows: Rows,
    /// Radii; empty where the file has none.
    pub radii: Vec<Option<f64>>,
}

/// Reads an embeddings file batch by batch. Other columns are skipped.
pub struct IpcReader {
    reader: read::FileReader<Box<dyn ReadSeek>>,
    columns: Vec<&'static str>,
    metadata: BTreeMap<String, String>,
    dim: usize,
    path: PathBuf,
    /// Bytes of vectors that may still come before batches must overlap.
    bytes_left: u64,
    failed: bool,
}

impl IpcReader {
    /// Opens a file and checks its columns.
    ///
    /// # Errors
    /// A file that is no Arrow IPC file, or whose `embedding` column is missing or of another type.
    pub fn open(path: &Path, mut input: Box<dyn ReadSeek>) -> Result<Self, ColumnarError> {
        let bytes = input.seek(std::io::SeekFrom::End(0)).map_err(|e| ColumnarError::io(path, e))?;
        check_ends(path, &mut input, bytes)?;
        let metadata = guarded(path, FORMAT, || {
            read::read_file_metadata(&mut input).map_err(|e| ColumnarError::malformed(path, FORMAT, e))
        })?;
        let mut columns = Vec::new();
        let mut projection = Vec::new();
        let mut dim = None;
        for (at, field) in metadata.schema.fields.iter().enumerate() {
            let logical = field.data_type.to_logical_type();
            let expect = |ok: bool, due: &str| {
                let detail = format!("is {logical:?}; {due} is due");
                if ok { Ok(()) } else { Err(ColumnarError::column(path, &field.name, detail)) }
            };
            let text = matches!(logical, DataType::Utf8 | DataType::LargeUtf8);
            let name = match field.name.as_str() {
                "key" => expect(text, "text").map(|()| "key")?,
                "label" => expect(text, "text").map(|()| "label")?,
                "shard" => expect(text, "text").map(|()| "shard")?,
                "index" => expect(matches!(logical, DataType::UInt32), "u32").map(|()| "index")?,
                "radius" => expect(matches!(logical, DataType::Float64), "f64").map(|()| "radius")?,
                "embedding" => {
                    let DataType::FixedSizeList(item, size) = logical else {
                        return Err(ColumnarError::column(
                            path,
                            "embedding",
                            format!("is {logical:?}; a fixed-size list of f16 or f32 is due"),
                        ));
                    };
                    let float = matches!(item.data_type, DataType::Float16 | DataType::Float32);
                    expect(float, "a fixed-size list of f16 or f32")?;
                    expect((1..=MAX_DIM).contains(size), "a dimension of 1 to 65,536")?;
                    dim = Some(*size);
                    "embedding"
                }
                _ => continue,
            };
            if columns.contains(&name) {
                return Err(ColumnarError::column(path, name, "is there twice"));
            }
            columns.push(name);
            projection.push(at);
        }
        let dim = dim.ok_or_else(|| ColumnarError::column(path, "embedding", "is missing"))?;
        let meta = metadata.schema.metadata.clone();
        if let Some(version) = meta.get(META_SCHEMA)
            && version.parse::<u32>().map_or(true, |v| v > SCHEMA_VERSION)
        {
            let detail = format!("embeddings schema version {version}; this program reads up to {SCHEMA_VERSION}");
            return Err(ColumnarError::malformed(path, FORMAT, detail));
        }
        let reader = read::FileReader::new(input, metadata, Some(projection), None);
        Ok(Self { reader, columns, metadata: meta, dim, path: path.to_path_buf(), bytes_left: bytes, failed: false })
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
        let Self { reader, columns, path, bytes_left, dim, .. } = self;
        guarded(path, FORMAT, || {
            let Some(chunk) = reader.next() else { return Ok(None) };
            let chunk = chunk.map_err(|e| ColumnarError::malformed(path, FORMAT, e))?;
            let rows = chunk.len();
            let mut batch = StoredBatch {
                keys: Vec::new(),
                labels: vec![None; rows],
                shards: vec![None; rows],
                indices: vec![None; rows],
                rows: Rows::F16(Vec::new()),
                radii: Vec::new(),
            };
            for (&name, array) in columns.iter().zip(chunk.arrays()) {
                match name {
                    "key" => {
                        let keys = texts(path, name, array.as_ref())?;
                        let missing = || ColumnarError::column(path, name, "has a null");
                        batch.keys = keys.into_iter().map(|k| k.ok_or_else(missing)).collect::<Result<_, _>>()?;
                    }
                    "label" => batch.labels = texts(path, name, array.as_ref())?,
                    "shard" => batch.shards = texts(path, name, array.as_ref())?,
                    "index" => batch.indices = values::<u32>(path, name, array.as_ref())?,
                    "radius" => batch.radii = values::<f64>(path, name, array.as_ref())?,
                    _ => batch.rows = vectors(path, array.as_ref(), rows * *dim)?,
                }
            }
            let bytes = match &batch.rows {
                Rows::F16(v) => v.len() as u64 * 2,
                Rows::F32(v) => v.len() as u64 * 4,
            };
            *bytes_left = bytes_left
                .checked_sub(bytes)
                .ok_or_else(|| ColumnarError::malformed(path, FORMAT, "record batches overlap"))?;
            Ok(Some(batch))
        })
    }
}

impl Iterator for IpcReader {
    type Item = Result<StoredBatch, ColumnarError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let batch = self.batch();
        self.failed = batch.is_err();
        batch.transpose()
    }
}

/// Magic at both ends and a footer that fits in the file.
fn check_ends(path: &Path, input: &mut Box<dyn ReadSeek>, bytes: u64) -> Result<(), ColumnarError> {
    const MAGIC: &[u8; 6] = b"ARROW1";
    let io = |e| ColumnarError::io(path, e);
    if bytes < 8 + 10 {
        return Err(ColumnarError::malformed(path, FORMAT, format!("only {bytes} bytes")));
    }
    let (mut head, mut tail) = ([0u8; 6], [0u8; 10]);
    input.rewind().map_err(io)?;
    input.read_exact(&mut head).map_err(io)?;
    input.seek(std::io::SeekFrom::End(-10)).map_err(io)?;
    input.read_exact(&mut tail).map_err(io)?;
    input.rewind().map_err(io)?;
    if &head != MAGIC {
        return Err(ColumnarError::malformed(path, FORMAT, "it does not begin with ARROW1"));
    }
    if &tail[4..] != MAGIC {
        return Err(ColumnarError::malformed(path, FORMAT, "it does not end with ARROW1: cut off, or never finished"));
    }
    let footer = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    if footer > MAX_FOOTER_BYTES || footer + 18 > bytes {
        return Err(ColumnarError::malformed(path, FORMAT, format!("a footer of {footer} bytes in a file of {bytes}")));
    }
    Ok(())
}

fn texts(path: &Path, name: &str, array: &dyn Array) -> Result<Vec<Option<String>>, ColumnarError> {
    if let Some(array) = array.as_any().downcast_ref::<Utf8Array<i32>>() {
        return Ok(array.iter().map(|v| v.map(String::from)).collect());
    }
    if let Some(array) = array.as_any().downcast_ref::<Utf8Array<i64>>() {
        return Ok(array.iter().map(|v| v.map(String::from)).collect());
    }
    Err(ColumnarError::column(path, name, format!("came as {:?}", array.data_type())))
}

fn values<T: arrow2::types::NativeType>(
    path: &Path,
    name: &str,
    array: &dyn Array,
) -> Result<Vec<Option<T>>, ColumnarError> {
    let array = array
        .as_any()
        .downcast_ref::<PrimitiveArray<T>>()
        .ok_or_else(|| ColumnarError::column(path, name, format!("came as {:?}", array.data_type())))?;
    Ok(array.iter().map(|v| v.copied()).collect())
}

fn vectors(path: &Path, array: &dyn Array, cells: usize) -> Result<Rows, ColumnarError> {
    let bad = |detail: &str| ColumnarError::column(path, "embedding", detail);
    let list = array.as_any().downcast_ref::<FixedSizeListArray>().ok_or_else(|| bad("is not a fixed-size list"))?;
    if list.null_count() > 0 || list.values().null_count() > 0 {
        return Err(bad("has a null"));
    }
    if list.values().len() != cells {
        return Err(bad("has another number of elements than rows x dim"));
    }
    let values = list.values().as_any();
    if let Some(values) = values.downcast_ref::<PrimitiveArray<arrow_f16>>() {
        return Ok(Rows::F16(bytemuck::cast_slice::<arrow_f16, f16>(values.values().as_slice()).to_vec()));
    }
    if let Some(values) = values.downcast_ref::<PrimitiveArray<f32>>() {
        return Ok(Rows::F32(values.values().to_vec()));
    }
    Err(bad("holds neither f16 nor f32"))
}
