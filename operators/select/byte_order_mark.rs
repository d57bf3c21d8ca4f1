//! A byte order mark before a list, as some editors write it: it is no part of the first line.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const MARK: &[u8] = "\u{feff}".as_bytes();

/// Where a file's text begins, in bytes: behind its byte order mark where it has one.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn text_begins(file: &File) -> io::Result<u64> {
    let mut begin = [0; MARK.len()];
    let read = file.read_at(&mut begin, 0)?;
    Ok(if begin[..read] == *MARK { read as u64 } else { 0 })
}
