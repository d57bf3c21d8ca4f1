//! Sets of embeddings: read whole ([`EmbeddingSet`]), as a stream ([`super::source::EmbeddingReader`]), written as a stream
//! ([`EmbeddingWriter`]).
//!
//! A benchmark is a folder that holds `embeddings.arrow`. The file is written aside, fsynced, renamed, the folder
//! fsynced: whoever sees it sees all of it.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use half::f16;

use super::ColumnarError;
use super::ipc::{Batch, IpcWriter, META_IDENTITY, META_SCHEMA, SCHEMA_VERSION};
use super::pieces::FILE_NAME;
use super::source::{BATCH_ROWS, EmbeddingReader, Notes};
use trommel_core::durable::{Aside, make_folder};
use trommel_core::sample::Identity;

/// One row to write.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddingRow<'a> {
    /// Key of the sample, as its members are named in the tar.
    pub key: &'a str,
    /// Class label; `None` where the sample belongs to no class.
    pub label: Option<&'a str>,
    /// Name of the shard it comes from.
    pub shard: Option<&'a str>,
    /// Raw index in that shard.
    pub index: Option<u32>,
    /// Canonical vector, f16\[dim\].
    pub vector: &'a [f16],
    /// Radius as a cosine; `None` is null in a file with radii.
    pub radius: Option<f64>,
}

/// What an embeddings file says about itself.
#[derive(Clone, Debug, Default)]
pub struct EmbeddingHead {
    /// Elements of a vector.
    pub dim: usize,
    /// Whether there is a `radius` column.
    pub radii: bool,
    /// Who made the embeddings.
    pub identity: Option<Identity>,
    /// Further metadata: rule, reference set, numeric identity, ...
    pub metadata: BTreeMap<String, String>,
}

/// Writes embeddings row by row in bounded memory: a record batch of 4096 rows.
pub struct EmbeddingWriter<W: Write> {
    writer: IpcWriter<W>,
    batch: Batch,
    dim: usize,
    radii: bool,
    rows: u64,
    path: PathBuf,
}

impl<W: Write> EmbeddingWriter<W> {
    /// Begins a file on `out`. `path` is for messages only.
    ///
    /// # Errors
    /// A dimension out of range, or what the writer says.
    pub fn new(path: &Path, out: W, head: &EmbeddingHead) -> Result<Self, ColumnarError> {
        let mut metadata = head.metadata.clone();
        metadata.insert(META_SCHEMA.into(), SCHEMA_VERSION.to_string());
        if let Some(identity) = &head.identity {
            let json = serde_json::to_string(identity).map_err(ColumnarError::metadata(path, META_IDENTITY))?;
            metadata.insert(META_IDENTITY.into(), json);
        }
        let writer = IpcWriter::new(path, out, head.dim, head.radii, &metadata)?;
        let batch = Batch::default();
        Ok(Self { writer, batch, dim: head.dim, radii: head.radii, rows: 0, path: path.to_path_buf() })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// A vector of another length, or what the writer says.
    pub fn push(&mut self, row: EmbeddingRow<'_>) -> Result<(), ColumnarError> {
        if row.vector.len() != self.dim {
            let detail = format!("row {}: a vector of {} elements; {} are due", self.rows, row.vector.len(), self.dim);
            return Err(ColumnarError::mismatch(&self.path, detail));
        }
        let batch = &mut self.batch;
        batch.keys.push(row.key.into());
        batch.labels.push(row.label.map(Into::into));
        batch.shards.push(row.shard.map(Into::into));
        batch.indices.push(row.index);
        batch.vectors.extend_from_slice(row.vector);
        if self.radii {
            batch.radii.push(row.radius);
        }
        self.rows += 1;
        if self.batch.keys.len() >= BATCH_ROWS { self.flush() } else { Ok(()) }
    }

    /// Ends a record batch: the rows so far are held no longer.
    ///
    /// # Errors
    /// What the writer says.
    pub fn flush(&mut self) -> Result<(), ColumnarError> {
        if !self.batch.keys.is_empty() {
            self.writer.write(&self.batch)?;
            self.batch = Batch::default();
        }
        Ok(())
    }

    /// Number of rows pushed so far, those still in the buffer included.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes the last batch and the footer, and gives the output back.
    ///
    /// # Errors
    /// What the writer says.
    pub fn finish(mut self) -> Result<W, ColumnarError> {
        self.flush()?;
        self.writer.finish()
    }
}

/// An [`EmbeddingWriter`] on a file of its own: nothing is seen under its name before [`EmbeddingFile::commit`].
pub struct EmbeddingFile {
    writer: EmbeddingWriter<BufWriter<Aside>>,
    path: PathBuf,
}

impl EmbeddingFile {
    /// Begins `folder/embeddings.arrow`; the folder is made if it is not there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn in_folder(folder: &Path, head: &EmbeddingHead) -> Result<Self, ColumnarError> {
        make_folder(folder).map_err(|e| ColumnarError::io(folder, e))?;
        Self::create(&folder.join(FILE_NAME), head)
    }

