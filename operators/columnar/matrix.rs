//! Matrices of numpy's with the table beside them: `.npy`, and one array of an `.npz`, row by row, each with its key.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::bufread::DeflateDecoder;
use zip::{CompressionMethod, ZipArchive};

use super::ColumnarError;
use super::checksummed::Checksummed;
use super::embedding_batch::{BATCH_ROWS, Details};
use super::ipc::StoredBatch;
use super::npy::{self, Element, MatrixHead};
use super::parquet::{Column, ColumnType, TableReader};

/// Columns of a table that hold a row's key, the likeliest first: clip-retrieval's name for it, img2dataset's, DataComp's.
const KEYS: [&str; 3] = ["image_path", "key", "uid"];

/// What else a table may say of a row, in the order of [`Details`], each by its names: DataComp calls a caption `text`.
const DETAILS: [&[&str]; 4] = [&["uid"], &["url"], &["sha256"], &["caption", "text"]];

/// A matrix, and its table where there is one.
pub(super) struct MatrixReader {
    path: PathBuf,
    input: Box<dyn Read + Send>,
    head: MatrixHead,
    left: u64,
    table: Option<Table>,
}

impl MatrixReader {
    /// Opens `vectors`: of an archive the array `array`. `details`: whether more is wanted of the table than keys.
    pub(super) fn open(
        vectors: &Path,
        array: Option<&str>,
        table: Option<&Path>,
        details: bool,
    ) -> Result<Self, ColumnarError> {
        let (mut input, bytes) = match array {
            None => whole(vectors)?,
            Some(array) => of_archive(vectors, array)?,
        };
        let head = npy::read_head(vectors, &mut input, bytes)?;
        let table = table.map(|path| Table::open(path, vectors, head.rows, details)).transpose()?;
        Ok(Self { path: vectors.to_path_buf(), input, head, left: head.rows, table })
    }

    pub(super) const fn dim(&self) -> usize {
        self.head.dim
    }

    pub(super) const fn rows(&self) -> u64 {
        self.head.rows
    }

    /// The table's column of keys, where it holds numbers.
    pub(super) fn numeric_key(&self) -> Option<&str> {
        let key = self.table.as_ref().and_then(|table| table.reader.fields().first());
        key.filter(|field| field.kind != ColumnType::Text).map(|field| field.name.as_str())
    }

    pub(super) fn is_f16(&self) -> bool {
        self.head.element == Element::F16
    }

    /// The next rows, without their table.
    pub(super) fn next_rows(&mut self) -> Result<Option<StoredBatch>, ColumnarError> {
        if self.left == 0 {
            return Ok(None);
        }
        let limit = ((16 << 20) / (self.head.dim * self.head.element.bytes().max(4) as usize)).clamp(1, BATCH_ROWS);
        let rows = usize::try_from(self.left).unwrap_or(usize::MAX).min(limit);
        let values = npy::read_rows(&self.path, &mut self.input, &self.head, rows)?;
        self.left -= rows as u64;
        Ok(Some(StoredBatch {
            keys: Vec::new(),
            labels: vec![None; rows],
            shards: vec![None; rows],
            indices: vec![None; rows],
            rows: values,
            radii: Vec::new(),
            details: Details::default(),
        }))
    }

    pub(super) fn next_batch(&mut self) -> Result<Option<StoredBatch>, ColumnarError> {
        let mut batch = self.next_rows()?;
        if let (Some(batch), Some(table)) = (&mut batch, &mut self.table) {
            (batch.keys, batch.details) = table.take(batch.labels.len())?;
        }
        Ok(batch)
    }
}

fn whole(path: &Path) -> Result<(Box<dyn Read + Send>, u64), ColumnarError> {
    let file = File::open(path).map_err(|e| ColumnarError::io(path, e))?;
    let bytes = file.metadata().map_err(|e| ColumnarError::io(path, e))?.len();
    Ok((Box::new(BufReader::with_capacity(1 << 18, file)), bytes))
}

