//! Durable files: synced, renamed into place, and marked with size and checksum.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::TrainError;
use trommel_core::durable;

/// What a file must be to be trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Length.
    pub bytes: u64,
    /// CRC-32C of all bytes, 8 lower-case hex digits.
    pub crc32c: String,
}

/// 8 lower-case hex digits.
#[must_use]
pub fn hex(crc: u32) -> String {
    format!("{crc:08x}")
}

/// Reads a file through and marks it.
///
/// # Errors
/// The file cannot be read.
pub fn mark(path: &Path) -> Result<Mark, TrainError> {
    let read = || -> io::Result<Mark> {
        let (mut file, mut buffer) = (File::open(path)?, vec![0u8; 1 << 20]);
        let (mut bytes, mut crc) = (0u64, 0u32);
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(Mark { bytes, crc32c: hex(crc) }),
                count => {
                    bytes += count as u64;
                    crc = crc32c::crc32c_append(crc, &buffer[..count]);
                }
            }
        }
    };
    read().map_err(TrainError::file(path, "reading"))
}

/// Brings a file's bytes, or a folder's entries, to the disk.
///
/// # Errors
/// The disk is full or gone.
pub fn sync(path: &Path) -> Result<(), TrainError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(TrainError::file(path, "syncing"))
}

/// Replaces `path` by `text`, whole or not at all.
///
/// # Errors
/// The folder cannot be written.
pub fn replace(path: &Path, text: &[u8]) -> Result<(), TrainError> {
    durable::write(path, text).map_err(TrainError::file(path, "writing"))
}
