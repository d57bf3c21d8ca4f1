//! TIFF: the first page's samples as the `tiff` crate stores them, in Pillow's colours.
//!
//! ```text
//!  bytes ─▶ form (tags) ─▶ samples, as if all were shades of grey ─▶ u8[h, w, s] ─▶ RGB ─▶ turned
//! ```
//!
//! The crate knows compressions, strips, tiles, planes and predictors; what the samples mean is read here, because it refuses palettes and
//! more bands than colours. So it is shown the file with another photometric interpretation: one under which it gives samples as they are.
//!
//! What Pillow reads and this does not, each a reject that names it: CCITT group 3, LZMA, Zstandard (its window would stand in no budget),
//! old JPEG, JPEG of two bands, YCbCr with fewer colour samples than pixels outside of JPEG, CIE L\*a\*b\*, 12 bits a sample.

use std::io;

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};
use tiff::decoder::ifd::Value;
use tiff::decoder::{ChunkType, Decoder};
use tiff::tags::Tag;
use tiff::{TiffError, TiffResult};
use trommel_core::image_kind::ImageKind;

use super::scratch::Share;
use super::{DecodeError, Limits, Rgb8};

mod colour;
mod shown;

use self::colour::Colour;
use self::shown::Shown;

const KIND: &str = ImageKind::Tiff.name();

/// Decodes a TIFF's first page into RGB.
pub(super) fn decode(bytes: &[u8], limits: &Limits, share: &mut Option<Share>) -> Result<Rgb8, DecodeError> {
    let no_directory =
        || DecodeError::Corrupt { kind: KIND, detail: "no directory that says what its samples are".into() };
    let (shown, photometric) = Shown::of(bytes).ok_or_else(no_directory)?;
    let tag_bytes = shown.tag_bytes;
    if tag_bytes > limits.max_scratch_bytes {
        let detail = format!("its tags need {tag_bytes} bytes, above the limit of {}", limits.max_scratch_bytes);
        return Err(DecodeError::Corrupt { kind: KIND, detail });
    }
    *share = limits.scratch.take(tag_bytes, limits.max_scratch_bytes);
    let mut decoder = Decoder::new(shown).map_err(|error| failed(&error))?;
    let form = Form::of(&mut decoder, photometric, bytes.first() == Some(&b'I')).map_err(|error| failed(&error))?;
    let colour = Colour::of(&form).map_err(|other| unsupported(other.to_string()))?;
    if decoder.chunk_dimensions().0 > form.width.max(1 << 16) {
        return Err(unsupported("tiles that are much wider than the picture".into()));
    }
    let (width, height) = (form.width as usize, form.height as usize);
    // Samples as stored and one byte each or as wide as they are, RGB, and RGB once more where it is turned.
    let stored = form.stored_bytes();
    let beside = form.pixels().saturating_mul(7 + u64::from(form.samples)).saturating_add(tag_bytes);
    let needed = stored.saturating_mul(2).saturating_add(beside);
    limits.admit(u64::from(form.width), u64::from(form.height), needed)?;
    // Whoever holds a part of the allowance does not wait for more; the tags are part of what is needed.
    drop(share.take());
    *share = limits.scratch.take(needed, limits.max_scratch_bytes);
    let mut own = tiff::decoder::Limits::default();
    own.decoding_buffer_size = usize::try_from(stored).unwrap_or(usize::MAX);
    own.intermediate_buffer_size = bytes.len();
    own.ifd_value_size = bytes.len().max(1 << 20);
    let mut decoder = decoder.with_limits(own);
    if form.compression == JPEG {
        check_jpegs(&mut decoder, &form, bytes)?;
    }
    let samples = read(&mut decoder, &form).map_err(|error| failed(&error))?;
    drop(decoder);
    let pixels = colour.to_rgb(&form, samples);
    let turned = Orientation::from_exif(form.orientation).filter(|turn| *turn != Orientation::NoTransforms);
    match (turned, RgbImage::from_raw(form.width, form.height, pixels)) {
        (_, None) => Err(DecodeError::Corrupt { kind: KIND, detail: format!("no {width} x {height} pixels") }),
        (None, Some(picture)) => Ok(Rgb8 { width: form.width, height: form.height, pixels: picture.into_raw() }),
        (Some(turn), Some(picture)) => {
            let mut picture = DynamicImage::ImageRgb8(picture);
            picture.apply_orientation(turn);
            let picture = picture.into_rgb8();
            Ok(Rgb8 { width: picture.width(), height: picture.height(), pixels: picture.into_raw() })
        }
    }
}

const RAW: u16 = 1;
const JPEG: u16 = 7;

