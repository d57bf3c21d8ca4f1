//! An archive's entry, whose checksum is compared when its last byte is read: a stored array says by nothing else that a bit of it has turned.

use std::io::{self, Read};

use flate2::Crc;

/// Reads an entry's plain bytes.
pub(super) struct Checksummed<R> {
    entry: R,
    read: Crc,
    left: u64,
    crc32: u32,
}

impl<R> Checksummed<R> {
    /// An entry of so many plain bytes, with the checksum that the archive has of them.
    pub(super) fn new(entry: R, bytes: u64, crc32: u32) -> Self {
        Self { entry, read: Crc::new(), left: bytes, crc32 }
    }
}

impl<R: Read> Read for Checksummed<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        let count = self.entry.read(&mut out[..most])?;
        self.read.update(&out[..count]);
        self.left -= count as u64;
        if count > 0 && self.left == 0 && self.read.sum() != self.crc32 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its checksum does not match"));
        }
        Ok(count)
    }
}
