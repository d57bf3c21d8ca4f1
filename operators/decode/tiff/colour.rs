//! What a TIFF's samples mean, by Pillow's table of the forms that it opens, and how Pillow makes RGB of each.

use std::fmt;

use super::{Form, JPEG, RAW};
use crate::jpeg::colour::{LIBJPEGS_GREEN, inked, jfif};

/// A form that Pillow opens and converts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Grey {
        inverted: bool,
    },
    /// More than eight bits of grey: clipped to a byte, not scaled.
    WideGrey,
    Palette,
    Rgb {
        /// Whether the fourth sample is an alpha that the colours are multiplied by.
        multiplied: bool,
    },
    Cmyk,
    YCbCr(By),
}

/// A form that Pillow, or this, does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OtherColour {
    /// What it is; empty where that has no name.
    what: &'static str,
    samples: u16,
    bits: u16,
    format: u16,
    photometric: u16,
}

impl fmt::Display for OtherColour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, samples, bits, format, photometric } = self;
        let form = format_args!("{samples} samples of {bits} bits, format {format}, interpretation {photometric}");
        if what.is_empty() { write!(f, "{form}") } else { write!(f, "{what} ({form})") }
    }
}

impl std::error::Error for OtherColour {}

/// How much of green is Cb, in 65536ths, as it follows for libtiff from the other coefficients.
const LIBTIFFS_GREEN: i32 = -22_553;

/// Whose conversion of YCbCr it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// Pillow's own, where nothing is compressed.
    Pillow,
    Libtiff,
    /// Of a JPEG inside.
    Libjpeg,
}

impl Colour {
    /// The form's colour.
    ///
    /// # Errors
    /// One that Pillow, or this, does not read.
    pub(super) fn of(form: &Form) -> Result<Self, OtherColour> {
        let Form { bits, samples, format, photometric, .. } = *form;
        let other = |what| Err(OtherColour { what, samples, bits, format, photometric });
        if form.lowest_first && (form.compression != RAW || bits > 8) {
            return other("bits in reversed order");
        }
        if form.is_planar && (bits != 8 || form.extra.len() > 1 || form.extra == [1] || !matches!(photometric, 2 | 5)) {
            return other("planes of such samples");
        }
        if form.compression == JPEG && samples == 2 {
            return other("a JPEG of two bands");
        }
        let unsigned = format == 1;
        let little = form.is_little;
        match (photometric, bits, samples, form.extra.as_slice()) {
            (0 | 1, 1 | 2 | 4 | 8, 1, []) if unsigned => Ok(Self::Grey { inverted: photometric == 0 }),
            (1, 8, 1, []) if format == 2 => Ok(Self::Grey { inverted: false }),
            (6, 8, 1, []) if unsigned => Ok(Self::Grey { inverted: false }),
            (1, 8, 2, [0 | 2]) if unsigned => Ok(Self::Grey { inverted: false }),
            (1, 16, 1, []) if unsigned || format == 2 => Ok(Self::WideGrey),
            (0, 16, 1, []) if unsigned && little => Ok(Self::WideGrey),
            (1, 32, 1, []) if (unsigned && little) || format == 2 => Ok(Self::WideGrey),
            (0 | 1, 32, 1, []) if format == 3 => Ok(Self::WideGrey),
            (3, 1 | 2 | 4 | 8, 1, []) | (3, 8, 2, [0 | 2]) if unsigned => {
                let colours = 3usize << bits;
                match form.palette.len() == colours && !form.lowest_first {
                    true => Ok(Self::Palette),
                    false => other("a palette of another length, or bits in reversed order"),
                }
            }
            (2, 8 | 16, 3, []) | (2, 8 | 16, 4, [] | [0 | 2]) | (2, 8, 4, [999]) if unsigned => {
                Ok(Self::Rgb { multiplied: false })
            }
            (2, 8, 5, [0 | 2, 0]) | (2, 8, 6, [0 | 2, 0, 0]) if unsigned => Ok(Self::Rgb { multiplied: false }),
            (2, 8 | 16, 4, [1]) | (2, 8, 5, [1, 0]) | (2, 8, 6, [1, 0, 0]) if unsigned => {
                Ok(Self::Rgb { multiplied: true })
            }
            (5, 8 | 16, 4, []) | (5, 8, 5, [0]) | (5, 8, 6, [0, 0]) if unsigned => Ok(Self::Cmyk),
            (6, 8, 3, []) if unsigned => {
                if form.compression != JPEG && form.subsampling != (1, 1) {
                    return other("YCbCr with fewer colour samples than pixels");
                }
                if form.compression != RAW && form.is_odd_ycbcr {
                    return other("YCbCr of other coefficients than JFIF's");
                }
                Ok(Self::YCbCr(match form.compression {
                    RAW => By::Pillow,
                    JPEG => By::Libjpeg,
                    _ => By::Libtiff,
                }))
            }
            (8, ..) => other("CIE L*a*b*"),
            _ => other(""),
        }
    }

