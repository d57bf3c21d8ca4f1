//! WebP and BMP, through the `image` crate's decoders. Of an animation the first picture is taken.

use std::io::Cursor;

use image::codecs::{bmp::BmpDecoder, webp::WebPDecoder};
use image::{ColorType, ImageDecoder, ImageError};
use trommel_core::image_kind::ImageKind;

use super::scratch::Share;
use super::{DecodeError, Limits, Rgb8};

/// Decodes a WebP into RGB.
pub(super) fn webp(bytes: &[u8], limits: &Limits, share: &mut Option<Share>) -> Result<Rgb8, DecodeError> {
    let kind = ImageKind::WebP;
    if !webp_is_whole(bytes) {
        return Err(DecodeError::Truncated { kind: kind.name() });
    }
    read(WebPDecoder::new(Cursor::new(bytes)).map_err(|error| failure(kind, &error))?, kind, limits, share)
}

/// Decodes a BMP into RGB.
pub(super) fn bmp(bytes: &[u8], limits: &Limits, share: &mut Option<Share>) -> Result<Rgb8, DecodeError> {
    let kind = ImageKind::Bmp;
    let fail = |error: ImageError| failure(kind, &error);
    let mut bmp = |bytes: &[u8]| read(BmpDecoder::new(Cursor::new(bytes)).map_err(fail)?, kind, limits, share);
    // What fills up the last row is no pixel, and may be missing.
    match (bmp(bytes), bmp_filling(bytes)) {
        (Err(DecodeError::Truncated { .. }), filling @ 1..) => bmp(&[bytes, &[0; 3][..filling]].concat()),
        (read, _) => read,
    }
}

/// Whether the file holds all that its head promises, and its chunks all that theirs do: libwebp reads no animation, and so
/// Pillow no picture, of which something is missing, be it behind the first picture.
fn webp_is_whole(bytes: &[u8]) -> bool {
    let size = |at: usize| bytes.get(at..at + 4)?.first_chunk().map(|&size| u32::from_le_bytes(size) as usize);
    let Some(end) = size(4).map(|size| size + 8).filter(|&end| end <= bytes.len()) else { return false };
    let mut at = 12;
    while at + 8 <= end {
        at += size(at + 4).map_or(0, |size| size.next_multiple_of(2)) + 8;
    }
    at <= end
}

/// Bytes that fill up a row of an uncompressed BMP to a multiple of four; 0 where that is not known.
fn bmp_filling(bytes: &[u8]) -> usize {
    let number = |at: usize| bytes.get(at..at + 4)?.first_chunk().map(|&number| u32::from_le_bytes(number));
    let (Some(40..), Some(width), Some(bits), Some(0 | 3)) = (number(14), number(18), number(28), number(30)) else {
        return 0;
    };
    let row = (u64::from(width) * u64::from(bits & 0xffff)).div_ceil(8);
    (row.next_multiple_of(4) - row) as usize
}

fn read(
    decoder: impl ImageDecoder,
    kind: ImageKind,
    limits: &Limits,
    share: &mut Option<Share>,
) -> Result<Rgb8, DecodeError> {
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    // The decoder's own planes and buffers: at most four bytes a pixel in each of these formats.
    let needed = decoder.total_bytes().saturating_add(pixels.saturating_mul(7));
    limits.admit(u64::from(width), u64::from(height), needed)?;
    // Nobody waits for a part of the allowance while holding one.
    *share = None;
    *share = limits.scratch.take(needed, limits.max_scratch_bytes);
    let colour = decoder.color_type();
    let mut stored = vec![0u8; decoder.total_bytes() as usize];
    decoder.read_image(&mut stored).map_err(|error| failure(kind, &error))?;
    Ok(Rgb8 { width, height, pixels: to_rgb(stored, colour)? })
}

fn to_rgb(stored: Vec<u8>, colour: ColorType) -> Result<Vec<u8>, DecodeError> {
    Ok(match colour {
        ColorType::Rgb8 => stored,
        ColorType::L8 => stored.iter().flat_map(|&grey| [grey; 3]).collect(),
        ColorType::Rgba8 => stored.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        other => return Err(DecodeError::Unsupported { kind: "picture", detail: format!("colour type {other:?}") }),
    })
}

pub(super) fn failure(kind: ImageKind, error: &ImageError) -> DecodeError {
    let kind = kind.name();
    let detail = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    match error {
        ImageError::Unsupported(_) => DecodeError::Unsupported { kind, detail },
        ImageError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => DecodeError::Truncated { kind },
        _ => DecodeError::Corrupt { kind, detail },
    }
}
