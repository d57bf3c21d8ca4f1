//! How a run reads: what the configuration says of it, and readers over the run's stores.

use std::sync::Arc;

use trommel_shard::folders::FolderReader;
use trommel_shard::plan::GrowingPlan;
use trommel_shard::reader::{Decisions, Members, ReaderConfig, ShardReader};
use trommel_shard::samples::{RepeatedMember, keys};

use super::input::Input;
use super::setup::RunSetup;
use trommel_pipelines::config::JudgeConfig;
use trommel_pipelines::split_file::{SplitFile, SplitMembers};

/// A reader of any input.
pub type Reader = Arc<dyn trommel_dataflow::source::ReadShard<Item = trommel_shard::reader::Admitted>>;

/// How the configuration has shards and folders read.
pub(crate) fn reader_config(config: &JudgeConfig) -> ReaderConfig {
    let mut reading = ReaderConfig::default();
    reading.group.image_keys = keys(&config.reading.image_key);
    reading.group.text_keys = keys(&config.reading.text_key);
    reading.group.repeated = if config.reading.strict { RepeatedMember::Reject } else { RepeatedMember::NewSample };
    reading
}

impl RunSetup {
    /// A reader for an input.
    #[must_use]
    pub fn reader(&self, input: &Input, decisions: Option<Arc<dyn Decisions>>) -> Reader {
        let views = self.view_bytes();
        let members = |split: &Arc<SplitFile>| -> Arc<dyn Members> {
            Arc::new(SplitMembers { split: split.clone(), plan: input.plan().clone() })
        };
        let split = self.split.as_ref().map(members);
        match input {
            Input::Shards(plan) => {
                let (stores, reading) = (self.stores().clone(), self.reading.clone());
                Arc::new(ShardReader::new(stores, plan.clone(), reading, views, decisions).of_split(split))
            }
            Input::Folders(folders) => Arc::new(FolderReader::new(folders.clone(), views, decisions).of_split(split)),
        }
    }

    /// A reader for a plan that grows.
    #[must_use]
    pub fn growing_reader(&self, plan: GrowingPlan, decisions: Arc<dyn Decisions>) -> Reader {
        let (stores, reading) = (self.stores().clone(), self.reading.clone());
        Arc::new(ShardReader::new(stores, plan, reading, self.view_bytes(), Some(decisions)))
    }
}
