//! The parts of a judging run, once they are checked.

use std::sync::Arc;

use trommel_core::notices::Notices;
use trommel_core::stop::Stop;
use trommel_decide::ShardNames;
use trommel_decide::benchmark::Benchmark;
use trommel_decide::join::{Joiner, Verdict};
use trommel_decode::card::OpenCard;
use trommel_decode::operator::DecodeConfig;
use trommel_shard::reader::ReaderConfig;
use trommel_shard::store::Stores;

use super::input::Input;
use crate::embedder::Embedder;
use trommel_pipelines::config::{JudgeConfig, Machine};
use trommel_pipelines::decision::DecisionConfig;
use trommel_pipelines::ledger_memory::LedgerMemory;
use trommel_pipelines::memory::MemoryPlan;
use trommel_pipelines::split_file::SplitFile;

/// The parts of a judging run.
pub struct RunSetup {
    /// Where samples come from.
    pub input: Input,
    /// Stable names of shards.
    pub names: ShardNames,
    /// Decides of each sample whether it stays.
    pub verdict: Arc<dyn Verdict>,
    /// The rule's canonical spelling.
    pub rule: String,
    /// Scores vectors, where there are benchmarks.
    pub joiner: Option<Arc<Joiner>>,
    /// Who embeds, where anything is embedded.
    pub embedder: Option<Embedder>,
    /// How pictures are decoded, and into which views.
    pub decode: DecodeConfig,
    /// The card that decodes, where one does.
    pub(super) card: Option<OpenCard>,
    /// The decoder's name in identities.
    pub(super) decoder: String,
    /// How shards are read.
    pub reading: ReaderConfig,
    /// The split that decides, where one does.
    pub split: Option<Arc<SplitFile>>,
    /// Benchmarks in order.
    pub benchmarks: Vec<Arc<Benchmark>>,
    /// What must match to resume.
    pub decision: DecisionConfig,
    /// The budget, parts taken so far.
    pub memory: MemoryPlan,
    /// What the ledger holds in memory.
    pub(super) ledger: LedgerMemory,
    /// What the plan passed over.
    pub notices: Notices,
    /// Stops everything.
    pub stop: Stop,
    /// What the run is told.
    pub(super) config: JudgeConfig,
}

impl RunSetup {
    /// The machine's share in it.
    #[must_use]
    pub const fn machine(&self) -> &Machine {
        &self.config.machine
    }

    /// Where shards are found and opened.
    #[must_use]
    pub const fn stores(&self) -> &Stores {
        &self.config.reading.stores
    }

    /// Extensions that hold the picture, as they were given.
    #[must_use]
    pub fn image_key(&self) -> &str {
        &self.config.reading.image_key
    }
}
