//! The file below a table, as pieces of it. Sizes that its headers name are checked here, before memory is taken.

use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length};

use crate::{ColumnarError, ReadSeek};
use trommel_core::wake::locked;

/// Bytes that a page may have when decompressed, by its header; zstd, snappy and raw LZ4 are held to it while they are decompressed, gzip
/// and Brotli are compared with it afterwards. Writers cut pages at a megabyte; some put a whole row group into one.
const MAX_PAGE_BYTES: u64 = 256 << 20;

/// The file, for the crate behind, which wants pieces of it at any place.
#[derive(Clone)]
pub(super) struct Input {
    file: Arc<Mutex<Box<dyn ReadSeek>>>,
    bytes: u64,
    /// Whether what is read in a stream are headers of pages, whose sizes are then checked.
    pages: bool,
}

impl Input {
    pub fn new(path: &Path, mut file: Box<dyn ReadSeek>) -> Result<Self, ColumnarError> {
        let bytes = file.seek(SeekFrom::End(0)).map_err(|error| ColumnarError::io(path, error))?;
        Ok(Self { file: Arc::new(Mutex::new(file)), bytes, pages: false })
    }

    /// The same, for what reads pages.
    pub fn of_pages(&self) -> Self {
        Self { pages: true, ..self.clone() }
    }

    /// Whether a chunk can be read from this file.
    pub fn holds(&self, chunk: &ColumnChunkMetaData) -> Result<(), String> {
        if chunk.file_path().is_some() {
            return Err("lies in another file".into());
        }
        let (start, length) = chunk.byte_range();
        if start.checked_add(length).is_none_or(|end| end > self.bytes) {
            return Err(format!("has {length} bytes from {start} on, in a file of {}", self.bytes));
        }
        Ok(())
    }
}

impl Length for Input {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for Input {
    type T = BufReader<Tail>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        let tail = Tail { file: Arc::clone(&self.file), at: start };
        if self.pages {
            let mut first = Vec::new();
            tail.clone().take(12).read_to_end(&mut first)?;
            match page_bytes(&first) {
                Some(bytes) if bytes <= MAX_PAGE_BYTES => {}
                Some(bytes) => {
                    let detail = format!("a page of {bytes} bytes, above the limit of {MAX_PAGE_BYTES}");
                    return Err(ParquetError::General(detail));
                }
                None => return Err(ParquetError::General("a page header of another form".into())),
            }
        }
        Ok(BufReader::with_capacity(1024, tail))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.bytes) {
            return Err(ParquetError::EOF(format!("{length} bytes from {start} on, in a file of {}", self.bytes)));
        }
        let mut bytes = vec![0; length];
        Tail { file: Arc::clone(&self.file), at: start }.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// Decompressed bytes of a page, by the first bytes of its header: a Thrift structure in compact form that begins with the
/// page's type and this size, both 32-bit integers.
fn page_bytes(header: &[u8]) -> Option<u64> {
    let [0x15, _kind, 0x15, size @ ..] = header else { return None };
    let mut zigzag = 0u64;
    for (at, byte) in size.iter().take(5).enumerate() {
        zigzag |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            // Odd ones are negative, and refused by the reader itself.
            return Some(zigzag >> 1);
        }
    }
    None
}

/// The file from a place on.
#[derive(Clone)]
pub(super) struct Tail {
    file: Arc<Mutex<Box<dyn ReadSeek>>>,
    at: u64,
}

impl Read for Tail {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut file = locked(&self.file);
        file.seek(SeekFrom::Start(self.at))?;
        let read = file.read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}
