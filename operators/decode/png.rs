//! PNG: the chunks are read here, by Pillow's rules; the pixels of what bears on them come from the `png` crate.
//!
//! - Of the chunks before the pixels, the critical ones must have the right checksum; unknown ones are passed over.
//! - Pixel data counts, not how it ends: when all rows are out, neither its chunks' checksums nor an end chunk are asked
//!   for, and the stream's own checksum only if it is there.
//! - Chunks behind the pixels are passed over, but must not be cut off in their bodies.
//!
//! 16-bit samples become 8-bit ones as in Pillow: the high byte, except for grey without alpha, which Pillow holds as
//! `I;16` and clips to 255.

use std::io::Cursor;

use flate2::{Crc, Decompress, FlushDecompress};
use png::{BitDepth, ColorType, DecodeOptions, Decoder, DecodingError, InterlaceInfo, Reader, Transformations};

use super::scratch::Share;
use super::{DecodeError, Limits, Rgb8};

const KIND: &str = "PNG";
const CUT: DecodeError = DecodeError::Truncated { kind: KIND };

/// Decodes a PNG into RGB.
pub(super) fn decode(bytes: &[u8], limits: &Limits, share: &mut Option<Share>) -> Result<Rgb8, DecodeError> {
    let chunks = Chunks::read(bytes)?;
    let stream = chunks.stream();
    let most = usize::try_from(limits.max_scratch_bytes).unwrap_or(usize::MAX);
    let mut options = DecodeOptions::default();
    options.set_ignore_crc(true);
    options.set_ignore_adler32(chunks.cut_in_data);
    let mut decoder = Decoder::new_with_options(Cursor::new(stream.as_slice()), options);
    decoder.set_limits(png::Limits { bytes: most });
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(failure)?;
    let (width, height) = reader.info().size();
    let size = reader.output_buffer_size().ok_or_else(|| corrupt("sizes that overflow"))?;
    // Beside the rows: what they are made of, and the RGB of them.
    let pixels = u64::from(width) * u64::from(height);
    let needed = (size as u64).saturating_add(pixels.saturating_mul(7)).saturating_add(stream.len() as u64);
    limits.admit(u64::from(width), u64::from(height), needed)?;
    *share = limits.scratch.take(needed, limits.max_scratch_bytes);
    let raw = raw_sizes(&reader);
    if chunks.cut_in_data {
        let behind =
            chunks.pixels.split_last().is_some_and(|(_, before)| inflate(before, raw.bytes) == Inflated::Enough);
        if behind || inflate(&chunks.pixels, raw.bytes) != Inflated::Enough {
            return Err(CUT);
        }
    }
    let mut stored = vec![0u8; size];
    read_rows(&mut reader, &mut stored, raw.rows).map_err(|error| if chunks.ended { failure(error) } else { CUT })?;
    // What follows the last row: the stream's end and checksum, which may be missing but not wrong.
    let end = if chunks.cut_in_data { Ok(()) } else { reader.next_row().map(drop) };
    if let Err(error) = end
        && inflate(&chunks.pixels, u64::MAX) == Inflated::Broken
    {
        return Err(failure(error));
    }
    let (colour, depth) = reader.output_color_type();
    Ok(Rgb8 { width, height, pixels: to_rgb(stored, colour, depth) })
}

/// The chunks that bear on pixels.
struct Chunks<'a> {
    /// Signature, header and palette.
    head: Vec<&'a [u8]>,
    /// Bodies of the chunks of pixel data; the last one may be cut.
    pixels: Vec<&'a [u8]>,
    cut_in_data: bool,
    /// Whether an end chunk was seen.
    ended: bool,
}

impl<'a> Chunks<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut chunks = Self { head: vec![&bytes[..8]], pixels: Vec::new(), cut_in_data: false, ended: false };
        let (mut at, mut animated, mut behind) = (8, false, false);
        loop {
            let begun = !chunks.pixels.is_empty();
            let header = bytes.get(at..at + 8);
            let name = header
                .map(|header| &header[4..])
                .filter(|name| name.iter().all(|&c| c.is_ascii_alphanumeric() || c == b'_'));
            let (Some(header), Some(name)) = (header, name) else {
                return match header {
                    _ if begun => Ok(chunks),
                    Some(header) => Err(corrupt(format!("a chunk named {:?}", header[4..].escape_ascii().to_string()))),
                    None => Err(CUT),
                };
            };
            let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
            let body = bytes.get(at + 8..at + 8 + length);
            match name {
                b"IDAT" if !behind => {
                    chunks.cut_in_data = body.is_none();
                    chunks.pixels.push(body.unwrap_or(&bytes[at + 8..]));
                    if chunks.cut_in_data {
                        return Ok(chunks);
                    }
                }
                b"IEND" if begun => {
                    chunks.ended = true;
                    return Ok(chunks);
                }
                b"IEND" => return Err(corrupt("no pixels")),
                b"fcTL" if begun && animated => return Ok(chunks),
                _ if begun => {
                    behind = true;
                    body.ok_or(CUT)?;
                }
                _ => {
                    let body = body.ok_or(CUT)?;
                    let sum = bytes.get(at + 8 + length..at + 12 + length).ok_or(CUT)?;
                    if name[0].is_ascii_uppercase() {
                        let mut crc = Crc::new();
                        crc.update(&bytes[at + 4..at + 8 + length]);
                        if crc.sum().to_be_bytes() != sum {
                            return Err(corrupt(format!("the checksum of {}", name.escape_ascii())));
                        }
                    }
                    match name {
                        b"IHDR" | b"PLTE" => chunks.head.push(&bytes[at..at + 12 + length]),
                        b"acTL" => animated = body.first_chunk().is_some_and(|&n| u32::from_be_bytes(n) > 1),
                        _ => {}
                    }
                }
            }
            at += 12 + length;
        }
    }

    /// A whole PNG of them, for a decoder that asks for more than Pillow does.
    fn stream(&self) -> Vec<u8> {
        // The decoder looks further ahead than zlib: where data is cut, it gets something to look at.
        let ahead: &[u8] = if self.cut_in_data { &[0; 16] } else { &[] };
        let mut stream = self.head.concat();
        for (at, &body) in self.pixels.iter().enumerate() {
            let ahead = if at + 1 == self.pixels.len() { ahead } else { &[] };
            stream.extend(((body.len() + ahead.len()) as u32).to_be_bytes());
            stream.extend_from_slice(b"IDAT");
            stream.extend_from_slice(body);
            stream.extend_from_slice(ahead);
            stream.extend([0; 4]);
        }
        stream.extend_from_slice(b"\0\0\0\0IEND\xae\x42\x60\x82");
        stream
    }
}

