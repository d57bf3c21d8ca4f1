//! Which pairs of some rows and points may lie above a threshold: found in 8-bit codes where these pay (`trommel_kernels::int8`), in f32 otherwise. Either
//! way a pair that is not shown lies surely not above.
//!
//! Codes of points are made once a block of rows, [`PART_POINTS`] together, so that a portion's values with them stay in a core's cache; codes of rows once.
//! They pay where either is used a thousand times. A part that shows too many pairs is followed by some in f32.

use std::sync::Arc;

use half::f16;
use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSlice;
use trommel_kernels::dot::{dot_f32, to_f32};
use trommel_kernels::int8::pays::{Pause, lists_too_much};
use trommel_kernels::int8::{self, Instructions, Rotation, Scores, fits};
use trommel_kernels::join::{Block, CHUNK, Tiling, error_bound, f32_below};

/// Largest norm of a row or a centre: unit vectors rounded to f16 are far below, and so is every mean of them.
pub const MOST_NORM: f64 = 1.01;

/// Largest distance of a fast product from the canonical one.
pub(crate) fn bound(dim: usize) -> f64 {
    // Without a bound everything is a candidate.
    error_bound(dim, MOST_NORM, MOST_NORM).unwrap_or(f64::INFINITY)
}

/// Points whose codes have one bound.
const PART_POINTS: usize = 256;

/// A pair that may lie above the threshold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    /// Place of the row in the portion.
    pub row: usize,
    /// Place of the point in the block.
    pub point: usize,
    /// What their similarity is at least.
    pub least: f64,
    /// What it is at most.
    pub most: f64,
    is_coarse: bool,
}

impl Pair {
    fn within(row: usize, point: usize, value: f32, bound: f64, is_coarse: bool) -> Self {
        Self { row, point, least: f64::from(value) - bound, most: f64::from(value) + bound, is_coarse }
    }

    /// The same, known as nearly as an f32 product of these vectors tells.
    pub fn nearer(self, x: &[f16], t: &[f16]) -> Self {
        if self.is_coarse { Self::within(self.row, self.point, dot_f32(x, t), bound(x.len()), false) } else { self }
    }
}

/// Who multiplies.
pub(crate) struct Products {
    dim: usize,
    coding: Option<(Instructions, Arc<Rotation>)>,
    pause: Pause,
}

/// Memory of one call.
#[derive(Default)]
pub(crate) struct Scratch {
    wide: Vec<f32>,
    block: Block,
    scores: Scores,
}

/// Neighbouring points of a block, by their places.
#[derive(Clone, Copy)]
struct Part<'a> {
    from: usize,
    to: usize,
    /// The last point of each row, and one.
    ends: &'a [usize],
}

impl Part<'_> {
    /// The rows, with how many points of the part are theirs.
    fn rows(&self) -> impl Iterator<Item = (usize, usize)> {
        let (from, to) = (self.from, self.to);
        self.ends.iter().map(move |end| (*end).clamp(from, to) - from).enumerate()
    }
}

impl Products {
    /// In f32, or in codes that these instructions multiply, which the processor must have.
    pub fn new(dim: usize, with: Option<Instructions>) -> Self {
        let coding = with.filter(|_| fits(dim)).map(|with| (with, Arc::new(Rotation::new(dim))));
        Self { dim, coding, pause: Pause::default() }
    }

    /// Codes of a block of points, on so many threads; none where they are not to be used now.
    pub fn code(&self, vectors: &[f16], threads: usize) -> Vec<int8::Points> {
        let Some((with, rotation)) = self.coding.as_ref().filter(|_| self.pause.is_over()) else { return Vec::new() };
        let code = |vectors: &[f16]| int8::Points::turned_by(rotation, vectors, self.dim, None, *with);
        let part = PART_POINTS * self.dim;
        if threads > 1 {
            vectors.par_chunks(part).map(code).collect()
        } else {
            vectors.chunks(part).map(code).collect()
        }
    }

    /// Shows `found` the pairs of a portion of rows (f16\[n, dim\]) with points (f16\[m, dim\]; their codes, if they were made) that may lie above. A row's points
    /// are those before its end. `coded` is the portion's own, empty at first.
    pub fn above(
        &self,
        above: f64,
        (rows, coded): (&[f16], &mut int8::Rows),
        (points, codes): (&[f16], &[int8::Points]),
        ends: &[usize],
        scratch: &mut Scratch,
        mut found: impl FnMut(Pair),
    ) {
        let count = ends.iter().copied().max().unwrap_or(0);
        let step = if codes.is_empty() { count.max(1) } else { PART_POINTS };
        scratch.wide.clear();
        for (at, from) in (0..count).step_by(step).enumerate() {
            let part = Part { from, to: count.min(from + step), ends };
            match codes.get(at).filter(|_| self.pause.is_over()) {
                Some(codes) => self.in_codes(above, (rows, &mut *coded), codes, part, &mut scratch.scores, &mut found),
                None => {
                    if scratch.wide.is_empty() {
                        scratch.wide.resize(rows.len(), 0.0);
                        to_f32(rows, &mut scratch.wide);
                    }
                    self.in_f32(above, (&scratch.wide, points), part, &mut scratch.block, &mut found);
                    self.pause.pass();
                }
            }
        }
    }

    fn in_codes(
        &self,
        above: f64,
        (rows, coded): (&[f16], &mut int8::Rows),
        codes: &int8::Points,
        part: Part<'_>,
        scores: &mut Scores,
        found: &mut impl FnMut(Pair),
    ) {
        if coded.count() == 0 {
            coded.code(&rows.chunks_exact(self.dim).collect::<Vec<_>>(), codes);
        }
        scores.fill(coded, codes, false, 1);
        let bound = coded.error_bound(codes);
        let (least, mut shown) = (f32_below(above - bound), 0);
        for (row, points) in part.rows() {
            for (chunk, values) in scores.chunks_reaching(row, least, f32::INFINITY) {
                let lanes = values.iter().map(|value| Scores::value(*value)).enumerate();
                let lanes = lanes.take(points.saturating_sub(chunk * CHUNK));
                for (lane, value) in lanes.filter(|(_, value)| *value >= least) {
                    shown += 1;
                    found(Pair::within(row, part.from + chunk * CHUNK + lane, value, bound, true));
                }
            }
        }
        if lists_too_much(part.ends.len(), codes.count(), shown) {
            self.pause.begin();
        }
    }

    fn in_f32(
        &self,
        above: f64,
        (rows, points): (&[f32], &[f16]),
        part: Part<'_>,
        block: &mut Block,
        found: &mut impl FnMut(Pair),
    ) {
        let bound = bound(self.dim);
        let least = f32_below(above - bound);
        block.fill(rows, &points[part.from * self.dim..part.to * self.dim], self.dim, None, Tiling::default());
        for (row, points) in part.rows() {
            let chunks = block.row(row)[..points].chunks(CHUNK).zip(block.chunk_maxima(row));
            for (chunk, (values, _)) in chunks.enumerate().filter(|(_, (_, maximum))| **maximum >= least) {
                for (lane, value) in values.iter().enumerate().filter(|(_, value)| **value >= least) {
                    found(Pair::within(row, part.from + chunk * CHUNK + lane, *value, bound, false));
                }
            }
        }
    }
}
