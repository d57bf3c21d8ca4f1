//! A TIFF shown to the crate with another photometric interpretation than it has.

use std::io::{self, Read, Seek, SeekFrom};

/// Bytes that the crate takes for a value of a tag: as one of many types, and as the number that it is.
const VALUE_BYTES: u64 = 48;

/// The file with shades of grey for its photometric interpretation.
pub(super) struct Shown<'a> {
    bytes: &'a [u8],
    at: u64,
    /// Where the interpretation's value stands, and what stands there instead.
    patch: (u64, [u8; 2]),
    /// Bytes that the crate takes for the values of tags, before it can be told a limit.
    pub(super) tag_bytes: u64,
}

impl<'a> Shown<'a> {
    /// With the interpretation that it really has; `None` for a file whose first directory does not say it.
    pub(super) fn of(bytes: &'a [u8]) -> Option<(Self, u16)> {
        let is_little = bytes.first() == Some(&b'I');
        let (at, values) = photometric_at(bytes, is_little)?;
        let grey = if is_little { 1u16.to_le_bytes() } else { 1u16.to_be_bytes() };
        let really = short(bytes, at, is_little)?;
        Some((Self { bytes, at: 0, patch: (at as u64, grey), tag_bytes: values.saturating_mul(VALUE_BYTES) }, really))
    }
}

fn short(bytes: &[u8], at: usize, is_little: bool) -> Option<u16> {
    let pair = *bytes.get(at..at.checked_add(2)?)?.first_chunk()?;
    Some(if is_little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) })
}

/// Where the value of the first directory's photometric interpretation stands, and how many values the tags have that are read. `None` where
/// a tag has no value at all, which the crate does not expect, or more than there are bytes: memory would be taken for them first.
fn photometric_at(bytes: &[u8], is_little: bool) -> Option<(usize, u64)> {
    let number = |at: usize, length: usize| -> Option<usize> {
        let field = bytes.get(at..at.checked_add(length)?)?;
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        let number = if is_little { field.iter().rev().fold(0, add) } else { field.iter().fold(0, add) };
        usize::try_from(number).ok()
    };
    let is_big = short(bytes, 2, is_little)? == 43;
    let (width, count, entry, value) = if is_big { (8, 8, 20, 12) } else { (4, 2, 12, 8) };
    let directory = number(width, width)?;
    let (entries, first) = (number(directory, count)?, directory.checked_add(count)?);
    let (mut found, mut values) = (None, 0);
    for at in (0..entries.min(1 << 16)).map(|at| first + at * entry) {
        let (tag, count) = (short(bytes, at, is_little)?, number(at + 4, width)?);
        // Profiles and the like, which may be long, are not read.
        let is_read = matches!(tag, 256..=284 | 317..=347 | 529..=532);
        if count == 0 || is_read && count > bytes.len() {
            return None;
        }
        values += if is_read { count as u64 } else { 0 };
        if tag == 262 {
            found = found.or(Some(at + value));
        }
    }
    found.map(|found| (found, values))
}

impl Read for Shown<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(self.at).ok().and_then(|at| self.bytes.get(at..)).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        for (place, byte) in (self.patch.0..).zip(self.patch.1) {
            if let Some(shown) =
                place.checked_sub(self.at).and_then(|at| buffer[..read].get_mut(usize::try_from(at).ok()?))
            {
                *shown = byte;
            }
        }
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Shown<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (from, by) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::End(by) => (self.bytes.len() as u64, by),
            SeekFrom::Current(by) => (self.at, by),
        };
        self.at = from.checked_add_signed(by).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
