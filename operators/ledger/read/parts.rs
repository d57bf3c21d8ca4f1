//! The parts of committed shards: found by the manifest, and compared with the lengths and checksums that it has.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use trommel_columnar::ReadSeek;
use trommel_columnar::parquet::{ColumnType, TableReader};

use super::Ledger;
use crate::LedgerError;
use crate::manifest::{PartKind, PartSum, ShardLine};

impl Ledger {
    /// Reads every part that counts and compares its length and checksum with the manifest.
    ///
    /// # Errors
    /// The first part that differs.
    pub fn verify(&self) -> Result<(), LedgerError> {
        for (&ordinal, (incarnation, line)) in &self.merged.committed {
            for sum in &line.parts {
                let path = self.root.join(sum.kind.path(ordinal, *incarnation));
                if sum.kind == PartKind::Embeddings && self.storage.len(&path).is_err() {
                    continue;
                }
                self.check_file(&path, sum)?;
            }
        }
        Ok(())
    }

    /// Compares a part with the length and the checksum that the manifest has, for who reads the file itself.
    ///
    /// # Errors
    /// It differs, cannot be read, or was not kept.
    pub fn check_part(&self, ordinal: u64, kind: PartKind) -> Result<(), LedgerError> {
        let (path, line) = self.part(ordinal, kind)?;
        line.part(kind).map_or(Ok(()), |sum| self.check_file(&path, sum))
    }

    fn check_file(&self, path: &Path, sum: &PartSum) -> Result<(), LedgerError> {
        let mut file = self.storage.open(path).map_err(LedgerError::at("read", path))?;
        let (mut some, mut bytes, mut crc) = (vec![0; 1 << 18], 0, 0);
        loop {
            match file.read(&mut some).map_err(LedgerError::at("read", path))? {
                0 => return check_sum(path, (bytes, crc), sum),
                count => (bytes, crc) = (bytes + count as u64, crc32c::crc32c_append(crc, &some[..count])),
            }
        }
    }

    /// The files of a kind that count, in plan order: one a committed shard that has one, whatever else lies in the folder.
    ///
    /// # Errors
    /// A file that is missing or of another length than the manifest says.
    pub fn files(&self, kind: PartKind) -> Result<Vec<PathBuf>, LedgerError> {
        let listed = self.merged.committed.iter().filter_map(|(&ordinal, (incarnation, line))| {
            line.part(kind).map(|sum| (self.root.join(kind.path(ordinal, *incarnation)), sum.bytes))
        });
        let checked = |(path, due): (PathBuf, u64)| match self.storage.len(&path) {
            Ok(bytes) if bytes == due => Ok(path),
            Ok(bytes) => Err(bad_part(&path, format!("{bytes} bytes; {due} are due"))),
            Err(error) => Err(LedgerError::at("find", &path)(error)),
        };
        listed.map(checked).collect()
    }

    pub(super) fn part(&self, ordinal: u64, kind: PartKind) -> Result<(PathBuf, &ShardLine), LedgerError> {
        let known = self.merged.committed.get(&ordinal);
        let (incarnation, line) =
            known.ok_or_else(|| LedgerError::NotCommitted { path: self.root.clone(), ordinal })?;
        let path = self.root.join(kind.path(ordinal, *incarnation));
        if line.part(kind).is_none() {
            return Err(bad_part(&path, "was not kept by this run".into()));
        }
        Ok((path, line))
    }

    /// A part's bytes, once they are what the manifest says: the reader behind may loop on damaged pages.
    pub(super) fn open_part(&self, ordinal: u64, kind: PartKind) -> Result<(PathBuf, Box<dyn ReadSeek>), LedgerError> {
        let (path, line) = self.part(ordinal, kind)?;
        let bytes = self.storage.read(&path).map_err(LedgerError::at("read", &path))?;
        if let Some(sum) = line.part(kind) {
            check_sum(&path, (bytes.len() as u64, crc32c::crc32c(&bytes)), sum)?;
        }
        Ok((path, Box::new(Cursor::new(bytes))))
    }

    pub(super) fn table(
        &self,
        ordinal: u64,
        kind: PartKind,
        wanted: &[(&str, ColumnType)],
    ) -> Result<(PathBuf, TableReader), LedgerError> {
        let (path, input) = self.open_part(ordinal, kind)?;
        let table = TableReader::open(&path, input, wanted)?;
        Ok((path, table))
    }
}

fn check_sum(path: &Path, (bytes, crc): (u64, u32), sum: &PartSum) -> Result<(), LedgerError> {
    let crc = format!("{crc:08x}");
    if bytes == sum.bytes && crc == sum.crc32c {
        return Ok(());
    }
    let detail = format!("{bytes} bytes, crc32c {crc}; {} and {} are due", sum.bytes, sum.crc32c);
    Err(bad_part(path, detail))
}

pub(super) fn bad_part(path: &Path, detail: String) -> LedgerError {
    LedgerError::BadPart { path: path.into(), detail }
}
