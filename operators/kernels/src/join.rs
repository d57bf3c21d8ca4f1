//! The fast half of the similarity join: approximate products in f32, with a proven bound on their error.
//!
//! ```text
//! rows f32[rows, dim] ──┐
//!                       ├─ gemm, tile by tile ─▶ block f32[rows, points] ─▶ chunk maxima ─▶ who must be looked at
//! points f16[points, dim] ── one tile to f32 ─┘
//! ```
//!
//! **Bound.** Rows and points are f16 widened to f32. A product of two f16 has at most 22 significant bits and is a multiple of 2^-48, so f32
//! (24 bits, smallest normal 2^-126) holds it exactly unless it is above f32's range: only additions round, no matter whether
//! they are fused, and nothing underflows, even with subnormals flushed. A sum of `n` terms in any order and grouping passes each term through
//! at most `n - 1` roundings, so with `u = 2^-24` and `g = (n-1) u / (1 - (n-1) u)`
//!
//! `|approximate - canonical| <= g * sum |a_k b_k| <= g |a| |b|`
//!
//! (Higham, *Accuracy and Stability of Numerical Algorithms*, section 3.1; Cauchy-Schwarz). [`error_bound`] is that, rounded up.
//! It holds for every gemm that computes each entry as a sum of its `n` products (blocking of `k`, any
//! instruction set), and not for Strassen-like ones. For 640 dimensions and unit vectors it is 3.9e-5.
//!
//! **What follows.** With `e` the bound: the point with the largest canonical value has an approximate value of at least `max - 2e`; a value
//! above `r + e` is certainly above `r`, one below `r - e` certainly not. Everything else is for the caller to recompute with
//! [`crate::dot::dot`]. [`CHUNK`]s whose maximum is out of reach are skipped unseen.

use std::ops::Range;

use half::f16;
use rayon::iter::{IndexedParallelIterator, IntoParallelRefMutIterator, ParallelIterator};

use crate::dot::to_f32;
use crate::widened::widened;

/// Points whose maxima are kept together while scanning.
pub const CHUNK: usize = 64;

/// Unit roundoff of f32: 2^-24.
pub const UNIT_ROUNDOFF_F32: f64 = 1.0 / 16_777_216.0;

/// Largest distance between the f32 product of this module and the canonical value, for vectors of `dim` elements with the given norms.
///
/// `None` if `dim` is so large (beyond 2^23) that the bound does not hold.
#[must_use]
pub fn error_bound(dim: usize, row_norm: f64, point_norm: f64) -> Option<f64> {
    if dim > 1 << 23 {
        return None;
    }
    let steps = dim.saturating_sub(1) as f64 * UNIT_ROUNDOFF_F32;
    // The factor covers the few roundings (each 2^-53) of this expression and of the norms handed in.
    Some(steps / (1.0 - steps) * row_norm * point_norm * (1.0 + 1e-9))
}

/// The largest f32 that is at most `x`.
#[must_use]
pub fn f32_below(x: f64) -> f32 {
    let y = x as f32;
    if f64::from(y) > x { y.next_down() } else { y }
}

/// The smallest f32 that is at least `x`.
#[must_use]
pub fn f32_above(x: f64) -> f32 {
    -f32_below(-x)
}

/// Points per tile so that a tile of f32 takes about `tile_bytes`: a multiple of [`CHUNK`], at least one chunk.
#[must_use]
pub fn tile_points(dim: usize, tile_bytes: usize) -> usize {
    (tile_bytes / (4 * dim.max(1)) / CHUNK).max(1) * CHUNK
}

/// Memory for a block of products and what is known of it. Reused from block to block; grows to the largest one asked for.
#[derive(Debug, Default)]
pub struct Block {
    rows: usize,
    points: usize,
    /// f32\[rows, points\].
    values: Vec<f32>,
    /// f32\[rows, chunks\]: largest value of each chunk.
    maxima: Vec<f32>,
    /// f32\[rows, chunks\]: largest value minus radius of each chunk; empty without radii.
    excess: Vec<f32>,
    /// f32\[tile, dim\], one a thread.
    tiles: Vec<Vec<f32>>,
}

/// Where the columns of a block go: one part of them a thread.
struct Out {
    points: usize,
    chunks: usize,
    values: *mut f32,
    maxima: *mut f32,
    excess: *mut f32,
}

// SAFETY: threads write to columns of their own only, see `Out::tile`.
unsafe impl Sync for Out {}

