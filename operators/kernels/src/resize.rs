//! Resizing u8 RGB pictures exactly as Pillow does.
//!
//! Pillow resamples 8-bit pictures in two passes, first along the rows, then along the columns, each pass rounding to
//! u8. A pass gives every output position a run of input positions and one fixed-point coefficient (22 fractional bits)
//! for each; the filter is widened by the scale when shrinking, which is what makes it an antialiasing one. This module
//! follows that arithmetic to the bit, so that what a model sees is what it saw in Python.
//!
//! ```text
//!  source view u8[h,w,3] --rows--> u8[rows needed, window width, 3] --columns--> u8[window height, window width, 3]
//! ```
//!
//! **The order of the passes.** Rows first, always: so did every Pillow up to 12, with which CLIP and its descendants
//! were trained and their figures published. Pillow 13.0.0 takes the columns first where
//! `rows lost > 0 and rows lost > 2 * columns lost` (lost = source side - target side, negative when growing): tall
//! pictures, mostly. As the first pass rounds to u8, a quarter of a photograph's values then differ, by 1, at most 2;
//! where the first pass clips at black or white, by more. Two calls, `resize((w, H))` and then `resize((w, h))`, bring
//! the old order back in any Pillow.
//!
//! Two rectangles save work without changing a bit: the source is a *view* (a crop taken before the resize: pixels
//! outside it do not exist for the filter), and only a *window* of the resized picture is computed (a crop taken after
//! it).
//!
//! Invariants: 1. the AVX2 path, chosen at run time, and the portable path give equal bits; 2. memory taken is at most
//! `scratch_bytes`; 3. no input panics: sizes that do not fit are errors.
//!
//! ```
//! use trommel_kernels::resize::{Filter, View, Window, resize_rgb8};
//! let white = vec![255u8; 40 * 30 * 3];
//! let view = View::whole(&white, 40, 30).expect("the sizes fit");
//! let small = resize_rgb8(&view, 8, 6, Window { left: 1, top: 0, width: 6, height: 6 }, Filter::Bicubic).expect("inside");
//! assert_eq!(small, vec![255u8; 6 * 6 * 3]);
//! ```

use std::cell::Cell;

mod passes;

/// Fractional bits of a coefficient: what remains of an i32 beside 8 bits of value and 2 of head room.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// Taps are padded with zero coefficients to a multiple of this.
const TAP_GROUP: usize = 4;

/// Interpolation filters, as Pillow defines them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Triangle, support 1.
    Bilinear,
    /// Cubic convolution with a = -0.5, support 2.
    Bicubic,
}

impl Filter {
    const fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Self::Bilinear => {
                if x < 1.0 {
                    1.0 - x
                } else {
                    0.0
                }
            }
            Self::Bicubic => {
                const A: f64 = -0.5;
                if x < 1.0 {
                    ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
                } else if x < 2.0 {
                    (((x - 5.0) * x + 8.0) * x - 4.0) * A
                } else {
                    0.0
                }
            }
        }
    }
}

/// Why a resize was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResizeError {
    /// A width or height of zero, or above 2^24, or more bytes than the address space.
    #[error("cannot resize from {from:?} to {to:?}: sides must lie in 1..=16777216")]
    Size {
        /// Width and height of the source view.
        from: (u32, u32),
        /// Width and height asked for.
        to: (u32, u32),
    },
    /// The pixels do not hold the view.
    #[error(
        "a view of {width} x {height} pixels at byte {offset}, {stride} bytes a row, does not fit into {bytes} bytes"
    )]
    View {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Byte of its first pixel.
        offset: usize,
        /// Bytes from one row to the next.
        stride: usize,
        /// Bytes there are.
        bytes: usize,
    },
    /// The window reaches over the resized picture, or is empty.
    #[error("{window:?} does not lie inside the resized picture of {width} x {height}")]
    Window {
        /// What was asked for.
        window: Window,
        /// Width of the resized picture.
        width: u32,
        /// Height of the resized picture.
        height: u32,
    },
}

/// A rectangle, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First column inside it.
    pub left: u32,
    /// First row inside it.
    pub top: u32,
    /// Number of columns.
    pub width: u32,
    /// Number of rows.
    pub height: u32,
}

impl Window {
    /// The whole of a picture.
    #[must_use]
    pub const fn whole(width: u32, height: u32) -> Self {
        Self { left: 0, top: 0, width, height }
    }

