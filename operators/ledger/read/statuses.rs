//! Statuses of committed shards by raw index, as replays ask for them: the last few million stay in memory.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use trommel_columnar::parquet::{Column, ColumnType};
use trommel_core::sample::Status;
use trommel_core::wake::locked;

use super::Ledger;
use super::parts::bad_part;
use super::rows::status;
use crate::LedgerError;
use crate::manifest::PartKind;

/// Statuses that the cache holds at most.
const CACHED_STATUSES: usize = 4 << 20;

#[derive(Clone, Default)]
pub(super) struct Cache {
    shards: HashMap<u64, Arc<Vec<Status>>>,
    order: VecDeque<u64>,
    held: usize,
}

impl Ledger {
    /// A committed shard's statuses by raw index. The last few million are kept in memory.
    ///
    /// # Errors
    /// A shard that is not committed, or a part that cannot be read.
    pub fn decisions(&self, ordinal: u64) -> Result<Arc<Vec<Status>>, LedgerError> {
        if let Some(known) = locked(&self.cache).shards.get(&ordinal) {
            return Ok(Arc::clone(known));
        }
        let total = self.part(ordinal, PartKind::Ledger)?.1.counts.total();
        let wanted = [("index", ColumnType::U32), ("status", ColumnType::Text)];
        let (path, table) = self.table(ordinal, PartKind::Ledger, &wanted)?;
        let mut statuses = Vec::new();
        for group in table {
            let group = group?;
            let [Column::U32(indices), Column::Text(words)] = group.as_slice() else { continue };
            for (index, word) in indices.iter().zip(words) {
                if index.map(|i| i as usize) != Some(statuses.len()) {
                    return Err(bad_part(&path, format!("row {} has index {index:?}", statuses.len())));
                }
                statuses.push(status(&path, word.as_deref())?);
            }
        }
        if statuses.len() as u64 != total {
            let detail = format!("{} rows; the manifest counts {total}", statuses.len());
            return Err(bad_part(&path, detail));
        }
        let statuses = Arc::new(statuses);
        let mut cache = locked(&self.cache);
        if cache.shards.insert(ordinal, Arc::clone(&statuses)).is_none() {
            cache.order.push_back(ordinal);
            cache.held += statuses.len();
        }
        while cache.held > CACHED_STATUSES && cache.order.len() > 1 {
            if let Some(old) = cache.order.pop_front().and_then(|o| cache.shards.remove(&o)) {
                cache.held -= old.len();
            }
        }
        Ok(statuses)
    }
}
