//! A run folder as a split: its shards, and whom its ledger keeps of each.

use std::collections::HashMap;
use std::path::Path;

use trommel_columnar::parquet::{Column, ColumnType};
use trommel_core::sample::TAKEN_DOWN;
use trommel_ledger::read::Ledger;
use trommel_shard::plan::Plan;

use super::KeptRow;
use crate::SelectError;

/// A run folder, with the ordinals of its shards by their names.
pub(super) struct Run {
    pub(super) ledger: Ledger,
    pub(super) ordinals: HashMap<String, u64>,
}

impl Run {
    /// Opens a run folder.
    ///
    /// # Errors
    /// No run folder, or a damaged one.
    pub(super) fn open(path: &Path) -> Result<Self, SelectError> {
        let ledger = Ledger::open(path)?;
        let plan: Plan = ledger.plan()?;
        let ordinals = plan.shards.into_iter().map(|shard| (shard.name, shard.ordinal)).collect();
        Ok(Self { ledger, ordinals })
    }

    /// Who of a shard that is judged is kept.
    ///
    /// # Errors
    /// A part of the ledger that cannot be read.
    pub(super) fn kept(&self, ordinal: u64) -> Result<Vec<KeptRow>, SelectError> {
        let wanted = [
            ("index", ColumnType::U32),
            ("key", ColumnType::Text),
            ("status", ColumnType::Text),
            ("reason", ColumnType::Text),
        ];
        let mut kept = Vec::new();
        for group in self.ledger.columns(ordinal, &wanted)? {
            let group = group?;
            let [Column::U32(indices), Column::Text(keys), Column::Text(words), Column::Text(reasons)] =
                group.as_slice()
            else {
                continue;
            };
            for (((index, key), word), reason) in indices.iter().zip(keys).zip(words).zip(reasons) {
                if word.as_deref() == Some("kept") && reason.as_deref() != Some(TAKEN_DOWN) {
                    kept.push(KeptRow { index: index.unwrap_or_default(), key: key.clone().unwrap_or_default() });
                }
            }
        }
        Ok(kept)
    }
}