/// What the tags say of the samples.
struct Form {
    width: u32,
    height: u32,
    /// Bits of each sample.
    bits: u16,
    samples: u16,
    /// 1 unsigned, 2 signed, 3 floating point.
    format: u16,
    photometric: u16,
    /// What each sample beyond the colour's own is: 0 nothing, 1 alpha by which colours are multiplied, 2 alpha.
    extra: Vec<u16>,
    compression: u16,
    is_planar: bool,
    /// Whether the first pixel of a byte is in its lowest bits.
    lowest_first: bool,
    is_little: bool,
    orientation: u8,
    palette: Vec<u16>,
    /// Pixels a colour sample stands for, across and down.
    subsampling: (u16, u16),
    /// Whether YCbCr has other coefficients or another range than JFIF's.
    is_odd_ycbcr: bool,
}

/// Tags that the crate has no name for.
const SUBSAMPLING: u16 = 530;
const COEFFICIENTS: u16 = 529;
const REFERENCE: u16 = 532;

impl Form {
    fn of(decoder: &mut Decoder<Shown<'_>>, photometric: u16, is_little: bool) -> TiffResult<Self> {
        let (width, height) = decoder.dimensions()?;
        let mut one =
            |tag: Tag, otherwise: u16| -> TiffResult<u16> { Ok(decoder.find_tag_unsigned(tag)?.unwrap_or(otherwise)) };
        let samples = one(Tag::SamplesPerPixel, 1)?;
        let compression = one(Tag::Compression, RAW)?;
        let is_planar = samples > 1 && one(Tag::PlanarConfiguration, 1)? == 2;
        let lowest_first = one(Tag::FillOrder, 1)? == 2;
        let orientation = one(Tag::Orientation, 1)?.min(255) as u8;
        let mut many =
            |tag: Tag| -> TiffResult<Vec<u16>> { Ok(decoder.find_tag_unsigned_vec(tag)?.unwrap_or_default()) };
        let bits = many(Tag::BitsPerSample)?.first().copied().unwrap_or(1);
        let format = many(Tag::SampleFormat)?.first().copied().unwrap_or(1);
        let (extra, palette) = (many(Tag::ExtraSamples)?, many(Tag::ColorMap)?);
        let subsampling = many(Tag::Unknown(SUBSAMPLING))?;
        let mut all =
            |tag| -> TiffResult<Option<Vec<f64>>> { Ok(decoder.find_tag(Tag::Unknown(tag))?.and_then(numbers)) };
        let near = |found: Option<Vec<f64>>, due: &[f64]| {
            found.is_none_or(|found| found.iter().zip(due).all(|(a, b)| (a - b).abs() < 1e-5))
        };
        let is_odd_ycbcr = !near(all(COEFFICIENTS)?, &[0.299, 0.587, 0.114])
            || !near(all(REFERENCE)?, &[0.0, 255.0, 128.0, 255.0, 128.0, 255.0]);
        Ok(Self {
            width,
            height,
            bits,
            samples,
            format,
            photometric,
            extra,
            compression,
            is_planar,
            lowest_first,
            is_little,
            orientation,
            palette,
            subsampling: (subsampling.first().copied().unwrap_or(2), subsampling.get(1).copied().unwrap_or(2)),
            is_odd_ycbcr,
        })
    }

    fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// Bytes of a row of one plane.
    fn row_bytes(&self) -> u64 {
        let samples = if self.is_planar { 1 } else { u64::from(self.samples) };
        (u64::from(self.width) * samples).saturating_mul(u64::from(self.bits)).div_ceil(8)
    }

    fn stored_bytes(&self) -> u64 {
        let planes = if self.is_planar { u64::from(self.samples) } else { 1 };
        self.row_bytes().saturating_mul(planes).saturating_mul(u64::from(self.height))
    }
}

fn numbers(value: Value) -> Option<Vec<f64>> {
    let one = |value: Value| match value {
        Value::Rational(of, by) => Some(f64::from(of) / f64::from(by)),
        Value::Short(number) => Some(f64::from(number)),
        Value::Unsigned(number) => Some(f64::from(number)),
        Value::Float(number) => Some(f64::from(number)),
        Value::Double(number) => Some(number),
        _ => None,
    };
    match value {
        Value::List(values) => values.into_iter().map(one).collect(),
        value => one(value).map(|number| vec![number]),
    }
}

/// Bytes that one chunk may have beyond the picture's own: tiles stand over its edges.
const OVER_THE_EDGE_BYTES: u64 = 4 << 20;

