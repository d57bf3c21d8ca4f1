//! `trommel radii`: reference embeddings ─▶ radii of each benchmark's test points ─▶ benchmarks with radii.
//!
//! What is given as pictures has been embedded before. The reference set streams by; each benchmark's points
//! see it once. Cost: references x points x dim.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;
use trommel_columnar::embeddings::EmbeddingSet;
use trommel_columnar::source::EmbeddingReader;
use trommel_core::notices::Notices;
use trommel_core::sample::Identity;
use trommel_decide::benchmark::Benchmark;
use trommel_decide::radii::Radii;

use crate::benchmarks::{NamedPath, check_identity, finished, is_pictures, ledger_of, load, rejects};
use crate::error::PipelineError;

/// What to measure.
#[derive(Clone, Debug)]
pub struct RadiiConfig {
    /// Embeddings of the reference set; its pictures, where they are embedded first.
    pub reference: PathBuf,
    /// Benchmarks, the same way.
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
    /// What of the reference set was lost.
    pub notices: Notices,
}

impl RadiiConfig {
    /// Whether anything is to be embedded first.
    ///
    /// # Errors
    /// A folder of which nobody knows what it holds.
    pub fn needs_embedder(&self) -> Result<bool, PipelineError> {
        let benchmarks = self.benchmarks.iter().map(|named| &named.path);
        std::iter::once(&self.reference).chain(benchmarks).try_fold(false, |any, path| Ok(is_pictures(path)? || any))
    }
}

/// Computes and writes the radii of every benchmark.
///
/// # Errors
/// Folders without embeddings or with a part of them, models or dimensions that differ or are not known, a reference set that is empty or
/// of which no row has a direction, an unwritable folder.
pub fn radii(config: &RadiiConfig) -> Result<Vec<Gap>, PipelineError> {
    let place = |error: &dyn std::fmt::Display| PipelineError::Usage(format!("reference: {error}"));
    let mut notices = Notices::default();
    if let Some(ledger) = ledger_of(&config.reference)? {
        notices.merge(&finished(&config.reference, &ledger).map_err(|error| place(&error))?);
        let rejects = rejects(&ledger)?;
        if let Some((key, why)) = rejects.first_key_value() {
            let (count, first) = (rejects.len() as u64, format!("{key}: {why}"));
            notices.loss("reference_rejects", "reference pictures that could not be embedded", first, count, count);
        }
    }
    let mut reader = EmbeddingReader::open(&config.reference).map_err(|error| place(&error))?;
    let benchmarks = config.benchmarks.iter().map(load).collect::<Result<Vec<_>, _>>()?;
    check_identities(config, reader.identity(), &benchmarks)?;
    let mut measured: Vec<Radii<'_>> =
        benchmarks.iter().map(|benchmark| Radii::new(benchmark, config.threads)).collect();
    let (dim, mut rows) = (reader.dim(), 0);
    for batch in &mut reader {
        let batch = batch.map_err(PipelineError::usage)?;
        let bad: BTreeSet<usize> = batch.bad.iter().map(|(row, _)| *row).collect();
        for (row, why) in &batch.bad {
            let first = format!("row {} ({}) is {}", batch.first_row + *row as u64, batch.keys[*row], why.as_str());
            notices.loss("reference_rows", "reference rows without a direction, left out", first, 1, 1);
        }
        rows += batch.keys.len() as u64;
        for (_, vector) in batch.vectors.chunks_exact(dim).enumerate().filter(|(row, _)| !bad.contains(row)) {
            for radii in &mut measured {
                radii.push(vector).map_err(|error| place(&error))?;
            }
        }
    }
    if let Some(bad) = notices.get("reference_rows").filter(|bad| bad.count == rows) {
        let (path, first) = (config.reference.display(), &bad.first);
        return Err(place(&format_args!("{path}: none of its {rows} rows has a direction (first: {first})")));
    }
    for line in &reader.notes().lines {
        notices.note("normalised", "reference files normalised again", line, 1);
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
                notices: notices.clone(),
            })
        })
        .collect()
}

/// All embeddings must be of one model. Where the reference does not say of which, `--assume-model` must: the radii are the benchmarks'
/// and go under their name.
fn check_identities(
    config: &RadiiConfig,
    reference: Option<&Identity>,
    benchmarks: &[Benchmark],
) -> Result<(), PipelineError> {
    let assumed = config.assume_model.as_deref();
    let of_benchmark = benchmarks.iter().find_map(|benchmark| benchmark.identity.as_ref());
    if let (None, Some(wanted)) = (reference, of_benchmark)
        && assumed != Some(wanted.architecture.as_str())
    {
        return Err(PipelineError::Usage(format!(
            "reference {} does not say which model embedded it, and the benchmarks are of {wanted}; if it was that one, say --assume-model {}",
            config.reference.display(),
            wanted.architecture
        )));
    }
    benchmarks.iter().try_for_each(|benchmark| check_identity(benchmark, reference.or(of_benchmark), assumed))
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
