//! The directions in which vectors have most of their energy, and what is proven of vectors that are known in these alone.
//!
//! Embeddings have most of their energy in few directions. With `B` the matrix of `width` such directions (f32), `y = Bx`, `z = Bt`, and `r_x = x - B'y`,
//! `r_t = t - B'z` what is left (`'` transposes), `D = BB' - I` how far the directions are from orthonormal:
//!
//! * `B r_x = y - BB'y = -Dy`, and likewise `B r_t = -Dz`. So
//!   `x.t = (B'y + r_x).(B'z + r_t) = y.BB'z + y.(B r_t) + (B r_x).z + r_x.r_t = y.z - y.Dz + r_x.r_t`, and by Cauchy and Schwarz
//!
//!   `|x.t - y.z| <= |r_x| |r_t| + |D| |y| |z|`
//!
//! * `|r_x|^2 = |x|^2 - 2 |y|^2 + y.BB'y = |x|^2 - |y|^2 + y.Dy <= |x|^2 - (1 - |D|) |y|^2`.
//! * `|y|^2 = x.B'Bx <= (1 + |D|) |x|^2`, as `B'B` and `BB'` have the same norm.
//!
//! Nothing of this asks how the directions were found: those of a sample serve all vectors, those that are bad make the bound large, and none makes it wrong. `|D|` is measured: the norm of
//! all elements of `D` is at least that of the matrix.
//!
//! **Rounding.** `y` is computed by f32 products of `n` terms, each rounded, and sums of them: an element of it is off by at most `g |b| |x|`, with `g = n u / (1 - n u)`, `u = 2^-24` and
//! `|b| <= 1 + |D|` (Higham, section 3.1), whatever is fused and in any order; what underflows is below 1e-30 in all.

use super::rotate::{LANES, Rotation};
use crate::join::UNIT_ROUNDOFF_F32;
use crate::widened::widened;

/// Times that directions are multiplied by the second moment: the energy that they catch grows little after that.
const ROUNDS: usize = 4;

/// Directions that are further from orthonormal than this are of no use.
const MOST_APART: f64 = 1e-3;

/// Directions of vectors of `dim` elements.
#[derive(Debug)]
pub struct Directions {
    dim: usize,
    width: usize,
    /// f32\[width, dim\].
    vectors: Vec<f32>,
    /// `|D|` at most: how far from orthonormal.
    apart: f64,
}

