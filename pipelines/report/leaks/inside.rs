//! A benchmark beside itself: points that lie above the limit of another point.

use std::sync::Arc;

use trommel_columnar::embeddings::EmbeddingSet;
use trommel_core::cores;
use trommel_core::sample::{SampleId, Score};
use trommel_decide::benchmark::Benchmark;
use trommel_decide::join::{ColumnSet, JoinConfig, JoinRow, Joiner, Needs, Verdict};
use trommel_kernels::dot::dot;

use crate::error::PipelineError;

/// Products of elements, `n^2 d`, above which a benchmark is not compared with itself: minutes on two cores.
pub(super) const MOST_PRODUCTS: f64 = 2e13;

/// Whether a benchmark is compared with itself.
pub(super) fn is_small(set: &EmbeddingSet) -> bool {
    (set.len() as f64).powi(2) * set.dim as f64 <= MOST_PRODUCTS
}

/// Only the number of points exceeded is asked.
struct Hits;

impl Verdict for Hits {
    fn keeps(&self, _: &str, _: &str, _: SampleId, _: &[Score]) -> bool {
        true
    }

    fn needs(&self, _: usize) -> Needs {
        Needs { maximum: false, radii: true }
    }
}

/// By point, whether another point of the set lies strictly above its limit.
///
/// # Errors
/// A set that is no benchmark.
pub(super) fn above(name: &str, set: EmbeddingSet, limits: &[f64]) -> Result<Vec<bool>, PipelineError> {
    let place = format!("benchmark {name}");
    // No cosine is above 2, and none below -2.
    let radii: Vec<f64> = limits.iter().map(|limit| limit.clamp(-2.0, 2.0)).collect();
    let benchmark = Benchmark::new(name, set.dim, set.vectors, Vec::new(), Vec::new(), Some(radii.clone()), None);
    let benchmark = Arc::new(benchmark.map_err(|error| PipelineError::failed(error).within(&place))?);
    let threads = cores::usable();
    let config = JoinConfig { columns: ColumnSet::Decision, threads, ..JoinConfig::default() };
    let joiner = Joiner::new(vec![Arc::clone(&benchmark)], config)
        .map_err(|error| PipelineError::failed(error).within(&place))?;
    let (points, mut first) = (joiner.points(0), 0);
    while first < benchmark.points() {
        let row = |point: usize| JoinRow {
            vector: benchmark.vector(point),
            id: SampleId { ordinal: 0, index: point as u32 },
            shard: "",
            key: "",
            points: Some(&points),
        };
        let rows: Vec<JoinRow<'_>> = (first..benchmark.points()).take(joiner.most_rows()).map(row).collect();
        first += rows.len();
        joiner.join(&rows, &Hits).map_err(|error| PipelineError::failed(error).within(&place))?;
    }
    let mut above = vec![false; benchmark.points()];
    for row in points.rows() {
        let point = row.point as usize;
        let itself = u64::from(dot(benchmark.vector(point), benchmark.vector(point)) > radii[point]);
        above[point] = row.hits > itself;
    }
    Ok(above)
}
