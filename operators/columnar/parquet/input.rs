//! The file below a table, as pieces of it. Sizes that its headers name are checked here, before memory is taken.

use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length};

use super::pages;
use crate::sizes::SizeError;
use crate::{ColumnarError, ReadSeek};
use trommel_core::wake::locked;

/// Bytes that a page may have, packed and, by its header, when decompressed. Writers cut pages at a megabyte; some put a whole row group
/// into one.
const MAX_PAGE_BYTES: u64 = 256 << 20;

/// The file, for the crate behind, which wants pieces of it at any place.
#[derive(Clone)]
pub(super) struct Input {
    file: Arc<Mutex<Box<dyn ReadSeek>>>,
    bytes: u64,
    pages: Option<Pages>,
}

/// What is read are pages: their headers in a stream, and what stands behind them in one piece.
#[derive(Clone)]
struct Pages {
    codec: Compression,
    /// Where the last header began that was read.
    header: Arc<AtomicU64>,
}

impl Input {
    pub fn new(path: &Path, mut file: Box<dyn ReadSeek>) -> Result<Self, ColumnarError> {
        let bytes = file.seek(SeekFrom::End(0)).map_err(|error| ColumnarError::io(path, error))?;
        Ok(Self { file: Arc::new(Mutex::new(file)), bytes, pages: None })
    }

    /// The same, for what reads pages.
    pub fn of_pages(&self, codec: Compression) -> Self {
        Self { pages: Some(Pages { codec, header: Arc::default() }), ..self.clone() }
    }

    /// Whether a chunk can be read from this file.
    pub fn holds(&self, chunk: &ColumnChunkMetaData) -> Result<(), SizeError> {
        if chunk.file_path().is_some() {
            return Err(SizeError::Elsewhere);
        }
        let (start, length) = chunk.byte_range();
        if start.checked_add(length).is_none_or(|end| end > self.bytes) {
            return Err(SizeError::Chunk { length, start, bytes: self.bytes });
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
        if let Some(pages) = &self.pages {
            pages.header.store(start, Ordering::Relaxed);
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
        let limit = |what, bytes| {
            let detail = format!("{what} of {bytes} bytes, above the limit of {MAX_PAGE_BYTES}");
            Err(ParquetError::General(detail))
        };
        if self.pages.is_some() && length as u64 > MAX_PAGE_BYTES {
            return limit("a packed page", length as u64);
        }
        let piece = |at, length| {
            let mut bytes = vec![0; length];
            Tail { file: Arc::clone(&self.file), at }.read_exact(&mut bytes).map(|()| bytes)
        };
        let bytes = piece(start, length)?;
        if let Some(pages) = self.pages.as_ref().filter(|pages| pages::is_unlimited(pages.codec)) {
            let header = pages.header.load(Ordering::Relaxed);
            let header_bytes = start.saturating_sub(header);
            if header_bytes > MAX_PAGE_BYTES {
                return limit("a page header", header_bytes);
            }
            pages::check(pages.codec, &piece(header, header_bytes as usize)?, &bytes)
                .map_err(|error| ParquetError::External(Box::new(error)))?;
        }
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
