//! Arrow IPC files of embeddings: one record batch per few thousand rows, read and written as a stream.
//!
//! Columns: `key` text, `label` text?, `shard` text?, `index` u32?, `embedding` FixedSizeList&lt;f16&gt;\[dim\], and `radius` f64
//! where the rows have radii. Files of others may hold them in other types of text and floating point ([`IpcReader`]). As
//! with tables, `arrow2` writes, and Apache's crates read. Schema metadata: `trommel.schema`, `trommel.identity` (JSON), and what the writer adds.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use arrow2::array::{Array, FixedSizeListArray, PrimitiveArray, Utf8Array};
use arrow2::chunk::Chunk;
use arrow2::datatypes::{DataType, Field, Schema};
use arrow2::io::ipc::write;
use arrow2::types::f16 as arrow_f16;
use half::f16;

use super::ColumnarError;
use super::parquet::written;

mod blocks;
mod read;

pub use read::{IpcReader, StoredBatch};

/// Largest dimension that is read or written.
pub const MAX_DIM: usize = 65_536;

/// Version of the embeddings' schema.
pub const SCHEMA_VERSION: u32 = 1;

/// Metadata key of the schema version.
pub const META_SCHEMA: &str = "trommel.schema";

/// Metadata key of the identity, as JSON.
pub const META_IDENTITY: &str = "trommel.identity";

/// Key of a mark, `yes`, that the rows were read from files which another program had rounded to f16.
pub const META_FOREIGN: &str = "trommel.foreign";

/// Rows of a record batch, column by column. All columns have the same number of rows.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Key of each row.
    pub keys: Vec<String>,
    /// Class label of each row; null where there is none.
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