    const fn inside(&self, width: u32, height: u32) -> bool {
        self.width > 0
            && self.height > 0
            && self.left as u64 + self.width as u64 <= width as u64
            && self.top as u64 + self.height as u64 <= height as u64
    }
}

/// A rectangle of a picture u8\[height, width, 3\], row-major.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pixels: &'a [u8],
    stride: usize,
    width: u32,
    height: u32,
}

impl<'a> View<'a> {
    /// All of `pixels`, u8\[height, width, 3\].
    ///
    /// # Errors
    /// When a side is zero or above 2^24, or `pixels` is too short.
    pub fn whole(pixels: &'a [u8], width: u32, height: u32) -> Result<Self, ResizeError> {
        Self::crop(pixels, width, height, Window::whole(width, height))
    }

    /// The rectangle `area` of `pixels`, u8\[height, width, 3\].
    ///
    /// # Errors
    /// When a side is zero or above 2^24, `area` is not inside, or `pixels` is too short.
    pub fn crop(pixels: &'a [u8], width: u32, height: u32, area: Window) -> Result<Self, ResizeError> {
        if !side(width) || !side(height) {
            return Err(ResizeError::Size { from: (width, height), to: (area.width, area.height) });
        }
        if !area.inside(width, height) {
            return Err(ResizeError::Window { window: area, width, height });
        }
        let stride = width as usize * 3;
        let offset = area.top as usize * stride + area.left as usize * 3;
        let end = offset + (area.height as usize - 1) * stride + area.width as usize * 3;
        let bytes = pixels.len();
        let pixels = pixels.get(offset..).filter(|_| end <= bytes);
        let (width, height) = (area.width, area.height);
        let pixels = pixels.ok_or(ResizeError::View { width, height, offset, stride, bytes })?;
        Ok(Self { pixels, stride, width, height })
    }

    /// Width in pixels.
    #[must_use]
    pub const fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub const fn height(&self) -> u32 {
        self.height
    }
}

const fn side(pixels: u32) -> bool {
    pixels > 0 && pixels <= 1 << 24
}

/// The coefficients of one pass.
#[derive(Clone, Debug)]
pub struct Taps {
    /// First input position and number of taps, for each output position.
    runs: Vec<(usize, usize)>,
    /// Coefficients with 22 fractional bits, i32\[outputs, width\], zeros behind the taps.
    fixed: Vec<i32>,
    /// Coefficients an output, a multiple of [`TAP_GROUP`].
    width: usize,
}

impl Taps {
    /// Outputs `first..first + count` of a pass from `input` to `output` positions.
    fn new(input: u32, output: u32, first: u32, count: u32, filter: Filter) -> Self {
        let scale = f64::from(input) / f64::from(output);
        let widened = scale.max(1.0);
        let support = filter.support() * widened;
        let longest = support.ceil() as usize * 2 + 1;
        let width = longest.min(input as usize).next_multiple_of(TAP_GROUP);
        let (mut runs, mut fixed) = (Vec::with_capacity(count as usize), vec![0i32; count as usize * width]);
        let mut weights = Vec::with_capacity(longest);
        let per_pixel = 1.0 / widened;
        for (out, row) in (first..first + count).zip(fixed.chunks_exact_mut(width)) {
            let center = (f64::from(out) + 0.5) * scale;
            // Truncation toward zero of a value that may lie just below zero, then the clamp: as in C.
            let start = ((center - support + 0.5) as i64).max(0);
            let end = ((center + support + 0.5) as i64).min(i64::from(input));
            weights.clear();
            let mut total = 0.0f64;
            for tap in 0..end - start {
                let weight = filter.weight(((tap + start) as f64 - center + 0.5) * per_pixel);
                weights.push(weight);
                total += weight;
            }
            for (slot, weight) in row.iter_mut().zip(&weights) {
                let share = if total == 0.0 { *weight } else { *weight / total };
                let scaled = share * f64::from(1u32 << PRECISION_BITS);
                *slot = if share < 0.0 { scaled - 0.5 } else { scaled + 0.5 } as i32;
            }
            runs.push((start as usize, (end - start) as usize));
        }
        Self { runs, fixed, width }
    }

    /// First input position and number of taps, for each output position.
    #[must_use]
    pub fn runs(&self) -> &[(usize, usize)] {
        &self.runs
    }

    /// Coefficients with 22 fractional bits, i32\[outputs, [`Self::width`]\], zeros behind the taps.
    #[must_use]
    pub fn fixed(&self) -> &[i32] {
        &self.fixed
    }