/// The samples, those of a pixel side by side; a byte for each that has no more than eight bits.
fn read(decoder: &mut Decoder<Shown<'_>>, form: &Form) -> TiffResult<Vec<u8>> {
    let (width, height) = (form.width as usize, form.height as usize);
    let mut stored = vec![0; usize::try_from(form.stored_bytes()).map_err(|_| TiffError::LimitsExceeded)?];
    if !form.is_planar {
        decoder.read_image_bytes(&mut stored)?;
        if form.lowest_first {
            stored.iter_mut().for_each(|byte| *byte = byte.reverse_bits());
        }
        let row_bytes = form.row_bytes() as usize;
        return Ok(if form.bits < 8 { expand(&stored, row_bytes, width, u32::from(form.bits)) } else { stored });
    }
    let (size, samples) = (usize::from(form.bits / 8), usize::from(form.samples));
    let (chunk_width, chunk_height) = decoder.chunk_dimensions();
    let (across, down) = (form.width.div_ceil(chunk_width), form.height.div_ceil(chunk_height));
    let mut chunk = Vec::new();
    for (plane, index) in (0..form.samples).flat_map(|plane| (0..across * down).map(move |index| (plane, index))) {
        let number = u32::from(plane) * across * down + index;
        let (columns, rows) = decoder.chunk_data_dimensions(number);
        let bytes = u64::from(columns).saturating_mul(u64::from(rows)).saturating_mul(size as u64);
        if bytes > form.stored_bytes() + OVER_THE_EDGE_BYTES {
            return Err(TiffError::LimitsExceeded);
        }
        chunk.resize(bytes as usize, 0);
        decoder.read_chunk_bytes(number, &mut chunk)?;
        let (left, top) = ((index % across * chunk_width) as usize, (index / across * chunk_height) as usize);
        let rows = chunk.chunks_exact((columns as usize * size).max(1)).take(height.saturating_sub(top));
        for (y, row) in (top..).zip(rows) {
            for (x, sample) in (left..width).zip(row.chunks_exact(size)) {
                let at = ((y * width + x) * samples + usize::from(plane)) * size;
                stored[at..at + size].copy_from_slice(sample);
            }
        }
    }
    Ok(stored)
}

/// A byte for each sample of `bits` bits.
fn expand(stored: &[u8], row_bytes: usize, width: usize, bits: u32) -> Vec<u8> {
    let (in_byte, mask) = (8 / bits as usize, 0xffu8 >> (8 - bits));
    let row = |row: &'_ [u8]| -> Vec<u8> {
        (0..width).map(|x| row[x / in_byte] >> (8 - bits as usize * (x % in_byte + 1)) & mask).collect()
    };
    stored.chunks_exact(row_bytes).flat_map(row).collect()
}

/// The sizes in JPEGs inside the file are their own: none may be much larger than what it stands for.
fn check_jpegs(decoder: &mut Decoder<Shown<'_>>, form: &Form, bytes: &[u8]) -> Result<(), DecodeError> {
    let [offsets, counts] = match decoder.get_chunk_type() {
        ChunkType::Strip => [Tag::StripOffsets, Tag::StripByteCounts],
        ChunkType::Tile => [Tag::TileOffsets, Tag::TileByteCounts],
    }
    .map(|tag| decoder.get_tag_u64_vec(tag));
    let (offsets, counts) = (offsets.map_err(|error| failed(&error))?, counts.map_err(|error| failed(&error))?);
    for (offset, count) in offsets.into_iter().zip(counts) {
        let range = usize::try_from(offset).ok().zip(usize::try_from(count).ok());
        let jpeg = range.and_then(|(from, count)| bytes.get(from..from.checked_add(count)?)).unwrap_or_default();
        let Some((width, height, components)) = jpeg_frame(jpeg) else { continue };
        let needs = u64::from(width) * u64::from(height) * u64::from(components);
        if needs > form.stored_bytes() + OVER_THE_EDGE_BYTES {
            let detail =
                format!("a JPEG of {width} x {height} pixels inside a picture of {} x {}", form.width, form.height);
            return Err(DecodeError::Corrupt { kind: KIND, detail });
        }
    }
    Ok(())
}

/// Width, height and components by a JPEG's frame header.
fn jpeg_frame(jpeg: &[u8]) -> Option<(u16, u16, u8)> {
    let mut at = 2;
    loop {
        let [0xff, marker, high, low] = *jpeg.get(at..at + 4)?.first_chunk()? else { return None };
        if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
            let [_, height_high, height_low, width_high, width_low, components] =
                *jpeg.get(at + 4..at + 10)?.first_chunk()?;
            let number = |high, low| u16::from_be_bytes([high, low]);
            return Some((number(width_high, width_low), number(height_high, height_low), components));
        }
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
    }
}

fn unsupported(detail: String) -> DecodeError {
    DecodeError::Unsupported { kind: KIND, detail }
}

fn failed(error: &TiffError) -> DecodeError {
    let detail = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    match error {
        TiffError::UnsupportedError(_) => unsupported(detail),
        TiffError::IoError(io) if io.kind() == io::ErrorKind::UnexpectedEof => DecodeError::Truncated { kind: KIND },
        _ => DecodeError::Corrupt { kind: KIND, detail },
    }
}

#[cfg(test)]
mod tests;
