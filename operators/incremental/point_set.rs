//! A point set: some points of a benchmark against a few vectors at a time, exactly.
//!
//! The fast products of `trommel_decide::scan` find candidates with a proven bound, what lies inside it is computed canonically. So whatever comes out
//! of a point set is a function of vector and points, and a point set of few points says of them what a point set of all would.
//!
//! Products are in f32, not in codes: most point sets are the few points that a change touches, and threads share a block, by rows for scores and by points
//! for maxima (see `docs/design/similarity.md`).

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use half::f16;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use trommel_kernels::canonical::UNIT_TOLERANCE;
use trommel_kernels::dot::{norm, to_f32};
use trommel_kernels::join::{Block, Tiling, f32_below};

use super::inputs::Points;
use trommel_core::peak;
use trommel_core::sample::{SampleId, Score};
use trommel_decide::benchmark::Benchmark;
use trommel_decide::maxima::Columns;
use trommel_decide::scan::{Prepared, score};

/// A similarity and the sample that has it; see [`NOTHING`].
pub type Peak = peak::Peak<SampleId>;

/// No sample yet: below every similarity.
pub const NOTHING: Peak = (f64::NEG_INFINITY, SampleId { ordinal: u64::MAX, index: u32::MAX });

/// Some points of a benchmark.
#[derive(Debug)]
pub struct PointSet {
    /// Lasting number of the benchmark.
    pub id: u32,
    /// The points' places in the benchmark, ascending.
    pub places: Vec<usize>,
    /// Their lasting numbers.
    numbers: Vec<u32>,
    benchmark: Arc<Benchmark>,
    prepared: Prepared,
}

/// A few vectors and whose they are: f16\[n, dim\] and f32\[n, dim\].
#[derive(Clone, Debug, Default)]
pub struct Chunk {
    /// Shard and raw index of each row.
    pub ids: Vec<SampleId>,
    /// Elements a vector.
    pub dim: usize,
    vectors: Vec<f16>,
    wide: Vec<f32>,
    /// Largest L2 norm of a point.
    norm: f64,
}

impl Chunk {
    /// No vectors of `dim` elements.
    #[must_use]
    pub fn new(dim: usize) -> Self {
        Self { dim, ..Self::default() }
    }

    /// Takes a vector; false if it is no unit vector of the right dimension.
    #[must_use]
    pub fn push(&mut self, id: SampleId, vector: &[f16]) -> bool {
        let length = norm(vector);
        let unit = vector.len() == self.dim && (length - 1.0).abs() <= UNIT_TOLERANCE; // false for NaN
        if unit {
            self.ids.push(id);
            self.vectors.extend_from_slice(vector);
            self.wide.resize(self.vectors.len(), 0.0);
            let from = self.vectors.len() - self.dim;
            to_f32(&self.vectors[from..], &mut self.wide[from..]);
            self.norm = self.norm.max(length);
        }
        unit
    }

    /// The vector of a row.
    #[must_use]
    pub fn vector(&self, row: usize) -> &[f16] {
        &self.vectors[row * self.dim..(row + 1) * self.dim]
    }

    /// Takes some rows of another one of its dimension.
    pub fn take_rows(&mut self, from: &Self, rows: &[usize]) {
        for &row in rows {
            let of = row * self.dim..(row + 1) * self.dim;
            self.ids.push(from.ids[row]);
            self.vectors.extend_from_slice(&from.vectors[of.clone()]);
            self.wide.extend_from_slice(&from.wide[of]);
        }
        self.norm = self.norm.max(from.norm);
    }
}

impl PointSet {
    /// A point set of all points of a benchmark.
    #[must_use]
    pub fn whole(points: &Points) -> Self {
        let (places, benchmark) = ((0..points.numbers.len()).collect(), points.benchmark.clone());
        let prepared = Prepared::new(&benchmark);
        Self { id: points.id, places, numbers: points.numbers.to_vec(), benchmark, prepared }
    }

    /// The points at some places, ascending and at least one; `None` if there is none.
    #[must_use]
    pub fn of(points: &Points, places: Vec<usize>) -> Option<Self> {
        let of = &points.benchmark;
        let vectors = places.iter().flat_map(|&place| of.vector(place)).copied().collect();
        let radii = of.radii.as_ref().map(|radii| places.iter().map(|&place| radii[place]).collect());
        let benchmark = Benchmark::new(of.name.clone(), of.dim, vectors, vec![], vec![], radii, None).ok()?;
        let numbers = places.iter().map(|&place| points.numbers[place]).collect();
        let prepared = Prepared::new(&benchmark);
        Some(Self { id: points.id, places, numbers, benchmark: Arc::new(benchmark), prepared })
    }

