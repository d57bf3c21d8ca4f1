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
//! 4. *Two sieves.* Where values are coarse (`e` far above the bound of an f32 product), the point with the largest value is looked at first: with its canonical
//!    `s`, the winners have `v >= s - e`, half of the distance in 1. Of the rest an f32 product `p` is computed, within `f` of `s`: a point is
//!    passed over if even `p + f` is below the maximum, and is a hit or none if `r` lies outside of `p +- f` and its margin, rounded as all
//!    margins are, is below the largest one even with `p + f` (rounding is monotone).

use half::f16;
use trommel_kernels::dot::{dot, dot_f32, norm};
use trommel_kernels::join::{Block, CHUNK, UNIT_ROUNDOFF_F32, error_bound, f32_above, f32_below};

use super::benchmark::Benchmark;
use super::join_config::Needs;
use super::kernel::{Found, Reach, Tops};
use trommel_core::sample::Score;

/// What the scan needs to know of a benchmark beside its vectors.
#[derive(Debug)]
pub struct Prepared {
    /// The f32 nearest to each radius.
    pub radii: Option<Vec<f32>>,
    dim: usize,
    /// Largest norm of a point.
    point_norm: f64,
    /// Largest magnitude of a radius.
    largest_radius: f64,
}

/// The two bounds of one row against one benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How far a fast product may lie from the canonical one.
    pub value: f64,
    /// Of a value minus its radius.
    excess: f64,
    /// Of a product in f32, where that is so much smaller than the one of a value that it pays to look at it first.
    sieve: Option<f64>,
}

impl Prepared {
    /// Norms and rounded radii of a benchmark.
    #[must_use]
    pub fn new(benchmark: &Benchmark) -> Self {
        let norms = benchmark.vectors.chunks_exact(benchmark.dim).map(norm);
        let radii = benchmark.radii.as_deref();
        Self {
            radii: radii.map(|radii| radii.iter().map(|&r| r as f32).collect()),
            dim: benchmark.dim,
            point_norm: norms.fold(0.0, f64::max),
            largest_radius: radii.into_iter().flatten().fold(0.0, |most, r| most.max(r.abs())),
        }
    }

    /// The bounds for a row of norm `row_norm`, `value_bound` (of this norm and the one given) being that of a value.
    pub fn bounds(&self, row_norm: f64, value_bound: impl FnOnce(f64, f64) -> f64) -> Bounds {
        let value = value_bound(row_norm, self.point_norm);
        let largest = row_norm * self.point_norm + value;
        let excess = value + 3.0 * UNIT_ROUNDOFF_F32 * (largest + self.largest_radius) * (1.0 + 1e-9);
        let single = f32_bound(self.dim, row_norm, self.point_norm);
        Bounds { value, excess, sieve: (value > SIEVE_FROM * single).then_some(single) }
    }

    /// [`Self::bounds`] for the values of a [`Block`].
    pub fn block_bounds(&self, dim: usize, row_norm: f64) -> Bounds {
        self.bounds(row_norm, |row_norm, point_norm| f32_bound(dim, row_norm, point_norm))
    }
}

/// A product in f32 is computed first where the bound of values is so many times as large as its own.
const SIEVE_FROM: f64 = 8.0;

impl Bounds {
    /// Whether the kernel's values are coarse: what they list is sifted by f32 products.
    #[must_use]
    pub fn are_coarse(&self) -> bool {
        self.sieve.is_some()
    }

    /// The smallest and largest canonical product that two vectors can have, as near as that is to be had cheaply; infinities where it is not.
    #[must_use]
    pub fn near(&self, x: &[f16], t: &[f16]) -> (f64, f64) {
        match self.sieve {
            Some(bound) => {
                let near = f64::from(dot_f32(x, t));
                (near - bound, near + bound)
            }
            None => (f64::NEG_INFINITY, f64::INFINITY),
        }
    }

    /// What can reach the canonical maxima of a row with these largest values, or be a hit.
    #[must_use]
    pub fn reach(&self, tops: Tops) -> Reach {
        Reach {
            value: f32_below(f64::from(tops.value) - 2.0 * self.value),
            excess: f32_below(f64::from(tops.excess) - 2.0 * self.excess),
            sure: f32_above(self.excess),
        }
    }
}

/// The bound of a [`Block`]'s values. Dimensions without one (beyond 2^23) get an infinite one: all is canonical then.
#[must_use]
pub fn f32_bound(dim: usize, row_norm: f64, point_norm: f64) -> f64 {
    error_bound(dim, row_norm, point_norm).unwrap_or(f64::INFINITY)
}

/// Largest values of a row of a block.
#[must_use]
pub fn tops(block: &Block, row: usize) -> Tops {
    let top = |chunks: &[f32]| chunks.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    Tops { value: top(block.chunk_maxima(row)), excess: top(block.chunk_excess(row)) }
}

/// What of a row of a block reaches, in ascending order. `radii` are those that the block was filled with.
pub(crate) fn reaching(block: &Block, row: usize, radii: Option<&[f32]>, reach: Reach, found: &mut Found) {
    let (values, maxima, excess) = (block.row(row), block.chunk_maxima(row), block.chunk_excess(row));
    let look = reach.least_excess();
    for (chunk, &most) in maxima.iter().enumerate() {
        let over = radii.is_some() && excess[chunk] >= look;
        if most < reach.value && !over {
            continue;
        }
        let start = chunk * CHUNK;
        let radii = radii.filter(|_| over);
        for point in start..(start + CHUNK).min(values.len()) {
            reach.sort(point, values[point], radii.map(|radii| radii[point]), found);
        }
    }
}

