//! Approximate products in integers of at most 8 bits, with a proven bound on their error: four times as many an instruction as in f32.
//!
//! ```text
//! points ─▶ turn ─▶ codes, steps, errors   once
//! rows   ─▶ turn ─▶ codes, steps, errors ─┐
//!                                         ├─ chunk by chunk of points ─▶ i16 values, largest of each row and of some rows' columns ─▶ who must be looked at
//! points' codes ──────────────────────────┘
//! ```
//!
//! **Codes.** Rows `x` and points `t` are turned by one orthogonal `Q` ([`Rotation`]), so that no coordinate is larger than chance makes it, and rounded to
//! `X = a p`, `T = b q` with a step size a vector and `p`, `q` in -127..=127; or in -64..=64 and -63..=63, where instructions add products up in 16 bits. What is lost is measured: `|Qx - X| <= E`, `|Qt - T| <= F`, the turn's own rounding included. The sum of `p q` is
//! exact in 32 bits for up to [`LARGEST_DIM`] elements.
//!
//! **Bound.** `x.t = Qx.Qt`, and `Qx.Qt - X.T = (Qx - X).Qt + X.(Qt - T)`, so by Cauchy and Schwarz
//!
//! `|x.t - X.T| <= E |t| + |X| F`
//!
//! Errors differ from vector to vector by half. So that one bound serves a portion of rows and all points, and is still tight above, values are moved
//! down by what a pair's own bound is smaller: `v = X.T - (E* - E) |t|* - |X|* (F* - F)` where a star is the largest of all. Then with
//! `bound = E* |t|* + |X|* F* + 0.51 unit` both hold:
//!
//! * `x.t <= X.T + E |t| + |X| F <= v + E* |t|* + |X|* F*`, for `|X| <= |X|*`: within the *pair's own* bound of `X.T`, and
//! * `x.t >= X.T - E |t| - |X| F >= v - E* |t|* - |X|* F*`, as `v <= X.T`.
//!
//! A value is stored as `i16` in units of 2^-13: half a unit is its rounding, and the hundredth of a unit beside it (20 `u`, `u = 2^-24`) covers the f32
//! operations that lead to it: two roundings of X.T, one after each move, and one of each difference, where none of these is above 2.8. Nor does any value saturate, for
//! the dimensions allowed ([`fits`]): with 127 `E <= |x| sqrt(dim) / 254` however a vector is made, and X.T and its moves make 2.2 at most; with 64 and 63 `E <= 0.36 |x|`,
//! `F <= 0.36 |t|`, and they make 2.8.
//!
//! **What follows** is as in [`crate::join`], with this bound: 0.015 above for 640 dimensions and unit vectors (0.03 with the smaller codes), where f32 has 3.9e-5. So a little more is looked at again.

mod code;
mod directions;
mod instructions;
mod layout;
mod leading;
pub mod pays;
mod product;
mod rotate;
mod runs;
mod scores;
#[cfg(target_arch = "x86_64")]
mod tiles;

use std::sync::Arc;

use half::f16;

pub use directions::Directions;
pub use instructions::Instructions;
pub use leading::{Ceilings, LeadingPoints, LeadingRows, MOST_WIDTH, WIDTH_STEP};
pub use rotate::{LANES, Rotation};
pub use scores::{ROWS_TOGETHER, Scores, Top};

use crate::join::{CHUNK, f32_below};
use code::{Coded, Coder};
use layout::{PointCodes, RowCodes};
use product::RowTerms;

/// How many units of a value make 1.
pub const UNITS: f64 = 8192.0;

/// Fewest and most elements for which codes are made.
pub const SMALLEST_DIM: usize = 32;
/// See [`SMALLEST_DIM`].
pub const LARGEST_DIM: usize = 2048;

/// Slack of a point that is none: no value comes near.
const NO_POINT: f32 = 1e9;

/// Whether codes can be made of vectors of so many elements. Their norms are to be within 1 % of 1.
#[must_use]
pub fn fits(dim: usize) -> bool {
    (SMALLEST_DIM..=LARGEST_DIM).contains(&dim)
}

/// Test points as 8-bit codes.
#[derive(Debug)]
pub struct Points {
    with: Instructions,
    rotation: Arc<Rotation>,
    dim: usize,
    count: usize,
    codes: PointCodes,
    /// f32\[chunks, CHUNK\].
    steps: Vec<[f32; CHUNK]>,
    /// f32\[chunks, CHUNK\]: how far a point's error is below the largest, in units.
    slack: Vec<[f32; CHUNK]>,
    /// i16\[chunks, CHUNK\]: radii in units.
    radii: Option<Vec<[i16; CHUNK]>>,
    /// Largest distance of a point from what its codes stand for.
    error: f64,
    /// Largest norm of a point.
    norm: f64,
}