/// Rows of all passes, and the bytes that they have inside the compressed stream.
struct Raw {
    rows: u64,
    bytes: u64,
}

fn raw_sizes(reader: &Reader<Cursor<&[u8]>>) -> Raw {
    /// First column and row, and the steps, of Adam7's passes.
    const PASSES: [[u64; 4]; 7] =
        [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];
    let info = reader.info();
    let (width, height, bits) = (u64::from(info.width), u64::from(info.height), info.bits_per_pixel() as u64);
    let passes: &[[u64; 4]] = if info.interlaced { &PASSES[..] } else { &[[0, 0, 1, 1]] };
    let mut raw = Raw { rows: 0, bytes: 0 };
    for &[left, top, across, down] in passes {
        let (columns, rows) = (width.saturating_sub(left).div_ceil(across), height.saturating_sub(top).div_ceil(down));
        if columns > 0 {
            raw.rows += rows;
            raw.bytes += rows * (1 + (columns * bits).div_ceil(8));
        }
    }
    raw
}

/// Reads so many rows, and not on to what follows them.
fn read_rows(reader: &mut Reader<Cursor<&[u8]>>, stored: &mut [u8], rows: u64) -> Result<(), DecodingError> {
    let interlaced = reader.info().interlaced;
    let Some(line) = reader.output_line_size(reader.info().width) else { return Ok(()) };
    let (colour, depth) = reader.output_color_type();
    let bits = colour.samples() as u8 * depth as u8;
    if !interlaced {
        return stored.chunks_exact_mut(line).try_for_each(|row| reader.read_row(row).map(drop));
    }
    for _ in 0..rows {
        let Some(row) = reader.next_interlaced_row()? else { break };
        if let InterlaceInfo::Adam7(pass) = row.interlace() {
            png::expand_interlaced_row(stored, line, row.data(), pass, bits);
        }
    }
    Ok(())
}

/// What zlib says of pixel data.
#[derive(PartialEq)]
enum Inflated {
    /// So many bytes came out as were asked for.
    Enough,
    /// The stream has ended, or would go on with more input.
    Less,
    /// It is no stream from some place on, or its checksum is wrong.
    Broken,
}

fn inflate(pieces: &[&[u8]], needed: u64) -> Inflated {
    let (mut zlib, mut out) = (Decompress::new(true), vec![0u8; 1 << 16]);
    for piece in pieces {
        let start = zlib.total_in();
        loop {
            let (used, made) = (zlib.total_in(), zlib.total_out());
            let room = needed.saturating_sub(made).min(out.len() as u64) as usize;
            if room == 0 {
                return Inflated::Enough;
            }
            let rest = &piece[(used - start) as usize..];
            if zlib.decompress(rest, &mut out[..room], FlushDecompress::None).is_err() {
                return Inflated::Broken;
            }
            if (zlib.total_in(), zlib.total_out()) == (used, made) {
                break;
            }
        }
    }
    Inflated::Less
}

fn to_rgb(stored: Vec<u8>, colour: ColorType, depth: BitDepth) -> Vec<u8> {
    let wide = depth == BitDepth::Sixteen;
    // Samples are big-endian: the high byte comes first.
    let step = if wide { 2 } else { 1 };
    let pixels = stored.chunks_exact(colour.samples() * step);
    match colour {
        ColorType::Rgb if !wide => stored,
        ColorType::Grayscale if wide => pixels.flat_map(|p| [if p[0] > 0 { 255 } else { p[1] }; 3]).collect(),
        ColorType::Grayscale | ColorType::GrayscaleAlpha => pixels.flat_map(|p| [p[0]; 3]).collect(),
        _ => pixels.flat_map(|p| [p[0], p[step], p[2 * step]]).collect(),
    }
}

fn corrupt(detail: impl Into<String>) -> DecodeError {
    DecodeError::Corrupt { kind: KIND, detail: detail.into() }
}

fn failure(error: DecodingError) -> DecodeError {
    corrupt(error.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
}
