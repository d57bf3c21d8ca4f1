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
//! `X = a p`, `T = b q` with a step size a vector and `p`, `q` in -127..=127; or in -32..=32 and -63..=63, where the instructions would saturate otherwise. What is lost is measured: `|Qx - X| <= E`, `|Qt - T| <= F`, the turn's own rounding included. The sum of `p q` is
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
//! operations that lead to it: two roundings of X.T, one after each move, and one of each difference, where none of these is above 3.8. Nor does any value saturate, for
//! the dimensions allowed ([`fits`]): with 127 `E <= |x| sqrt(dim) / 254` however a vector is made, and X.T and its moves make 2.2 at most; with 32 and 63 `E <= 0.71 |x|`,
//! `F <= 0.36 |t|`, and they make 3.8.
//!
//! **What follows** is as in [`crate::join`], with this bound: 0.015 above for 640 dimensions and unit vectors (0.048 with the smaller codes), where f32 has 3.9e-5. So a little more is looked at again.

mod code;
mod directions;
mod leading;
mod product;
mod rotate;
mod scores;

use half::f16;

pub use directions::Directions;
pub use leading::{Ceilings, LeadingPoints, LeadingRows, MOST_WIDTH, WIDTH_STEP};
pub use product::Instructions;
pub use rotate::{LANES, Rotation};
pub use scores::{ROWS_TOGETHER, Scores, Top};

use crate::join::{CHUNK, f32_below};
use code::{Coded, Coder};
use product::{Four, Ranges, RowTerms};

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
    rotation: Rotation,
    dim: usize,
    count: usize,
    /// u8\[chunks, dim / 4, CHUNK, 4\].
    codes: Vec<Four>,
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

/// Elements, filled up to whole instructions.
fn width(dim: usize) -> usize {
    dim.next_multiple_of(4)
}

