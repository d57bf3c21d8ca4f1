//! A tar writer with the headers of WebDataset's `TarWriter`: USTAR, mode 0444, owner and group `bigdata`, time 0.

use std::io::{self, Write};

/// Bytes of a header or of a padded block.
const BLOCK: usize = 512;
/// Python's tarfile fills up to a record of this size.
const RECORD: u64 = 10_240;

/// Writes members one after the other.
#[derive(Debug)]
pub(super) struct TarWriter<W: Write> {
    to: W,
    written: u64,
}

impl<W: Write> TarWriter<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, written: 0 }
    }

    /// One member. Names here are short: at most 100 bytes.
    pub(super) fn member(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = [0u8; BLOCK];
        if name.len() > 100 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("tar member name too long: {name}")));
        }
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        put(0, name.as_bytes());
        put(100, b"0000444\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", bytes.len()).as_bytes());
        put(136, b"00000000000\0");
        put(148, b"        ");
        put(156, b"0");
        put(257, b"ustar\x0000");
        put(265, b"bigdata");
        put(297, b"bigdata");
        // Device numbers (329 and 337) stay empty, as Python leaves them for regular files.
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.to.write_all(&header)?;
        self.to.write_all(bytes)?;
        let rest = (BLOCK - bytes.len() % BLOCK) % BLOCK;
        self.to.write_all(&[0u8; BLOCK][..rest])?;
        self.written += (BLOCK + bytes.len() + rest) as u64;
        Ok(())
    }

    /// Two empty blocks and the rest of the record.
    pub(super) fn finish(mut self) -> io::Result<W> {
        let end = self.written + 2 * BLOCK as u64;
        let padded = end.div_ceil(RECORD) * RECORD;
        self.to.write_all(&vec![0u8; (padded - self.written) as usize])?;
        self.to.flush()?;
        Ok(self.to)
    }
}
