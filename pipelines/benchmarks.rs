//! Benchmarks from the command line: `NAME=DIR`, where DIR holds embeddings.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use trommel_operators::columnar::embeddings::EmbeddingSet;
use trommel_operators::sample::Identity;
use trommel_operators::similarity::benchmark::Benchmark;

use crate::error::PipelineError;

/// A named folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPath {
    /// The name.
    pub name: String,
    /// The folder or file.
    pub path: PathBuf,
}

impl NamedPath {
    /// Parses `NAME=DIR`.
    ///
    /// # Errors
    /// When either side is missing.
    pub fn parse(text: &str) -> Result<Self, PipelineError> {
        match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => {
                Ok(Self { name: name.into(), path: path.into() })
            }
            _ => Err(PipelineError::Usage(format!("--benchmark {text}: write it as NAME=DIR"))),
        }
    }
}

/// Whether a folder holds embeddings; otherwise it is taken for class folders of pictures.
#[must_use]
pub fn holds_embeddings(path: &Path) -> bool {
    let file = path.is_file();
    let of = |name: &str| path.join(name).exists();
    file || of("embeddings.arrow") || of("embeddings") || of("img_emb") || has_extension(path, &["arrow", "npy"])
}

fn has_extension(folder: &Path, extensions: &[&str]) -> bool {
    std::fs::read_dir(folder).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.path().extension().is_some_and(|found| extensions.iter().any(|wanted| found == *wanted)))
    })
}

/// Reads a benchmark's embeddings, and with them its radii where there are any.
///
/// # Errors
/// Unreadable or empty folders, rows without direction, a name that cannot be a column's.
pub fn load(named: &NamedPath) -> Result<Benchmark, PipelineError> {
    let place = |error: &dyn std::fmt::Display| PipelineError::Usage(format!("benchmark {}: {error}", named.name));
    if !named.path.exists() {
        return Err(place(&format_args!("no such folder: {}", named.path.display())));
    }
    let set = EmbeddingSet::open(&named.path).map_err(|error| place(&error))?;
    for line in &set.notes.lines {
        tracing::warn!(benchmark = named.name, "{line}");
    }
    Benchmark::new(&named.name, set.dim, set.vectors, set.keys, set.labels, set.radii, set.identity)
        .map_err(|error| place(&error))
}

/// Refuses benchmarks that another model embedded, showing both.
///
/// # Errors
/// An identity that differs, or none where no `--assume-model` vouches for it.
pub fn check_identity(
    benchmark: &Benchmark,
    embedder: Option<&Identity>,
    assumed: Option<&str>,
) -> Result<(), PipelineError> {
    match (&benchmark.identity, embedder) {
        (Some(found), Some(wanted)) if found != wanted => Err(PipelineError::Usage(format!(
            "benchmark {} was embedded by another model: it says {found}; this run's is {wanted}",
            benchmark.name
        ))),
        (None, Some(wanted)) if assumed != Some(wanted.architecture.as_str()) => Err(PipelineError::Usage(format!(
            "benchmark {} does not say which model embedded it; if it was {}, say --assume-model {}",
            benchmark.name, wanted.architecture, wanted.architecture
        ))),
        _ => Ok(()),
    }
}

/// Shared benchmarks in the order of the command line.
pub type Benchmarks = Vec<Arc<Benchmark>>;