    /// Begins the file `path`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(path: &Path, head: &EmbeddingHead) -> Result<Self, ColumnarError> {
        let file = Aside::create(path).map_err(|e| ColumnarError::io(path, e))?;
        let writer = EmbeddingWriter::new(path, BufWriter::with_capacity(1 << 20, file), head)?;
        Ok(Self { writer, path: path.to_path_buf() })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// As [`EmbeddingWriter::push`].
    pub fn push(&mut self, row: EmbeddingRow<'_>) -> Result<(), ColumnarError> {
        self.writer.push(row)
    }

    /// Finishes the file, fsyncs it, renames it into place, fsyncs the folder. Returns the rows.
    ///
    /// # Errors
    /// What the file system says; the file is then not there under its name.
    pub fn commit(self) -> Result<u64, ColumnarError> {
        let rows = self.writer.rows();
        let io = |e| ColumnarError::io(&self.path, e);
        let file = self.writer.finish()?.into_inner().map_err(|e| io(e.into_error()))?;
        file.commit().map_err(io)?;
        Ok(rows)
    }
}

/// A whole set in memory: benchmarks, reference sets that fit.
#[derive(Clone, Debug, Default)]
pub struct EmbeddingSet {
    /// Elements of a vector.
    pub dim: usize,
    /// Canonical vectors, f16\[rows, dim\].
    pub vectors: Vec<f16>,
    /// Keys; the row's number where the files have none.
    pub keys: Vec<String>,
    /// Class label of each row; null where there is none.
    pub labels: Vec<Option<String>>,
    /// Names of the shards that the rows come from.
    pub shards: Vec<Option<String>>,
    /// Raw index in that shard.
    pub indices: Vec<Option<u32>>,
    /// Radii as cosines, one a row.
    pub radii: Option<Vec<f64>>,
    /// Who made the embeddings; `None` for files that do not say.
    pub identity: Option<Identity>,
    /// What was done to the rows on their way in.
    pub notes: Notes,
}

impl EmbeddingSet {
    /// Reads all of `path`: see [`EmbeddingReader::open`] for what is understood.
    ///
    /// # Errors
    /// Files that cannot be read or do not fit each other, a row without direction, a missing or non-finite radius.
    pub fn open(path: &Path) -> Result<Self, ColumnarError> {
        Self::read(path, EmbeddingReader::open(path)?)
    }

    /// Reads all that a reader of `path` gives.
    ///
    /// # Errors
    /// As [`EmbeddingSet::open`].
    pub fn read(path: &Path, mut reader: EmbeddingReader) -> Result<Self, ColumnarError> {
        let mut set = Self { dim: reader.dim(), identity: reader.identity().cloned(), ..Self::default() };
        let mut radii = reader.has_radii().then(Vec::new);
        let mut bad: Option<(u64, String, &'static str, u64)> = None;
        for batch in &mut reader {
            let batch = batch?;
            if let Some(&(at, why)) = batch.bad.first() {
                let first = (batch.first_row + at as u64, batch.keys[at].clone(), why.as_str(), 0);
                bad.get_or_insert(first).3 += batch.bad.len() as u64;
            }
            if let Some(radii) = &mut radii {
                for (at, radius) in batch.radii.iter().enumerate() {
                    let radius = radius.filter(|r| r.is_finite()).ok_or_else(|| {
                        let row = batch.first_row + at as u64;
                        ColumnarError::column(path, "radius", format!("row {row} is null or not finite"))
                    })?;
                    radii.push(radius);
                }
            }
            set.vectors.extend_from_slice(&batch.vectors);
            set.keys.extend(batch.keys);
            set.labels.extend(batch.labels);
            set.shards.extend(batch.shards);
            set.indices.extend(batch.indices);
        }
        if let Some((row, key, what, count)) = bad {
            return Err(ColumnarError::BadRow { path: path.to_path_buf(), row, key, what: what.into(), count });
        }
        set.radii = radii;
        set.notes = reader.notes().clone();
        Ok(set)
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Row `at`: f16\[dim\].
    #[must_use]
    pub fn vector(&self, at: usize) -> &[f16] {
        &self.vectors[at * self.dim..(at + 1) * self.dim]
    }

    /// Writes the set as a benchmark's folder.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, folder: &Path, metadata: BTreeMap<String, String>) -> Result<u64, ColumnarError> {
        let head =
            EmbeddingHead { dim: self.dim, radii: self.radii.is_some(), identity: self.identity.clone(), metadata };
        let mut file = EmbeddingFile::in_folder(folder, &head)?;
        for at in 0..self.len() {
            file.push(EmbeddingRow {
                key: &self.keys[at],
                label: self.labels[at].as_deref(),
                shard: self.shards[at].as_deref(),
                index: self.indices[at],
                vector: self.vector(at),
                radius: self.radii.as_ref().map(|r| r[at]),
            })?;
        }
        file.commit()
    }
}
