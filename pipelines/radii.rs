//! `trommel radii`: reference embeddings ─▶ radii of each benchmark's test points ─▶ benchmarks with radii.
//!
//! The reference set streams by; each benchmark's points see it once. Cost: references x points x dim.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use trommel_operators::columnar::embeddings::EmbeddingSet;
use trommel_operators::columnar::source::EmbeddingReader;
use trommel_operators::similarity::benchmark::Benchmark;
use trommel_operators::similarity::radii::Radii;

use crate::benchmarks::{NamedPath, check_identity, load};
use crate::error::PipelineError;

/// What to measure.
#[derive(Clone, Debug)]
pub struct RadiiConfig {
    /// Embeddings of the reference set.
    pub reference: PathBuf,
    /// Benchmarks, as embeddings.
    pub benchmarks: Vec<NamedPath>,
    /// Each goes to a folder of its name in here.
    pub out: PathBuf,
    /// Identity vouched for where files carry none.
    pub assume_model: Option<String>,
    /// Threads of the products.
    pub threads: usize,
}

/// One benchmark's similarity gap to the reference set.
#[derive(Clone, Debug, Serialize)]
pub struct Gap {
    /// Name of the benchmark.
    pub benchmark: String,
    /// Test points.
    pub points: usize,
    /// References seen.
    pub references: u64,
    /// Smallest radius.
    pub least: f64,
    /// Median radius.
    pub median: f64,
    /// Largest radius.
    pub largest: f64,
    /// All radii, one a test point.
    #[serde(skip)]
    pub radii: Vec<f64>,
    /// Where the benchmark with its radii was written.
    pub folder: PathBuf,
}

/// Computes and writes the radii of every benchmark.
///
/// # Errors
/// Folders without embeddings, models or dimensions that differ, an empty reference set, an unwritable folder.
pub fn radii(config: &RadiiConfig) -> Result<Vec<Gap>, PipelineError> {
    let open = || EmbeddingReader::open(&config.reference).map_err(|e| PipelineError::Usage(format!("reference: {e}")));
    let reference = open()?.identity().cloned();
    let benchmarks = config.benchmarks.iter().map(load).collect::<Result<Vec<_>, _>>()?;
    for benchmark in &benchmarks {
        check_identity(benchmark, reference.as_ref(), config.assume_model.as_deref())?;
    }
    let mut measured: Vec<Radii<'_>> =
        benchmarks.iter().map(|benchmark| Radii::new(benchmark, config.threads)).collect();
    let dim = open()?.dim();
    for batch in open()? {
        let batch = batch.map_err(PipelineError::usage)?;
        let bad: Vec<usize> = batch.bad.iter().map(|(row, _)| *row).collect();
        for (row, vector) in batch.vectors.chunks_exact(dim).enumerate() {
            if bad.contains(&row) {
                continue;
            }
            for radii in &mut measured {
                radii.push(vector).map_err(PipelineError::usage)?;
            }
        }
    }
    let outcomes =
        measured.into_iter().map(Radii::finish).collect::<Result<Vec<_>, _>>().map_err(PipelineError::usage)?;
    benchmarks
        .iter()
        .zip(outcomes)
        .map(|(benchmark, outcome)| {
            let folder = config.out.join(&benchmark.name);
            write(benchmark, &outcome.radii, config, &folder)?;
            let mut sorted = outcome.radii.clone();
            sorted.sort_by(f64::total_cmp);
            Ok(Gap {
                benchmark: benchmark.name.clone(),
                points: sorted.len(),
                references: outcome.references,
                least: sorted.first().copied().unwrap_or_default(),
                median: sorted.get(sorted.len() / 2).copied().unwrap_or_default(),
                largest: sorted.last().copied().unwrap_or_default(),
                radii: outcome.radii,
                folder,
            })
        })
        .collect()
}

fn write(
    benchmark: &Benchmark,
    radii: &[f64],
    config: &RadiiConfig,
    folder: &std::path::Path,
) -> Result<(), PipelineError> {
    let set = EmbeddingSet {
        dim: benchmark.dim,
        vectors: benchmark.vectors.clone(),
        keys: benchmark.keys.clone(),
        labels: benchmark.labels.clone(),
        shards: vec![None; radii.len()],
        indices: vec![None; radii.len()],
        radii: Some(radii.to_vec()),
        identity: benchmark.identity.clone(),
        ..EmbeddingSet::default()
    };
    let mut metadata = BTreeMap::from([("reference".to_owned(), config.reference.display().to_string())]);
    // Where the test pictures are, for reports.
    let from = config.benchmarks.iter().find(|named| named.name == benchmark.name);
    if let Some(source) = from.and_then(|named| crate::past_run::source_of(&named.path)) {
        metadata.insert("source".into(), source.display().to_string());
    }
    set.write(folder, metadata).map_err(PipelineError::failed)?;
    Ok(())
}
