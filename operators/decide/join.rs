//! The join: vectors against every benchmark at once.
//!
//! ```text
//! rows ── f32 ──▶ block of benchmark 1 ─▶ scores ─┐
//!            ├──▶ block of benchmark 2 ─▶ scores ─┼─▶ verdict ─▶ columns of each shard
//!            └──▶ ...                             ┘
//! ```
//!
//! 1. Scores are canonical (see `scan`): a function of (vector, benchmark), whatever stands beside it in the batch.
//! 2. What a test point sees of the *kept* samples depends on the verdict, which needs all benchmarks. So the blocks of f32 products of
//!    all benchmarks stay until then, and rows are taken in portions so that they fit in
//!    [`JoinConfig::block_bytes`]; nothing is computed twice and nothing larger is held.
//! 3. A call is synchronous and takes no lock while it computes; any number of threads may call at once, each with memory of its own.
//!
//! Cost: `2 rows points dim` f32 operations, and a canonical product for each value inside its bound.
//!
//! ```
//! use std::sync::Arc;
//! use half::f16;
//! use trommel_core::sample::{SampleId, ShardPoints};
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
use std::sync::{Arc, Mutex};

use half::f16;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use trommel_kernels::dot::{norm, to_f32};
use trommel_kernels::join::{Block, Tiling};

use super::benchmark::{Benchmark, UNIT_TOLERANCE};
use super::maxima;
use super::points::{Columns, Points};
use super::scan::{Bounds, Line, Prepared, excess, maximum};
use trommel_core::sample::{Reason, SampleId, Score};
use trommel_core::wake::locked;

/// Which columns a join fills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnSet {
    /// Everything.
    #[default]
    All,
    /// What the rule needs; maxima it does not need are null, and so are those of the items.
    Decision,
}

/// Settings of the join. Only `columns` changes what comes out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JoinConfig {
    /// Which columns are filled. Default: all.
    pub columns: ColumnSet,
    /// Bytes of f32 products that one call holds at most, over all benchmarks (never less than one row's). Default 64 MiB.
    pub block_bytes: u64,
    /// Bytes of one tile of points widened to f32. Default 512 KiB.
    pub tile_bytes: u64,
    /// Threads of one call's products; leave at 1 where several calls run side by side. Default 1.
    pub threads: usize,
}

impl Default for JoinConfig {
    fn default() -> Self {
        Self { columns: ColumnSet::All, block_bytes: 64 << 20, tile_bytes: 512 << 10, threads: 1 }
    }
}

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

/// What a verdict needs of one benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// `max_similarity` and `nearest`.
    pub maximum: bool,
    /// `margin`, `exceeds` and `hits`.
    pub radii: bool,
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

/// Memory of one call.
#[derive(Debug, Default)]
struct Scratch {
    wide: Vec<f32>,
    blocks: Vec<Block>,
}

/// Scores vectors against all benchmarks. Shared by all threads.
#[derive(Debug)]
pub struct Joiner {
    benchmarks: Vec<Arc<Benchmark>>,
    prepared: Vec<Prepared>,
    config: JoinConfig,
    idle: Mutex<Vec<Scratch>>,
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
        let prepared = benchmarks.iter().map(|benchmark| Prepared::new(benchmark)).collect();
        Ok(Self { benchmarks, prepared, config, idle: Mutex::default() })
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

    /// Rows of one portion: as many as [`JoinConfig::block_bytes`] allows, at least one, at most 256.
    #[must_use]
    pub fn portion_rows(&self) -> usize {
        let points: usize = self.benchmarks.iter().map(|benchmark| benchmark.points()).sum();
        // Products, and two chunk maxima for each 64 of them.
        let row_bytes = (4 * points + points / 8 + 16 * self.benchmarks.len()).max(1);
        usize::try_from(self.config.block_bytes / row_bytes as u64).unwrap_or(256).clamp(1, 256)
    }

