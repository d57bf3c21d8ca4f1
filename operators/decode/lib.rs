//! Encoded bytes to pixels: what Pillow's `Image.open(f).convert("RGB")` gives, within stated limits.
//!
//! ```text
//!  bytes --first bytes--> JPEG | PNG | .. | TIFF --header--> limits --> decoder --> u8[h, w, 3] --view--> eval, train
//! ```
//!
//! What holds:
//! 1. The kind of picture is known by its first bytes; names and extensions do not count.
//! 2. Limits are checked on the header, before memory for pixels is taken.
//! 3. Colour follows Pillow: alpha is dropped (not blended), palettes are looked up, 16-bit colour keeps its high byte,
//!    16-bit grey is *clipped* to 255 (Pillow's conversion of `I;16`), CMYK is read as Adobe writes it (inverted).
//!    EXIF orientation is not applied, a TIFF's own is. Of an animation the first picture is taken, on its canvas.
//! 4. A file that ends before its pixels do is an error, as in Pillow, unless [`Limits::load_truncated`]; what is missing or
//!    odd behind the last pixel is passed over where Pillow passes over it.
//! 5. Nothing here panics; a panic inside a decoder of others is caught and becomes an error.
//!
//! JPEGs have libjpeg-turbo's pixels, Pillow's to the bit, on every machine: see [`Decoder`].
//!
//! Cost: JPEGs of 400 x 350 take about a millisecond. Scratch: [`scratch_bytes`] bounds a picture.
#![forbid(missing_docs)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};
use trommel_core::image_kind::{ImageKind, image_kind};

use self::scratch::Share;

pub mod card;
mod gif;
mod jpeg;
pub mod operator;
mod png;
mod raster;
mod raw;
mod sample_views;
mod scratch;
mod tiff;
pub mod view;
pub mod view_buffers;

pub use scratch::Scratch;

/// Whose pixels a JPEG gets.
///
/// libjpeg-turbo's arithmetic is integers throughout, so that any program that follows it gives the same bits: a name tells the
/// arithmetic and not the program, which is chosen when this is built and never found at run time. Here it is the crate
/// `libjpeg-turbo-rs`, Rust with AVX2, SSE2 or NEON, which needs no C compiler, assembler or system library: equal pixels wherever this is
/// built. Runs begun before have pixels of zune-jpeg, a few units of 255 away: they go on with these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decoder {
    /// libjpeg-turbo's: the accurate inverse DCT, triangle upsampling.
    #[default]
    LibjpegTurbo,
    /// zune-jpeg 0.4.21's.
    Zune,
}

/// Decoder and resizer with versions, for [`trommel_core::sample::Identity`].
pub const DECODER: &str = "libjpeg-turbo + image 0.25.8 + tiff 0.10.3 + trommel-resize 1";

/// What identities say that were written before TIFFs had a part in the name. A TIFF's CMYK and multiplied alpha have had other pixels since.
pub const EARLIER_DECODER: &str = "zune-jpeg 0.4.21 + image 0.25.8 + trommel-resize 1";

impl Decoder {
    /// The decoder that an identity names; none where it is not known here.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        match name {
            DECODER | "libjpeg-turbo + image 0.25.8 + trommel-resize 1" => Some(Self::LibjpegTurbo),
            EARLIER_DECODER => Some(Self::Zune),
            _ => None,
        }
    }
}

/// Most pixels of a picture where nobody says otherwise: Pillow's `MAX_IMAGE_PIXELS`, at which it warns; it refuses at twice as much.
pub const DEFAULT_MAX_PIXELS: u64 = 89_478_485;

/// What is decoded and what is refused. Part of the decision hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest width times height. Default [`DEFAULT_MAX_PIXELS`].
    pub max_pixels: u64,
    /// Longest side in pixels. Default 65,535, the most that a JPEG can say.
    pub max_side: u32,
    /// Most encoded bytes. Default 256 MiB.
    pub max_bytes: u64,
    /// Most bytes that decoding one picture may take at a time, and all pictures together; larger ones are refused, others
    /// wait. Default 512 MiB: a progressive 4:2:0 JPEG of `max_pixels` fits.
    pub max_scratch_bytes: u64,
    /// Whose pixels a JPEG gets.
    pub decoder: Decoder,
    /// Take JPEGs that end early, the missing part grey, as Pillow does with `LOAD_TRUNCATED_IMAGES`. Default false.
    pub load_truncated: bool,
    /// The allowance that `max_scratch_bytes` bounds; clones of these limits share it.
    #[serde(skip)]
    pub scratch: Scratch,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_pixels: DEFAULT_MAX_PIXELS,
            max_side: 65_535,
            max_bytes: 256 << 20,
            max_scratch_bytes: 512 << 20,
            decoder: Decoder::default(),
            load_truncated: false,
            scratch: Scratch::default(),
        }
    }
}