/// A row's score in the making.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    reach: Reach,
    needs: Needs,
    bounds: Bounds,
    maximum: (f64, u32),
    margin: (f64, u32),
    /// What lies below this, and is no hit, cannot have the largest margin.
    least_excess: f32,
    hits: u32,
    /// Canonical products computed.
    pub confirmed: u64,
}

impl Tally {
    /// Nothing listed yet of a row with these largest values.
    #[must_use]
    pub fn new(needs: Needs, bounds: Bounds, tops: Tops) -> Self {
        let (mut reach, nobody) = (bounds.reach(tops), (f64::NEG_INFINITY, u32::MAX));
        if !needs.maximum {
            reach.value = f32::INFINITY;
        }
        let least_excess = reach.excess;
        Self { reach, needs, bounds, maximum: nobody, margin: nobody, least_excess, hits: 0, confirmed: 0 }
    }

    /// Looks at points that the kernel thinks largest, so that less is listed: what they have canonically, the winners reach.
    pub fn look_first(&mut self, x: &[f16], benchmark: &Benchmark, nearest: Option<u32>, exceeds: Option<u32>) {
        let canonical = |point: u32| dot(x, benchmark.vector(point as usize));
        if let Some(point) = nearest.filter(|_| self.needs.maximum) {
            self.maximum = (canonical(point), point);
            self.reach.value = self.reach.value.max(f32_below(self.maximum.0 - self.bounds.value));
            self.confirmed += 1;
        }
        if let Some((point, radii)) = exceeds.filter(|_| self.needs.radii).zip(benchmark.radii.as_deref()) {
            self.margin = (canonical(point) - radii[point as usize], point);
            self.reach.excess = self.reach.excess.max(f32_below(self.margin.0 - self.bounds.excess));
            self.least_excess = self.reach.excess;
            self.confirmed += 1;
        }
    }

    /// What it wants listed.
    #[must_use]
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// Adds hits that are sure.
    pub fn count(&mut self, hits: u32) {
        self.hits += hits;
    }

    /// Takes some of the listed points, calling `hit` with each that is a hit and was not counted.
    pub fn take(
        &mut self,
        x: &[f16],
        benchmark: &Benchmark,
        prepared: &Prepared,
        listed: &[(u32, f32)],
        mut hit: impl FnMut(usize),
    ) {
        let radii = benchmark.radii.as_deref().zip(prepared.radii.as_deref()).filter(|_| self.needs.radii);
        for &(point, v) in listed {
            let at = point as usize;
            let asks = |m: f32| self.reach.lists_excess(m) && (m >= self.least_excess || m >= -self.reach.sure);
            let mut over = radii.filter(|(_, narrow)| asks(v - narrow[at]));
            let mut raises = v >= self.reach.value;
            if !raises && over.is_none() {
                continue;
            }
            if self.bounds.are_coarse() {
                let (low, high) = self.bounds.near(x, benchmark.vector(at));
                raises &= high >= self.maximum.0;
                let known = |r: f64| (low > r || high < r) && high - r < self.margin.0;
                if let Some((radii, _)) = over.filter(|(radii, _)| known(radii[at])) {
                    if low > radii[at] {
                        self.hits += 1;
                        hit(at);
                    }
                    over = None;
                }
                if !raises && over.is_none() {
                    continue;
                }
            }
            let s = dot(x, benchmark.vector(at));
            self.confirmed += 1;
            if raises && raise(&mut self.maximum, (s, point)) {
                // Nothing below this can reach it any more.
                self.reach.value = self.reach.value.max(f32_below(s - self.bounds.value));
            }
            if let Some((radii, _)) = over {
                if raise(&mut self.margin, (s - radii[at], point)) {
                    self.least_excess = self.least_excess.max(f32_below(self.margin.0 - self.bounds.excess));
                }
                if s > radii[at] {
                    self.hits += 1;
                    hit(at);
                }
            }
        }
    }

    /// The score, when all is listed and counted.
    #[must_use]
    pub fn score(&self) -> Score {
        let mut score = Score::default();
        if self.needs.maximum {
            (score.max_similarity, score.nearest) = (Some(self.maximum.0), Some(self.maximum.1));
        }
        if self.needs.radii {
            (score.margin, score.exceeds) = (Some(self.margin.0), Some(self.margin.1));
            score.hits = Some(self.hits);
        }
        score
    }
}

/// Takes the larger value; of equal ones that of the lower point. Says whether it was larger.
fn raise(best: &mut (f64, u32), other: (f64, u32)) -> bool {
    let larger = other.0 > best.0;
    if larger || (other.0 == best.0 && other.1 < best.1) {
        *best = other;
    }
    larger
}

/// The whole score of a row of a filled block; `x` is its vector.
#[must_use]
pub fn score(
    block: &Block,
    row: usize,
    x: &[f16],
    benchmark: &Benchmark,
    prepared: &Prepared,
    bounds: Bounds,
) -> Score {
    let needs = Needs { maximum: true, radii: prepared.radii.is_some() };
    let mut tally = Tally::new(needs, bounds, tops(block, row));
    let mut found = Found::default();
    reaching(block, row, prepared.radii.as_deref(), tally.reach(), &mut found);
    tally.count(found.sure.len() as u32);
    tally.take(x, benchmark, prepared, &found.listed, |_| ());
    tally.score()
}
