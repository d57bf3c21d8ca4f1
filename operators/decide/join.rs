//! The join: vectors against every benchmark at once.
//!
//! ```text
//! rows ─▶ kernel ─▶ products with benchmark 1 ─▶ scores ─┐
//!            ├────▶ products with benchmark 2 ─▶ scores ─┼─▶ verdict ─▶ columns of each shard
//!            └────▶ ...                                  ┘
//! ```
//!
//! 1. Scores are canonical (see `scan`): a function of (vector, benchmark), whatever stands beside it in the batch.
//! 2. What a test point sees of the *kept* samples depends on the verdict, which needs all benchmarks. So the kernel keeps the products of
//!    all benchmarks until then, and rows are taken in portions so that they fit where they lie ([`JoinConfig::block_bytes`]);
//!    nothing is computed twice and nothing larger is held.
//! 3. Who multiplies changes no answer (see [`kernel`](super::kernel)). What a kernel fails in is done again by the processor.
//! 4. A call is synchronous; any number of threads may call at once.
//!
//! Cost: `2 rows points dim` operations, in 8-bit integers where the processor is made for them and in f32 otherwise, and a canonical product for each value inside its bound;
//! of decisions alone a part of that, where embeddings have most of their energy in few directions.
//!
//! ```
//! use std::sync::Arc;
//! use half::f16;
//! use trommel_core::sample::SampleId;
//! use trommel_decide::{benchmark::Benchmark, join::{JoinConfig, JoinRow, Joiner}};
//!
//! let row = |x: [f32; 2]| x.map(f16::from_f32);
//! let points = [row([1.0, 0.0]), row([0.0, 1.0])].concat();
//! let benchmark = Benchmark::new("axes", 2, points, vec![], vec![], Some(vec![0.5, 0.9]), None)?;
//! let joiner = Joiner::new(vec![Arc::new(benchmark)], JoinConfig::default())?;
//! let (vector, id) = (row([0.6, 0.8]), SampleId { ordinal: 0, index: 0 });
//! let points = joiner.points(0);
//! let joined = joiner.join(&[JoinRow { vector: &vector, id, shard: "a.tar", key: "0", points: Some(&points) }], &())?;
//! let score = joined[0].scores[0];
//! assert_eq!(score.nearest, Some(1)); // 0.8 is the larger cosine ...
//! assert_eq!((score.exceeds, score.hits), (Some(0), Some(1))); // ... but 0.6 is the one above its radius
//! assert_eq!(points.rows().len(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use half::f16;
use serde::Serialize;
use thiserror::Error;
use trommel_kernels::dot::{dot, norm};

use super::benchmark::{Benchmark, UNIT_TOLERANCE};
use super::cpu::Cpu;
pub use super::join_config::{ColumnSet, JoinConfig, Needs};
use super::kernel::{Kernel, KernelError, Portion, Products, Reach, RowSink};
use super::maxima;
use super::points::{Columns, Peak, Points};
use super::scan::{Bounds, Prepared, Tally};
use trommel_core::peak::offer;
use trommel_core::sample::{Reason, SampleId, Score};

/// Most samples of a micro-batch, unless the kernel takes more at once.
const MICRO_BATCH_ROWS: usize = 256;

/// A kernel that has failed so often is not asked again.
const MOST_FAILURES: u32 = 3;

/// Why a joiner cannot be made, or a call not be answered.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum JoinError {
    /// Benchmarks of different dimensions.
    #[error("benchmark {name} has {found} dimensions, {first} has {expected}: embed both with the same model")]
    Dimensions {
        /// The benchmark that differs.
        name: String,
        /// Its dimensions.
        found: usize,
        /// The first benchmark.
        first: String,
        /// The first benchmark's dimensions.
        expected: usize,
    },
    /// Two benchmarks of one name.
    #[error("two benchmarks are called {0}: give each a name of its own (NAME=DIR)")]
    Twice(String),
    /// Nobody could multiply.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// More benchmarks than can be numbered.
    #[error("{0} benchmarks, at most 65535 at once")]
    TooMany(usize),
    /// A row that cannot be judged: see [`Joiner::check`].
    #[error("sample {key} of shard {shard}: {reason}")]
    Row {
        /// The shard's name.
        shard: String,
        /// The sample's key.
        key: String,
        /// What is wrong with its vector.
        reason: Reason,
    },
}

