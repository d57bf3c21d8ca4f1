//! Ceilings: what a row's products with points, less their thresholds, are at most, from codes of the vectors in their leading `directions` alone.
//!
//! ```text
//! points ─▶ project ─▶ codes, steps, errors, rests   once
//! rows   ─▶ project ─▶ codes, steps, errors, rests ─┐
//!                                                   ├─ chunk by chunk ─▶ ceiling of each row with each chunk ─▶ values of chunks that reach, computed once more
//! points' codes ────────────────────────────────────┘
//! ```
//!
//! Who asks for nothing but what lies over a threshold, or is largest, need not look at a point whose ceiling is below it. Where vectors have most of their energy in some
//! directions, most points are such. No value is written: of 64 points one number is kept.
//!
//! **Bound.** With `y`, `z`, `r` and `D` as there, `X`, `T` the codes' vectors, `|y - X| <= E`, `|z - T| <= F` with the projection's rounding included:
//!
//! `|x.t - X.T| <= |r_x| |r_t| + E |z| + |X| F + |D| |y| |z| =: e`
//!
//! For a portion of rows and a benchmark let `N` be the largest `|t|`, `L` the largest `|X|`, both with `1 + |D|` where it is asked for. `shift = E N + |D| |x| N` is the row's alone, and
//!
//! `c = X.T + L F + |r_x| |r_t| + shift >= x.t`, by no more than `2e*`, `e* = max shift + L max F + max |r_x| max |r_t| >= e`.
//!
//! So `v = c - e*` is within `e*` of `x.t`: a value as any kernel gives, of a large bound. Below, `l` is what a point's threshold is (its radius, or 0), rounded down, and `v - l` is what is computed, in f32:
//! its operations (two for `X.T`, one for `|r_x| |r_t|`, two for `L F - l`, three sums and one more for `v`, none above 4.5) are off by less than 40 `u`, `u = 2^-24`, and `e*` is larger by [`SLOP`], 64 of them.

mod lanes;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::Arc;

use half::f16;
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use super::code::{Coded, UP, round};
use super::directions::Directions;
use super::instructions::Instructions;
use super::layout::{PointCodes, RowCodes};
use super::product::{BlockSums, Sums, sums};
use super::scores::Top;
use super::{CHUNK, LANES, NO_POINT};
use crate::dot::{norm, to_f32};
use crate::join::{UNIT_ROUNDOFF_F32, f32_above, f32_below};
use lanes::{all_of, largest_of, reaching};

/// What covers the roundings of f32.
const SLOP: f64 = 64.0 * UNIT_ROUNDOFF_F32;

/// Most directions: a sum of so many products of codes is exact in f32, as `512 * 127 * 127 < 2^24`.
pub const MOST_WIDTH: usize = 512;

/// Directions come in so many.
pub const WIDTH_STEP: usize = LANES;

/// What is known of the points of a chunk beside their codes.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct PointTerms {
    steps: [f32; CHUNK],
    /// `|r|`, rounded up.
    rests: [f32; CHUNK],
    /// `F`, rounded up.
    errors: [f32; CHUNK],
    /// Thresholds, rounded down.
    less: [f32; CHUNK],
}

/// Points, coded in their leading directions.
#[derive(Debug)]
pub struct LeadingPoints {
    with: Instructions,
    directions: Arc<Directions>,
    count: usize,
    codes: PointCodes,
    terms: Vec<PointTerms>,
    /// Largest of each.
    norm: f64,
    error: f64,
    rest: f64,
}

/// Memory for coding [`CHUNK`] vectors.
#[derive(Debug, Default)]
struct Coder {
    wide: Vec<f32>,
    projected: Vec<f32>,
    codes: Vec<i8>,
}

