//! PNG, WebP and BMP, through the `image` crate's decoders.
//!
//! Of an animation the first picture is taken. 16-bit samples become 8-bit ones as in Pillow: the high byte, except for
//! grey without alpha, which Pillow holds as `I;16` and clips to 255.

use std::io::Cursor;

use image::codecs::{bmp::BmpDecoder, png::PngDecoder, webp::WebPDecoder};
use image::{ColorType, ImageDecoder, ImageError};

use super::{DecodeError, Kind, Limits, Rgb8, scratch};

/// Decodes a picture of `kind` into RGB.
pub(super) fn decode(bytes: &[u8], kind: Kind, limits: &Limits) -> Result<Rgb8, DecodeError> {
    let fail = |error: ImageError| failure(kind, &error);
    let input = Cursor::new(bytes);
    match kind {
        Kind::Png => {
            let mut own = image::Limits::no_limits();
            own.max_alloc = Some(limits.max_scratch_bytes);
            let decoder = PngDecoder::with_limits(input, own).map_err(fail)?;
            // The colour type in the header: grey, before a transparent grey made it grey with alpha.
            let grey = bytes.get(25) == Some(&0);
            read(decoder, kind, limits, grey)
        }
        Kind::WebP => read(WebPDecoder::new(input).map_err(fail)?, kind, limits, false),
        Kind::Bmp => read(BmpDecoder::new(input).map_err(fail)?, kind, limits, false),
        Kind::Gif => super::gif::decode(bytes, limits),
        Kind::Jpeg => super::jpeg::decode(bytes, limits),
    }
}

fn read(decoder: impl ImageDecoder, kind: Kind, limits: &Limits, clip_grey: bool) -> Result<Rgb8, DecodeError> {
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    // The decoder's own planes and buffers: at most four bytes a pixel in each of these formats.
    let needed = decoder.total_bytes().saturating_add(pixels.saturating_mul(7));
    limits.admit(u64::from(width), u64::from(height), needed)?;
    let _share = scratch::take(needed, limits.max_scratch_bytes);
    let colour = decoder.color_type();
    let mut stored = vec![0u8; decoder.total_bytes() as usize];
    decoder.read_image(&mut stored).map_err(|error| failure(kind, &error))?;
    Ok(Rgb8 { width, height, pixels: to_rgb(stored, colour, clip_grey)? })
}

fn to_rgb(stored: Vec<u8>, colour: ColorType, clip_grey: bool) -> Result<Vec<u8>, DecodeError> {
    let high = |pair: &[u8]| (u16::from_ne_bytes([pair[0], pair[1]]) >> 8) as u8;
    let clipped = |pair: &[u8]| u16::from_ne_bytes([pair[0], pair[1]]).min(255) as u8;
    Ok(match colour {
        ColorType::Rgb8 => stored,
        ColorType::L8 => stored.iter().flat_map(|&grey| [grey; 3]).collect(),
        ColorType::La8 => stored.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
        ColorType::Rgba8 => stored.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        ColorType::L16 => stored.chunks_exact(2).flat_map(|p| [clipped(p); 3]).collect(),
        ColorType::La16 if clip_grey => stored.chunks_exact(4).flat_map(|p| [clipped(p); 3]).collect(),
        ColorType::La16 => stored.chunks_exact(4).flat_map(|p| [high(p); 3]).collect(),
        ColorType::Rgb16 => stored.chunks_exact(6).flat_map(|p| [high(p), high(&p[2..]), high(&p[4..])]).collect(),
        ColorType::Rgba16 => stored.chunks_exact(8).flat_map(|p| [high(p), high(&p[2..]), high(&p[4..])]).collect(),
        other => return Err(DecodeError::Unsupported { kind: "picture", detail: format!("colour type {other:?}") }),
    })
}

fn failure(kind: Kind, error: &ImageError) -> DecodeError {
    let kind = kind.name();
    let detail = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    match error {
        ImageError::Unsupported(_) => DecodeError::Unsupported { kind, detail },
        ImageError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => DecodeError::Truncated { kind },
        _ => DecodeError::Corrupt { kind, detail },
    }
}
