//! zune-jpeg, for runs that were begun with its pixels.
//!
//! It sees a stream of essential segments only (no EXIF, ICC, Adobe or IPTC data to stumble over), and is asked for the
//! stored components. Where chroma has half the columns, its interpolation goes wrong in the last two: it weighs the last
//! two samples the wrong way round, and takes the encoder's padding for picture. So it is told the padded width, and the
//! columns in question are mended ([`mend_last_columns`]). What it leaves unwritten in a damaged picture is grey, as libjpeg leaves it.

use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::colour::{Colour, to_rgb};
use super::header::Header;
use super::{DecodeError, corrupt, one_line};

/// A segment that makes the decoder use the standard Huffman tables where there are none, as in Motion JPEG.
const STANDARD_TABLES: &[u8] = b"\xff\xe0\x00\x07AVI1\0";

/// RGB pixels of a JPEG, u8\[height, width, 3\].
pub(super) fn decode(bytes: &[u8], header: &Header) -> Result<Vec<u8>, DecodeError> {
    if header.arithmetic {
        return Err(DecodeError::Unsupported { kind: "JPEG", detail: "arithmetic coding".into() });
    }
    let finest = header.sampling[0];
    if header.sampling.len() > 1 && header.sampling.iter().any(|&(h, v)| h > finest.0 || v > finest.1) {
        let detail = format!("sampling factors {:?}, chroma finer than luma", header.sampling);
        return Err(DecodeError::Unsupported { kind: "JPEG", detail });
    }
    let mut stream = Vec::with_capacity(bytes.len() + 16);
    let width = usize::from(header.width);
    // Two columns of blocks a unit: as many units as the picture has anyway.
    let padded = width.next_multiple_of(16);
    // Held coefficients of a component's own scan are counted by the true width.
    let same_blocks = !header.buffered || width.next_multiple_of(8) == padded;
    let padded = if header.halves_columns() && same_blocks && padded <= usize::from(u16::MAX) { padded } else { width };
    for (i, &(from, to)) in header.essential.iter().enumerate() {
        stream.extend_from_slice(&bytes[from..to]);
        if from <= header.frame_at && header.frame_at < to {
            // Marker, length, precision, height, then the width.
            let at = stream.len() - (to - header.frame_at) + 7;
            stream[at..at + 2].copy_from_slice(&(padded as u16).to_be_bytes());
        }
        // As libjpeg does: not for a progressive picture.
        if i == 0 && bytes[header.frame_at + 1] != 0xc2 {
            stream.extend_from_slice(STANDARD_TABLES);
        }
    }
    if !header.ended {
        stream.extend_from_slice(b"\xff\xd9");
    }
    let space = match header.colour {
        Colour::Grey => ColorSpace::Luma,
        Colour::YCbCr | Colour::Rgb => ColorSpace::YCbCr,
        Colour::Cmyk | Colour::Ycck => ColorSpace::CMYK,
    };
    let options = DecoderOptions::new_fast()
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .set_strict_mode(false)
        .jpeg_set_out_colorspace(space);
    let mut decoder = JpegDecoder::new_with_options(stream.as_slice(), options);
    let size = padded * usize::from(header.height) * header.sampling.len();
    decoder.decode_headers().map_err(|error| corrupt(one_line(&error)))?;
    if decoder.output_buffer_size() != Some(size) {
        return Err(corrupt("headers that contradict each other"));
    }
    let mut stored = vec![128u8; size];
    match decoder.decode_into(&mut stored) {
        Err(error) if header.fault.is_none() => return Err(corrupt(one_line(&error))),
        _ => {}
    }
    if header.halves_columns() {
        for row in 0..usize::from(header.height) {
            let line = &mut stored[row * padded * 3..(row + 1) * padded * 3];
            mend_last_columns(line, width);
            stored.copy_within(row * padded * 3..(row * padded + width) * 3, row * width * 3);
        }
        stored.truncate(width * usize::from(header.height) * 3);
    }
    Ok(to_rgb(stored, header.colour))
}

/// Sets the last two columns of interpolated chroma in `line`, u8\[columns shown, 3\], to what libjpeg's triangle filter gives for
/// a picture of `width` columns, up to rounding.
///
/// With samples c and interpolated columns u: u\[2k\] = (3 c\[k\] + c\[k-1\] + 2) / 4 and u\[2k+1\] = (3 c\[k\] + c\[k+1\] + 2) / 4,
/// and the last sample stands alone in the last column.
fn mend_last_columns(line: &mut [u8], width: usize) {
    let (shown, padded) = (line.len() / 3, width.next_multiple_of(16));
    for channel in 1..3 {
        let at = |column: usize| i32::from(line[column * 3 + channel]);
        let samples = width.div_ceil(2);
        let (column, value) = if samples * 2 == padded && shown == padded {
            let last = at(padded - 1);
            let before = (4 * at(padded - 3) - last + 1).div_euclid(3);
            (padded - 2, (3 * last + before + 2) >> 2)
        } else if width.is_multiple_of(2) && width < padded {
            // The last true sample, from the pair on its left, and from the one on its right where that can be trusted.
            let left = (width >= 4).then(|| 3 * at(width - 2) - at(width - 3));
            let right = (width < shown && width + 2 < padded).then(|| 3 * at(width - 1) - at(width));
            let value = match (left, right) {
                (Some(left), Some(right)) => (left + right + 2) >> 2,
                (Some(one), None) | (None, Some(one)) => (one + 1) >> 1,
                (None, None) => at(width - 1),
            };
            (width - 1, value)
        } else {
            continue;
        };
        line[column * 3 + channel] = value.clamp(0, 255) as u8;
    }
}
