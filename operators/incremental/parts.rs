//! The files beside the embeddings: one part a shard, benchmark and table.
//!
//! A part is written aside, synced and renamed before anybody refers to it, is never changed, and goes when the last view that refers to
//! it is gone. Its checksum is compared before it is read. A [`PartRecord`] is all that must be known to find it again.

use std::io::{Cursor, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::IncrementalError;
use super::damage::PartError;
use super::tables::Table;
use trommel_columnar::ColumnarError;
use trommel_columnar::parquet::{ColumnType, TableReader, TableWriter};
use trommel_ledger::LedgerError;
use trommel_ledger::storage::Storage;

/// What is written down of a part: enough to find it again, and to notice if it is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartRecord {
    /// Name of the file in the folder of parts.
    pub file: String,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// CRC-32C of the whole file.
    pub crc32c: u32,
}

/// A table that is read from its file, of a known checksum, when it is asked for. The file is removed with the last reference unless it was
/// published and not superseded, or is another process's.
pub struct StoredTable<T> {
    path: PathBuf,
    bytes: u64,
    crc32c: u32,
    storage: Arc<dyn Storage>,
    lasting: AtomicBool,
    /// Another process removes it.
    foreign: bool,
    table: PhantomData<fn() -> T>,
}

impl<T> std::fmt::Debug for StoredTable<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredTable").field("path", &self.path).finish_non_exhaustive()
    }
}

impl<T> Drop for StoredTable<T> {
    fn drop(&mut self) {
        if !self.foreign && !self.lasting.load(Ordering::Relaxed) {
            let _ = self.storage.remove(&self.path);
        }
    }
}

impl<T: Table> StoredTable<T> {
    /// Reads the table.
    ///
    /// # Errors
    /// A file that cannot be read, or is not what was written.
    pub fn load(&self) -> Result<Arc<T>, IncrementalError> {
        let bad = |detail| IncrementalError::BadPart { path: self.path.clone(), detail };
        let bytes = self.storage.read(&self.path).map_err(LedgerError::at("read", &self.path))?;
        let (length, crc32c) = (bytes.len() as u64, crc32c::crc32c(&bytes));
        if length != self.bytes {
            return Err(bad(PartError::Length { found: length, due: self.bytes }));
        }
        if crc32c != self.crc32c {
            return Err(bad(PartError::Checksum { found: crc32c, due: self.crc32c }));
        }
        let fields = T::fields();
        let wanted: Vec<(&str, ColumnType)> = fields.iter().map(|field| (field.name.as_str(), field.kind)).collect();
        let mut table = T::default();
        for group in TableReader::open(&self.path, Box::new(Cursor::new(bytes)), &wanted)? {
            if !table.take(group?) {
                return Err(bad(PartError::OtherColumns));
            }
        }
        Ok(Arc::new(table))
    }

    /// What others must know to read it.
    #[must_use]
    pub fn record(&self) -> PartRecord {
        let file = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        PartRecord { file, bytes: self.bytes, crc32c: self.crc32c }
    }

    /// Its file outlives this process, or no longer does.
    pub fn set_lasting(&self, lasting: bool) {
        self.lasting.store(lasting, Ordering::Relaxed);
    }
}

/// Where parts are kept: a folder, under names that no other incarnation uses.
pub struct PartStore {
    root: PathBuf,
    incarnation: u64,
    storage: Arc<dyn Storage>,
    serial: AtomicU64,
}

