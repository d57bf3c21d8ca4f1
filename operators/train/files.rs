//! Durable files: synced, renamed into place, and marked with size and checksum.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::TrainError;
use trommel_core::durable;

/// What a file must be to be trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Length of the file.
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
    step().and_then(|()| File::open(path)).and_then(|file| file.sync_all()).map_err(TrainError::file(path, "syncing"))
}

/// Replaces `path` by `text`, whole or not at all, and for good.
///
/// # Errors
/// The folder cannot be written.
pub fn replace(path: &Path, text: &[u8]) -> Result<(), TrainError> {
    step().and_then(|()| durable::write(path, text)).map_err(TrainError::file(path, "writing"))
}

/// Gives a file or folder another name.
///
/// # Errors
/// The file system refuses.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), TrainError> {
    step().and_then(|()| fs::rename(from, to)).map_err(TrainError::file(from, "renaming"))
}

/// Removes a folder with its files, if it is there.
///
/// # Errors
/// The file system refuses; some of the files are gone then.
pub(super) fn remove_folder(folder: &Path) -> Result<(), TrainError> {
    if !folder.exists() {
        return Ok(());
    }
    let remove = || {
        if cfg!(test) {
            fs::read_dir(folder)?.try_for_each(|file| step().and_then(|()| fs::remove_file(file?.path())))?;
        }
        step()?;
        fs::remove_dir_all(folder)
    };
    remove().map_err(TrainError::file(folder, "removing"))
}

/// One call that changes the disk: in tests the program may be killed before it.
#[cfg(not(test))]
pub(super) const fn step() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(super) use kill::step;

/// A kill between two calls that change the disk.
#[cfg(test)]
pub(super) mod kill {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static LEFT: Cell<u32> = const { Cell::new(u32::MAX) };
    }

    /// So many more calls on this thread are made, and none after them.
    pub(in super::super) fn after(calls: u32) {
        LEFT.set(calls);
    }

    pub(in super::super) fn step() -> io::Result<()> {
        let left = LEFT.get().checked_sub(1).ok_or_else(|| io::Error::other("killed"))?;
        LEFT.set(left);
        Ok(())
    }
}