    /// Coefficients an output.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.width
    }

    fn coefficients(&self, output: usize) -> &[i32] {
        &self.fixed[output * self.width..(output + 1) * self.width]
    }
}

/// The positions of the source that a pass reads, rows or columns: first and one past the last.
#[must_use]
pub fn needed(taps: &Taps) -> (usize, usize) {
    let first = taps.runs.first().map_or(0, |run| run.0);
    let last = taps.runs.last().map_or(0, |run| run.0 + run.1);
    (first, last)
}

/// The tables of [`resize_rgb8`], along the rows and down the columns, for who applies them elsewhere.
///
/// # Errors
/// As [`resize_rgb8`].
pub fn tables(
    (from_width, from_height): (u32, u32),
    (width, height): (u32, u32),
    window: Window,
    filter: Filter,
) -> Result<(Taps, Taps), ResizeError> {
    if ![from_width, from_height, width, height].into_iter().all(side) {
        return Err(ResizeError::Size { from: (from_width, from_height), to: (width, height) });
    }
    if !window.inside(width, height) {
        return Err(ResizeError::Window { window, width, height });
    }
    let along = Taps::new(from_width, width, window.left, window.width, filter);
    Ok((along, Taps::new(from_height, height, window.top, window.height, filter)))
}

/// Bytes of intermediate rows at one time, where they are many: a tall picture is done in strips of columns.
const STRIP_BYTES: usize = 4 << 20;

/// A thread keeps its intermediate rows for the next picture where they are no more than this.
const KEPT_BYTES: usize = 1 << 20;

thread_local! {
    static BETWEEN: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Columns of a strip: as many as fit, at least one.
fn strip_columns(rows: usize) -> u32 {
    u32::try_from(STRIP_BYTES / (3 * rows.max(1))).unwrap_or(u32::MAX).max(1)
}

/// Bytes that [`resize_rgb8`] takes at most beside its source: the intermediate rows, the coefficients, the result.
#[must_use]
pub fn scratch_bytes(width: u32, height: u32, window: &Window) -> u64 {
    let rows = u64::from(height) * u64::from(window.width.min(strip_columns(height as usize))) * 3;
    let taps = |input: u32, outputs: u32| (u64::from(input) * 6 + 64 + u64::from(outputs) * 16) * 8;
    rows + taps(width, window.width)
        + taps(height, window.height)
        + u64::from(window.width) * u64::from(window.height) * 3
}

/// The pixels `window` of `view` resized to `width` x `height`: u8\[window.height, window.width, 3\].
///
/// Equal to the bit to Pillow's `crop` (the view), `resize` with `filter`, `crop` (the window), rows first: see the
/// module for Pillow 13.
///
/// # Errors
/// When a side is zero or above 2^24, or the window is not inside the resized picture.
pub fn resize_rgb8(
    view: &View<'_>,
    width: u32,
    height: u32,
    window: Window,
    filter: Filter,
) -> Result<Vec<u8>, ResizeError> {
    resize_with(view, width, height, window, filter, passes::fast())
}

fn resize_with(
    view: &View<'_>,
    width: u32,
    height: u32,
    window: Window,
    filter: Filter,
    kernels: passes::Kernels,
) -> Result<Vec<u8>, ResizeError> {
    let (along, down) = tables((view.width, view.height), (width, height), window, filter)?;
    let (first, last) = needed(&down);
    let row_bytes = window.width as usize * 3;
    let columns = strip_columns(last - first);
    if columns < window.width {
        let mut out = vec![0u8; window.height as usize * row_bytes];
        for left in (0..window.width).step_by(columns as usize) {
            let strip = Window { left: window.left + left, width: columns.min(window.width - left), ..window };
            let part = resize_with(view, width, height, strip, filter, kernels)?;
            let (at, bytes) = (left as usize * 3, strip.width as usize * 3);
            for (row, part) in out.chunks_exact_mut(row_bytes).zip(part.chunks_exact(bytes)) {
                row[at..at + bytes].copy_from_slice(part);
            }
        }
        return Ok(out);
    }
    let mut between = BETWEEN.take();
    between.resize((last - first) * row_bytes, 0);
    (kernels.rows)(&view.pixels[first * view.stride..], view.stride, view.width as usize, &along, &mut between);
    let mut out = vec![0u8; window.height as usize * row_bytes];
    (kernels.columns)(&between, first, row_bytes, &down, &mut out);
    if between.capacity() <= KEPT_BYTES {
        BETWEEN.set(between);
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