/// `a b'`, row by row: f32\[m, n\] of f32\[m, k\] and f32\[n, k\]; or added to what is there.
fn times_transposed(a: &[f32], b: &[f32], k: usize, out: &mut [f32], add: bool) {
    let (m, n) = (a.len() / k, b.len() / k);
    assert!(a.len() == m * k && b.len() == n * k && out.len() == m * n, "shapes fit");
    // SAFETY: three dense row-major matrices of these sizes, one of which is written and borrowed alone.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            add,
            a.as_ptr(),
            1,
            k as isize,
            b.as_ptr(),
            k as isize,
            1,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

impl Directions {
    /// Nearly the `width` directions in which vectors (f32\[n, dim\]) have most energy, the ones with more before those with less: by orthogonal iteration.
    ///
    /// # Panics
    /// If lengths do not fit, or there are more directions than elements, which is a defect of the caller.
    #[must_use]
    pub fn of(vectors: &[f32], dim: usize, width: usize) -> Self {
        assert!(dim > 0 && vectors.len().is_multiple_of(dim) && width <= dim, "vectors have `dim` elements");
        let count = vectors.len() / dim;
        let (mut across, mut moment) = (vec![0.0; vectors.len()], vec![0.0; dim * dim]);
        for (row, vector) in vectors.chunks_exact(dim).enumerate() {
            vector.iter().enumerate().for_each(|(at, x)| across[at * count + row] = *x);
        }
        if count > 0 {
            times_transposed(&across, &across, count, &mut moment, false);
        }
        let mut state = 0x7472_6f6d_6d65_6c01_u64;
        let mut all: Vec<f32> = (0..width * dim).map(|_| noise(&mut state)).collect();
        let mut next = vec![0.0; width * dim];
        for _ in 0..ROUNDS {
            times_transposed(&all, &moment, dim, &mut next, false);
            std::mem::swap(&mut all, &mut next);
            orthonormalise(&mut all, dim, &mut state);
        }
        Self::measured(dim, width, all)
    }

    fn measured(dim: usize, width: usize, vectors: Vec<f32>) -> Self {
        let mut squares = 0.0;
        for (i, a) in vectors.chunks_exact(dim).enumerate() {
            for (j, b) in vectors.chunks_exact(dim).enumerate().take(i + 1) {
                let mut product = [0.0];
                dot(a, b, &mut product);
                let apart = product[0] - f64::from(u8::from(i == j));
                squares += if i == j { 1.0 } else { 2.0 } * apart * apart;
            }
        }
        // Products of two f32 are exact in f64; sums of them are off by far less than what is added.
        Self { dim, width, vectors, apart: squares.sqrt() * (1.0 + 1e-9) + 1e-11 * width as f64 }
    }

    /// The first `width` of them, turned among each other so that vectors are spread evenly over them, as codes want it: what they catch stays the same. `None`
    /// if they are too far from orthonormal to be of use.
    ///
    /// # Panics
    /// If there are not so many, which is a defect of the caller.
    #[must_use]
    pub fn first(&self, width: usize) -> Option<Self> {
        assert!((1..=self.width).contains(&width), "so many directions are there");
        let mut mixed = self.vectors[..width * self.dim].to_vec();
        let rotation = Rotation::new(width);
        let mut turned = vec![[0.0; LANES]; width];
        for first in (0..self.dim).step_by(LANES) {
            let lanes = LANES.min(self.dim - first);
            for (turned, row) in turned.iter_mut().zip(mixed.chunks_exact(self.dim)) {
                turned[..lanes].copy_from_slice(&row[first..first + lanes]);
            }
            rotation.turn(&mut turned);
            for (turned, row) in turned.iter().zip(mixed.chunks_exact_mut(self.dim)) {
                row[first..first + lanes].copy_from_slice(&turned[..lanes]);
            }
        }
        Some(Self::measured(self.dim, width, mixed)).filter(|it| it.apart < MOST_APART)
    }

    /// Elements of vectors.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// How many directions.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// `|D|` at most: how far from orthonormal they are.
    pub(super) fn apart(&self) -> f64 {
        self.apart
    }

    /// What vectors (f32\[n, dim\]) are in these directions: f32\[n, width\].
    pub(super) fn project(&self, vectors: &[f32], out: &mut Vec<f32>) {
        out.resize(vectors.len() / self.dim * self.width, 0.0);
        times_transposed(vectors, &self.vectors, self.dim, out, false);
    }

    /// How far [`Self::project`] is at most from what it should be, for a vector of this norm.
    pub(super) fn rounding(&self, norm: f64) -> f64 {
        let steps = self.dim as f64 * UNIT_ROUNDOFF_F32;
        steps / (1.0 - steps) * (self.width as f64).sqrt() * (1.0 + self.apart) * norm * (1.0 + 1e-9) + 1e-30
    }

    /// `|r|` at most of a vector of this norm (rounded up), of which [`Self::project`] has made one of this length (rounded down).
    pub(super) fn rest(&self, norm: f64, length: f64) -> f64 {
        let least = (length - self.rounding(norm)).max(0.0);
        // The last term covers what the difference of two numbers of about 1 is off by.
        (norm * norm - (1.0 - self.apart) * least * least + 1e-12).max(0.0).sqrt() * (1.0 + 1e-9)
    }

    /// An estimate, from some rows and points (f32\[n, dim\]), of the share of pairs whose product less the point's `less` may reach the row's threshold, if only the
    /// first so many directions are looked at, for each of `widths` (ascending). `error` is what codes lose.
    #[must_use]
    pub fn shares(
        &self,
        rows: &[f32],
        points: &[f32],
        less: Option<&[f32]>,
        thresholds: &[f32],
        error: f32,
        widths: &[usize],
    ) -> Vec<f64> {
        let (m, n) = (rows.len() / self.dim, points.len() / self.dim);
        let of = |point: usize| less.map_or(0.0, |less| less[point]);
        let (mut y, mut z) = (Vec::new(), Vec::new());
        self.project(rows, &mut y);
        self.project(points, &mut z);
        let squares = |vectors: &[f32]| -> Vec<f32> {
            vectors.chunks_exact(self.dim).map(|vector| vector.iter().map(|x| x * x).sum()).collect()
        };
        let (mut left_x, mut left_t) = (squares(rows), squares(points));
        let (mut products, mut done) = (vec![0.0; m * n], 0);
        let share = |&width: &usize| {
            let columns = |from: &[f32], left: &mut [f32]| -> Vec<f32> {
                let mut some = Vec::new();
                for (vector, left) in from.chunks_exact(self.width).zip(left) {
                    some.extend_from_slice(&vector[done..width]);
                    *left -= vector[done..width].iter().map(|x| x * x).sum::<f32>();
                }
                some
            };
            let (y, z) = (columns(&y, &mut left_x), columns(&z, &mut left_t));
            if width > done {
                times_transposed(&y, &z, width - done, &mut products, true);
            }
            done = width;
            let mut over = 0usize;
            for ((products, left), threshold) in products.chunks_exact(n.max(1)).zip(&left_x).zip(thresholds) {
                let ceiling = |(at, s): (usize, &f32)| s + (left * left_t[at]).max(0.0).sqrt() + error - of(at);
                over += products.iter().enumerate().map(ceiling).filter(|ceiling| ceiling >= threshold).count();
            }
            over as f64 / (m * n).max(1) as f64
        };
        widths.iter().map(share).collect()
    }
}

fn noise(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 40) as f32 / (1u32 << 24) as f32 - 0.5
}