impl Coder {
    /// Codes up to [`CHUNK`] vectors; `take` is shown each, with its rest and its codes.
    fn code<'v>(
        &mut self,
        vectors: impl ExactSizeIterator<Item = &'v [f16]> + Clone,
        directions: &Directions,
        largest: f32,
        mut take: impl FnMut(Coded, f64, &[i8]),
    ) {
        let (dim, width) = (directions.dim(), directions.width());
        self.wide.resize(vectors.len() * dim, 0.0);
        for (wide, vector) in self.wide.chunks_exact_mut(dim).zip(vectors.clone()) {
            to_f32(vector, wide);
        }
        directions.project(&self.wide, &mut self.projected);
        self.codes.resize(width, 0);
        for (projected, vector) in self.projected.chunks_exact(width).zip(vectors) {
            let mut coded = Coded { norm: norm(vector) * UP, ..Coded::default() };
            round(projected, &mut self.codes, &mut coded, largest);
            coded.error = (coded.error + directions.rounding(coded.norm)) * UP;
            let square: f64 = projected.iter().map(|y| f64::from(*y).powi(2)).sum();
            take(coded, directions.rest(coded.norm, square.sqrt() * (1.0 - 1e-9)), &self.codes);
        }
    }
}

impl LeadingPoints {
    /// Codes of `vectors` (f16\[n, dim\] of norms within 1 % of 1) and their thresholds between -2 and 2, which are 0 unless given.
    ///
    /// # Panics
    /// If lengths do not fit, or the number of directions is no multiple of [`WIDTH_STEP`] or above [`MOST_WIDTH`], which is a defect of the caller.
    #[must_use]
    pub fn new(vectors: &[f16], directions: &Arc<Directions>, less: Option<&[f64]>, with: Instructions) -> Self {
        let (dim, width) = (directions.dim(), directions.width());
        assert!(vectors.len().is_multiple_of(dim), "vectors have `dim` elements");
        assert!(width.is_multiple_of(WIDTH_STEP) && width <= MOST_WIDTH, "so many directions are coded");
        let count = vectors.len() / dim;
        assert!(less.is_none_or(|less| less.len() == count), "one threshold a point");
        let (chunks, most) = (count.div_ceil(CHUNK), with.ranges().points);
        let mut codes = PointCodes::new(with, count, width);
        let none =
            PointTerms { steps: [0.0; CHUNK], rests: [0.0; CHUNK], errors: [0.0; CHUNK], less: [NO_POINT; CHUNK] };
        let mut terms = vec![none; chunks];
        let (mut coder, mut largest) = (Coder::default(), [0.0f64; 3]);
        for (chunk, (vectors, terms)) in vectors.chunks(CHUNK * dim).zip(&mut terms).enumerate() {
            let mut point = 0;
            coder.code(vectors.chunks_exact(dim), directions, most, |coded, rest, row| {
                codes.put(chunk * CHUNK + point, row);
                terms.steps[point] = coded.step;
                terms.rests[point] = f32_above(rest);
                terms.errors[point] = f32_above(coded.error);
                terms.less[point] = less.map_or(0.0, |less| f32_below(less[chunk * CHUNK + point]));
                let of = [coded.norm, coded.error, rest];
                largest.iter_mut().zip(of).for_each(|(most, of)| *most = most.max(of));
                point += 1;
            });
        }
        let [norm, error, rest] = largest;
        Self { with, directions: directions.clone(), count, codes, terms, norm, error, rest }
    }

    /// Bytes that codes of so many points take, of so many directions.
    #[must_use]
    pub fn bytes(points: usize, width: usize) -> usize {
        PointCodes::bytes(points, width) + 16 * points.next_multiple_of(CHUNK)
    }
}

/// A row's part in its ceilings.
#[derive(Clone, Copy, Debug, Default)]
struct RowTerms {
    scale: f32,
    rest: f32,
}