impl Points {
    /// Codes of `vectors`, f16\[n, dim\] of norms within 1 % of 1, and their radii between -2 and 2, to be multiplied with these instructions.
    ///
    /// # Panics
    /// If codes cannot be made ([`fits`]) or lengths do not fit, which is a defect of the caller.
    #[must_use]
    pub fn new(vectors: &[f16], dim: usize, radii: Option<&[f64]>, with: Instructions) -> Self {
        Self::turned_by(&Arc::new(Rotation::new(dim)), vectors, dim, radii, with)
    }

    /// The same with the transform of this dimension, for whoever makes many that are small.
    ///
    /// # Panics
    /// As [`Points::new`].
    #[must_use]
    pub fn turned_by(
        rotation: &Arc<Rotation>,
        vectors: &[f16],
        dim: usize,
        radii: Option<&[f64]>,
        with: Instructions,
    ) -> Self {
        assert!(fits(dim) && vectors.len().is_multiple_of(dim), "vectors have `dim` elements");
        let count = vectors.len() / dim;
        assert!(radii.is_none_or(|radii| radii.len() == count), "one radius a point");
        let (chunks, most) = (count.div_ceil(CHUNK), with.ranges().points);
        let mut codes = PointCodes::new(with, count, dim);
        let mut coder = Coder::default();
        let mut all: Vec<Coded> = Vec::with_capacity(count);
        for vectors in vectors.chunks(LANES * dim) {
            coder.code(vectors.chunks_exact(dim), rotation, dim, most, |coded, row| {
                codes.put(all.len(), row);
                all.push(coded);
            });
        }
        let largest = |of: fn(&Coded) -> f64| all.iter().map(of).fold(0.0, f64::max);
        let (error, norm) = (largest(|it| it.error), largest(|it| it.norm));
        let (mut steps, mut slack) = (vec![[0.0; CHUNK]; chunks], vec![[NO_POINT; CHUNK]; chunks]);
        for (at, point) in all.iter().enumerate() {
            steps[at / CHUNK][at % CHUNK] = point.step;
            slack[at / CHUNK][at % CHUNK] = f32_below((error - point.error) * UNITS).max(0.0);
        }
        let radii = radii.map(|radii| {
            let chunk = |radii: &[f64]| {
                let mut units = [0; CHUNK];
                for (unit, radius) in units.iter_mut().zip(radii) {
                    *unit = (radius * UNITS).round_ties_even() as i16;
                }
                units
            };
            radii.chunks(CHUNK).map(chunk).collect()
        });
        Self { with, rotation: rotation.clone(), dim, count, codes, steps, slack, radii, error, norm }
    }

    /// Number of points.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    fn chunks(&self) -> usize {
        self.steps.len()
    }

    /// Bytes that codes of so many points take.
    #[must_use]
    pub fn bytes(points: usize, dim: usize) -> usize {
        PointCodes::bytes(points, dim) + 10 * points.next_multiple_of(CHUNK)
    }
}

/// Coded rows. Reused from portion to portion.
#[derive(Debug, Default)]
pub struct Rows {
    coder: Coder,
    codes: RowCodes,
    coded: Vec<Coded>,
    /// Largest distance of a row from what its codes stand for.
    error: f64,
    /// Largest `|X|`: norm of a row that its codes stand for.
    length: f64,
    terms: Vec<RowTerms>,
}

impl Rows {
    /// Takes the codes of `vectors`, of norms within 1 % of 1, as `points` has them.
    pub fn code(&mut self, vectors: &[&[f16]], points: &Points) {
        let (dim, most) = (points.dim, points.with.ranges().rows);
        self.codes.clear(points.with, dim);
        self.coded.clear();
        for vectors in vectors.chunks(LANES) {
            self.coder.code(vectors.iter().copied(), &points.rotation, dim, most, |coded, codes| {
                self.codes.push(codes);
                self.coded.push(coded);
            });
        }
        let largest = |of: fn(&Coded) -> f64| self.coded.iter().map(of).fold(0.0, f64::max);
        (self.error, self.length) = (largest(|it| it.error), largest(|it| it.length));
    }

    /// Number of rows.
    #[must_use]
    pub fn count(&self) -> usize {
        self.coded.len()
    }

    /// Bytes that one row takes, of so many elements.
    #[must_use]
    pub fn row_bytes(dim: usize) -> usize {
        RowCodes::row_bytes(dim) + size_of::<Coded>() + size_of::<RowTerms>()
    }

    /// Largest distance of a value of these rows with points of the same dimension from the canonical product.
    #[must_use]
    pub fn error_bound(&self, points: &Points) -> f64 {
        (self.error * points.norm + self.length * points.error + 0.51 / UNITS) * (1.0 + 1e-9)
    }

    fn terms(&mut self, points: &Points) {
        let term = |row: &Coded| RowTerms {
            scale: row.step * UNITS as f32,
            shift: f32_below((self.error - row.error) * points.norm * UNITS).max(0.0),
        };
        self.terms.clear();
        self.terms.extend(self.coded.iter().map(term));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
