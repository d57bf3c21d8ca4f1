//! The blocks of an Arrow IPC file, and what is checked of their sizes before memory is taken.

use std::io::SeekFrom;
use std::path::Path;

use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::{Block, Message};

use crate::sizes::SizeError;
use crate::{ColumnarError, ReadSeek};

pub(super) const FORMAT: &str = "Arrow IPC";

/// Largest footer that is read.
const MAX_FOOTER_BYTES: u64 = 64 << 20;

/// Bytes that a compressed buffer may have when decompressed, beside 256 for each of its own, which is the most that LZ4 makes.
const MAX_INFLATED_BYTES: i64 = 64 << 20;

/// Magic at both ends and a footer that fits in the file; its length.
pub(super) fn check_ends(path: &Path, input: &mut Box<dyn ReadSeek>, bytes: u64) -> Result<u64, ColumnarError> {
    const MAGIC: &[u8; 6] = b"ARROW1";
    let io = |e| ColumnarError::io(path, e);
    if bytes < 8 + 10 {
        return Err(ColumnarError::malformed(path, FORMAT, format!("only {bytes} bytes")));
    }
    let (mut head, mut tail) = ([0u8; 6], [0u8; 10]);
    input.rewind().map_err(io)?;
    input.read_exact(&mut head).map_err(io)?;
    input.seek(SeekFrom::End(-10)).map_err(io)?;
    input.read_exact(&mut tail).map_err(io)?;
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
    Ok(footer)
}

/// All blocks lie in the file, and none in another.
pub(super) fn check_blocks<'a>(blocks: impl Iterator<Item = &'a Block>, bytes: u64) -> Result<(), SizeError> {
    let span = |block: &Block| {
        let start = u64::try_from(block.offset()).ok()?;
        let (head, body) = (u64::try_from(block.metaDataLength()).ok()?, u64::try_from(block.bodyLength()).ok()?);
        Some((start, start.checked_add(head)?.checked_add(body).filter(|&end| end <= bytes)?))
    };
    let spans: Option<Vec<_>> = blocks.map(span).collect();
    let mut spans = spans.ok_or(SizeError::Batch { bytes })?;
    spans.sort_unstable();
    if spans.windows(2).any(|pair| pair[1].0 < pair[0].1) { Err(SizeError::Overlap) } else { Ok(()) }
}

pub(super) fn read_at(
    path: &Path,
    input: &mut Box<dyn ReadSeek>,
    at: u64,
    length: u64,
) -> Result<Buffer, ColumnarError> {
    // Aligned as Arrow wants it, so that nothing is copied again.
    let mut buffer = MutableBuffer::from_len_zeroed(length as usize);
    input.seek(SeekFrom::Start(at)).map_err(|e| ColumnarError::io(path, e))?;
    input.read_exact(buffer.as_slice_mut()).map_err(|e| ColumnarError::io(path, e))?;
    Ok(buffer.into())
}

/// A block that was checked to lie in the file.
pub(super) fn read_block(path: &Path, input: &mut Box<dyn ReadSeek>, block: &Block) -> Result<Buffer, ColumnarError> {
    let length = block.metaDataLength().cast_unsigned() as u64 + block.bodyLength().cast_unsigned();
    read_at(path, input, block.offset().cast_unsigned(), length)
}

/// The message at the head of a block: behind its length, which a mark may precede.
pub(super) fn message<'a>(buffer: &'a Buffer, block: &Block) -> Option<Message<'a>> {
    let head = buffer.get(..usize::try_from(block.metaDataLength()).ok()?)?;
    let skip = if head.starts_with(&[0xff; 4]) { 8 } else { 4 };
    arrow_ipc::root_as_message(head.get(skip..)?).ok()
}

/// Compares the sizes that compressed buffers say they will have with their own, before memory is taken for them.
pub(super) fn check_inflated(buffer: &Buffer, block: &Block) -> Result<(), SizeError> {
    let Some(message) = message(buffer, block) else { return Err(SizeError::NoMessage) };
    let dictionary = message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
    let Some(batch) = message.header_as_record_batch().or(dictionary) else { return Ok(()) };
    if batch.compression().is_none() {
        return Ok(());
    }
    let body = &buffer[block.metaDataLength() as usize..];
    let mut total = 0i64;
    for stored in batch.buffers().into_iter().flatten() {
        let start = usize::try_from(stored.offset()).unwrap_or(usize::MAX);
        let Some(size) = body.get(start..).and_then(|bytes| bytes.first_chunk()) else { continue };
        let size = i64::from_le_bytes(*size);
        if stored.length() < 8 {
            continue;
        }
        // Together, for several buffers may be the same bytes. -1 stands before bytes that are stored as they are.
        total = total.saturating_add(if size < 0 { stored.length() } else { size });
        if total > block.bodyLength().saturating_mul(256).saturating_add(MAX_INFLATED_BYTES) {
            return Err(SizeError::Block { packed: block.bodyLength(), plain: total });
        }
    }
    Ok(())
}