/// Coded rows. Reused from portion to portion.
#[derive(Debug, Default)]
pub struct LeadingRows {
    coder: Coder,
    codes: RowCodes,
    terms: Vec<RowTerms>,
    /// `E` and `|x|` of each row.
    errors: Vec<(f64, f64)>,
    /// `L`: the largest `|X|`.
    length: f64,
    /// Largest rest `|r|` of a row.
    rest: f64,
}

impl LeadingRows {
    /// Takes the codes of `vectors`, of norms within 1 % of 1, as `points` has them.
    pub fn code(&mut self, vectors: &[&[f16]], points: &LeadingPoints) {
        let Self { coder, codes, terms, errors, length, rest: largest_rest } = self;
        codes.clear(points.with, points.directions.width());
        terms.clear();
        errors.clear();
        (*length, *largest_rest) = (0.0, 0.0);
        let most = points.with.ranges().rows;
        for vectors in vectors.chunks(CHUNK) {
            coder.code(vectors.iter().copied(), &points.directions, most, |coded, rest, row| {
                codes.push(row);
                terms.push(RowTerms { scale: coded.step, rest: f32_above(rest) });
                errors.push((coded.error, coded.norm));
                *length = length.max(coded.length);
                *largest_rest = largest_rest.max(rest);
            });
        }
    }

    fn count(&self) -> usize {
        self.codes.count()
    }

    /// Bytes that one row takes, of so many elements and directions.
    #[must_use]
    pub fn row_bytes(width: usize) -> usize {
        RowCodes::row_bytes(width) + size_of::<RowTerms>() + size_of::<(f64, f64)>()
    }
}

/// Ceilings of a portion of rows with all chunks of points. Reused from portion to portion.
#[derive(Debug, Default)]
pub struct Ceilings {
    rows: usize,
    chunks: usize,
    /// f32\[chunks, rows\]: without what is the row's alone.
    values: Vec<f32>,
    /// A row's own part: `shift - e*`.
    shifts: Vec<f32>,
    /// `e*`: the largest bound of a pair.
    most: f64,
}

impl Ceilings {
    /// Computes the ceilings of all rows with all chunks.
    pub fn fill(&mut self, rows: &LeadingRows, points: &LeadingPoints, threads: usize) {
        (self.rows, self.chunks) = (rows.count(), points.terms.len());
        let apart = points.directions.apart();
        let norm = points.norm * (1.0 + apart);
        let shift = |&(error, of_row): &(f64, f64)| (error * norm + apart * (1.0 + apart) * of_row * norm) * UP;
        let largest = rows.errors.iter().map(shift).fold(0.0, f64::max);
        self.most = (largest + rows.length * points.error + rows.rest * points.rest) * UP;
        self.shifts.clear();
        self.shifts.extend(rows.errors.iter().map(|row| (shift(row) - self.most) as f32));
        // Every element is overwritten below, so old contents may stay.
        self.values.resize(self.chunks * self.rows, 0.0);
        if self.rows == 0 || self.chunks == 0 {
            return;
        }
        let fill = |first: usize, values: &mut [f32]| {
            let (mut block, some) = (BlockSums::default(), rows.codes.block_rows());
            let tiles = points.with.tiles();
            for (at, values) in values.chunks_exact_mut(rows.count()).enumerate() {
                let (codes, terms) = (points.codes.chunk(first + at), &points.terms[first + at]);
                let added = added_to(points, first + at, rows.length);
                let blocks = rows.codes.blocks().zip(rows.terms.chunks(some));
                for ((rows, row_terms), values) in blocks.zip(values.chunks_mut(some)) {
                    let sums = block.of(rows, codes, tiles.as_ref());
                    largest_of(sums, row_terms, terms, &added, values);
                }
            }
        };
        if threads <= 1 {
            return fill(0, &mut self.values);
        }
        let stripe = self.chunks.div_ceil(threads);
        let stripes = self.values.par_chunks_mut(stripe * self.rows).enumerate();
        stripes.for_each(|(at, values)| fill(at * stripe, values));
    }

