//! From stored JPEG components to RGB, with libjpeg's and Pillow's integers.
//!
//! YCbCr: ITU-T T.871 with 16 fractional bits, rounded as libjpeg rounds. CMYK: Pillow takes all four-component JPEGs to
//! be inverted, as Adobe writes them, and multiplies by black with a rounded division by 255.

/// How the stored components are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    /// One component, luma alone.
    Grey,
    /// Three components, luma and chroma.
    YCbCr,
    /// Three components, stored as RGB.
    Rgb,
    /// Four components, inverted.
    Cmyk,
    /// Four components, the first three as luma and chroma of inverted CMY.
    Ycck,
}

/// How much of green is Cb, in 65536ths, as libjpeg rounds 0.34414.
pub(crate) const LIBJPEGS_GREEN: i32 = -22_554;

/// JFIF's conversion with 16 bits behind the point, with so much Cb in green: libraries round it differently.
pub(crate) fn jfif(y: u8, cb: u8, cr: u8, green_cb: i32) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let r = y + ((91_881 * cr + HALF) >> 16);
    let g = y + ((green_cb * cb - 46_802 * cr + HALF) >> 16);
    let b = y + ((116_130 * cb + HALF) >> 16);
    [r, g, b].map(|value| value.clamp(0, 255) as u8)
}

fn ycc_pixel(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    jfif(y, cb, cr, LIBJPEGS_GREEN)
}

/// An ink on what black leaves, which is `light` of 255: as Pillow, with its rounded division.
pub(crate) fn inked(ink: u8, light: u8) -> u8 {
    let product = u32::from(ink) * u32::from(light) + 128;
    let covered = ((product >> 8) + product) >> 8;
    u32::from(light).saturating_sub(covered) as u8
}

/// RGB from interleaved components, u8\[pixels, components\].
pub(super) fn to_rgb(mut stored: Vec<u8>, colour: Colour) -> Vec<u8> {
    match colour {
        Colour::Rgb => stored,
        Colour::YCbCr => {
            for pixel in stored.chunks_exact_mut(3) {
                let rgb = ycc_pixel(pixel[0], pixel[1], pixel[2]);
                pixel.copy_from_slice(&rgb);
            }
            stored
        }
        Colour::Grey => stored.iter().flat_map(|&grey| [grey; 3]).collect(),
        Colour::Cmyk => stored
            .chunks_exact(4)
            .flat_map(|p| [inked(255 - p[0], p[3]), inked(255 - p[1], p[3]), inked(255 - p[2], p[3])])
            .collect(),
        Colour::Ycck => {
            stored.chunks_exact(4).flat_map(|p| ycc_pixel(p[0], p[1], p[2]).map(|c| inked(c, p[3]))).collect()
        }
    }
}