/// An array of an archive, as `np.savez` stores it, or as `np.savez_compressed` packs it.
fn of_archive(path: &Path, array: &str) -> Result<(Box<dyn Read + Send>, u64), ColumnarError> {
    let bad = |detail: String| ColumnarError::malformed(path, "npz", detail);
    let io = |e| ColumnarError::io(path, e);
    let file = File::open(path).map_err(io)?;
    let mut zip = ZipArchive::new(file).map_err(|e| ColumnarError::archive(path, e))?;
    for index in 0..zip.len() {
        let entry = zip.by_index_raw(index).map_err(|e| ColumnarError::archive(path, e))?;
        if entry.name().strip_suffix(".npy") != Some(array) {
            continue;
        }
        let (start, packed, bytes, crc32) = (entry.data_start(), entry.compressed_size(), entry.size(), entry.crc32());
        let mut file = File::open(path).map_err(io)?;
        file.seek(SeekFrom::Start(start)).map_err(io)?;
        let packed = BufReader::with_capacity(1 << 18, file.take(packed));
        return match entry.compression() {
            CompressionMethod::STORE => Ok((Box::new(Checksummed::new(packed, bytes, crc32)), bytes)),
            CompressionMethod::DEFLATE => {
                Ok((Box::new(Checksummed::new(DeflateDecoder::new(packed), bytes, crc32)), bytes))
            }
            other => Err(bad(format!("`{array}` is packed by {other}; np.savez and np.savez_compressed are read"))),
        };
    }
    Err(bad(format!("no array `{array}`")))
}

/// The table beside a matrix, row by row.
struct Table {
    path: PathBuf,
    reader: TableReader,
    key: &'static str,
    /// Places in [`DETAILS`] of the columns after the key.
    details: Vec<usize>,
    /// Waiting rows, column by column.
    waiting: Vec<VecDeque<Option<String>>>,
}

impl Table {
    fn open(path: &Path, vectors: &Path, rows: u64, details: bool) -> Result<Self, ColumnarError> {
        // Pieces of any place are wanted, large ones: a buffer in between would be filled and thrown away.
        let open = || File::open(path).map(Box::new).map_err(|e| ColumnarError::io(path, e));
        let names = TableReader::column_names(path, open()?)?;
        let has = |name: &&str| names.iter().any(|known| known == name);
        let Some(key) = KEYS.into_iter().find(has) else {
            let (wanted, held) = (KEYS.join(", "), names.join(", "));
            return Err(ColumnarError::column(
                path,
                KEYS[0],
                format!("none of {wanted} is there; the file has {held}"),
            ));
        };
        let found = DETAILS.iter().enumerate().filter(|_| details);
        let found = found.filter_map(|(at, called)| Some((at, called.iter().copied().find(has)?)));
        let (details, names): (Vec<usize>, Vec<&str>) = found.unzip();
        let wanted: Vec<&str> = std::iter::once(key).chain(names).collect();
        let reader = TableReader::open_any(path, open()?, &wanted)?;
        if reader.rows() != rows {
            let detail = format!("{} rows beside {rows} vectors in {}", reader.rows(), vectors.display());
            return Err(ColumnarError::mismatch(path, detail));
        }
        let waiting = vec![VecDeque::new(); wanted.len()];
        Ok(Self { path: path.to_path_buf(), reader, key, details, waiting })
    }

    /// Keys and details of the next `rows`.
    fn take(&mut self, rows: usize) -> Result<(Vec<String>, Details), ColumnarError> {
        while self.waiting[0].len() < rows {
            let Some(group) = self.reader.next().transpose()? else {
                return Err(ColumnarError::mismatch(&self.path, "fewer keys than vectors"));
            };
            for (waiting, column) in self.waiting.iter_mut().zip(group) {
                waiting.extend(texts(column));
            }
        }
        let mut columns = self.waiting.iter_mut().map(|column| column.drain(..rows).collect::<Vec<_>>());
        let null = || ColumnarError::column(&self.path, self.key, "has a null");
        let keys = columns.next().unwrap_or_default().into_iter().map(|key| key.ok_or_else(null));
        let keys = keys.collect::<Result<_, _>>()?;
        let mut details = Details::default();
        for (column, &at) in columns.zip(&self.details) {
            *[&mut details.uids, &mut details.urls, &mut details.sha256s, &mut details.captions][at] = column;
        }
        Ok((keys, details))
    }
}

/// A column's values as texts: some write keys as whole numbers.
fn texts(column: Column) -> Vec<Option<String>> {
    match column {
        Column::Text(texts) => texts,
        Column::U32(numbers) => numbers.into_iter().map(|n| n.map(|n| n.to_string())).collect(),
        Column::U64(numbers) => numbers.into_iter().map(|n| n.map(|n| n.to_string())).collect(),
        Column::F64(numbers) => numbers.into_iter().map(|n| n.map(|n| n.to_string())).collect(),
    }
}