/// Says what is kept: a pure function of a sample's name and scores.
pub trait Verdict: Send + Sync {
    /// Whether the sample is kept. `scores` are in the order of the benchmarks; empty where the verdict needs none.
    fn keeps(&self, shard_name: &str, key: &str, id: SampleId, scores: &[Score]) -> bool;

    /// What it reads of a benchmark's score: all, unless said otherwise.
    fn needs(&self, benchmark: usize) -> Needs {
        let _ = benchmark;
        Needs { maximum: true, radii: true }
    }
}

/// Keeps everything.
impl Verdict for () {
    fn keeps(&self, _: &str, _: &str, _: SampleId, _: &[Score]) -> bool {
        true
    }
}

/// A vector to be judged, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct JoinRow<'a> {
    /// Canonical: f16\[dim\], unit norm.
    pub vector: &'a [f16],
    /// Shard and index.
    pub id: SampleId,
    /// Stable name of the shard.
    pub shard: &'a str,
    /// The sample's key.
    pub key: &'a str,
    /// What the test points have seen of its shard, where somebody wants to know it: rows of one shard have the same.
    pub points: Option<&'a Points>,
}

/// What the join says of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Joined {
    /// One score a benchmark, in their order.
    pub scores: Vec<Score>,
    /// Whether the verdict keeps it.
    pub keeps: bool,
}

/// How much was joined, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct JoinCounts {
    /// Rows joined with the benchmarks.
    pub rows: u64,
    /// Of these by this crate's kernel in place of another one, which had failed.
    pub rows_in_place: u64,
    /// Pairs of a row and a point that were looked at: multiplied in full, or left after some directions.
    pub pairs: u64,
    /// Of these computed canonically.
    pub confirmed: u64,
}

#[derive(Debug, Default)]
struct Counters {
    rows: AtomicU64,
    rows_in_place: AtomicU64,
    pairs: AtomicU64,
    confirmed: AtomicU64,
}

/// Scores vectors against all benchmarks. Shared by all threads.
#[derive(Debug)]
pub struct Joiner {
    benchmarks: Vec<Arc<Benchmark>>,
    prepared: Arc<[Prepared]>,
    config: JoinConfig,
    cpu: Cpu,
    /// Multiplies in the processor's place until it has failed too often.
    other: Option<Box<dyn Kernel>>,
    failures: AtomicU32,
    counters: Counters,
}

impl Joiner {
    /// A joiner for these benchmarks, which must have one dimension and different names.
    ///
    /// # Errors
    /// If they have not.
    pub fn new(benchmarks: Vec<Arc<Benchmark>>, config: JoinConfig) -> Result<Self, JoinError> {
        if benchmarks.len() > usize::from(u16::MAX) {
            return Err(JoinError::TooMany(benchmarks.len()));
        }
        for (at, benchmark) in benchmarks.iter().enumerate() {
            let first = &benchmarks[0];
            if benchmark.dim != first.dim {
                let (name, first, expected) = (benchmark.name.clone(), first.name.clone(), first.dim);
                return Err(JoinError::Dimensions { name, found: benchmark.dim, first, expected });
            }
            if benchmarks[..at].iter().any(|other| other.name == benchmark.name) {
                return Err(JoinError::Twice(benchmark.name.clone()));
            }
        }
        let prepared: Arc<[Prepared]> = benchmarks.iter().map(|benchmark| Prepared::new(benchmark)).collect();
        let cpu = Cpu::new(benchmarks.clone(), prepared.clone(), config.clone());
        let (failures, counters) = (AtomicU32::new(0), Counters::default());
        Ok(Self { benchmarks, prepared, config, cpu, other: None, failures, counters })
    }