/// Most bytes that decoding takes for a pixel: four components as held coefficients, as stored and as RGB.
const SCRATCH_PER_PIXEL: u64 = 16;

/// Room for what does not follow the pixels: encoded bytes, tables.
const SCRATCH_BESIDE_PIXELS: u64 = 64 << 20;

/// Scans that a picture of `max_pixels` may have; a smaller one may have more. A scan may go over all blocks and take a few bytes of the file, so
/// that a small file could cost hours. Encoders write 10 to 20.
const SCANS_OF_MAX_PIXELS: u64 = 100;

impl Limits {
    /// The default limits for pictures of at most `max_pixels`: their scratch is no more than such a picture can need.
    #[must_use]
    pub fn of_pixels(max_pixels: u64) -> Self {
        let default = Self::default();
        let most = SCRATCH_PER_PIXEL.saturating_mul(max_pixels).saturating_add(SCRATCH_BESIDE_PIXELS);
        Self { max_pixels, max_scratch_bytes: most.min(default.max_scratch_bytes), ..default }
    }

    /// Checks a header's sizes. `scratch` is what decoding would take, in bytes.
    fn admit(&self, width: u64, height: u64, scratch: u64) -> Result<(), DecodeError> {
        if width == 0 || height == 0 {
            return Err(DecodeError::Corrupt { kind: "picture", detail: format!("{width} x {height} pixels") });
        }
        if width.max(height) > u64::from(self.max_side) {
            return Err(DecodeError::TooLong { width, height, max_side: self.max_side });
        }
        if width.saturating_mul(height) > self.max_pixels {
            return Err(DecodeError::TooManyPixels { width, height, max_pixels: self.max_pixels });
        }
        if scratch > self.max_scratch_bytes {
            return Err(DecodeError::TooMuchScratch {
                width,
                height,
                scratch,
                max_scratch_bytes: self.max_scratch_bytes,
            });
        }
        Ok(())
    }

    /// Checks how often decoding would go over a picture of so many pixels.
    fn admit_scans(&self, pixels: u64, scans: u64) -> Result<(), DecodeError> {
        let most = self.max_pixels.saturating_mul(SCANS_OF_MAX_PIXELS) / pixels;
        if scans > most { Err(DecodeError::TooManyScans { pixels, scans, most }) } else { Ok(()) }
    }
}

/// Why a picture was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The first bytes belong to none of the kinds read here.
    #[error("neither JPEG, PNG, WebP, GIF, BMP, PPM, PGM, PBM nor TIFF (begins with {begins})")]
    UnknownKind {
        /// The first bytes in hex, or that there are none.
        begins: String,
    },
    /// More encoded bytes than allowed.
    #[error("{bytes} encoded bytes, above the limit of {max_bytes}")]
    TooManyBytes {
        /// Bytes there are.
        bytes: u64,
        /// Most encoded bytes that are allowed.
        max_bytes: u64,
    },
    /// More pixels than allowed.
    #[error("{width} x {height} pixels, above the limit of {max_pixels}")]
    TooManyPixels {
        /// Width in pixels.
        width: u64,
        /// Height in pixels.
        height: u64,
        /// Most pixels that are allowed.
        max_pixels: u64,
    },
    /// A side above the limit.
    #[error("{width} x {height} pixels, a side above the limit of {max_side}")]
    TooLong {
        /// Width in pixels.
        width: u64,
        /// Height in pixels.
        height: u64,
        /// Most pixels of a side that are allowed.
        max_side: u32,
    },
    /// Decoding would take more memory than allowed.
    #[error(
        "{width} x {height} pixels need {scratch} bytes of memory to decode, above the {max_scratch_bytes} that one picture may take"
    )]
    TooMuchScratch {
        /// Width in pixels.
        width: u64,
        /// Height in pixels.
        height: u64,
        /// Bytes that decoding would take.
        scratch: u64,
        /// Most bytes of scratch memory that are allowed.
        max_scratch_bytes: u64,
    },
    /// A progressive picture that would be gone over too often.
    #[error("{scans} scans, above the limit of {most} for {pixels} pixels")]
    TooManyScans {
        /// Width times height.
        pixels: u64,
        /// Scans of the file.
        scans: u64,
        /// Most scans that are allowed of a picture of that size.
        most: u64,
    },
    /// The file ends before its picture does.
    #[error("{kind} ends early")]
    Truncated {
        /// Kind of picture.
        kind: &'static str,
    },
    /// A variant that is not read here.
    #[error("{kind} not supported: {detail}")]
    Unsupported {
        /// Kind of picture.
        kind: &'static str,
        /// The variant that the file has.
        detail: String,
    },
    /// The bytes contradict the format.
    #[error("{kind} broken: {detail}")]
    Corrupt {
        /// Kind of picture.
        kind: &'static str,
        /// What contradicts the format, and where.
        detail: String,
    },
}

