//! PPM, PGM, PBM and TIFF, through the `image` crate's decoders, in Pillow's colours.
//!
//! 16-bit grey is clipped to 255 (Pillow holds it as `I` or `I;16`). 16-bit colour keeps its high byte in a TIFF and is scaled in a PPM.
//! A TIFF is turned as its orientation says, which Pillow does for this kind alone; its first page is taken.

use std::io::Cursor;

use image::codecs::{pnm::PnmDecoder, tiff::TiffDecoder};
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, RgbImage};

use super::raster::failure;
use super::{DecodeError, Kind, Limits, Rgb8, scratch};

/// Decodes a PPM, PGM or PBM into RGB.
pub(super) fn netpbm(bytes: &[u8], limits: &Limits) -> Result<Rgb8, DecodeError> {
    let decoder = PnmDecoder::new(Cursor::new(bytes)).map_err(|error| failure(Kind::Netpbm, &error))?;
    let scaled = |pair: &[u8]| ((u32::from(sixteen(pair)) + 128) / 257) as u8;
    read(decoder, Kind::Netpbm, limits, scaled)
}

/// Decodes a TIFF's first page into RGB.
pub(super) fn tiff(bytes: &[u8], limits: &Limits) -> Result<Rgb8, DecodeError> {
    let fail = |error| failure(Kind::Tiff, &error);
    let mut decoder = TiffDecoder::new(Cursor::new(bytes)).map_err(fail)?;
    let orientation = decoder.orientation().map_err(fail)?;
    let mut own = image::Limits::no_limits();
    own.max_alloc = Some(limits.max_scratch_bytes);
    decoder.set_limits(own).map_err(fail)?;
    let Rgb8 { width, height, pixels } = read(decoder, Kind::Tiff, limits, |pair| (sixteen(pair) >> 8) as u8)?;
    let picture = match RgbImage::from_raw(width, height, pixels) {
        Some(picture) if orientation != Orientation::NoTransforms => {
            let mut picture = DynamicImage::ImageRgb8(picture);
            picture.apply_orientation(orientation);
            picture.into_rgb8()
        }
        Some(picture) => picture,
        None => {
            let detail = "another number of pixels than its header says".into();
            return Err(DecodeError::Corrupt { kind: Kind::Tiff.name(), detail });
        }
    };
    Ok(Rgb8 { width: picture.width(), height: picture.height(), pixels: picture.into_raw() })
}

fn read(
    decoder: impl ImageDecoder,
    kind: Kind,
    limits: &Limits,
    colour16: impl Fn(&[u8]) -> u8,
) -> Result<Rgb8, DecodeError> {
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    // What is stored, the decoder's own copy of it, and RGB twice where it is turned.
    let needed = decoder.total_bytes().saturating_mul(2).saturating_add(pixels.saturating_mul(7));
    limits.admit(u64::from(width), u64::from(height), needed)?;
    let _share = scratch::take(needed, limits.max_scratch_bytes);
    let colour = decoder.color_type();
    let mut stored = vec![0u8; usize::try_from(decoder.total_bytes()).unwrap_or(usize::MAX)];
    decoder.read_image(&mut stored).map_err(|error| failure(kind, &error))?;
    let clipped = |pair: &[u8]| sixteen(pair).min(255) as u8;
    let pixels = match colour {
        ColorType::Rgb8 => stored,
        ColorType::L8 => stored.iter().flat_map(|&grey| [grey; 3]).collect(),
        ColorType::La8 => stored.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
        ColorType::Rgba8 => stored.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        ColorType::L16 => stored.chunks_exact(2).flat_map(|p| [clipped(p); 3]).collect(),
        ColorType::Rgb16 => stored.chunks_exact(2).map(colour16).collect(),
        ColorType::Rgba16 => {
            stored.chunks_exact(8).flat_map(|p| [&p[..2], &p[2..4], &p[4..6]].map(&colour16)).collect()
        }
        other => {
            return Err(DecodeError::Unsupported { kind: kind.name(), detail: format!("colour type {other:?}") });
        }
    };
    Ok(Rgb8 { width, height, pixels })
}

fn sixteen(pair: &[u8]) -> u16 {
    u16::from_ne_bytes([pair[0], pair[1]])
}
