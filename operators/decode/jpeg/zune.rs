//! The default decoder: zune-jpeg, memory-safe Rust with AVX2 and NEON.
//!
//! It sees a stream of essential segments only (no EXIF, ICC, Adobe or IPTC data to stumble over), and is asked for the
//! stored components. What it leaves unwritten in a damaged picture is grey, as libjpeg leaves it.
#![cfg_attr(feature = "turbojpeg", allow(dead_code))]

use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::colour::{Colour, to_rgb};
use super::header::Header;
use super::{DecodeError, corrupt, one_line};

/// A segment that makes the decoder use the standard Huffman tables, which Motion JPEG leaves out.
const STANDARD_TABLES: &[u8] = b"\xff\xe0\x00\x07AVI1\0";

/// RGB pixels of a JPEG, u8\[height, width, 3\].
pub(super) fn decode(bytes: &[u8], header: &Header) -> Result<Vec<u8>, DecodeError> {
    let mut stream = Vec::with_capacity(bytes.len() + 16);
    for (i, &(from, to)) in header.essential.iter().enumerate() {
        stream.extend_from_slice(&bytes[from..to]);
        if i == 0 && !header.has_tables {
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
    let size = usize::from(header.width) * usize::from(header.height) * header.sampling.len();
    decoder.decode_headers().map_err(|error| corrupt(one_line(&error)))?;
    if decoder.output_buffer_size() != Some(size) {
        return Err(corrupt("headers that contradict each other"));
    }
    let mut stored = vec![128u8; size];
    match decoder.decode_into(&mut stored) {
        Err(error) if header.ended => return Err(corrupt(one_line(&error))),
        _ => Ok(to_rgb(stored, header.colour)),
    }
}