impl DecodeError {
    /// The ledger's code: `too_many_pixels`, `too_many_bytes`, `image_truncated`, `image_unsupported`, `image_decode`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooManyPixels { .. }
            | Self::TooLong { .. }
            | Self::TooMuchScratch { .. }
            | Self::TooManyScans { .. } => "too_many_pixels",
            Self::TooManyBytes { .. } => "too_many_bytes",
            Self::Truncated { .. } => "image_truncated",
            Self::UnknownKind { .. } | Self::Unsupported { .. } => "image_unsupported",
            Self::Corrupt { .. } => "image_decode",
        }
    }
}

/// A decoded picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb8 {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// RGB, u8\[height, width, 3\], row-major.
    pub pixels: Vec<u8>,
}

/// Decodes `bytes` into RGB.
///
/// # Errors
/// When the picture is of no known kind, above a limit, cut off, broken, or of a variant not read here.
///
/// ```
/// use trommel_decode::{Limits, decode_rgb};
/// let error = decode_rgb(b"<html>404</html>", &Limits::default()).expect_err("not a picture");
/// assert_eq!(error.code(), "image_unsupported");
/// ```
pub fn decode_rgb(bytes: &[u8], limits: &Limits) -> Result<Rgb8, DecodeError> {
    held(bytes, limits).map(|(picture, _)| picture)
}

/// Gives a picture's buffer back, for the next one that this thread decodes.
pub fn recycle(picture: Rgb8) {
    scratch::give_back(picture.pixels);
}

/// As [`decode_rgb`], with the picture's part of the allowance, which is to go with it.
fn held(bytes: &[u8], limits: &Limits) -> Result<(Rgb8, Option<Share>), DecodeError> {
    if bytes.len() as u64 > limits.max_bytes {
        return Err(DecodeError::TooManyBytes { bytes: bytes.len() as u64, max_bytes: limits.max_bytes });
    }
    let Some(kind) = image_kind(bytes) else {
        let begins = match bytes {
            [] => "nothing: it is empty".into(),
            _ => bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect(),
        };
        return Err(DecodeError::UnknownKind { begins });
    };
    let mut share = None;
    let decode = || match kind {
        ImageKind::Jpeg => jpeg::decode(bytes, limits, &mut share),
        ImageKind::Png => png::decode(bytes, limits, &mut share),
        ImageKind::Gif => gif::decode(bytes, limits, &mut share),
        ImageKind::Netpbm => raw::netpbm(bytes, limits, &mut share),
        ImageKind::Tiff => tiff::decode(bytes, limits, &mut share),
        ImageKind::WebP => raster::webp(bytes, limits, &mut share),
        ImageKind::Bmp => raster::bmp(bytes, limits, &mut share),
    };
    let decoded = catch_unwind(AssertUnwindSafe(decode));
    let picture = decoded
        .unwrap_or_else(|_| Err(DecodeError::Corrupt { kind: kind.name(), detail: "the decoder panicked".into() }))?;
    if picture.pixels.len() as u64 == u64::from(picture.width) * u64::from(picture.height) * 3 {
        if let Some(share) = &mut share {
            share.shrink_to(picture.pixels.len() as u64);
        }
        Ok((picture, share))
    } else {
        Err(DecodeError::Corrupt { kind: kind.name(), detail: "the decoder returned another number of pixels".into() })
    }
}

/// Memory that decoding takes at most, all threads together, beside the samples' own bytes: what `--memory` subtracts.
#[must_use]
pub fn scratch_bytes(limits: &Limits, threads: usize, views: &[u64]) -> u64 {
    let small = threads as u64 * (scratch::FREE_BYTES + scratch::SPARE_BYTES);
    limits.max_scratch_bytes + small + threads as u64 * views.iter().sum::<u64>()
}

#[cfg(test)]
mod peers;
#[cfg(test)]
#[path = "../../tests/common/skipped.rs"]
mod skipped;
#[cfg(test)]
mod tails;
#[cfg(test)]
mod tests;
