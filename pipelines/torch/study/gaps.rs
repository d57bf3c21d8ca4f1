//! Similarity gaps: s_i(D) = max over x in D of s(x, t_i), of the reference, the pool and each pruned set. What a set keeps is joined with
//! the benchmarks once more, so that the gap is measured and not inferred from the rule.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::{Deserialize, Serialize};
use trommel_decide::benchmark::Benchmark;
use trommel_decide::radii::Radii;
use trommel_ledger::read::Ledger;
use trommel_pipelines::error::PipelineError;
use trommel_select::split::read_rows;
use trommel_shard::plan::Plan;

/// Points of a cumulative curve.
const CURVE: usize = 200;

/// A training set's, or the reference set's, similarity gap to one benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetGap {
    /// The set; `reference` for the reference set.
    pub set: String,
    /// The benchmark.
    pub benchmark: String,
    /// Test points.
    pub points: u64,
    /// Test points that the set comes nearer to than the reference does, strictly.
    pub over_radius: u64,
    /// Smallest s_i.
    pub least: f64,
    /// Median s_i.
    pub median: f64,
    /// Largest s_i.
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
            median: at(CURVE / 2),
            largest: at(CURVE),
            curve: (0..=CURVE).map(at).collect(),
        }
    }
}

/// The s_i of the samples that a split keeps, by benchmark; of all that the ledger has without one.
///
/// # Errors
/// Files that cannot be read, a set without samples.
pub(super) fn similarities(
    pool: &Path,
    split: Option<&Path>,
    benchmarks: &[Benchmark],
    threads: usize,
) -> Result<Vec<Vec<f64>>, PipelineError> {
    let ledger = Ledger::open(pool).map_err(PipelineError::failed)?;
    let plan: Plan = ledger.plan().map_err(PipelineError::failed)?;
    let kept = split.map(kept).transpose()?;
    let mut measured: Vec<Radii<'_>> = benchmarks.iter().map(|benchmark| Radii::new(benchmark, threads)).collect();
    for shard in &plan.shards {
        let mine = kept.as_ref().map(|kept| kept.get(shard.name.as_str()));
        if matches!(mine, Some(None)) {
            continue;
        }
        for row in ledger.embeddings(shard.ordinal).map_err(PipelineError::failed)? {
            let is_kept = mine.flatten().is_none_or(|kept| kept.get(row.index as usize).copied().unwrap_or(false));
            if is_kept {
                measured.iter_mut().try_for_each(|radii| radii.push(&row.vector)).map_err(PipelineError::failed)?;
            }
        }
    }
    measured.into_iter().map(|radii| Ok(radii.finish().map_err(PipelineError::usage)?.radii)).collect()
}

/// By benchmark, each test point's largest similarity to the pool by its key, as the ledger has it.
///
/// # Errors
/// A ledger that cannot be read.
pub(super) fn nearest(pool: &Path, benchmarks: &[Benchmark]) -> Result<Vec<BTreeMap<String, f64>>, PipelineError> {
    let ledger = Ledger::open(pool).map_err(PipelineError::failed)?;
    let mut found = vec![BTreeMap::new(); benchmarks.len()];
    for row in ledger.items().map_err(PipelineError::failed)? {
        let at = usize::from(row.benchmark);
        let key = benchmarks.get(at).and_then(|benchmark| benchmark.keys.get(row.point as usize));
        if let (Some(key), Some(similarity)) = (key, row.max_similarity) {
            found[at].insert(key.clone(), similarity);
        }
    }
    Ok(found)
}

/// Which indices of each shard a split keeps.
fn kept(split: &Path) -> Result<HashMap<String, Vec<bool>>, PipelineError> {
    let mut kept: HashMap<String, Vec<bool>> = HashMap::new();
    for row in read_rows(split).map_err(PipelineError::failed)? {
        let row = row.map_err(PipelineError::failed)?;
        let shard = kept.entry(row.shard).or_default();
        let at = row.index as usize;
        if shard.len() <= at {
            shard.resize(at + 1, false);
        }
        shard[at] = true;
    }
    Ok(kept)
}