    /// Largest distance of a value from the canonical product.
    #[must_use]
    pub fn error_bound(&self) -> f64 {
        self.most + SLOP
    }

    /// The largest value less its threshold of each row, and its point: at most the largest one.
    #[must_use]
    pub fn tops(&self, rows: &LeadingRows, points: &LeadingPoints) -> Vec<Top> {
        let mut largest = vec![(f32::NEG_INFINITY, 0); self.rows];
        for (chunk, values) in self.values.chunks(self.rows.max(1)).enumerate() {
            for (largest, &value) in largest.iter_mut().zip(values) {
                if value > largest.0 {
                    *largest = (value, chunk);
                }
            }
        }
        let top = |(row, (_, chunk)): (usize, (f32, usize))| {
            let values = self.of_chunk(rows, points, row, chunk, &added_to(points, chunk, rows.length));
            let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let at = values.iter().position(|value| *value == most).unwrap_or_default();
            Top { value: f32_below(f64::from(most) - SLOP), point: (chunk * CHUNK + at) as u32 }
        };
        largest.into_iter().enumerate().map(top).collect()
    }

    /// Values less thresholds of a row with a chunk of points.
    fn of_chunk(
        &self,
        rows: &LeadingRows,
        points: &LeadingPoints,
        row: usize,
        chunk: usize,
        added: &[f32; CHUNK],
    ) -> [f32; CHUNK] {
        let mut sum = [Sums([0; CHUNK])];
        sums(rows.codes.row(row), points.codes.chunk(chunk), &mut sum);
        let mut values = [0.0; CHUNK];
        all_of(&sum[0], &rows.terms[row], &points.terms[chunk], added, self.shifts[row], &mut values);
        values
    }

    /// Shows `found` the points, with their values, that may lie, less their thresholds, at `least` (one a row) or above; and perhaps some that lie below by little. A row comes in
    /// several parts, chunk by chunk of points, so that the vectors of a chunk are asked for together.
    pub fn reaching(
        &self,
        rows: &LeadingRows,
        points: &LeadingPoints,
        least: &[f32],
        mut found: impl FnMut(usize, &[(u32, f32)]),
    ) {
        let floor = |(&least, &shift): (&f32, &f32)| f32_below(f64::from(least) - f64::from(shift) - SLOP);
        let floors: Vec<f32> = least.iter().zip(&self.shifts).map(floor).collect();
        let mut listed = Vec::new();
        for (chunk, values) in self.values.chunks(self.rows.max(1)).enumerate() {
            let added = added_to(points, chunk, rows.length);
            let reach = values.iter().zip(&floors).enumerate().filter(|(_, (value, floor))| value >= floor);
            for (row, _) in reach {
                let values = self.of_chunk(rows, points, row, chunk, &added);
                let mut mask = reaching(&values, f32_below(f64::from(least[row]) - SLOP));
                listed.clear();
                while mask != 0 {
                    let at = mask.trailing_zeros() as usize;
                    mask &= mask - 1;
                    listed.push(((chunk * CHUNK + at) as u32, values[at] + points.terms[chunk].less[at]));
                }
                // A point that is none reaches nothing but the lowest of floors.
                listed.retain(|(point, _)| (*point as usize) < points.count);
                if !listed.is_empty() {
                    found(row, &listed);
                }
            }
        }
    }

    /// Bytes of ceilings of so many points with one row.
    #[must_use]
    pub fn row_bytes(points: usize) -> usize {
        4 * points.div_ceil(CHUNK) + 4
    }
}

/// `L F - l` of a chunk.
fn added_to(points: &LeadingPoints, chunk: usize, length: f64) -> [f32; CHUNK] {
    let (terms, length) = (&points.terms[chunk], f32_above(length));
    let mut added = [0.0; CHUNK];
    for ((added, error), less) in added.iter_mut().zip(&terms.errors).zip(&terms.less) {
        *added = length * error - less;
    }
    added
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
