//! What a run folder is opened with: what must match to resume it, and what its parts look like.

use std::sync::Arc;

use serde_json::json;
use trommel_columnar::embeddings::EmbeddingHead;
use trommel_decide::benchmark::Benchmark;
use trommel_ledger::part::PartConfig;
use trommel_ledger::run_folder::RunConfig;
use trommel_shard::samples::GroupConfig;

use super::setup::RunSetup;
use crate::embedder::Embedder;
use trommel_pipelines::benchmark_origin::PRODUCTS;
use trommel_pipelines::config::JudgeConfig;
use trommel_pipelines::decision::{BenchmarkConfig, DecisionConfig, record};
use trommel_pipelines::split_file::SplitFile;

/// What must match to resume a run of `rule`, in its canonical spelling.
pub(super) fn decision_config(
    config: &JudgeConfig,
    group: &GroupConfig,
    rule: &str,
    benchmarks: &[Arc<Benchmark>],
    embedder: Option<&Embedder>,
    split: Option<&SplitFile>,
) -> DecisionConfig {
    DecisionConfig {
        rule: rule.to_owned(),
        rule_seed: config.rule_seed,
        embedder: embedder.map(|embedder| embedder.identity.clone()),
        benchmarks: benchmarks.iter().map(|benchmark| BenchmarkConfig::of(benchmark)).collect(),
        columns: config.columns,
        image_keys: group.image_keys.clone(),
        text_key: config.reading.text_key.clone(),
        max_pixels: config.reading.max_pixels,
        load_truncated: config.reading.load_truncated,
        repeated_members: if config.reading.strict { "reject" } else { "new-sample" }.into(),
        embeddings: config.keep_embeddings && embedder.is_some(),
        split: split.map(|split| split.config().clone()),
    }
}

impl RunSetup {
    /// What a run folder is opened with.
    #[must_use]
    pub fn run_config(&self) -> RunConfig {
        let numerics = self.embedder.as_ref().map_or(json!({}), |embedder| embedder.config.numerics());
        let record = record(&self.config.benchmarks, &self.decoder, self.config.blur);
        RunConfig { decisions: json!(self.decision), numerics, record }
    }

    /// What the ledger's parts look like.
    #[must_use]
    pub fn part_config(&self) -> PartConfig {
        let embeddings = self.embedder.as_ref().filter(|_| self.decision.embeddings).map(|embedder| EmbeddingHead {
            dim: embedder.dim,
            radii: false,
            identity: Some(embedder.identity.clone()),
            // A part that is copied out of the run says it for itself.
            metadata: embedder.products().map(|products| (PRODUCTS.to_owned(), products)).into_iter().collect(),
        });
        let mut metadata = std::collections::BTreeMap::from([("rule".to_owned(), self.rule.clone())]);
        if let Some(embedder) = &self.embedder {
            metadata.insert("identity".into(), embedder.identity.to_string());
        }
        PartConfig { benchmarks: self.benchmarks.iter().map(|b| b.name.clone()).collect(), embeddings, metadata }
    }
}
