//! A ledger's decisions in another run's folder: its parts under new names, committed there, independent of where they came
//! from.
//!
//! # Invariants
//! 1. As for every part: its bytes and its name are durable before a manifest line names it.
//! 2. The other ledger is read and linked to, never written.

use super::LedgerError;
use super::manifest::{PartKind, ShardLine};
use super::read::Ledger;
use super::run_folder::RunFolder;
use super::storage::link_or_copy;

impl RunFolder {
    /// Commits here what `other`, on the same storage, has committed. Embeddings stay behind: nothing is judged again.
    ///
    /// # Errors
    /// Parts that cannot be linked or copied, a disk that is full; what was taken over is then incomplete, and the next
    /// incarnation takes it over once more.
    pub fn take_over(&self, other: &Ledger) -> Result<(), LedgerError> {
        let mut lines = Vec::new();
        for (&ordinal, (incarnation, line)) in other.shards() {
            let mut parts = line.parts.clone();
            parts.retain(|part| part.kind != PartKind::Embeddings);
            for part in &parts {
                let from = other.root().join(part.kind.path(ordinal, *incarnation));
                let to = self.root().join(part.kind.path(ordinal, self.incarnation()));
                link_or_copy(self.storage().as_ref(), &from, &to).map_err(LedgerError::at("link or copy", &from))?;
            }
            lines.push(ShardLine { parts, decision: self.decision_hash().into(), ..line.clone() });
        }
        for kind in [PartKind::Ledger, PartKind::Items] {
            let folder = self.root().join(kind.folder());
            self.storage().sync_dir(&folder).map_err(LedgerError::at("sync", &folder))?;
        }
        self.append_all(&lines)
    }
}
