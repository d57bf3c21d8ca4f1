//! Reading a run folder: all incarnations merged, without a lock, while a run may be going on.
//!
//! What a manifest lists is durable and never changes, so a reader needs no lock: it sees a run up to the moment it
//! opened the folder. Nothing is cut or deleted here.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use self::parts::bad_part;
use self::rows::{Columns, item_rows, ledger_rows};
use self::statuses::Cache;
use super::LedgerError;
use super::items::MergedItems;
use super::manifest::{self, Counts, Merged, PartKind, ShardLine};
use super::part::ledger_fields;
use super::run_folder::{
    CONFIG_FILE, PLAN_FILE, check_schema, incarnations, manifest_path, planned_names, read_plan, schema_of,
};
use super::storage::{Disk, Storage};
use trommel_columnar::ipc::IpcReader;
use trommel_columnar::npy::StoredRows;
use trommel_columnar::parquet::{Column, ColumnType, TableReader};
use trommel_core::notices::Notices;
use trommel_core::sample::{Fate, NO_CAPTION, PointRow};
use trommel_core::wake::locked;

mod parts;
mod rows;
mod statuses;

/// A run folder, opened to read.
pub struct Ledger {
    root: PathBuf,
    storage: Arc<dyn Storage>,
    config: Value,
    merged: Merged,
    /// Bytes of each manifest that `merged` knows.
    read: BTreeMap<u64, u64>,
    cache: Mutex<Cache>,
}

/// One row of the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerRow {
    /// The shard's name.
    pub shard: String,
    /// The fate, without its embedding.
    pub fate: Fate,
}

/// A stored embedding of a shard.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEmbedding {
    /// Raw index in the shard.
    pub index: u32,
    /// Key of the sample, as its members are named in the tar.
    pub key: String,
    /// Canonical vector, f16\[dim\].
    pub vector: Vec<half::f16>,
}

/// What a sample is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleNames {
    /// Raw index in the shard.
    pub index: u32,
    /// Key of the sample, as its members are named in the tar.
    pub key: String,
    /// DataComp's uid.
    pub uid: Option<String>,
    /// URL that the picture came from.
    pub url: Option<String>,
    /// sha256 as its metadata says.
    pub sha256: Option<String>,
}

impl Ledger {
    /// Opens the folder of a run.
    ///
    /// # Errors
    /// No run folder, or a damaged one.
    pub fn open(root: &Path) -> Result<Self, LedgerError> {
        Self::open_on(root, Arc::new(Disk))
    }

    /// Opens the folder of a run on some storage.
    ///
    /// # Errors
    /// No run folder, or a damaged one.
    pub fn open_on(root: &Path, storage: Arc<dyn Storage>) -> Result<Self, LedgerError> {
        let path = root.join(CONFIG_FILE);
        let bytes = storage.read(&path).map_err(|cause| LedgerError::unopened(storage.as_ref(), root, &path, cause))?;
        let config: Value = serde_json::from_slice(&bytes).map_err(LedgerError::json(&path, "no readable JSON"))?;
        check_schema(&path, schema_of(&config))?;
        let root = root.to_path_buf();
        Self { root, storage, config, merged: Merged::default(), read: BTreeMap::new(), cache: Mutex::default() }
            .grown()
    }

