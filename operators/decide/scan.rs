//! From approximate products to exact scores: what lies inside the bound is computed canonically, nothing else is.
//!
//! With `v` the f32 value of a point, `s` its canonical one and `e >= |v - s|` the bound:
//!
//! 1. *Maximum.* If `s_i` is the largest, then for every `j`: `v_i >= s_i - e >= s_j - e >= v_j - 2e`. So all points that reach
//!    the canonical maximum have `v >= max v - 2e`; among those the first with the largest `s` is taken.
//! 2. *Excess.* Let `m = v - r` as f32 arithmetic on the f32 nearest to the radius, `g = s - r` as f64 arithmetic. With `R >= |r|`, `V >= |v|`,
//!    `u = 2^-24`: the radius is off by `uR`, the f32 difference by `u(V + R + uR)`, the f64 one by `2^-53 (V + R)` at most; so
//!    `|m - g| <= e + 3u(V + R) =: d`. By the same argument as in 1 the points that reach the largest `g` have `m >= max m - 2d`.
//! 3. *Hits.* `m > d` implies `s > r`, `m < -d` implies `s < r`; between them `s > r` is asked of the canonical value.
//!    `s > r` and `s - r > 0` say the same in f64 (a difference of different numbers is not rounded to 0), so margin and hits agree.

use half::f16;
use trommel_kernels::dot::{dot, norm};
use trommel_kernels::join::{Block, CHUNK, UNIT_ROUNDOFF_F32, error_bound, f32_below};

use super::benchmark::Benchmark;
use trommel_core::sample::Score;

/// One row of a block: its products and its vector.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    /// The products.
    pub block: &'a Block,
    /// The row's place in the block.
    pub row: usize,
    /// The row's vector.
    pub x: &'a [f16],
}

/// What the scan needs to know of a benchmark beside its vectors.
#[derive(Debug)]
pub struct Prepared {
    /// The f32 nearest to each radius.
    pub radii: Option<Vec<f32>>,
    /// Largest norm of a point.
    point_norm: f64,
    /// Largest magnitude of a radius.
    largest_radius: f64,
}

/// The two bounds of one row against one benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of a value.
    pub value: f64,
    /// Of a value minus its radius.
    excess: f64,
}

impl Prepared {
    /// Norms and rounded radii of a benchmark.
    #[must_use]
    pub fn new(benchmark: &Benchmark) -> Self {
        let norms = benchmark.vectors.chunks_exact(benchmark.dim).map(norm);
        let radii = benchmark.radii.as_deref();
        Self {
            radii: radii.map(|radii| radii.iter().map(|&r| r as f32).collect()),
            point_norm: norms.fold(0.0, f64::max),
            largest_radius: radii.into_iter().flatten().fold(0.0, |most, r| most.max(r.abs())),
        }
    }

    /// The bounds for a row of norm `row_norm`. Dimensions without a bound (beyond 2^23) get an infinite one: all is canonical then.
    pub fn bounds(&self, dim: usize, row_norm: f64) -> Bounds {
        let value = error_bound(dim, row_norm, self.point_norm).unwrap_or(f64::INFINITY);
        let largest = row_norm * self.point_norm + value;
        Bounds { value, excess: value + 3.0 * UNIT_ROUNDOFF_F32 * (largest + self.largest_radius) * (1.0 + 1e-9) }
    }
}

/// Largest canonical value of a row and its point, lowest index on ties.
pub fn maximum(line: Line<'_>, benchmark: &Benchmark, bounds: Bounds) -> (f64, u32) {
    let Line { block, row, x } = line;
    let chunks = block.chunk_maxima(row);
    let top = chunks.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut least = f32_below(f64::from(top) - 2.0 * bounds.value);
    let mut best = (f64::NEG_INFINITY, 0);
    for (chunk, &most) in chunks.iter().enumerate() {
        if most < least {
            continue;
        }
        let start = chunk * CHUNK;
        for (point, &v) in (start..).zip(chunk_of(block.row(row), start)) {
            if v < least {
                continue;
            }
            let s = dot(x, benchmark.vector(point));
            if s > best.0 {
                best = (s, point as u32);
                // Nothing below this can reach it any more.
                least = least.max(f32_below(s - bounds.value));
            }
        }
    }
    best
}

/// Margin, its point and the number of hits of a row, written into `score`; each hit adds one to `hits` (u32\[points\]).
pub fn excess(
    line: Line<'_>,
    benchmark: &Benchmark,
    prepared: &Prepared,
    bounds: Bounds,
    hits: &mut [u32],
    score: &mut Score,
) {
    let Line { block, row, x } = line;
    let (Some(radii), Some(narrow)) = (&benchmark.radii, &prepared.radii) else { return };
    let chunks = block.chunk_excess(row);
    let top = chunks.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let least = f32_below(f64::from(top) - 2.0 * bounds.excess);
    let unsure = f32_below(-bounds.excess);
    let sure = -unsure;
    let look = least.min(unsure);
    let (mut best, mut count) = ((f64::NEG_INFINITY, 0), 0u32);
    for (chunk, _) in chunks.iter().enumerate().filter(|(_, most)| **most >= look) {
        let start = chunk * CHUNK;
        let values = chunk_of(block.row(row), start);
        for ((point, &v), &r) in (start..).zip(values).zip(&narrow[start..]) {
            let m = v - r;
            if m < look {
                continue;
            }
            let hit = if m >= least || m <= sure {
                let (s, r) = (dot(x, benchmark.vector(point)), radii[point]);
                if s - r > best.0 {
                    best = (s - r, point as u32);
                }
                s > r
            } else {
                true
            };
            if hit {
                count += 1;
                hits[point] += 1;
            }
        }
    }
    (score.margin, score.exceeds, score.hits) = (Some(best.0), Some(best.1), Some(count));
}

/// The values of the chunk that begins at `start`.
fn chunk_of(values: &[f32], start: usize) -> &[f32] {
    &values[start..(start + CHUNK).min(values.len())]
}
