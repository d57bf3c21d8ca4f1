//! PPM, PGM and PBM, through the `image` crate's decoder, in Pillow's colours: 16-bit grey is clipped to 255 (Pillow holds it as `I`), 16-bit
//! colour is scaled.

use std::io::Cursor;

use image::codecs::pnm::PnmDecoder;
use image::{ColorType, ImageDecoder};
use trommel_core::image_kind::ImageKind;

use super::raster::failure;
use super::scratch::Share;
use super::{DecodeError, Limits, Rgb8};

/// Decodes a PPM, PGM or PBM into RGB.
pub(super) fn netpbm(bytes: &[u8], limits: &Limits, share: &mut Option<Share>) -> Result<Rgb8, DecodeError> {
    let fail = |error| failure(ImageKind::Netpbm, &error);
    let decoder = PnmDecoder::new(Cursor::new(bytes)).map_err(fail)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    // What is stored, the decoder's own copy of it, and RGB.
    let needed = decoder.total_bytes().saturating_mul(2).saturating_add(pixels.saturating_mul(7));
    limits.admit(u64::from(width), u64::from(height), needed)?;
    *share = limits.scratch.take(needed, limits.max_scratch_bytes);
    let colour = decoder.color_type();
    let mut stored = vec![0u8; usize::try_from(decoder.total_bytes()).unwrap_or(usize::MAX)];
    decoder.read_image(&mut stored).map_err(fail)?;
    let pixels = match colour {
        ColorType::Rgb8 => stored,
        ColorType::L8 => stored.iter().flat_map(|&grey| [grey; 3]).collect(),
        ColorType::L16 => stored.chunks_exact(2).flat_map(|pair| [sixteen(pair).min(255) as u8; 3]).collect(),
        ColorType::Rgb16 => stored.chunks_exact(2).map(|pair| ((u32::from(sixteen(pair)) + 128) / 257) as u8).collect(),
        other => {
            let detail = format!("colour type {other:?}");
            return Err(DecodeError::Unsupported { kind: ImageKind::Netpbm.name(), detail });
        }
    };
    Ok(Rgb8 { width, height, pixels })
}

fn sixteen(pair: &[u8]) -> u16 {
    u16::from_ne_bytes([pair[0], pair[1]])
}