/// Gram and Schmidt, twice for each, which is enough; what lies in the span of those before is replaced by noise.
fn orthonormalise(vectors: &mut [f32], dim: usize, state: &mut u64) {
    let norm = |x: &[f32]| {
        let mut square = [0.0];
        dot(x, x, &mut square);
        square[0].sqrt()
    };
    for at in 0..vectors.len() / dim {
        let (done, rest) = vectors.split_at_mut(at * dim);
        let vector = &mut rest[..dim];
        // Noise lies in the span of fewer than `dim` others next to never; if it does, what is measured afterwards says so.
        for _ in 0..4 {
            let before = norm(vector);
            for _ in 0..2 {
                for other in done.chunks_exact(dim) {
                    let mut product = [0.0];
                    dot(vector, other, &mut product);
                    subtract(vector, other, product[0] as f32);
                }
            }
            let after = norm(vector);
            if after > 1e-4 * before && after > 1e-20 {
                vector.iter_mut().for_each(|x| *x = (f64::from(*x) / after) as f32);
                break;
            }
            vector.iter_mut().for_each(|x| *x = noise(state));
        }
    }
}

widened! {
    /// A product in f64.
    fn dot / dot_wide / dot_widest / dot_plain(a: &[f32], b: &[f32], product: &mut [f64; 1]) {
        let mut sums = [0.0f64; LANES];
        let ((a_blocks, a_rest), (b_blocks, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        for (a, b) in a_blocks.iter().zip(b_blocks) {
            for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                *sum += f64::from(*a) * f64::from(*b);
            }
        }
        for ((sum, a), b) in sums.iter_mut().zip(a_rest).zip(b_rest) {
            *sum += f64::from(*a) * f64::from(*b);
        }
        product[0] = sums.iter().sum();
    }
}

widened! {
    fn subtract / subtract_wide / subtract_widest / subtract_plain(from: &mut [f32], other: &[f32], times: f32) {
        for (x, y) in from.iter_mut().zip(other) {
            *x -= times * y;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// f32\[n, dim\] with a falling spectrum.
    fn vectors(count: usize, dim: usize, state: &mut u64) -> Vec<f32> {
        let scale = |at: usize| 1.0 / (1.0 + at as f32 / 4.0);
        (0..count).flat_map(|_| (0..dim).map(|at| scale(at) * noise(state)).collect::<Vec<_>>()).collect()
    }

    /// Whatever they are learned from, products and rests lie where the head says, and directions catch what the first axes hold, nearly.
    #[test]
    fn products_are_within_what_the_rests_allow() {
        let mut state = 5;
        for (dim, width, count) in [(32, 16, 200), (48, 48, 20), (100, 32, 1), (64, 16, 0), (65, 17, 500)] {
            if cfg!(miri) && (dim > 32 || count > 200) {
                continue; // the interpreter would take hours
            }
            let learned = Directions::of(&vectors(count, dim, &mut state), dim, width);
            let x = vectors(12, dim, &mut state);
            for width in [1, width / 2, width] {
                let directions = learned.first(width).unwrap();
                assert!(directions.apart < 1e-4, "{}", directions.apart);
                let mut y = Vec::new();
                directions.project(&x, &mut y);
                let exact =
                    |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
                let (mut caught, mut all) = (0.0, 0.0);
                for (x, y) in x.chunks(dim).zip(y.chunks(width)) {
                    let (norm, length) = (exact(x, x).sqrt() * (1.0 + 1e-12), exact(y, y).sqrt() * (1.0 - 1e-12));
                    let rest = directions.rest(norm, length);
                    caught += length * length;
                    all += norm * norm;
                    for (t, z) in vectors(12, dim, &mut state).chunks(dim).map(|t| {
                        let mut z = Vec::new();
                        directions.project(t, &mut z);
                        (t, z)
                    }) {
                        let (norm_t, length_t) =
                            (exact(t, t).sqrt() * (1.0 + 1e-12), exact(&z, &z).sqrt() * (1.0 - 1e-12));
                        let rounding = 3.0 * (directions.rounding(norm) * norm_t + norm * directions.rounding(norm_t));
                        let bound = rest * directions.rest(norm_t, length_t) + 2.0 * directions.apart * norm * norm_t;
                        let off = (exact(x, t) - exact(y, &z)).abs();
                        assert!(off <= bound + rounding, "dim {dim}, {width}: {off} is over {bound}");
                    }
                }
                if count >= 200 && width >= 16 {
                    let first: f64 = x.chunks(dim).map(|x| exact(&x[..width], &x[..width])).sum();
                    assert!(caught > 0.97 * first && caught < all * (1.0 + 1e-4), "{caught} of {first} and {all}");
                }
            }
        }
    }

    /// What directions that are far from orthonormal lose of vectors in their span: that is nearly all that the bound allows, once and not twice.
    #[test]
    fn directions_that_are_askew_lose_what_was_measured() {
        let (dim, width, mut state, mut largest) = (40, 8, 7, 0.0f64);
        let exact = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        for _ in 0..50 {
            let mut skewed = vec![0.0f32; width * dim];
            for (at, row) in skewed.chunks_exact_mut(dim).enumerate() {
                row.iter_mut().for_each(|x| *x = 1e-4 * noise(&mut state));
                row[at] += 1.0 + 4e-4 * noise(&mut state);
            }
            let directions = Directions::measured(dim, width, skewed);
            assert!(directions.apart < MOST_APART);
            let mut spanned = || -> Vec<f32> {
                let shares: Vec<f32> = (0..width).map(|_| noise(&mut state)).collect();
                let rows = directions.vectors.chunks_exact(dim);
                let mut sum = vec![0.0; dim];
                rows.zip(shares).for_each(|(row, share)| sum.iter_mut().zip(row).for_each(|(s, x)| *s += share * x));
                sum
            };
            for _ in 0..20 {
                let pair = [spanned(), spanned()];
                let seen: Vec<_> = pair
                    .iter()
                    .map(|x| {
                        let mut y = Vec::new();
                        directions.project(x, &mut y);
                        let (norm, length) = (exact(x, x).sqrt(), exact(&y, &y).sqrt());
                        let rest = directions.rest(norm * (1.0 + 1e-12), length * (1.0 - 1e-12));
                        (y, norm, length, rest)
                    })
                    .collect();
                let [(y, norm_x, length_y, rest_x), (z, norm_t, length_z, rest_t)] = &seen[..] else { unreachable!() };
                let rounding =
                    directions.rounding(*norm_x) * norm_t * 1.01 + norm_x * directions.rounding(*norm_t) * 1.01;
                let (off, apart) =
                    ((exact(&pair[0], &pair[1]) - exact(y, z)).abs(), directions.apart * length_y * length_z);
                assert!(off <= rest_x * rest_t + apart + rounding, "{off} is over {apart} and {rest_x} * {rest_t}");
                // A vector in the span has no rest but for what the skew makes of it.
                assert!(rest_x.powi(2) <= 2.1 * directions.apart * norm_x.powi(2) + 1e-5, "{rest_x}");
                largest = largest.max(off / apart);
            }
        }
        assert!(largest > 0.3, "{largest} of the bound is used");
    }

    #[test]
    fn narrower_is_coarser_and_all_directions_leave_what_is_there() {
        let mut state = 6;
        let (dim, count, few) = if cfg!(miri) { (16, 40, 4) } else { (64, 300, 20) };
        let (points, rows) = (vectors(count, dim, &mut state), vectors(few, dim, &mut state));
        let learned = Directions::of(&points, dim, dim);
        let less = vec![0.1f32; count];
        for less in [None, Some(&less[..])] {
            let of = less.map_or(0.0, |less| less[0]);
            let products = |x: &[f32]| -> Vec<f32> {
                let with = |t: &[f32]| x.iter().zip(t).map(|(x, t)| x * t).sum::<f32>() - of;
                points.chunks(dim).map(with).collect()
            };
            let products: Vec<Vec<f32>> = rows.chunks(dim).map(products).collect();
            let most = |row: &Vec<f32>| row.iter().copied().fold(f32::MIN, f32::max);
            let thresholds: Vec<f32> = products.iter().map(most).collect();
            let shares = learned.shares(&rows, &points, less, &thresholds, 1e-3, &[1, dim / 8, dim / 2, dim]);
            assert!(shares.is_sorted_by(|a, b| a >= b) && shares[0] > 0.2, "{shares:?}");
            let near = |row: &Vec<f32>| row.iter().filter(|s| **s + 2e-3 >= most(row)).count();
            let near = products.iter().map(near).sum::<usize>() as f64 / (few * count) as f64;
            assert!(shares[3] <= near && shares[3] > 0.0, "{shares:?}, {near}");
        }
    }
}
