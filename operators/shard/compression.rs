//! A shard's compression, known by its first bytes: gzip (any number of members), zstd (any number of frames), bzip2, xz (any
//! number of streams), the older `.lzma`, or none. These are what Python's `tarfile`, and with it webdataset, reads, and zstd.
//!
//! A file's name says nothing: a `.tar` that is gzip is read as gzip. What begins with a tar header is a tar, whatever its first
//! member is called. What grows beyond [`CompressionLimits`] is stopped with an error, which ends the shard there like any damage
//! in its data.

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::sync::Arc;

use bzip2::bufread::MultiBzDecoder;
use serde::{Deserialize, Serialize};

use self::decoders::{Room, Xz, Zstd};
use super::content::starts_a_tar;
use super::header::BLOCK;
use super::store::{Meter, Metered};
use trommel_core::credit::workspace::Workspace;

mod decoders;

/// How far a compressed shard may grow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CompressionLimits {
    /// Largest decompressed bytes of a shard.
    pub max_bytes: u64,
    /// Largest decompressed bytes per compressed byte, once past `ratio_free_bytes`.
    pub max_ratio: u64,
    /// Decompressed bytes up to which the ratio does not matter.
    pub ratio_free_bytes: u64,
    /// Largest zstd window, and largest dictionary of xz and `.lzma`, as a power of two: memory a reader may need for it.
    pub max_zstd_window_log: u32,
}

impl Default for CompressionLimits {
    fn default() -> Self {
        Self { max_bytes: 1 << 40, max_ratio: 1000, ratio_free_bytes: 256 << 20, max_zstd_window_log: 27 }
    }
}

/// How a shard is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not compressed.
    None,
    /// gzip, of one or more members.
    Gzip,
    /// Zstandard, of one or more frames.
    Zstd,
    /// bzip2, of one or more streams.
    Bzip2,
    /// xz, of one or more streams.
    Xz,
    /// LZMA as it was before xz, with `tarfile`'s dictionaries: powers of two from 8 MiB on.
    Lzma,
}

impl Compression {
    /// What the first bytes of a file say; a block of them tells a tar by its header.
    #[must_use]
    pub fn of(first: &[u8]) -> Self {
        match first {
            _ if starts_a_tar(first) => Self::None,
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', b'Y', b'&', b'S', b'Y', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x5d, 0, 0, low, high, ..] if is_dictionary(*low, *high) => Self::Lzma,
            _ => Self::None,
        }
    }
}

/// Bytes 2 and 3 of a `.lzma` header's dictionary size: one bit, 64 KiB to 2 GiB.
fn is_dictionary(low: u8, high: u8) -> bool {
    low.count_ones() + high.count_ones() == 1
}

const READ_BYTES: usize = 256 << 10;
const DECODED_BYTES: usize = 128 << 10;

/// The plain bytes of a shard. What a decoder needs beyond its buffers comes out of `workspace` when a frame's header has been read,
/// and where it is not there the meter says so; what [`CompressionLimits`] do not allow is an error of the kind `OutOfMemory`.
///
/// # Errors
/// When the first bytes cannot be read.
pub fn decompress(
    mut raw: Metered,
    meter: Arc<Meter>,
    limits: &CompressionLimits,
    workspace: Workspace,
) -> io::Result<(Box<dyn BufRead + Send>, Compression)> {
    let mut first = Vec::with_capacity(BLOCK);
    (&mut raw).take(BLOCK as u64).read_to_end(&mut first)?;
    let compression = Compression::of(&first);
    let raw = BufReader::with_capacity(READ_BYTES, Cursor::new(first).chain(raw));
    let most = 1u64 << limits.max_zstd_window_log;
    let redo_xz = ["xz -9", "xz -2"];
    let counted = meter.clone();
    let room = |what, redo| Room { workspace, meter: counted, what, redo, most, begun: false };
    let decoder: Box<dyn Read + Send> = match compression {
        Compression::None => return Ok((Box::new(raw), compression)),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(raw)),
        Compression::Zstd => Box::new(Zstd::new(raw, room("zstd window", ["zstd --long=27", "zstd -12"]), limits)?),
        Compression::Bzip2 => Box::new(MultiBzDecoder::new(raw)),
        Compression::Xz => Box::new(Xz::of_xz(raw, room("xz dictionary", redo_xz))?),
        Compression::Lzma => Box::new(Xz::of_lzma(raw, room("lzma dictionary", redo_xz))?),
    };
    let guarded = Guard { inner: Some(decoder), out: 0, meter, limits: limits.clone() };
    Ok((Box::new(BufReader::with_capacity(DECODED_BYTES, guarded)), compression))
}

/// Holds a decompressor to its limits. After an error it is not asked again.
struct Guard {
    inner: Option<Box<dyn Read + Send>>,
    out: u64,
    meter: Arc<Meter>,
    limits: CompressionLimits,
}

impl Read for Guard {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(inner) = &mut self.inner else { return Err(io::Error::other("damaged before")) };
        let read = match inner.read(buffer) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                self.inner = None;
                return Err(error);
            }
            read => read?,
        };
        self.out = self.out.saturating_add(read as u64);
        let allowed =
            self.meter.bytes().saturating_mul(self.limits.max_ratio).saturating_add(self.limits.ratio_free_bytes);
        if self.out > self.limits.max_bytes {
            return Err(io::Error::other(format!("decompresses to more than {} bytes", self.limits.max_bytes)));
        }
        if self.out > allowed {
            let ratio = self.limits.max_ratio;
            return Err(io::Error::other(format!("decompresses to more than {ratio} times its size")));
        }
        Ok(read)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