impl Points {
    /// Codes of `vectors`, f16\[n, dim\] of norms within 1 % of 1, and their radii between -2 and 2, to be multiplied with these instructions.
    ///
    /// # Panics
    /// If codes cannot be made ([`fits`]) or lengths do not fit, which is a defect of the caller.
    #[must_use]
    pub fn new(vectors: &[f16], dim: usize, radii: Option<&[f64]>, with: Instructions) -> Self {
        assert!(fits(dim) && vectors.len().is_multiple_of(dim), "vectors have `dim` elements");
        let count = vectors.len() / dim;
        assert!(radii.is_none_or(|radii| radii.len() == count), "one radius a point");
        let (rotation, chunks, steps_a_vector) = (Rotation::new(dim), count.div_ceil(CHUNK), width(dim) / 4);
        let Ranges { points: most, moved, .. } = with.ranges();
        let mut codes = vec![Four([[moved; 4]; CHUNK]); chunks * steps_a_vector];
        let mut coder = Coder::default();
        let mut all: Vec<Coded> = Vec::with_capacity(count);
        for vectors in vectors.chunks(LANES * dim) {
            coder.code(vectors.chunks_exact(dim), &rotation, dim, most, |coded, row| {
                let (chunk, point) = (all.len() / CHUNK, all.len() % CHUNK);
                put(&mut codes[chunk * steps_a_vector..], point, row, moved);
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
        Self { with, rotation, dim, count, codes, steps, slack, radii, error, norm }
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
        points.next_multiple_of(CHUNK) * (width(dim) + 10)
    }
}

/// Puts the codes of a point where instructions look for them, moved up.
fn put(fours: &mut [Four], point: usize, codes: &[i8], moved: u8) {
    for (four, codes) in fours.iter_mut().zip(codes.chunks(4)) {
        for (to, code) in four.0[point].iter_mut().zip(codes) {
            *to = (i32::from(*code) + i32::from(moved)) as u8;
        }
    }
}

/// Coded rows. Reused from portion to portion.
#[derive(Debug, Default)]
pub struct Rows {
    coder: Coder,
    /// i8\[rows, width\].
    codes: Vec<i8>,
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
        let (dim, width) = (points.dim, width(points.dim));
        self.codes.clear();
        self.codes.resize(vectors.len() * width, 0);
        self.coded.clear();
        let mut rows = self.codes.chunks_exact_mut(width);
        for vectors in vectors.chunks(LANES) {
            self.coder.code(
                vectors.iter().copied(),
                &points.rotation,
                dim,
                points.with.ranges().rows,
                |coded, codes| {
                    if let Some(row) = rows.next() {
                        row[..dim].copy_from_slice(codes);
                    }
                    self.coded.push(coded);
                },
            );
        }
        let largest = |of: fn(&Coded) -> f64| self.coded.iter().map(of).fold(0.0, f64::max);
        (self.error, self.length) = (largest(|it| it.error), largest(|it| it.length));
    }

    /// Number of rows.
    #[must_use]
    pub fn count(&self) -> usize {
        self.coded.len()
    }

    /// Largest distance of a value of these rows with points of the same dimension from the canonical product.
    #[must_use]
    pub fn error_bound(&self, points: &Points) -> f64 {
        (self.error * points.norm + self.length * points.error + 0.51 / UNITS) * (1.0 + 1e-9)
    }

    fn terms(&mut self, points: &Points) {
        let term = |row: &Coded| RowTerms {
            first: -i32::from(points.with.ranges().moved) * row.sum,
            scale: row.step * UNITS as f32,
            shift: f32_below((self.error - row.error) * points.norm * UNITS).max(0.0),
        };
        self.terms.clear();
        self.terms.extend(self.coded.iter().map(term));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::dot::{dot, norm, round_to_f16};
    use std::collections::{BTreeMap, BTreeSet};

    pub(super) fn noise(state: &mut u64) -> f64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    }

    fn unit(raw: &[f64]) -> Vec<f16> {
        let length = raw.iter().map(|x| x * x).sum::<f64>().sqrt();
        raw.iter().map(|x| round_to_f16(x / length)).collect()
    }

    /// Random ones; constant ones; one element alone; outliers in the dimensions that CLIP has them in; mostly denormal ones; copies, neighbours and negatives of
    /// those before; and what the turn makes as uneven as can be: rows of the transform itself.
    pub(super) fn vectors(count: usize, dim: usize, state: &mut u64) -> Vec<Vec<f16>> {
        let mut all: Vec<Vec<f16>> = Vec::new();
        while all.len() < count {
            let mut raw: Vec<f64> = (0..dim).map(|_| noise(state)).collect();
            let kin = all.get(((noise(state) + 0.5) * all.len() as f64) as usize).cloned();
            match (((noise(state) + 0.5) * 9.0) as u32, kin) {
                (0, _) => raw.fill(if noise(state) > 0.0 { 1.0 } else { -1.0 }),
                (1, _) => {
                    let at = ((noise(state) + 0.5) * dim as f64) as usize;
                    raw.fill(0.0);
                    raw[at.min(dim - 1)] = noise(state).signum();
                }
                (2, _) => {
                    raw[dim / 5] = 8.0;
                    raw[dim / 2] = -3.0;
                }
                (3, _) => {
                    raw.iter_mut().skip(1).for_each(|x| *x *= 1e-6);
                    raw[0] = 1.0;
                }
                (4, Some(kin)) => raw = kin.iter().map(|x| x.to_f64()).collect(),
                (5, Some(kin)) => raw = kin.iter().map(|x| -x.to_f64()).collect(),
                (6, Some(kin)) => raw = kin.iter().zip(&raw).map(|(x, y)| x.to_f64() + 1e-4 * y).collect(),
                (7, _) => {
                    let mut turned = vec![[0.0f32; LANES]; dim];
                    turned[dim / 3][0] = 1.0;
                    turned[dim - 1][0] = 0.3;
                    Rotation::new(dim).turn(&mut turned);
                    raw = turned.iter().map(|lanes| f64::from(lanes[0])).collect();
                }
                _ => (),
            }
            all.push(unit(&raw));
        }
        all
    }

    const DIMS: [usize; 9] = [32, 33, 63, 64, 100, 512, 640, 1000, 2048];

    #[test]
    fn a_turn_keeps_lengths_and_products_within_its_rounding() {
        let mut state = 1;
        for dim in DIMS.into_iter().chain([1, 2, 3]) {
            let (rotation, all) = (Rotation::new(dim), vectors(LANES, dim, &mut state));
            let mut turned = vec![[0.0f32; LANES]; dim];
            for (lane, vector) in all.iter().enumerate() {
                turned.iter_mut().zip(vector).for_each(|(element, x)| element[lane] = x.to_f32());
            }
            rotation.turn(&mut turned);
            for (a, x) in all.iter().enumerate() {
                for (b, y) in all.iter().enumerate() {
                    let product: f64 = turned.iter().map(|it| f64::from(it[a]) * f64::from(it[b])).sum();
                    let bound = rotation.error() * (2.0 + rotation.error()) * norm(x) * norm(y);
                    assert!((product - dot(x, y)).abs() <= bound, "dim {dim}: {product} {}", dot(x, y));
                }
            }
        }
    }

    /// Every value is within the bound of the canonical product, whatever multiplies; above, within the pair's own.
    #[test]
    fn within_the_bound() {
        let mut state = 2;
        for (at, dim) in DIMS.into_iter().enumerate().take(if cfg!(miri) { 1 } else { 9 }) {
            let (points, rows) = ([1, 63, 64, 65, 200][at % 5], [1, 5, 6, 7, 23][(at + 2) % 5]);
            let (t, x) = (vectors(points, dim, &mut state), vectors(rows, dim, &mut state));
            let x: Vec<&[f16]> = x.iter().map(|x| &x[..]).collect();
            let mut seen = BTreeMap::<u8, BTreeSet<Vec<i16>>>::new();
            for with in Instructions::all() {
                let coded = Points::new(&t.concat(), dim, None, with);
                let mut rows = Rows::default();
                rows.code(&x, &coded);
                let bound = rows.error_bound(&coded);
                // Codes of a row have a quarter of the levels there, and those of a point half of them.
                let coarser = if with == Instructions::Avx2 { 3.5 } else { 1.0 };
                let most = coarser * if dim < 600 { 0.2 } else { 0.1 } * (1.0 + dim as f64 / 1000.0);
                assert!(bound < most, "dim {dim}, {with:?}: {bound}");
                let mut scores = Scores::default();
                scores.fill(&mut rows, &coded, false, 1);
                let mut values = Vec::new();
                for (row, x) in x.iter().enumerate() {
                    for (point, t) in t.iter().enumerate() {
                        let (v, s) =
                            (f64::from(Scores::value(scores.values(row, point / CHUNK)[point % CHUNK])), dot(x, t));
                        assert!((v - s).abs() <= bound, "dim {dim}, {with:?}: {v} is not {s} within {bound}");
                        values.push((v * UNITS) as i16);
                    }
                }
                seen.entry(with.ranges().moved).or_default().insert(values);
            }
            // Sums are exact, so that instructions for the same codes differ in the last unit at most.
            for seen in seen.values() {
                let first = seen.first().unwrap();
                assert!(seen.iter().all(|other| other.iter().zip(first).all(|(a, b)| a.abs_diff(*b) <= 1)));
            }
        }
    }

    /// `y` turned back by the transposed `Q`.
    fn turned_back(rotation: &Rotation, y: &[f64]) -> Vec<f64> {
        let mut back = Vec::new();
        for first in (0..y.len()).step_by(LANES) {
            let mut axes = vec![[0.0f32; LANES]; y.len()];
            (first..y.len().min(first + LANES)).for_each(|at| axes[at][at - first] = 1.0);
            rotation.turn(&mut axes);
            let product = |lane: usize| axes.iter().zip(y).map(|(axis, y)| f64::from(axis[lane]) * y).sum::<f64>();
            back.extend((first..y.len().min(first + LANES)).map(|at| product(at - first)));
        }
        back
    }

    /// A row along what a point's codes lose is off by nearly all that the point may be off.
    #[test]
    fn the_worst_row_is_within_the_bound_and_near_it() {
        let mut state = 4;
        for dim in [32, 64, 100, 200] {
            let raw: Vec<f64> = (0..dim).map(|_| noise(&mut state)).collect();
            let t = unit(&raw);
            for with in Instructions::all() {
                let coded = Points::new(&t, dim, None, with);
                let mut turned = vec![[0.0f32; LANES]; dim];
                turned.iter_mut().zip(&t).for_each(|(element, t)| element[0] = t.to_f32());
                coded.rotation.turn(&mut turned);
                let moved = f64::from(with.ranges().moved);
                let code = |at: usize| f64::from(coded.codes[at / 4].0[0][at % 4]) - moved;
                let lost: Vec<f64> =
                    (0..dim).map(|at| f64::from(turned[at][0]) - f64::from(coded.steps[0][0]) * code(at)).collect();
                let back = turned_back(&coded.rotation, &lost);
                // Where a row loses more than the point, it may make good for a part.
                let least = if with == Instructions::Avx2 { 0.3 } else { 0.8 };
                for sign in [1.0, -1.0] {
                    let x = unit(&back.iter().map(|x| sign * x).collect::<Vec<_>>());
                    let mut rows = Rows::default();
                    rows.code(&[&x], &coded);
                    let (bound, of_the_point) = (rows.error_bound(&coded), rows.length * coded.error);
                    let mut scores = Scores::default();
                    scores.fill(&mut rows, &coded, false, 1);
                    let off = (f64::from(Scores::value(scores.values(0, 0)[0])) - dot(&x, &t)).abs();
                    assert!(
                        off <= bound && off > least * of_the_point,
                        "dim {dim}, {with:?}: off by {off}, of {of_the_point} and {bound}"
                    );
                }
            }
        }
    }

    #[test]
    fn lists_and_tops_are_those_of_the_values() {
        let mut state = 3;
        for (rows, points, threads) in [(1, 1, 1), (8, 64, 1), (13, 130, 1), (20, 700, 3), (0, 70, 1), (3, 129, 9)] {
            let dim = 40;
            let (t, x) = (vectors(points, dim, &mut state), vectors(rows, dim, &mut state));
            let radii: Vec<f64> = (0..points)
                .map(|at| [2.0, -2.0, noise(&mut state), 0.5][if at % 7 == 0 { at % 2 } else { 2 + at % 2 }])
                .collect();
            let x: Vec<&[f16]> = x.iter().map(|x| &x[..]).collect();
            for with in Instructions::all() {
                let coded = Points::new(&t.concat(), dim, Some(&radii), with);
                let (mut coded_rows, mut scores) = (Rows::default(), Scores::default());
                coded_rows.code(&x, &coded);
                // Another size before: what is reused holds nothing old.
                scores.fill(&mut coded_rows, &Points::new(&t[0], dim, None, with), false, 1);
                scores.fill(&mut coded_rows, &coded, true, threads);
                let value = |row: usize, point: usize| Scores::value(scores.values(row, point / CHUNK)[point % CHUNK]);
                let over = |row: usize, point: usize| value(row, point) - radii[point] as f32;
                let most = |of: &mut dyn Iterator<Item = f32>| of.fold(f32::NEG_INFINITY, f32::max);
                let (tops, over_tops) = (scores.tops(), scores.excess_tops(&coded));
                for row in 0..rows {
                    assert_eq!(tops[row].value, most(&mut (0..points).map(|point| value(row, point))));
                    assert_eq!(tops[row].value, value(row, tops[row].point as usize));
                    let largest = most(&mut (0..points).map(|point| over(row, point)));
                    assert!(over_tops[row].value <= largest && over_tops[row].value >= largest - 4.0 / UNITS as f32);
                    assert!(over(row, over_tops[row].point as usize) >= largest - 4.0 / UNITS as f32);
                    for least in [-3.0, 0.2, tops[row].value, tops[row].value + 0.001, f32::INFINITY] {
                        for excess in [-5.0, -1.0, largest, largest + 0.001, f32::INFINITY] {
                            let chunks: Vec<usize> =
                                scores.chunks_reaching(row, least, excess).map(|(at, _)| at).collect();
                            let reaches = |point: &usize| value(row, *point) >= least || over(row, *point) >= excess;
                            let expected: BTreeSet<usize> =
                                (0..points).filter(reaches).map(|point| point / CHUNK).collect();
                            assert!(expected.iter().all(|chunk| chunks.contains(chunk)));
                        }
                    }
                }
                for wanted in
                    [(0..rows).collect::<Vec<_>>(), (0..rows).step_by(3).collect(), (rows / 2..rows).collect()]
                {
                    if wanted.is_empty() {
                        continue;
                    }
                    let tops = scores.column_tops(&wanted);
                    let expected = |point: usize| most(&mut wanted.iter().map(|&row| value(row, point)));
                    assert_eq!(tops, (0..points).map(expected).collect::<Vec<_>>());
                    let floor = |point: usize| match point % 5 {
                        0 => f32::INFINITY,
                        1 => f32::NEG_INFINITY,
                        2 => tops[point],
                        3 => tops[point].next_up(),
                        _ => tops[point] - 0.1,
                    };
                    let floors: Vec<f32> = (0..points).map(floor).collect();
                    let mut found = BTreeSet::new();
                    scores.columns_reaching(&wanted, &floors, |row, points| {
                        points.iter().for_each(|&point| assert!(found.insert((row, point as usize))));
                    });
                    let pairs = wanted.iter().flat_map(|&row| (0..points).map(move |point| (row, point)));
                    assert_eq!(found, pairs.filter(|&(row, point)| value(row, point) >= floors[point]).collect());
                }
            }
        }
    }
}