    /// Products of the chunk with the points, on so many threads.
    pub fn fill(&self, block: &mut Block, chunk: &Chunk, threads: usize) {
        let radii = self.prepared.radii.as_deref();
        let tiling = Tiling { threads, ..Tiling::default() };
        block.fill(&chunk.wide, &self.benchmark.vectors, chunk.dim, radii, tiling);
    }

    /// Scores of the rows of a filled block: over the point set's points, by their lasting numbers.
    #[must_use]
    pub fn scores(&self, block: &Block, chunk: &Chunk, threads: usize) -> Vec<Score> {
        let bounds = self.prepared.block_bounds(chunk.dim, chunk.norm);
        let row = |row: usize| {
            let mut score = score(block, row, chunk.vector(row), &self.benchmark, &self.prepared, bounds);
            let lasting = |at: u32| self.numbers[at as usize];
            (score.nearest, score.exceeds) = (score.nearest.map(lasting), score.exceeds.map(lasting));
            score
        };
        by_rows(chunk.ids.len(), threads, |rows| rows.map(row).collect())
    }

    /// (Lasting number, row, similarity) of all that reach their floor, row by row; floors stand in the order of the point set.
    /// Where there are more than `most`, some more than `most` of them.
    #[must_use]
    pub fn matches(
        &self,
        block: &Block,
        chunk: &Chunk,
        floors: &[f64],
        (threads, most): (usize, u64),
    ) -> Vec<(u32, usize, f64)> {
        let bound = self.prepared.block_bounds(chunk.dim, chunk.norm).value;
        let columns = Columns::new(block, &self.benchmark, bound);
        let least: Vec<f32> = floors.iter().map(|floor| f32_below(floor - bound)).collect();
        let count = AtomicU64::new(0);
        by_rows(chunk.ids.len(), threads, |rows| {
            let mut found = Vec::new();
            for row in rows {
                let before = found.len();
                columns.reaching(row, chunk.vector(row), &least, |at, s| {
                    if s >= floors[at] {
                        found.push((self.numbers[at], row, s));
                    }
                });
                let here = (found.len() - before) as u64;
                if count.fetch_add(here, Ordering::Relaxed) + here > most {
                    break;
                }
            }
            found
        })
    }

    /// Offers the rows for which `takes` holds to the peaks, which stand in the order of the benchmark.
    pub fn raise(
        &self,
        block: &Block,
        chunk: &Chunk,
        takes: impl Fn(SampleId) -> bool,
        peaks: &mut [Peak],
        threads: usize,
    ) {
        let rows: Vec<usize> = (0..chunk.ids.len()).filter(|&row| takes(chunk.ids[row])).collect();
        if rows.is_empty() {
            return;
        }
        let bound = self.prepared.block_bounds(chunk.dim, chunk.norm).value;
        let columns = Columns::new(block, &self.benchmark, bound);
        let stripe = |Stripe { first, places, peaks, from }: Stripe<'_>| {
            let rows = rows.iter().map(|&row| (row, chunk.vector(row), chunk.ids[row]));
            columns.part(first, places.len()).raise(rows, peaks, |at| places[at] - from);
        };
        let stripes = self.stripes(peaks, threads);
        if threads <= 1 {
            stripes.into_iter().for_each(stripe);
        } else {
            stripes.into_par_iter().for_each(stripe);
        }
    }

    /// The point set's points with their peaks, in `threads` parts.
    fn stripes<'a>(&'a self, peaks: &'a mut [Peak], threads: usize) -> Vec<Stripe<'a>> {
        let (width, mut rest, mut from) = (self.places.len().div_ceil(threads.max(1)), peaks, 0);
        let places = self.places.chunks(width).enumerate();
        places
            .map(|(at, places)| {
                let end = places.last().map_or(from, |last| last + 1);
                let (peaks, later) = std::mem::take(&mut rest).split_at_mut(end - from);
                let stripe = Stripe { first: at * width, places, peaks, from };
                (rest, from) = (later, end);
                stripe
            })
            .collect()
    }
}

/// Some neighbouring points of a point set.
struct Stripe<'a> {
    /// The first one's place in the point set.
    first: usize,
    /// Their places in the benchmark.
    places: &'a [usize],
    /// Their peaks and those of points between, from the benchmark's place `from` on.
    peaks: &'a mut [Peak],
    from: usize,
}

/// What `part` makes of all rows, some of them a thread.
fn by_rows<T: Send>(rows: usize, threads: usize, part: impl Fn(Range<usize>) -> Vec<T> + Sync) -> Vec<T> {
    if threads <= 1 {
        return part(0..rows);
    }
    let each = rows.div_ceil(threads).max(1);
    let parts = (0..threads).into_par_iter().map(|at| part((at * each).min(rows)..((at + 1) * each).min(rows)));
    parts.collect::<Vec<_>>().into_iter().flatten().collect()
}