    /// RGB of `samples`, those of a pixel side by side.
    pub(super) fn to_rgb(self, form: &Form, mut samples: Vec<u8>) -> Vec<u8> {
        if form.bits == 16 && self != Self::WideGrey {
            samples = samples.chunks_exact(2).map(|pair| (u16::from_ne_bytes([pair[0], pair[1]]) >> 8) as u8).collect();
        }
        let pixels = samples.chunks_exact(usize::from(form.samples));
        let grey = |grey: u8| [grey; 3];
        match self {
            Self::Grey { inverted } => {
                let scale = 255 / (0xffu8 >> (8 - form.bits.min(8)));
                let flip = if inverted { 255 } else { 0 };
                pixels.flat_map(|pixel| grey((pixel[0] * scale) ^ flip)).collect()
            }
            Self::WideGrey if form.bits == 16 && form.format == 2 => {
                let clipped = |p: &[u8]| i16::from_ne_bytes([p[0], p[1]]).clamp(0, 255) as u8;
                samples.chunks_exact(2).flat_map(|pixel| grey(clipped(pixel))).collect()
            }
            Self::WideGrey if form.bits == 16 => {
                let clipped = |p: &[u8]| u16::from_ne_bytes([p[0], p[1]]).min(255) as u8;
                samples.chunks_exact(2).flat_map(|pixel| grey(clipped(pixel))).collect()
            }
            Self::WideGrey => {
                let clipped = |p: &[u8]| {
                    let word = [p[0], p[1], p[2], p[3]];
                    // A cast of a float saturates, and cuts what is behind the point.
                    if form.format == 3 {
                        f32::from_ne_bytes(word) as u8
                    } else {
                        i32::from_ne_bytes(word).clamp(0, 255) as u8
                    }
                };
                samples.chunks_exact(4).flat_map(|pixel| grey(clipped(pixel))).collect()
            }
            Self::Palette => {
                let colours = form.palette.len() / 3;
                let at = |band: usize, index: u8| {
                    form.palette.get(band * colours + usize::from(index)).map_or(0, |colour| (colour >> 8) as u8)
                };
                pixels.flat_map(|pixel| [0, 1, 2].map(|band| at(band, pixel[0]))).collect()
            }
            Self::Rgb { multiplied: false } => pixels.flat_map(|p| [p[0], p[1], p[2]]).collect(),
            Self::Rgb { multiplied: true } => {
                pixels.flat_map(|p| [p[0], p[1], p[2]].map(|c| divided(c, p[3]))).collect()
            }
            Self::Cmyk => pixels.flat_map(|p| [p[0], p[1], p[2]].map(|ink| inked(ink, 255 - p[3]))).collect(),
            Self::YCbCr(By::Pillow) => {
                let tables = Tables::new();
                pixels.flat_map(|p| tables.rgb(p[0], p[1], p[2])).collect()
            }
            Self::YCbCr(By::Libtiff) => pixels.flat_map(|p| jfif(p[0], p[1], p[2], LIBTIFFS_GREEN)).collect(),
            Self::YCbCr(By::Libjpeg) => pixels.flat_map(|p| jfif(p[0], p[1], p[2], LIBJPEGS_GREEN)).collect(),
        }
    }
}

/// A colour that was multiplied by its alpha.
fn divided(colour: u8, alpha: u8) -> u8 {
    (255 * u16::from(colour)).checked_div(u16::from(alpha)).map_or(0, |colour| colour.min(255) as u8)
}

/// JFIF's conversion with six bits behind the point, as Pillow has it: parts of red by Cr, green by Cb and by Cr, blue by Cb.
struct Tables([[i32; 256]; 4]);

impl Tables {
    fn new() -> Self {
        let table = |factor: f64| std::array::from_fn(|at| (factor * 64.0 * (at as f64 - 128.0) + 0.5) as i32);
        Self([1.402, -0.344_14, -0.714_14, 1.772].map(table))
    }

    fn rgb(&self, y: u8, cb: u8, cr: u8) -> [u8; 3] {
        let Self([red, green_cb, green_cr, blue]) = self;
        let (y, cb, cr) = (i32::from(y), usize::from(cb), usize::from(cr));
        [red[cr], green_cb[cb] + green_cr[cr], blue[cb]].map(|part| (y + (part >> 6)).clamp(0, 255) as u8)
    }
}
