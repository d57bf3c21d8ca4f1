//! The ledger's decisions as a value for the reader: which samples of a shard were kept, by which keys they are known, and who had no caption. Also of shards
//! committed just now, and of ledgers of any age: keys have stood in them always.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::LedgerError;
use super::read::Ledger;
use trommel_core::sample::Status;
use trommel_core::wake::locked;
use trommel_shard::reader::{Decisions, KnownError, key_hash};

/// Decisions of a run folder that grows while it is read.
pub struct FolderDecisions {
    root: PathBuf,
    ledger: Mutex<Option<Arc<Ledger>>>,
}

impl FolderDecisions {
    /// Decisions of the run in `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf(), ledger: Mutex::new(None) }
    }

    /// The folder as last read, or read anew where it did not know the shard yet: neither its samples, nor that they came since it was
    /// rejected.
    fn ledger(&self, ordinal: u64) -> Result<Arc<Ledger>, LedgerError> {
        let mut held = locked(&self.ledger);
        let knows = |ledger: &Ledger| ledger.shards().get(&ordinal).is_some_and(|(_, line)| line.rejected.is_none());
        if let Some(ledger) = held.as_ref().filter(|ledger| knows(ledger)) {
            return Ok(ledger.clone());
        }
        let fresh = held.as_ref().map_or_else(|| Ledger::open(&self.root), |ledger| ledger.refreshed());
        let fresh = Arc::new(fresh?);
        *held = Some(fresh.clone());
        Ok(fresh)
    }
}

impl Decisions for FolderDecisions {
    fn shard(&self, ordinal: u64) -> Result<Option<Arc<Vec<Status>>>, KnownError> {
        let ledger = self.ledger(ordinal).map_err(KnownError::unread)?;
        if !ledger.is_committed(ordinal) {
            return Ok(None);
        }
        ledger.decisions(ordinal).map(Some).map_err(KnownError::unread)
    }

    fn keys(&self, ordinal: u64) -> Result<Option<Vec<u64>>, KnownError> {
        let ledger = self.ledger(ordinal).map_err(KnownError::unread)?;
        if !ledger.is_committed(ordinal) {
            return Ok(None);
        }
        ledger.keys(ordinal, key_hash).map(Some).map_err(KnownError::unread)
    }

    fn captionless(&self, ordinal: u64) -> Result<Option<Vec<u32>>, KnownError> {
        let ledger = self.ledger(ordinal).map_err(KnownError::unread)?;
        if !ledger.is_committed(ordinal) {
            return Ok(None);
        }
        ledger.captionless(ordinal).map(Some).map_err(KnownError::unread)
    }
}
