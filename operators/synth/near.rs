//! Near duplicates: what happens to a picture on its way through the web. They start from the picture's pixels, not
//! from its JPEG, so that no decoder has a say in the bytes.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::random::Stream;
use super::{Picture, SynthError};

/// Quality of the benchmark's, the reference set's and the exact duplicates' JPEGs.
pub(super) const QUALITY: u8 = 90;

/// A change that a copy went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Exact,
    Recompressed,
    Resized,
    Cropped,
    Brightness,
}

impl Change {
    pub(super) const ALL: [Self; 5] = [Self::Exact, Self::Recompressed, Self::Resized, Self::Cropped, Self::Brightness];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Recompressed => "recompressed",
            Self::Resized => "resized",
            Self::Cropped => "cropped",
            Self::Brightness => "brightness",
        }
    }

    /// The copy and the quality to store it with.
    pub(super) fn apply(self, picture: &Picture, chance: &mut Stream) -> (Picture, u8) {
        let (w, h) = (f64::from(picture.width), f64::from(picture.height));
        match self {
            Self::Exact => (picture.clone(), QUALITY),
            Self::Recompressed => (picture.clone(), 50 + chance.below(30) as u8),
            Self::Resized => {
                let k = chance.range(0.7, 0.92);
                let size = ((w * k) as u32, (h * k) as u32);
                (resample(picture, (0.0, 0.0, w, h), size), 88)
            }
            Self::Cropped => {
                let (cut_x, cut_y) = (1.0 + w * chance.range(0.01, 0.05), 1.0 + h * chance.range(0.01, 0.05));
                let (left, top) = ((cut_x * chance.unit()).floor(), (cut_y * chance.unit()).floor());
                let (cw, ch) = ((w - cut_x).floor(), (h - cut_y).floor());
                (resample(picture, (left, top, cw, ch), (cw as u32, ch as u32)), 88)
            }
            Self::Brightness => {
                let shift = chance.range(0.015, 0.04) * if chance.chance(0.5) { 255.0 } else { -255.0 };
                let pixels = picture.pixels.iter().map(|v| (f64::from(*v) + shift).clamp(0.0, 255.0) as u8).collect();
                (Picture { pixels, ..picture.clone() }, 88)
            }
        }
    }
}

/// The box (left, top, width, height) at another size, each new pixel the average of what it covers.
fn resample(picture: &Picture, area: (f64, f64, f64, f64), size: (u32, u32)) -> Picture {
    let (width, height) = (size.0.max(1), size.1.max(1));
    let (kx, ky) = (area.2 / f64::from(width), area.3 / f64::from(height));
    let mut pixels = Vec::with_capacity(width as usize * height as usize * 3);
    let source = |x: usize, y: usize, c: usize| {
        let (x, y) = (x.min(picture.width as usize - 1), y.min(picture.height as usize - 1));
        f64::from(picture.pixels[(y * picture.width as usize + x) * 3 + c])
    };
    for y in 0..height {
        let (y0, y1) = (area.1 + f64::from(y) * ky, area.1 + f64::from(y + 1) * ky);
        for x in 0..width {
            let (x0, x1) = (area.0 + f64::from(x) * kx, area.0 + f64::from(x + 1) * kx);
            let mut sums = [0.0f64; 3];
            let mut total = 0.0;
            for sy in y0.floor() as usize..y1.ceil() as usize {
                let high = (sy as f64 + 1.0).min(y1) - (sy as f64).max(y0);
                for sx in x0.floor() as usize..x1.ceil() as usize {
                    let share = high * ((sx as f64 + 1.0).min(x1) - (sx as f64).max(x0));
                    total += share;
                    (0..3).for_each(|c| sums[c] += share * source(sx, sy, c));
                }
            }
            pixels.extend(sums.map(|sum| (sum / total + 0.5) as u8));
        }
    }
    Picture { width, height, pixels }
}

/// The picture as JPEG, by the pinned pure-Rust encoder (4:4:4, standard tables).
pub(super) fn jpeg(picture: &Picture, quality: u8) -> Result<Vec<u8>, SynthError> {
    let mut bytes = Vec::with_capacity(8 * 1024);
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .write_image(&picture.pixels, picture.width, picture.height, ExtendedColorType::Rgb8)
        .map_err(|error| SynthError::Encode(error.into()))?;
    Ok(bytes)
}