    /// Bytes that one call holds at most beside its rows, for the memory plan: multiply by the number of threads that call.
    #[must_use]
    pub fn call_bytes(&self) -> u64 {
        let points: usize = self.benchmarks.iter().map(|benchmark| benchmark.points()).sum();
        let dim = self.benchmarks.first().map_or(0, |benchmark| benchmark.dim);
        let rows = self.portion_rows();
        let tile = (self.config.tile_bytes as usize).max(4 * 64 * dim) * self.benchmarks.len();
        (rows * (4 * points + points / 8 + 4 * dim) + tile) as u64
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
        let mut scratch = locked(&self.idle).pop().unwrap_or_default();
        let portion = self.portion_rows();
        let mut all = Vec::with_capacity(rows.len());
        for (rows, norms) in rows.chunks(portion).zip(norms.chunks(portion)) {
            all.extend(self.join_portion(rows, norms, verdict, &mut scratch));
        }
        locked(&self.idle).push(scratch);
        Ok(all)
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
        rows: &[JoinRow<'_>],
        norms: &[f64],
        verdict: &dyn Verdict,
        scratch: &mut Scratch,
    ) -> Vec<Joined> {
        let mut scores = vec![vec![Score::default(); self.benchmarks.len()]; rows.len()];
        let mut groups = BTreeMap::<u64, Vec<usize>>::new();
        for (at, row) in rows.iter().enumerate() {
            groups.entry(row.id.ordinal).or_default().push(at);
        }
        let dim = self.benchmarks.first().map_or(0, |benchmark| benchmark.dim);
        scratch.wide.resize(rows.len() * dim, 0.0);
        for (row, wide) in rows.iter().zip(scratch.wide.chunks_exact_mut(dim.max(1))) {
            to_f32(row.vector, wide);
        }
        scratch.blocks.resize_with(self.benchmarks.len(), Block::default);
        let mut all_hits = Vec::new();
        let tiling = Tiling { tile_bytes: self.config.tile_bytes as usize, threads: self.config.threads };
        for (at, (benchmark, prepared)) in self.benchmarks.iter().zip(&self.prepared).enumerate() {
            let needs = self.needs(verdict, at);
            if !needs.maximum && !needs.radii {
                continue;
            }
            let block = &mut scratch.blocks[at];
            let radii = prepared.radii.as_deref().filter(|_| needs.radii);
            block.fill(&scratch.wide, &benchmark.vectors, dim, radii, tiling);
            for members in groups.values() {
                let mut hits = vec![0u32; if needs.radii { benchmark.points() } else { 0 }];
                for &row in members {
                    let line = Line { block, row, x: rows[row].vector };
                    let bounds = prepared.bounds(dim, norms[row]);
                    let score = &mut scores[row][at];
                    if needs.maximum {
                        let (s, point) = maximum(line, benchmark, bounds);
                        (score.max_similarity, score.nearest) = (Some(s), Some(point));
                    }
                    if needs.radii {
                        excess(line, benchmark, prepared, bounds, &mut hits, score);
                    }
                }
                if hits.iter().any(|&count| count > 0) {
                    all_hits.extend(rows[members[0]].points.map(|points| (points, at, hits)));
                }
            }
        }
        // The verdict is the last that may fail; what follows is seen by the points.
        let kept: Vec<bool> =
            rows.iter().zip(&scores).map(|(row, scores)| verdict.keeps(row.shard, row.key, row.id, scores)).collect();
        for (points, at, hits) in all_hits {
            for (sum, count) in points.columns()[at].hits.iter_mut().zip(hits) {
                *sum += u64::from(count);
            }
        }
        if self.config.columns == ColumnSet::All {
            for members in groups.values() {
                let Some(points) = rows[members[0]].points else { continue };
                for at in 0..self.benchmarks.len() {
                    let bounds = members.iter().map(|&row| self.prepared[at].bounds(dim, norms[row]));
                    let bound = bounds.map(|Bounds { value, .. }| value).fold(0.0, f64::max);
                    self.fold_columns(at, points, members, rows, &kept, &scratch.blocks[at], bound);
                }
            }
        }
        scores.into_iter().zip(kept).map(|(scores, keeps)| Joined { scores, keeps }).collect()
    }

    /// Shows the column maxima of one shard's rows of a block to its points.
    #[allow(clippy::too_many_arguments)]
    fn fold_columns(
        &self,
        at: usize,
        points: &Points,
        members: &[usize],
        rows: &[JoinRow<'_>],
        kept: &[bool],
        block: &Block,
        bound: f64,
    ) {
        let columns = maxima::Columns::new(block, &self.benchmarks[at], bound);
        let pool_tops = columns.tops(members.iter().copied());
        let kept_tops = columns.tops(members.iter().copied().filter(|&row| kept[row]));
        let (pool_floors, kept_floors) = {
            let seen = points.columns();
            let Columns { pool, kept, .. } = &seen[at];
            (columns.floors(&pool_tops, |point| pool[point].0), columns.floors(&kept_tops, |point| kept[point].0))
        };
        // What reaches neither maximum is passed over; of dropped rows only the pool's maximum is asked.
        let either: Vec<f32> = pool_floors.iter().zip(&kept_floors).map(|(a, b)| a.min(*b)).collect();
        let mut found = Vec::new();
        for &row in members {
            let (x, index) = (rows[row].vector, rows[row].id.index);
            let floors = if kept[row] { &either } else { &pool_floors };
            columns.reaching(row, x, floors, |point, s| found.push((point, s)));
            let mut seen = points.columns();
            let Columns { pool, kept: of_kept, .. } = &mut seen[at];
            for (point, s) in found.drain(..) {
                maxima::offer(&mut pool[point], (s, index));
                if kept[row] {
                    maxima::offer(&mut of_kept[point], (s, index));
                }
            }
        }
    }
}
