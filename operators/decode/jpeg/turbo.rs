//! libjpeg-turbo's arithmetic, for pixels that equal Pillow's to the bit.
//!
//! Pillow decodes with the accurate inverse DCT and smooth chroma upsampling, and passes over what libjpeg calls warnings
//! (a damaged scan is shown as far as it goes). This asks for the same; two kinds of damage that libjpeg gets over in its own way are refused,
//! codes that no table holds and restart markers out of order, so that whatever is read has Pillow's pixels. Four components come out as CMYK, of which
//! [`super::colour`] makes RGB as Pillow does; all else comes out as RGB by libjpeg's own conversion.
//!
//! The decoder sees the segments that bear on pixels and one of ours that says what [`super::header`] found of the colours: no EXIF, ICC or
//! comments, of which it would keep copies.

use libjpeg_turbo_rs::{DecodeLimits, DecodeWarning, Decoder, PixelFormat};

use super::colour::{Colour, to_rgb};
use super::header::Header;
use super::{DecodeError, corrupt};
use crate::scratch::{SPARE_BYTES, spare};

/// RGB pixels of a JPEG, u8\[height, width, 3\]; of a `damaged` one too, if it is asked for.
pub(super) fn decode(bytes: &[u8], header: &Header, damaged: bool) -> Result<Vec<u8>, DecodeError> {
    let four = matches!(header.colour, Colour::Cmyk | Colour::Ycck);
    let (format, components) = if four { (PixelFormat::Cmyk, 4) } else { (PixelFormat::Rgb, 3) };
    let (width, height) = (usize::from(header.width), usize::from(header.height));
    let stream = stream(bytes, header);
    // Pixels and memory were admitted by the header.
    let limits = DecodeLimits { max_pixels: u64::MAX, ..DecodeLimits::default() };
    let mut decoder = Decoder::new_with_limits(&stream, limits).map_err(corrupt)?;
    if (usize::from(decoder.header().width), usize::from(decoder.header().height)) != (width, height) {
        return Err(corrupt("headers that contradict each other"));
    }
    decoder.set_output_format(format);
    decoder.set_block_smoothing(true);
    let size = width * height * components;
    let mut read = |lenient| {
        decoder.set_lenient(lenient);
        if header.buffered || size as u64 > SPARE_BYTES {
            // Pixels are taken when coefficients are gone.
            return decoder.decode_image().map(|image| (image.data, image.warnings));
        }
        let mut stored = spare(size);
        let image = decoder.decode_image_into(&mut stored)?;
        stored.truncate(image.bytes_written);
        Ok((stored, image.warnings))
    };
    // Sound pictures are read faster by what gives up at the first damage.
    let (stored, warnings) = read(false).or_else(|_| read(true)).map_err(corrupt)?;
    for warning in warnings {
        match warning {
            // It shows grey for what it cannot do.
            DecodeWarning::UnsupportedRecovered { detail } => {
                return Err(DecodeError::Unsupported { kind: "JPEG", detail });
            }
            // Where no table holds a code, libjpeg takes another and goes on: to pixels that are not those here.
            DecodeWarning::HuffmanError { message, .. } if !damaged => return Err(corrupt(message)),
            _ => {}
        }
    }
    if stored.len() != size {
        return Err(corrupt("headers that contradict each other"));
    }
    // Luma and chroma of inverted CMY have become inverted CMY already.
    Ok(if four { to_rgb(stored, Colour::Cmyk) } else { stored })
}

/// The file without what is no part of its pixels.
fn stream(bytes: &[u8], header: &Header) -> Vec<u8> {
    let mut stream = Vec::with_capacity(bytes.len() + 18);
    for (i, &(from, to)) in header.essential.iter().enumerate() {
        stream.extend_from_slice(&bytes[from..to]);
        if i == 0 && header.colour != Colour::Grey {
            let transform = match header.colour {
                Colour::Grey | Colour::Rgb | Colour::Cmyk => 0,
                Colour::YCbCr => 1,
                Colour::Ycck => 2,
            };
            stream.extend_from_slice(b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0");
            stream.push(transform);
        }
    }
    if !header.ended {
        stream.extend_from_slice(b"\xff\xd9");
    }
    stream
}
