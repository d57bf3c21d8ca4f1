//! The pool: everything that was read, as a run folder of its own that keeps all and judges nothing. Its stored embeddings are what
//! decisions are made from, again and again.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use trommel_core::sample::Status;
use trommel_core::wake::locked;
use trommel_incremental::IncrementalError;
use trommel_incremental::embeddings::{Embeddings, Visitor};
use trommel_incremental::inputs::ShardInput;
use trommel_ledger::read::{Ledger, SampleNames};

use crate::takedown::Called;
use trommel_pipelines::error::PipelineError;

/// A pool that grows while it is read.
pub struct Pool {
    ledger: Mutex<Arc<Ledger>>,
    /// Words of takedown lists by which samples were found, since somebody asked.
    named: Mutex<BTreeSet<String>>,
}

impl Pool {
    /// The pool in a folder.
    ///
    /// # Errors
    /// A folder that is no run folder.
    pub fn open(root: &Path) -> Result<Self, PipelineError> {
        let ledger = Ledger::open(root).map_err(PipelineError::failed)?;
        Ok(Self { ledger: Mutex::new(Arc::new(ledger)), named: Mutex::default() })
    }

    /// Looks again at what is committed.
    ///
    /// # Errors
    /// A damaged folder.
    pub fn refresh(&self) -> Result<(), PipelineError> {
        let fresh = self.ledger().refreshed().map_err(PipelineError::failed)?;
        *locked(&self.ledger) = Arc::new(fresh);
        Ok(())
    }

    /// What is committed, as last looked at.
    #[must_use]
    pub fn ledger(&self) -> Arc<Ledger> {
        locked(&self.ledger).clone()
    }

    /// Words of takedown lists that name a sample, found since the last call.
    #[must_use]
    pub fn take_named(&self) -> BTreeSet<String> {
        std::mem::take(&mut *locked(&self.named))
    }

    /// A committed shard as the engine takes it.
    ///
    /// # Errors
    /// A part that cannot be read.
    pub fn shard(&self, ordinal: u64, name: &str) -> Result<ShardInput, PipelineError> {
        let statuses = self.ledger().decisions(ordinal).map_err(PipelineError::failed)?;
        let rejected = (0u32..).zip(statuses.iter()).filter(|(_, status)| **status == Status::Rejected);
        let rejected = rejected.map(|(index, _)| index).collect();
        Ok(ShardInput { name: name.into(), generation: 0, count: statuses.len() as u32, rejected })
    }
}

impl Embeddings for Pool {
    fn visit(&self, ordinal: u64, _generation: u64, each: &mut Visitor<'_>) -> Result<(), IncrementalError> {
        let rows = self.ledger().embeddings(ordinal)?;
        rows.iter().try_for_each(|row| each(row.index, &row.vector))
    }

    /// A takedown names a sample by its key, uid, URL or sha256, or as `SHARD/KEY`.
    fn find(&self, ordinal: u64, _generation: u64, keys: &BTreeSet<String>) -> Result<Vec<u32>, IncrementalError> {
        let ledger = self.ledger();
        let shard = ledger.shards().get(&ordinal).map(|(_, line)| line.name.clone()).unwrap_or_default();
        let names = ledger.names(ordinal)?;
        let mut named = BTreeSet::new();
        let mut is_in = |names: &SampleNames| {
            let others = [&names.uid, &names.url, &names.sha256];
            let called = Called { shard: &shard, key: &names.key, others };
            let mut words = called.words_in(keys).peekable();
            let found = words.peek().is_some();
            named.extend(words.cloned());
            found
        };
        let found = names.iter().filter(|names| is_in(names)).map(|names| names.index).collect();
        locked(&self.named).append(&mut named);
        Ok(found)
    }
}