impl PartStore {
    /// Parts in a folder, which is made. `incarnation` is the number of this turn at the folder.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn folder(root: &Path, incarnation: u64, storage: Arc<dyn Storage>) -> Result<Self, IncrementalError> {
        storage.create_dir(root).map_err(LedgerError::at("create", root))?;
        let serial = AtomicU64::new(0);
        Ok(Self { root: root.to_path_buf(), incarnation, storage, serial })
    }

    /// Writes a table as a new part.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn put<T: Table>(
        &self,
        ordinal: u64,
        benchmark: u32,
        table: T,
    ) -> Result<Arc<StoredTable<T>>, IncrementalError> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}.{ordinal:08}.{benchmark}.{}.{serial}.parquet", T::KIND, self.incarnation);
        let (path, aside) = (self.root.join(&name), self.root.join(format!("{name}.tmp")));
        let metadata = vec![("trommel.incremental".into(), "1".into())];
        let mut writer = TableWriter::new(&path, Vec::new(), T::fields(), metadata)?;
        for start in (0..table.rows()).step_by(T::GROUP_ROWS) {
            writer.write(&table.columns(start..(start + T::GROUP_ROWS).min(table.rows())))?;
        }
        let bytes = writer.finish()?;
        let mut out = self.storage.create(&aside).map_err(LedgerError::at("create", &aside))?;
        out.write_all(&bytes).and_then(|()| out.sync()).map_err(LedgerError::at("write", &aside))?;
        drop(out);
        self.storage.rename(&aside, &path).map_err(LedgerError::at("rename", &aside))?;
        let record = PartRecord { file: name, bytes: bytes.len() as u64, crc32c: crc32c::crc32c(&bytes) };
        Ok(self.part(&record, false, false))
    }

    /// A part that was kept before, by another turn at the folder, and is this process's from now on. It is there for good until
    /// [`StoredTable::set_lasting`] says otherwise.
    ///
    /// # Errors
    /// If its file is missing, or of another length than was written.
    pub fn adopt<T>(&self, record: &PartRecord) -> Result<Arc<StoredTable<T>>, IncrementalError> {
        let path = self.named(record)?;
        match self.storage.len(&path) {
            Ok(bytes) if bytes == record.bytes => Ok(self.part(record, true, false)),
            Ok(found) => {
                Err(IncrementalError::BadPart { path, detail: PartError::Length { found, due: record.bytes } })
            }
            Err(cause) => Err(LedgerError::at("read", &path)(cause).into()),
        }
    }

    /// A part that another process wrote and will remove.
    ///
    /// # Errors
    /// A record that names no file of this folder; nothing is read yet.
    pub fn refer<T>(&self, record: &PartRecord) -> Result<Arc<StoredTable<T>>, IncrementalError> {
        self.named(record)?;
        Ok(self.part(record, true, true))
    }

    /// A part that was kept before: [adopted](Self::adopt) if it is `own`, [another's](Self::refer) if not.
    ///
    /// # Errors
    /// As [`adopt`](Self::adopt) and [`refer`](Self::refer).
    pub fn found<T>(&self, record: &PartRecord, own: bool) -> Result<Arc<StoredTable<T>>, IncrementalError> {
        if own { self.adopt(record) } else { self.refer(record) }
    }

    fn named(&self, record: &PartRecord) -> Result<PathBuf, IncrementalError> {
        if Path::new(&record.file).file_name().is_none_or(|name| name != record.file.as_str()) {
            let detail = PartError::NoName(record.file.clone());
            return Err(IncrementalError::BadPart { path: self.root.clone(), detail });
        }
        Ok(self.root.join(&record.file))
    }

    /// Makes the names of all parts durable.
    ///
    /// # Errors
    /// What the file system says.
    pub fn sync(&self) -> Result<(), IncrementalError> {
        Ok(self.storage.sync_dir(&self.root).map_err(LedgerError::at("sync", &self.root))?)
    }

    fn part<T>(&self, record: &PartRecord, lasting: bool, foreign: bool) -> Arc<StoredTable<T>> {
        let (path, storage) = (self.root.join(&record.file), self.storage.clone());
        let lasting = AtomicBool::new(lasting);
        let (bytes, crc32c) = (record.bytes, record.crc32c);
        Arc::new(StoredTable { path, bytes, crc32c, storage, lasting, foreign, table: PhantomData })
    }
}

/// The turn at the folder that wrote a part of this name; `None` if it is no part's name.
#[must_use]
pub fn incarnation_of(name: &str) -> Option<u64> {
    name.split('.').nth(3)?.parse().ok()
}

impl From<ColumnarError> for IncrementalError {
    fn from(error: ColumnarError) -> Self {
        Self::Storage(error.into())
    }
}
