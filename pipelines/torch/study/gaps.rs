//! Similarity gaps: s_i(D) = max over x in D of s(x, t_i), of the reference, the pool and each pruned set. What a set keeps is joined with
//! the benchmarks once more, so that the gap is measured and not inferred from the rule.

use std::path::Path;

use serde::{Deserialize, Serialize};
use trommel_core::median::median;
use trommel_decide::benchmark::Benchmark;
use trommel_ledger::read::Ledger;
use trommel_pipelines::benchmark_origin::BenchmarkOrigin;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::kept_maxima::kept_maxima;
use trommel_pipelines::nearest::Near;
use trommel_select::membership::Membership;
use trommel_shard::plan::Plan;

/// Points of a cumulative curve.
const CURVE: usize = 200;

/// A training set's, or the reference set's, similarity gap to one benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetGap {
    /// The set; `reference` for the reference set.
    pub set: String,
    /// Name of the benchmark.
    pub benchmark: String,
    /// Number of test points.
    pub points: u64,
    /// Test points that the set comes nearer to than the reference does, strictly.
    pub over_radius: u64,
    /// Smallest s_i of all test points.
    pub least: f64,
    /// Median s_i of all test points.
    pub median: f64,
    /// Largest s_i of all test points.
    pub largest: f64,
    /// The s_i in ascending order, as many as a curve needs: with equal shares of the points between them.
    pub curve: Vec<f64>,
}

impl SetGap {
    /// Of the s_i of one benchmark.
    pub(super) fn of(set: &str, benchmark: &Benchmark, similarities: &[f64]) -> Self {
        let radii = benchmark.radii.as_deref().unwrap_or_default();
        let over = similarities.iter().zip(radii).filter(|(similarity, radius)| similarity > radius).count();
        let mut sorted = similarities.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        let at = |share: usize| sorted.get(share * last / CURVE).copied().unwrap_or_default();
        Self {
            set: set.into(),
            benchmark: benchmark.name.clone(),
            points: sorted.len() as u64,
            over_radius: over as u64,
            least: at(0),
            median: median(sorted.iter().copied()).unwrap_or_default(),
            largest: at(CURVE),
            curve: (0..=CURVE).map(at).collect(),
        }
    }
}

/// The s_i of the samples that a split keeps, by benchmark; of all that the ledger has without one.
///
/// # Errors
/// Files that cannot be read, a set without samples; what `goes_on` says, which is asked before each shard.
pub(super) fn similarities(
    pool: &Path,
    split: Option<&Path>,
    benchmarks: &[Benchmark],
    threads: usize,
    goes_on: &dyn Fn() -> Result<(), PipelineError>,
) -> Result<Vec<Vec<f64>>, PipelineError> {
    let ledger = Ledger::open(pool).map_err(PipelineError::failed)?;
    let plan: Plan = ledger.plan().map_err(PipelineError::failed)?;
    let split = split.map(Membership::open).transpose().map_err(PipelineError::failed)?;
    let shards = plan.shards.iter().map(|shard| (shard.name.as_str(), shard.ordinal));
    let found = kept_maxima(&ledger, shards, split.as_ref(), benchmarks, threads, goes_on)?;
    Ok(found.into_iter().map(|points| points.iter().map(|point| point.similarity).collect()).collect())
}

/// By benchmark, each test point's largest similarity to the pool, as the ledger has it.
///
/// # Errors
/// A ledger that cannot be read.
pub(super) fn nearest(
    pool: &Path,
    benchmarks: &[Benchmark],
    origins: &[BenchmarkOrigin],
) -> Result<Vec<Near>, PipelineError> {
    let ledger = Ledger::open(pool).map_err(PipelineError::failed)?;
    let mut found = vec![Vec::new(); benchmarks.len()];
    for row in ledger.items().map_err(PipelineError::failed)? {
        let (at, point) = (usize::from(row.benchmark), row.point as usize);
        let (Some(benchmark), Some(origin)) = (benchmarks.get(at), origins.get(at)) else { continue };
        if let (Some(key), Some(similarity)) = (benchmark.keys.get(point), row.max_similarity) {
            found[at].push((origin.shards.get(point).cloned().flatten(), key.clone(), similarity));
        }
    }
    Ok(found.into_iter().map(Near::of).collect())
}
