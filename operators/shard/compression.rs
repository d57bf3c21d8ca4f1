//! A shard's compression, known by its first bytes: gzip (any number of members), zstd (any number of frames), or none.
//!
//! A file's name says nothing: a `.tar` that is gzip is read as gzip. What grows beyond [`CompressionLimits`] is stopped with
//! an error, which ends the shard there like any damage in its data.

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::store::{Meter, Metered};

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
    /// Largest zstd window, as a power of two: memory a reader may need for it.
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
    /// Plain.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// Something known that this build does not read.
    Unsupported(&'static str),
}

impl Compression {
    /// What the first bytes of a file say.
    #[must_use]
    pub fn of(first: &[u8]) -> Self {
        match first {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Unsupported("bzip2"),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Unsupported("xz"),
            [0x04, 0x22, 0x4d, 0x18, ..] => Self::Unsupported("lz4"),
            [b'P', b'K', 3, 4, ..] => Self::Unsupported("zip"),
            _ => Self::None,
        }
    }
}

const READ_BYTES: usize = 256 << 10;
const DECODED_BYTES: usize = 128 << 10;

/// The plain bytes of a shard.
///
/// # Errors
/// When the first bytes cannot be read, or name a compression that this build does not read.
pub fn decompress(
    mut raw: Metered,
    meter: Arc<Meter>,
    limits: &CompressionLimits,
) -> io::Result<(Box<dyn BufRead + Send>, Compression)> {
    let mut first = Vec::with_capacity(8);
    (&mut raw).take(8).read_to_end(&mut first)?;
    let compression = Compression::of(&first);
    let raw = BufReader::with_capacity(READ_BYTES, Cursor::new(first).chain(raw));
    let guard = |inner| Guard { inner, out: 0, meter, limits: limits.clone() };
    let plain: Box<dyn BufRead + Send> = match compression {
        Compression::None => Box::new(raw),
        Compression::Gzip => {
            let decoder = flate2::bufread::MultiGzDecoder::new(raw);
            Box::new(BufReader::with_capacity(DECODED_BYTES, guard(Box::new(decoder))))
        }
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(raw)?;
            decoder.window_log_max(limits.max_zstd_window_log)?;
            Box::new(BufReader::with_capacity(DECODED_BYTES, guard(Box::new(decoder))))
        }
        Compression::Unsupported(what) => {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("{what} is not read; use gzip, zstd or none"),
            ));
        }
    };
    Ok((plain, compression))
}

/// Holds a decompressor to its limits.
struct Guard {
    inner: Box<dyn Read + Send>,
    out: u64,
    meter: Arc<Meter>,
    limits: CompressionLimits,
}

impl Read for Guard {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
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
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn plain(bytes: Vec<u8>, limits: &CompressionLimits) -> io::Result<Vec<u8>> {
        let (raw, meter) = Metered::new(Box::new(Cursor::new(bytes)), None);
        let mut out = Vec::new();
        decompress(raw, meter, limits)?.0.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn known_by_first_bytes() {
        let limits = CompressionLimits::default();
        let two = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(plain(two, &limits).unwrap(), b"one two");
        let zst = [zstd::encode_all(&b"one "[..], 3).unwrap(), zstd::encode_all(&b"two"[..], 3).unwrap()].concat();
        assert_eq!(plain(zst, &limits).unwrap(), b"one two");
        for short in [&b""[..], b"a", b"\x1f", b"plain text"] {
            assert_eq!(plain(short.to_vec(), &limits).unwrap(), short);
        }
        let error = plain(b"BZh91AY".to_vec(), &limits).unwrap_err();
        assert!(error.to_string().contains("bzip2"), "{error}");
    }

    #[test]
    fn bombs_are_stopped() {
        let limits = CompressionLimits { ratio_free_bytes: 1 << 20, max_ratio: 100, ..Default::default() };
        let bomb = vec![0u8; 8 << 20];
        for bytes in [gzip(&bomb), zstd::encode_all(&bomb[..], 3).unwrap()] {
            assert!(plain(bytes, &limits).unwrap_err().to_string().contains("100 times"));
        }
        let limits = CompressionLimits { max_bytes: 1 << 20, ..Default::default() };
        assert!(plain(gzip(&bomb), &limits).unwrap_err().to_string().contains("1048576 bytes"));
    }
}