    /// The same with another kernel, which must be one for these benchmarks. Where it fails, the processor multiplies in its place.
    #[must_use]
    pub fn with_kernel(self, kernel: Box<dyn Kernel>) -> Self {
        Self { other: Some(kernel), ..self }
    }

    /// The benchmarks, in the order of the scores.
    #[must_use]
    pub fn benchmarks(&self) -> &[Arc<Benchmark>] {
        &self.benchmarks
    }

    /// Where the statistics of a shard's points are to gather.
    #[must_use]
    pub fn points(&self, ordinal: u64) -> Points {
        Points::new(ordinal, &self.benchmarks)
    }

    /// Bytes that one call holds at most beside its rows, for the memory plan: multiply by the number of threads that call.
    #[must_use]
    pub fn call_bytes(&self) -> u64 {
        self.cpu.call_bytes()
    }

    /// Bytes that it holds beside the benchmarks, once, for the memory plan.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.cpu.held_bytes()
    }

    /// Who multiplies, as long as it does not fail.
    #[must_use]
    pub fn on(&self) -> String {
        self.other.as_deref().unwrap_or(&self.cpu).name()
    }

    /// What was joined so far.
    #[must_use]
    pub fn counts(&self) -> JoinCounts {
        let Counters { rows, rows_in_place, pairs, confirmed } = &self.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (rows, rows_in_place) = (read(rows), read(rows_in_place));
        JoinCounts { rows, rows_in_place, pairs: read(pairs), confirmed: read(confirmed) }
    }

    /// Fewest samples that are worth a call while others wait, and most that are taken at once.
    #[must_use]
    pub fn micro_batch(&self) -> (usize, usize) {
        let kernel = self.kernel();
        let (worth, most) = (kernel.worth_rows(), kernel.portion_rows().max(MICRO_BATCH_ROWS));
        (worth.min(most), most)
    }

    /// Who multiplies now.
    fn kernel(&self) -> &dyn Kernel {
        let sound = self.failures.load(Ordering::Relaxed) < MOST_FAILURES;
        self.other.as_deref().filter(|_| sound).unwrap_or(&self.cpu)
    }

    /// Whether a vector can be judged: the benchmarks' dimension, finite, unit norm within 1e-3. Gives its norm.
    ///
    /// # Errors
    /// The reason for the ledger: `embedding_dim`, `embedding_not_finite` or `embedding_norm`.
    pub fn check(&self, vector: &[f16]) -> Result<f64, Reason> {
        if let Some(dim) = self.benchmarks.first().map(|benchmark| benchmark.dim).filter(|&dim| dim != vector.len()) {
            return Err(Reason::new("embedding_dim", format_args!("{} dimensions, expected {dim}", vector.len())));
        }
        let length = norm(vector);
        if !length.is_finite() {
            return Err(Reason::new("embedding_not_finite", ""));
        }
        if (length - 1.0).abs() > UNIT_TOLERANCE {
            return Err(Reason::new("embedding_norm", format_args!("norm {length}, expected 1")));
        }
        Ok(length)
    }

    /// Scores of every row and whether it is kept; what the test points saw is added to the shards' points.
    ///
    /// # Errors
    /// If a row fails [`Joiner::check`]; then no point has seen anything.
    pub fn join(&self, rows: &[JoinRow<'_>], verdict: &dyn Verdict) -> Result<Vec<Joined>, JoinError> {
        let bad = |row: &JoinRow<'_>, reason| JoinError::Row { shard: row.shard.into(), key: row.key.into(), reason };
        let norms: Vec<f64> = (rows.iter())
            .map(|row| self.check(row.vector).map_err(|reason| bad(row, reason)))
            .collect::<Result<_, _>>()?;
        let mut all = Vec::with_capacity(rows.len());
        while all.len() < rows.len() {
            let kernel = self.kernel();
            let part = all.len()..rows.len().min(all.len() + kernel.portion_rows());
            let joined = self.join_portion(kernel, &rows[part.clone()], &norms[part.clone()], verdict);
            all.extend(joined.or_else(|error| self.join_in_place(&error, &rows[part.clone()], &norms[part], verdict))?);
        }
        Ok(all)
    }

    /// The processor multiplies what the other kernel could not.
    fn join_in_place(
        &self,
        error: &KernelError,
        rows: &[JoinRow<'_>],
        norms: &[f64],
        verdict: &dyn Verdict,
    ) -> Result<Vec<Joined>, KernelError> {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let stays = failures >= MOST_FAILURES;
        tracing::warn!(failures, stays, "the join goes on on the processor, with the same answers: {error}");
        self.counters.rows_in_place.fetch_add(rows.len() as u64, Ordering::Relaxed);
        let portion = self.cpu.portion_rows();
        let parts = rows.chunks(portion).zip(norms.chunks(portion));
        let parts = parts.map(|(rows, norms)| self.join_portion(&self.cpu, rows, norms, verdict));
        Ok(parts.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    fn needs(&self, verdict: &dyn Verdict, benchmark: usize) -> Needs {
        let radii = self.benchmarks[benchmark].radii.is_some();
        match self.config.columns {
            ColumnSet::All => Needs { maximum: true, radii },
            ColumnSet::Decision => {
                let needs = verdict.needs(benchmark);
                Needs { maximum: needs.maximum, radii: needs.radii && radii }
            }
        }
    }

    fn join_portion(
        &self,
        kernel: &dyn Kernel,
        rows: &[JoinRow<'_>],
        norms: &[f64],
        verdict: &dyn Verdict,
    ) -> Result<Vec<Joined>, KernelError> {
        let needs: Vec<Needs> = (0..self.benchmarks.len()).map(|at| self.needs(verdict, at)).collect();
        let Shards { order, groups } = Shards::of(rows);
        let vectors: Vec<&[f16]> = order.iter().map(|&at| rows[at].vector).collect();
        let mut products = kernel.multiply(Portion { vectors: &vectors, groups: &groups, needs: &needs })?;
        let bounds_of = |(at, prepared): (usize, &Prepared)| -> Vec<Bounds> {
            let special = products.error_bound(at);
            let bound = |row: f64, point: f64| special.unwrap_or_else(|| kernel.error_bound(row, point));
            order.iter().map(|&at| prepared.bounds(norms[at], bound)).collect()
        };
        let bounds: Vec<Vec<Bounds>> = self.prepared.iter().enumerate().map(bounds_of).collect();
        let tops = products.row_tops()?;
        let tally = |at: usize, row: usize| {
            let mut tally = Tally::new(needs[at], bounds[at][row], tops[at][row]);
            let (nearest, exceeds) = products.top_points(at, row);
            tally.look_first(vectors[row], &self.benchmarks[at], nearest, exceeds);
            tally
        };
        let tallies: Vec<Vec<Tally>> =
            (0..needs.len()).map(|at| (0..rows.len()).map(|row| tally(at, row)).collect()).collect();
        let reach: Vec<Vec<Reach>> = tallies.iter().map(|rows| rows.iter().map(Tally::reach).collect()).collect();
        let mut tallying =
            Tallying { joiner: self, vectors: &vectors, groups: &groups, tallies, hits: BTreeMap::new() };
        products.rows_reaching(&reach, &mut tallying)?;
        let Tallying { tallies, hits, .. } = tallying;

        let mut joined = vec![Joined { scores: Vec::new(), keeps: false }; rows.len()];
        for (row, &at) in order.iter().enumerate() {
            joined[at].scores = tallies.iter().map(|tallies| tallies[row].score()).collect();
        }
        // The verdict is the last that may panic; what follows is seen by the points.
        for (row, joined) in rows.iter().zip(&mut joined) {
            joined.keeps = verdict.keeps(row.shard, row.key, row.id, &joined.scores);
        }
        let mut confirmed: u64 = tallies.iter().flatten().map(|tally| tally.confirmed).sum();
        if self.config.columns == ColumnSet::All {
            let kept: Vec<bool> = order.iter().map(|&at| joined[at].keeps).collect();
            let sorted: Vec<&JoinRow<'_>> = order.iter().map(|&at| &rows[at]).collect();
            for group in &groups {
                confirmed += self.show(&mut *products, group.clone(), &sorted, &kept, &bounds)?;
            }
        }
        // Last, since sums cannot be shown twice, and what a kernel has failed in is done again.
        for ((at, group), counts) in hits {
            let Some(points) = rows[order[groups[group].start]].points else { continue };
            for (sum, count) in points.columns()[at].hits.iter_mut().zip(counts) {
                *sum += u64::from(count);
            }
        }
        let pairs = self.benchmarks.iter().zip(&needs).filter(|(_, needs)| needs.any());
        let points: u64 = pairs.map(|(benchmark, _)| benchmark.points() as u64).sum();
        self.counters.rows.fetch_add(rows.len() as u64, Ordering::Relaxed);
        self.counters.pairs.fetch_add(rows.len() as u64 * points, Ordering::Relaxed);
        self.counters.confirmed.fetch_add(confirmed, Ordering::Relaxed);
        Ok(joined)
    }

    /// Shows the column maxima of one shard's rows to its points; may be done again. Gives the canonical products computed.
    fn show(
        &self,
        products: &mut dyn Products,
        group: Range<usize>,
        rows: &[&JoinRow<'_>],
        kept: &[bool],
        bounds: &[Vec<Bounds>],
    ) -> Result<u64, KernelError> {
        let Some(points) = rows[group.start].points else { return Ok(0) };
        let all: Vec<usize> = group.clone().collect();
        let (kept_rows, dropped): (Vec<usize>, Vec<usize>) = all.iter().copied().partition(|&row| kept[row]);
        let pool_tops = products.column_tops(&all)?;
        let bound = |at: usize| bounds[at][group.clone()].iter().map(|bounds| bounds.value).fold(0.0, f64::max);
        // Others raise the maxima meanwhile; what is not above these is none of theirs.
        let maxima_of = |it: &Columns| Columns { pool: it.pool.clone(), kept: it.kept.clone(), hits: Vec::new() };
        let mut seen: Vec<Columns> = points.columns().iter().map(maxima_of).collect();
        let floors_of = |floors: &mut [Vec<f32>], tops: &[Vec<f32>], seen: &[Columns], of: fn(&Columns) -> &[Peak]| {
            for (at, floors) in floors.iter_mut().enumerate() {
                let (now, bound) = (of(&seen[at]), bound(at));
                floors.resize(now.len(), f32::INFINITY);
                for ((floor, &top), now) in floors.iter_mut().zip(&tops[at]).zip(now) {
                    *floor = floor.min(maxima::floor(top, bound, now.0));
                }
            }
        };
        // Where values are coarse, those that have the tops of columns are looked at first: with their canonical values less reaches.
        let coarse = bounds.iter().any(|bounds| bounds[group.start].are_coarse());
        let firsts_of = |tops: &[Vec<f32>], seen: &[Columns], of: fn(&Columns) -> &[Peak]| {
            let first = |at: usize| -> Vec<f32> {
                let bound = bound(at);
                let raises = |top: f32, now: &Peak| now.0 < f64::from(top) - bound;
                let firsts = tops[at].iter().zip(of(&seen[at]));
                firsts.map(|(&top, now)| if raises(top, now) { top } else { f32::INFINITY }).collect()
            };
            let firsts: Vec<Vec<f32>> = if coarse { (0..tops.len()).map(first).collect() } else { Vec::new() };
            firsts.iter().flatten().any(|first| *first < f32::INFINITY).then_some(firsts)
        };
        let mut confirmed = Vec::new();
        let mut confirm = |seen: &mut [Columns], at: usize, row: usize, reached: &[u32]| {
            let (benchmark, x, index) = (&self.benchmarks[at], rows[row].vector, rows[row].id.index);
            let Columns { pool, kept: of_kept, .. } = &mut seen[at];
            for point in reached.iter().map(|&point| point as usize) {
                let t = benchmark.vector(point);
                let least = if kept[row] { of_kept[point].0 } else { pool[point].0 };
                if bounds[at][row].near(x, t).1 < least {
                    continue;
                }
                let s = dot(x, t);
                confirmed.push((at as u16, point as u32));
                offer(&mut pool[point], (s, index));
                if kept[row] {
                    offer(&mut of_kept[point], (s, index));
                }
            }
        };
        let mut look = |products: &mut dyn Products, rows: &[usize], floors: &[Vec<f32>], seen: &mut [Columns]| {
            products.columns_reaching(rows, floors, &mut |at, row, reached| confirm(seen, at, row, reached))
        };
        if let Some(firsts) = firsts_of(&pool_tops, &seen, |columns| &columns.pool) {
            look(products, &all, &firsts, &mut seen)?;
        }
        // Of dropped rows only the pool's maximum is asked.
        let mut floors = vec![Vec::new(); self.benchmarks.len()];
        floors_of(&mut floors, &pool_tops, &seen, |columns| &columns.pool);
        if !dropped.is_empty() {
            look(products, &dropped, &floors, &mut seen)?;
        }
        if !kept_rows.is_empty() {
            let tops = if dropped.is_empty() { pool_tops } else { products.column_tops(&kept_rows)? };
            if let Some(firsts) = firsts_of(&tops, &seen, |columns| &columns.kept) {
                look(products, &kept_rows, &firsts, &mut seen)?;
            }
            // What reaches neither maximum is passed over.
            floors_of(&mut floors, &tops, &seen, |columns| &columns.kept);
            look(products, &kept_rows, &floors, &mut seen)?;
        }
        let mut all = points.columns();
        for &(at, point) in &confirmed {
            let (all, mine, point) = (&mut all[usize::from(at)], &seen[usize::from(at)], point as usize);
            offer(&mut all.pool[point], mine.pool[point]);
            offer(&mut all.kept[point], mine.kept[point]);
        }
        Ok(confirmed.len() as u64)
    }
}

/// Rows in the order of their shards.
struct Shards {
    /// Where each stood.
    order: Vec<usize>,
    /// Neighbours of one shard.
    groups: Vec<Range<usize>>,
}

impl Shards {
    fn of(rows: &[JoinRow<'_>]) -> Self {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&at| rows[at].id.ordinal);
        let mut groups = Vec::new();
        for group in order.chunk_by(|&a, &b| rows[a].id.ordinal == rows[b].id.ordinal) {
            let start = groups.last().map_or(0, |last: &Range<usize>| last.end);
            groups.push(start..start + group.len());
        }
        Self { order, groups }
    }
}

/// Confirms what a kernel lists.
struct Tallying<'a> {
    joiner: &'a Joiner,
    vectors: &'a [&'a [f16]],
    groups: &'a [Range<usize>],
    tallies: Vec<Vec<Tally>>,
    /// By benchmark and group, where there are any.
    hits: BTreeMap<(usize, usize), Vec<u32>>,
}

impl RowSink for Tallying<'_> {
    fn listed(&mut self, at: usize, row: usize, points: &[(u32, f32)]) {
        let (benchmark, prepared) = (&self.joiner.benchmarks[at], &self.joiner.prepared[at]);
        let group = self.groups.partition_point(|group| group.end <= row);
        let (tally, hits) = (&mut self.tallies[at][row], &mut self.hits);
        tally.take(self.vectors[row], benchmark, prepared, points, |point| {
            hits.entry((at, group)).or_insert_with(|| vec![0; benchmark.points()])[point] += 1;
        });
    }

    fn counted(&mut self, at: usize, row: usize, hits: u32) {
        self.tallies[at][row].count(hits);
    }

    fn hits(&mut self, at: usize, group: usize) -> &mut [u32] {
        let points = self.joiner.benchmarks[at].points();
        self.hits.entry((at, group)).or_insert_with(|| vec![0; points])
    }
}
