//! JPEG: headers read here, pixels decoded as libjpeg-turbo does, or by zune-jpeg where a run was begun with that.
//!
//! The headers are read by our own scanner for three reasons: limits come before memory; whether a file ends early is a
//! question about its markers that decoders answer differently; and the colour space follows libjpeg's rules, so the
//! decoder is asked for the stored components and the conversion is done here, as libjpeg and Pillow do it.

pub(crate) mod colour;
mod header;
mod markers;
mod scan;
mod sound;
mod turbo;
mod zune;

use super::scratch::Share;
use super::{DecodeError, Decoder, Limits, Rgb8};
pub(crate) use colour::Colour;
pub(crate) use header::Header;
pub(crate) use sound::is_sound;

/// Decodes a JPEG into RGB.
pub(super) fn decode(bytes: &[u8], limits: &Limits, share: &mut Option<Share>) -> Result<Rgb8, DecodeError> {
    let header = Header::read(bytes)?;
    let scratch_bytes = header.scratch_bytes() + bytes.len() as u64;
    limits.admit(u64::from(header.width), u64::from(header.height), scratch_bytes)?;
    limits.admit_scans(u64::from(header.width) * u64::from(header.height), header.scans)?;
    if let (Some(fault), false) = (&header.fault, limits.load_truncated) {
        return Err(fault.clone());
    }
    *share = limits.scratch.take(scratch_bytes, limits.max_scratch_bytes);
    let pixels = match limits.decoder {
        Decoder::LibjpegTurbo => turbo::decode(bytes, &header, limits.load_truncated)?,
        Decoder::Zune => zune::decode(bytes, &header)?,
    };
    Ok(Rgb8 { width: u32::from(header.width), height: u32::from(header.height), pixels })
}

fn corrupt(detail: impl std::fmt::Display) -> DecodeError {
    DecodeError::Corrupt { kind: "JPEG", detail: detail.to_string() }
}

/// A detail that names only what the decoder saw, on one line.
fn one_line(error: &impl std::fmt::Debug) -> String {
    format!("{error:?}").split_whitespace().collect::<Vec<_>>().join(" ")
}
