//! What decides: the part of a configuration that a run folder must be resumed with.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use trommel_core::sample::Identity;
use trommel_decide::benchmark::Benchmark;
use trommel_decide::rule::TIES;

use crate::benchmarks::NamedPath;

use crate::split_file::SplitConfig;

/// A benchmark, as far as it decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchmarkConfig {
    /// Name in rules and columns.
    pub name: String,
    /// Test points.
    pub points: usize,
    /// Length of a vector.
    pub dim: usize,
    /// sha256 over vectors (f16, little-endian) and radii (f64).
    pub sha256: String,
}

impl BenchmarkConfig {
    /// The fingerprint of a benchmark.
    #[must_use]
    pub fn of(benchmark: &Benchmark) -> Self {
        let mut hash = Sha256::new();
        for value in &benchmark.vectors {
            hash.update(value.to_bits().to_le_bytes());
        }
        for radius in benchmark.radii.iter().flatten() {
            hash.update(radius.to_bits().to_le_bytes());
        }
        Self {
            name: benchmark.name.clone(),
            points: benchmark.keys.len(),
            dim: benchmark.dim,
            sha256: format!("{:x}", hash.finalize()),
        }
    }
}

/// Everything that has a say in a decision. Plan, workers, memory and devices have none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionConfig {
    /// Rule, canonical spelling.
    pub rule: String,
    /// Seed of `random` rules.
    pub rule_seed: u64,
    /// Who embeds; `None` when nothing is embedded.
    pub embedder: Option<Identity>,
    /// Benchmarks in the order of the command line.
    pub benchmarks: Vec<BenchmarkConfig>,
    /// `all` or `decision`.
    pub columns: String,
    /// Image keys, in order of preference.
    pub image_keys: Vec<String>,
    /// Text key.
    pub text_key: String,
    /// Largest picture accepted, in pixels.
    pub max_pixels: u64,
    /// Truncated JPEGs are kept.
    pub load_truncated: bool,
    /// `new-sample` or `reject`.
    pub repeated_members: String,
    /// Whether embeddings are kept beside the ledger.
    pub embeddings: bool,
    /// The split that decides, in the place of a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<SplitConfig>,
}

/// What a run folder keeps for people and for who looks at it later; it decides nothing.
#[must_use]
pub fn record(benchmarks: &[NamedPath], decoder: &str) -> Value {
    let folder = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string();
    let benchmarks: serde_json::Map<_, _> =
        benchmarks.iter().map(|named| (named.name.clone(), json!(folder(&named.path)))).collect();
    json!({
        "benchmarks": benchmarks,
        "decoder": decoder,
        "folder": folder(Path::new(".")),
        "program": env!("CARGO_PKG_VERSION"),
        "tie": TIES,
    })
}