    /// The same run as it is now: what was committed meanwhile is read, and no line twice.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn refreshed(&self) -> Result<Self, LedgerError> {
        let (root, storage, config) = (self.root.clone(), self.storage.clone(), self.config.clone());
        let (merged, read) = (self.merged.clone(), self.read.clone());
        let cache = Mutex::new(locked(&self.cache).clone());
        let grown = Self { root, storage, config, merged, read, cache }.grown();
        // What cannot be read on from where it ended is read anew, so that an error names its line.
        grown.or_else(|_| Self::open_on(&self.root, Arc::clone(&self.storage)))
    }

    fn grown(mut self) -> Result<Self, LedgerError> {
        let mut files = BTreeMap::new();
        for incarnation in incarnations(&self.root, self.storage.as_ref())? {
            let path = manifest_path(&self.root, incarnation);
            let read = self.read.entry(incarnation).or_default();
            let mut bytes = Vec::new();
            let mut file = self.storage.open(&path).map_err(LedgerError::at("open", &path))?;
            let rest = file.seek(SeekFrom::Start(*read)).and_then(|_| file.read_to_end(&mut bytes));
            rest.map_err(LedgerError::at("read", &path))?;
            let lines = manifest::parse(&path, &bytes)?;
            *read += lines.good_bytes;
            files.insert(incarnation, lines);
        }
        self.merged.add(files)?;
        Ok(self)
    }

    /// Path of the run folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The stored `config.json`: `decision_hash`, `decisions`, `numerics`, `record`.
    #[must_use]
    pub const fn config(&self) -> &Value {
        &self.config
    }

    /// The stored plan.
    ///
    /// # Errors
    /// No plan there, one of another form, or one that calls a committed shard otherwise than the manifest does.
    pub fn plan<P: serde::de::DeserializeOwned>(&self) -> Result<P, LedgerError> {
        let path = self.root.join(PLAN_FILE);
        let bytes = self.storage.read(&path).map_err(LedgerError::at("read", &path))?;
        for (ordinal, planned) in planned_names(&path, &bytes)? {
            let committed = self.merged.committed.get(&ordinal).map(|(_, line)| &line.name);
            if let Some(committed) = committed.filter(|committed| **committed != planned) {
                let (path, committed) = (self.root.clone(), committed.clone());
                return Err(LedgerError::Names { path, ordinal, planned, committed });
            }
        }
        read_plan(&path, &bytes)
    }

    /// Committed shards by ordinal, each with the incarnation that counts and its manifest line.
    #[must_use]
    pub const fn shards(&self) -> &BTreeMap<u64, (u64, ShardLine)> {
        &self.merged.committed
    }

    /// Shards that failed and are still unfinished.
    #[must_use]
    pub const fn failed(&self) -> &BTreeMap<u64, (u64, ShardLine)> {
        &self.merged.failed
    }

    /// What was lost of all committed shards, or passed over in them.
    #[must_use]
    pub fn notices(&self) -> Notices {
        self.merged.notices(&BTreeSet::new())
    }

    /// Counts over all committed shards.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.merged.counts()
    }

    /// Whether a shard is committed.
    #[must_use]
    pub fn is_committed(&self, ordinal: u64) -> bool {
        self.merged.committed.contains_key(&ordinal)
    }

    /// What `of` makes of the keys of a committed shard's samples, by raw index. Nothing else is read.
    ///
    /// # Errors
    /// A shard that is not committed, or a part that cannot be read.
    pub fn keys<T>(&self, ordinal: u64, of: impl Fn(&str) -> T) -> Result<Vec<T>, LedgerError> {
        let (path, table) = self.table(ordinal, PartKind::Ledger, &[("key", ColumnType::Text)])?;
        let mut all = Vec::new();
        for group in table {
            let keys = Columns { path: &path, left: group?.into_iter() }.text()?;
            all.extend(keys.map(|key| of(&key.unwrap_or_default())));
        }
        Ok(all)
    }

    /// Raw indices of a committed shard's samples that were kept without a caption, ascending. Nothing else is read.
    ///
    /// # Errors
    /// A shard that is not committed, or a part that cannot be read.
    pub fn captionless(&self, ordinal: u64) -> Result<Vec<u32>, LedgerError> {
        let (path, table) = self.table(ordinal, PartKind::Ledger, &[("reason", ColumnType::Text)])?;
        let (mut all, mut index) = (Vec::new(), 0);
        for group in table {
            for reason in (Columns { path: &path, left: group?.into_iter() }).text()? {
                if reason.as_deref() == Some(NO_CAPTION) {
                    all.push(index);
                }
                index += 1;
            }
        }
        Ok(all)
    }

    /// What a committed shard's samples are called, by raw index. Nothing else is read.
    ///
    /// # Errors
    /// A shard that is not committed, or a part that cannot be read.
    pub fn names(&self, ordinal: u64) -> Result<Vec<SampleNames>, LedgerError> {
        let text = ColumnType::Text;
        let wanted = [("index", ColumnType::U32), ("key", text), ("uid", text), ("url", text), ("sha256", text)];
        let (path, table) = self.table(ordinal, PartKind::Ledger, &wanted)?;
        let mut names = Vec::new();
        for group in table {
            let mut columns = Columns { path: &path, left: group?.into_iter() };
            let (indices, mut keys) = (columns.u32()?, columns.text()?);
            let (mut uids, mut urls, mut shas) = (columns.text()?, columns.text()?, columns.text()?);
            names.extend(indices.map(|index| SampleNames {
                index: index.unwrap_or_default(),
                key: keys.next().flatten().unwrap_or_default(),
                uid: uids.next().flatten(),
                url: urls.next().flatten(),
                sha256: shas.next().flatten(),
            }));
        }
        Ok(names)
    }

    /// Some columns of a committed shard's rows, by raw index, some thousand rows at a time. Nothing else is decoded.
    ///
    /// # Errors
    /// A shard that is not committed, or a part that cannot be read or has no such column.
    pub fn columns(
        &self,
        ordinal: u64,
        wanted: &[(&str, ColumnType)],
    ) -> Result<impl Iterator<Item = Result<Vec<Column>, LedgerError>> + use<>, LedgerError> {
        let (_, table) = self.table(ordinal, PartKind::Ledger, wanted)?;
        Ok(table.map(|group| group.map_err(LedgerError::from)))
    }

    /// Names of the benchmarks whose columns a shard's part has, in the configuration's order.
    ///
    /// # Errors
    /// No committed shard with readable columns.
    pub fn benchmarks(&self) -> Result<Vec<String>, LedgerError> {
        let Some((&ordinal, _)) = self.merged.committed.first_key_value() else { return Ok(Vec::new()) };
        let (path, input) = self.open_part(ordinal, PartKind::Ledger)?;
        let names = TableReader::column_names(&path, input)?;
        Ok(names.iter().filter_map(|n| n.strip_prefix("max_similarity.").map(String::from)).collect())
    }

    /// All rows, in plan order, as a stream: one row group is in memory at a time.
    ///
    /// # Errors
    /// As [`Ledger::benchmarks`]; each row may be an error of its own.
    pub fn rows(&self) -> Result<impl Iterator<Item = Result<LedgerRow, LedgerError>> + '_, LedgerError> {
        let benchmarks = self.benchmarks()?;
        Ok(self.merged.committed.keys().flat_map(move |&ordinal| {
            let rows = self.shard_rows_of(ordinal, &benchmarks);
            let (rows, error) = match rows {
                Ok(rows) => (Some(rows), None),
                Err(e) => (None, Some(Err(e))),
            };
            error.into_iter().chain(rows.into_iter().flatten())
        }))
    }

    /// A committed shard's rows.
    ///
    /// # Errors
    /// A shard that is not committed, or a part that cannot be read.
    pub fn shard_rows(&self, ordinal: u64) -> Result<Vec<LedgerRow>, LedgerError> {
        self.shard_rows_of(ordinal, &self.benchmarks()?)?.collect()
    }

    /// A committed shard's rows without their scores, as a stream: some thousand rows are in memory at a time.
    ///
    /// # Errors
    /// As [`Ledger::shard_rows`]; each row may be an error of its own.
    pub fn shard_fates(
        &self,
        ordinal: u64,
    ) -> Result<impl Iterator<Item = Result<LedgerRow, LedgerError>> + use<>, LedgerError> {
        self.shard_rows_of(ordinal, &[])
    }

    fn shard_rows_of(
        &self,
        ordinal: u64,
        benchmarks: &[String],
    ) -> Result<impl Iterator<Item = Result<LedgerRow, LedgerError>> + use<>, LedgerError> {
        let fields = ledger_fields(benchmarks);
        let wanted: Vec<(&str, ColumnType)> = fields.iter().map(|f| (f.name.as_str(), f.kind)).collect();
        let (path, table) = self.table(ordinal, PartKind::Ledger, &wanted)?;
        Ok(table.flat_map(move |group| {
            let rows = match group {
                Ok(group) => ledger_rows(&path, ordinal, group),
                Err(e) => vec![Err(e.into())],
            };
            rows.into_iter()
        }))
    }

    /// The items of all committed shards, merged; `benchmark` counts in the order of [`Ledger::benchmarks`].
    ///
    /// # Errors
    /// A part that cannot be read.
    pub fn items(&self) -> Result<Vec<PointRow>, LedgerError> {
        let benchmarks = self.benchmarks()?;
        let mut merged = MergedItems::default();
        for &ordinal in self.merged.committed.keys() {
            let fields = super::part::items_fields();
            let wanted: Vec<(&str, ColumnType)> = fields.iter().map(|f| (f.name.as_str(), f.kind)).collect();
            let (path, table) = self.table(ordinal, PartKind::Items, &wanted)?;
            for group in table {
                merged.add(item_rows(&path, group?, &benchmarks)?);
            }
        }
        Ok(merged.into_rows())
    }

    /// Whether a committed shard's embeddings were kept.
    #[must_use]
    pub fn has_embeddings(&self, ordinal: u64) -> bool {
        self.part(ordinal, PartKind::Embeddings).is_ok_and(|(path, _)| self.storage.len(&path).is_ok())
    }

    /// A committed shard's canonical embeddings; rejects have none.
    ///
    /// # Errors
    /// A shard that is not committed or kept none, or a part that cannot be read.
    pub fn embeddings(&self, ordinal: u64) -> Result<Vec<StoredEmbedding>, LedgerError> {
        let (path, input) = self.open_part(ordinal, PartKind::Embeddings)?;
        let reader = IpcReader::open(&path, input)?;
        let dim = reader.dim();
        let mut out = Vec::new();
        for batch in reader {
            let batch = batch?;
            let StoredRows::F16(values) = batch.rows else {
                return Err(bad_part(&path, "embeddings that are not f16".into()));
            };
            for ((vector, key), index) in values.chunks_exact(dim).zip(batch.keys).zip(batch.indices) {
                let index = index.ok_or_else(|| bad_part(&path, "a row without index".into()))?;
                out.push(StoredEmbedding { index, key, vector: vector.to_vec() });
            }
        }
        Ok(out)
    }

    /// The embeddings' file of a committed shard, for those who stream it.
    ///
    /// # Errors
    /// A shard that is not committed or kept none.
    pub fn embeddings_path(&self, ordinal: u64) -> Result<PathBuf, LedgerError> {
        self.part(ordinal, PartKind::Embeddings).map(|(path, _)| path)
    }
}
