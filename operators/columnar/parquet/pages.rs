//! Whether what is packed in a page keeps to the size that its header says.
//!
//! The crate behind holds zstd, snappy and raw LZ4 to that size while it decompresses them; gzip, Brotli and LZ4's frames it
//! compares with it afterwards, when a page of some kilobytes may have become gigabytes. So these are decompressed twice: first
//! into nothing, up to that size.

use std::io::{self, Read};

use parquet::basic::Compression;

use crate::sizes::SizeError;

/// Structures in structures that a page header may have.
const MAX_DEPTH: u32 = 4;

/// Bytes of a decoder's buffer.
const BUFFER_BYTES: usize = 64 << 10;

/// Whether the crate behind decompresses without a limit.
pub(super) fn is_unlimited(codec: Compression) -> bool {
    matches!(codec, Compression::GZIP(_) | Compression::BROTLI(_) | Compression::LZ4)
}

/// Refuses a page that decompresses to more than its header says. What is no stream of this codec is left to the reader.
///
/// # Errors
/// What does not fit.
pub(super) fn check(codec: Compression, header: &[u8], page: &[u8]) -> Result<(), SizeError> {
    let Sizes { plain, levels, packed } = Sizes::of(header).ok_or(SizeError::PageHeader)?;
    let body = usize::try_from(levels).ok().and_then(|levels| page.get(levels..)).ok_or(SizeError::Levels)?;
    if !packed {
        return Ok(());
    }
    let due = plain.saturating_sub(levels);
    let stream: Box<dyn Read + '_> = match codec {
        Compression::GZIP(_) => Box::new(flate2::read::MultiGzDecoder::new(body)),
        Compression::BROTLI(_) => Box::new(brotli::Decompressor::new(body, BUFFER_BYTES)),
        Compression::LZ4 => Box::new(lz4_flex::frame::FrameDecoder::new(body)),
        _ => return Ok(()),
    };
    match io::copy(&mut stream.take(due.saturating_add(1)), &mut io::sink()) {
        Ok(came) if came > due => Err(SizeError::Page { due }),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Sizes of a page, as its header has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sizes {
    /// Of the whole page when decompressed.
    plain: u64,
    /// Of the levels at its start, which are not packed (pages of version 2).
    levels: u64,
    /// Whether the rest is.
    packed: bool,
}

impl Sizes {
    fn of(header: &[u8]) -> Option<Self> {
        let (mut plain, mut levels, mut packed) = (None, Some(0u64), true);
        let mut see = |depth: u32, of: i64, field: i64, value: i64| match (depth, of, field) {
            (0, _, 2) => plain = u64::try_from(value).ok(),
            // Field 8 is the header of a data page of version 2.
            (1, 8, 5 | 6) => levels = levels.zip(u64::try_from(value).ok()).map(|(sum, more)| sum.saturating_add(more)),
            (1, 8, 7) => packed = value == 1,
            _ => {}
        };
        Thrift(header).structure(0, 0, &mut see)?;
        Some(Self { plain: plain?, levels: levels?, packed })
    }
}

/// Takes a field's depth, the field of the structure that it stands in, its own number and its value.
type See<'a> = &'a mut dyn FnMut(u32, i64, i64, i64);

/// Thrift in compact form, as far as page headers have it.
struct Thrift<'a>(&'a [u8]);

impl Thrift<'_> {
    fn structure(&mut self, depth: u32, of: i64, see: See<'_>) -> Option<()> {
        let mut field = 0i64;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(());
            }
            field = match head >> 4 {
                0 => self.integer()?,
                delta => field.checked_add(i64::from(delta))?,
            };
            match head & 15 {
                flag @ (1 | 2) => see(depth, of, field, i64::from(flag == 1)),
                3 => self.skip(1)?,
                4..=6 => see(depth, of, field, self.integer()?),
                7 => self.skip(8)?,
                8 => {
                    let bytes = self.varint()?;
                    self.skip(bytes)?;
                }
                12 if depth < MAX_DEPTH => self.structure(depth + 1, field, see)?,
                _ => return None,
            }
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn skip(&mut self, bytes: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(bytes).ok()?..)?;
        Some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for at in 0..10 {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn integer(&mut self) -> Option<i64> {
        let zigzag = self.varint()?;
        Some((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use parquet::basic::{BrotliLevel, GzipLevel};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn brotli(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 1, 22);
        encoder.write_all(bytes).unwrap();
        encoder.into_inner()
    }

    fn lz4(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// {1: 0, 2: bytes}, as a page of the first version.
    fn header(bytes: u32) -> Vec<u8> {
        let mut header = vec![0x15, 0, 0x15];
        let mut zigzag = bytes << 1;
        while zigzag > 0x7f {
            header.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        header.extend([zigzag as u8, 0]);
        header
    }

    #[test]
    fn a_page_that_grows_beyond_its_header_is_refused_before_it_is_unpacked() {
        let text = vec![7; 3 << 20];
        let (gz, br) = (Compression::GZIP(GzipLevel::default()), Compression::BROTLI(BrotliLevel::default()));
        for (codec, page) in [
            (gz, gzip(&text)),
            (gz, [gzip(&text[1..]), gzip(&[7])].concat()),
            (br, brotli(&text)),
            (Compression::LZ4, lz4(&text)),
        ] {
            assert!(is_unlimited(codec));
            assert_eq!(check(codec, &header(3 << 20), &page), Ok(()));
            assert_eq!(check(codec, &header(4 << 20), &page), Ok(()), "too little is the reader's to say");
            let error = check(codec, &header((3 << 20) - 1), &page).unwrap_err();
            assert_eq!(error.to_string(), "a page of more than the 3145727 bytes that its header says");
            assert!(check(codec, &header(100), &page).is_err(), "{codec:?}");
        }
        assert_eq!(check(gz, &header(9), b"no gzip"), Ok(()), "the reader says what it is");
    }

    #[test]
    fn sizes_of_both_versions_of_pages() {
        // {1: 0, 2: 100, 3: 50, 5: {1: 7, 5: {1: "a8", 5: "b"}}}
        let first =
            [0x15, 0, 0x15, 200, 1, 0x15, 100, 0x2c, 0x15, 14, 0x4c, 0x18, 2, 0x58, 0x58, 0x48, 1, 0x58, 0, 0, 0];
        assert_eq!(Sizes::of(&first), Some(Sizes { plain: 100, levels: 0, packed: true }));
        // {1: 3, 2: 100, 3: 50, 8: {1: 7, 5: 4, 6: 2, 7: false, 8: {5: 9, 7: true}}}
        let second =
            [0x15, 6, 0x15, 200, 1, 0x15, 100, 0x5c, 0x15, 14, 0x45, 8, 0x15, 4, 0x12, 0x1c, 0x55, 18, 0x21, 0, 0, 0];
        assert_eq!(Sizes::of(&second), Some(Sizes { plain: 100, levels: 6, packed: false }));
        for cut in 0..second.len() {
            assert_eq!(Sizes::of(&second[..cut]), None);
        }
        assert_eq!(Sizes::of(&[0x1c; 100]), None, "structures without end");
    }
}
