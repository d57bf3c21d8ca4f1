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
//!    no product is computed twice, but for the few of directions that are looked at again, and nothing larger is held.
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

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use half::f16;
use serde::Serialize;
use trommel_kernels::canonical::UNIT_TOLERANCE;
use trommel_kernels::dot::norm;

pub use self::error::JoinError;
use super::benchmark::Benchmark;
use super::cpu::Cpu;
pub use super::join_config::{ColumnSet, JoinConfig, Needs};
use super::kernel::{Kernel, KernelError};
use super::points::Points;
use super::scan::Prepared;
use trommel_core::sample::{Reason, SampleId, Score};

mod column_maxima;
mod error;
mod portion;

/// Most samples of a micro-batch, unless the kernel takes more at once.
const MICRO_BATCH_ROWS: usize = 256;

/// A kernel that has failed so often, with no success in between, is not asked again.
const MOST_FAILURES: u32 = 3;

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

    /// The same, of which each call may hold so many bytes of products more than [`JoinConfig::block_bytes`] says.
    #[must_use]
    pub fn with_more_block_bytes(mut self, bytes: u64) -> Self {
        self.config.block_bytes += bytes;
        self.cpu = Cpu::new(self.benchmarks.clone(), self.prepared.clone(), self.config.clone());
        self
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

    /// How many of `threads` threads may call at once: more than a device takes portions would wait for it, and seem to work.
    #[must_use]
    pub fn calls_at_once(&self, threads: usize) -> usize {
        self.other.as_deref().and_then(Kernel::portions_at_once).map_or(threads, |most| threads.min(most))
    }

    /// Most samples that a call takes.
    #[must_use]
    pub fn most_rows(&self) -> usize {
        self.kernel().portion_rows().max(MICRO_BATCH_ROWS)
    }

    /// How many of `waiting` samples the next call is to take, at most, while `out` calls are on their way to `threads` threads; 0: none before
    /// one of these has come back. A call of a few samples takes a device about as long as one of many: while another is out, they wait, and what
    /// waits is not divided among the threads that are free.
    #[must_use]
    pub fn call_rows(&self, waiting: usize, out: usize, threads: usize) -> usize {
        let (kernel, free, most) = (self.kernel(), threads.saturating_sub(out), self.most_rows());
        let worth = kernel.worth_rows().min(most);
        let on_device = kernel.portions_at_once().is_some();
        let waits = out > 0 && waiting < worth && on_device;
        let share = if on_device { waiting } else { waiting.div_ceil(free.max(1)) };
        if free == 0 || waits { 0 } else { share.clamp(worth, most) }
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
            if joined.is_ok() {
                let some = |failures: u32| (1..MOST_FAILURES).contains(&failures).then_some(0);
                let _none_or_too_many = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, some);
            }
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
}