impl Out {
    /// Products of all rows (f32\[n, dim\]) with one tile (f32\[columns, dim\]), and the maxima of its chunks.
    ///
    /// # Safety
    /// The block has n rows; `columns` begins with a chunk and lies inside it; nobody else touches these columns, or the maxima of their chunks.
    unsafe fn tile(&self, rows: &[f32], tile: &[f32], dim: usize, columns: Range<usize>, radii: Option<&[f32]>) {
        let count = rows.len() / dim;
        if count == 0 || columns.is_empty() {
            return;
        }
        // SAFETY: `rows` is [n, dim] and `tile` [columns, dim], both row-major and of exactly that length; the output starts at
        // `columns.start` of a row-major [n, points] block, so every element written is the caller's alone.
        unsafe {
            gemm::gemm(
                count,
                columns.len(),
                dim,
                self.values.add(columns.start),
                1,
                self.points as isize,
                false,
                rows.as_ptr(),
                1,
                dim as isize,
                tile.as_ptr(),
                dim as isize,
                1,
                0.0f32,
                1.0f32,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
        let (first, chunks) = (columns.start / CHUNK, columns.len().div_ceil(CHUNK));
        for row in 0..count {
            // SAFETY: as above; the maxima's rows have one element a chunk.
            let part = |from: *mut f32, at: usize, len| unsafe { std::slice::from_raw_parts_mut(from.add(at), len) };
            let values = part(self.values, row * self.points + columns.start, columns.len());
            let maxima = part(self.maxima, row * self.chunks + first, chunks);
            match radii {
                None => chunk_maxima(values, maxima),
                Some(radii) => {
                    let excess = part(self.excess, row * self.chunks + first, chunks);
                    chunk_maxima_and_excess(values, radii, maxima, excess);
                }
            }
        }
    }
}

/// How products are computed: bytes and threads, never results.
#[derive(Clone, Copy, Debug)]
pub struct Tiling {
    /// Bytes of one tile of points as f32; half of a core's second-level cache is good.
    pub tile_bytes: usize,
    /// Threads of one block; 1 where several are computed side by side.
    pub threads: usize,
}

impl Default for Tiling {
    fn default() -> Self {
        Self { tile_bytes: 512 * 1024, threads: 1 }
    }
}

impl Block {
    /// Computes the products of `rows` (f32\[n, dim\], widened from f16) with `points` (f16\[m, dim\]), and the chunk maxima.
    ///
    /// `radii` (f32\[m\]) asks for the chunk maxima of value minus radius too.
    /// Bytes held afterwards: `4 n m (1 + 2 / 64)` and one tile a thread.
    ///
    /// # Panics
    /// If the lengths do not fit `dim`, which is a defect of the caller.
    pub fn fill(&mut self, rows: &[f32], points: &[f16], dim: usize, radii: Option<&[f32]>, tiling: Tiling) {
        assert!(dim > 0, "vectors have elements");
        assert!(rows.len().is_multiple_of(dim) && points.len().is_multiple_of(dim), "lengths are multiples of dim");
        assert!(radii.is_none_or(|radii| radii.len() == points.len() / dim), "one radius a point");
        (self.rows, self.points) = (rows.len() / dim, points.len() / dim);
        let chunks = self.points.div_ceil(CHUNK);
        // Every element of the three is overwritten below, so old contents may stay.
        self.values.resize(self.rows * self.points, 0.0);
        self.maxima.resize(self.rows * chunks, 0.0);
        self.excess.resize(if radii.is_some() { self.rows * chunks } else { 0 }, 0.0);
        let stripes = tiling.threads.clamp(1, chunks.max(1));
        self.tiles.resize_with(stripes, Vec::new);
        let out = Out {
            points: self.points,
            chunks,
            values: self.values.as_mut_ptr(),
            maxima: self.maxima.as_mut_ptr(),
            excess: self.excess.as_mut_ptr(),
        };
        let (step, width) = (tile_points(dim, tiling.tile_bytes), chunks.div_ceil(stripes) * CHUNK);
        let fill = |(stripe, tile): (usize, &mut Vec<f32>)| {
            let end = ((stripe + 1) * width).min(out.points);
            for start in (stripe * width..end).step_by(step) {
                let columns = start..(start + step).min(end);
                tile.resize(columns.len() * dim, 0.0);
                to_f32(&points[columns.start * dim..columns.end * dim], tile);
                // SAFETY: stripes are whole chunks and do not overlap, so nobody else touches these columns.
                unsafe { out.tile(rows, tile, dim, columns.clone(), radii.map(|radii| &radii[columns])) };
            }
        };
        if stripes == 1 {
            self.tiles.iter_mut().enumerate().for_each(fill);
        } else {
            self.tiles.par_iter_mut().enumerate().for_each(fill);
        }
    }

    /// Rows of the block last filled.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Points of the block last filled.
    #[must_use]
    pub fn points(&self) -> usize {
        self.points
    }

    /// Approximate values of one row: f32\[points\].
    #[must_use]
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.points..(row + 1) * self.points]
    }

    /// Largest value of each chunk of a row.
    #[must_use]
    pub fn chunk_maxima(&self, row: usize) -> &[f32] {
        let chunks = self.points.div_ceil(CHUNK);
        &self.maxima[row * chunks..(row + 1) * chunks]
    }

