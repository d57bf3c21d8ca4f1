//! GIF: the first picture on its canvas, as Pillow lays it there.
//!
//! ```text
//!  canvas = the screen, grown so far that the first picture fits
//!  around the picture: its transparent colour, else colour 0
//! ```
//!
//! The screen's background colour is not used. Transparent pixels show their palette entry. A palette's missing entries
//! are black. Without a palette, or with one that is the plain ramp of greys, indices are greys.

use ::gif::{ColorOutput, DecodeOptions, DecodingError, MemoryLimit};

use super::scratch::Share;
use super::{DecodeError, Limits, Rgb8};

const KIND: &str = "GIF";

/// Decodes the first picture of a GIF into RGB.
pub(super) fn decode(bytes: &[u8], limits: &Limits, share: &mut Option<Share>) -> Result<Rgb8, DecodeError> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    // Sizes are checked here, before memory is taken.
    options.set_memory_limit(MemoryLimit::Unlimited);
    let mut reader = options.read_info(bytes).map_err(failure)?;
    let screen = (usize::from(reader.width()), usize::from(reader.height()));
    let frame = reader.next_frame_info().map_err(failure)?.ok_or_else(|| corrupt("no picture"))?;
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (across, down) = (usize::from(frame.width), usize::from(frame.height));
    let (around, local) = (frame.transparent.unwrap_or(0), frame.palette.clone());
    if across == 0 || down == 0 {
        return Err(corrupt(format!("a picture of {across} x {down} pixels")));
    }
    let (width, height) = (screen.0.max(left + across), screen.1.max(top + down));
    let needed = (across * down + width * height * 4) as u64;
    limits.admit(width as u64, height as u64, needed)?;
    *share = limits.scratch.take(needed, limits.max_scratch_bytes);
    let mut picture = vec![0u8; across * down];
    reader.read_into_buffer(&mut picture).map_err(failure)?;
    let mut canvas = vec![around; width * height];
    for (line, row) in picture.chunks_exact(across).zip(canvas[top * width..].chunks_exact_mut(width)) {
        row[left..left + across].copy_from_slice(line);
    }
    let colours = colours(local.as_deref().or(reader.global_palette()));
    let pixels = canvas.iter().flat_map(|&index| colours[usize::from(index)]).collect();
    // Both sides are sums of two 16-bit numbers.
    Ok(Rgb8 { width: width as u32, height: height as u32, pixels })
}

/// RGB of every index.
fn colours(palette: Option<&[u8]>) -> [[u8; 3]; 256] {
    let ramp = std::array::from_fn(|index| [index as u8; 3]);
    let Some(palette) = palette else { return ramp };
    if palette.chunks_exact(3).zip(&ramp).all(|(entry, grey)| entry == grey) {
        return ramp;
    }
    let mut colours = [[0; 3]; 256];
    for (colour, entry) in colours.iter_mut().zip(palette.chunks_exact(3)) {
        colour.copy_from_slice(entry);
    }
    colours
}

fn corrupt(detail: impl Into<String>) -> DecodeError {
    DecodeError::Corrupt { kind: KIND, detail: detail.into() }
}

fn failure(error: DecodingError) -> DecodeError {
    match error {
        DecodingError::Io(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { kind: KIND }
        }
        other => corrupt(other.to_string().split_whitespace().collect::<Vec<_>>().join(" ")),
    }
}