    /// Largest value minus radius of each chunk of a row; empty if filled without radii.
    #[must_use]
    pub fn chunk_excess(&self, row: usize) -> &[f32] {
        if self.excess.is_empty() {
            return &[];
        }
        let chunks = self.points.div_ceil(CHUNK);
        &self.excess[row * chunks..(row + 1) * chunks]
    }

    /// Raises `maxima` to the largest value of each column from `first` on, over the given rows.
    pub fn raise_columns(&self, rows: impl IntoIterator<Item = usize>, first: usize, maxima: &mut [f32]) {
        for row in rows {
            raise(&self.row(row)[first..], maxima);
        }
    }
}

/// Calls `visit` with each place where a value reaches its threshold (`>=`), in ascending order. Chunks without one are passed over quickly.
pub fn visit_reaching(values: &[f32], least: &[f32], mut visit: impl FnMut(usize)) {
    let mut reach = [false];
    for (at, (chunk, least)) in values.chunks(CHUNK).zip(least.chunks(CHUNK)).enumerate() {
        any_reaches(chunk, least, &mut reach);
        if reach[0] {
            for (lane, _) in chunk.iter().zip(least).enumerate().filter(|(_, (value, least))| value >= least) {
                visit(at * CHUNK + lane);
            }
        }
    }
}

/// Largest of the lanes; lanes hold no NaN.
#[inline(always)]
fn fold(lanes: [f32; 16]) -> f32 {
    lanes.into_iter().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a })
}

widened! {
    /// Largest value of each chunk.
    fn chunk_maxima / chunk_maxima_wide / chunk_maxima_plain(values: &[f32], maxima: &mut [f32]) {
        for (chunk, maximum) in values.chunks(CHUNK).zip(maxima) {
            let mut lanes = [f32::NEG_INFINITY; 16];
            let (blocks, rest) = chunk.as_chunks::<16>();
            for block in blocks {
                for (lane, &value) in lanes.iter_mut().zip(block) {
                    *lane = if value > *lane { value } else { *lane };
                }
            }
            for (lane, &value) in lanes.iter_mut().zip(rest) {
                *lane = if value > *lane { value } else { *lane };
            }
            *maximum = fold(lanes);
        }
    }
}

widened! {
    /// Largest value, and largest value minus radius, of each chunk.
    fn chunk_maxima_and_excess / chunk_excess_wide / chunk_excess_plain(
        values: &[f32], radii: &[f32], maxima: &mut [f32], excess: &mut [f32]
    ) {
        let chunks = values.chunks(CHUNK).zip(radii.chunks(CHUNK));
        for ((chunk, radii), (maximum, most)) in chunks.zip(maxima.iter_mut().zip(excess)) {
            let mut lanes = [f32::NEG_INFINITY; 16];
            let mut over = [f32::NEG_INFINITY; 16];
            let (blocks, rest) = chunk.as_chunks::<16>();
            let (radius_blocks, radius_rest) = radii.as_chunks::<16>();
            for (block, radii) in blocks.iter().zip(radius_blocks) {
                for lane in 0..16 {
                    let (value, above) = (block[lane], block[lane] - radii[lane]);
                    lanes[lane] = if value > lanes[lane] { value } else { lanes[lane] };
                    over[lane] = if above > over[lane] { above } else { over[lane] };
                }
            }
            for (lane, (&value, &radius)) in rest.iter().zip(radius_rest).enumerate() {
                let above = value - radius;
                lanes[lane] = if value > lanes[lane] { value } else { lanes[lane] };
                over[lane] = if above > over[lane] { above } else { over[lane] };
            }
            (*maximum, *most) = (fold(lanes), fold(over));
        }
    }
}

widened! {
    /// Elementwise maximum.
    fn raise / raise_wide / raise_plain(values: &[f32], maxima: &mut [f32]) {
        for (maximum, &value) in maxima.iter_mut().zip(values) {
            *maximum = if value > *maximum { value } else { *maximum };
        }
    }
}

widened! {
    /// Whether any value reaches its threshold.
    fn any_reaches / any_reaches_wide / any_reaches_plain(values: &[f32], least: &[f32], reach: &mut [bool; 1]) {
        let mut any = [0u32; 16];
        let (blocks, rest) = values.as_chunks::<16>();
        let (least_blocks, least_rest) = least.as_chunks::<16>();
        for (block, least) in blocks.iter().zip(least_blocks) {
            for lane in 0..16 {
                any[lane] |= u32::from(block[lane] >= least[lane]);
            }
        }
        for (value, least) in rest.iter().zip(least_rest) {
            any[0] |= u32::from(value >= least);
        }
        reach[0] = any.into_iter().any(|lane| lane != 0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
