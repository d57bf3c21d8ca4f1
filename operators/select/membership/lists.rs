//! Lists that do not say where a sample stands: keys, and DataComp's uids.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use trommel_columnar::npy;

use crate::SelectError;

/// Bytes that are read at a time.
const BUFFER_BYTES: usize = 1 << 20;
/// Longest line.
const MAX_LINE_BYTES: usize = 1 << 20;

/// SHARD/KEY a line. Whose line it is says the shard that is asked for: names of shards and keys may hold slashes too.
pub(super) struct Keys {
    path: PathBuf,
    /// Each shard's lines stand together: `trommel select` wrote them.
    grouped: bool,
    /// Where the lines of the shard that was asked for last have ended: the next one's may begin there.
    last: AtomicU64,
}

impl Keys {
    pub fn open(path: &Path, grouped: bool) -> Result<Self, SelectError> {
        File::open(path).map_err(SelectError::at(path))?;
        Ok(Self { path: path.into(), grouped, last: AtomicU64::new(0) })
    }

    /// The keys of a shard; `None` where no line is its.
    pub fn shard(&self, name: &str) -> Result<Option<HashSet<String>>, SelectError> {
        let mut keys = HashSet::new();
        let start = self.last.load(Ordering::Relaxed);
        if !self.scan(name, start, u64::MAX, &mut keys)? {
            self.scan(name, 0, start, &mut keys)?;
        }
        Ok((!keys.is_empty()).then_some(keys))
    }

    /// Reads lines from one byte to another; whether all of the shard's are found.
    fn scan(&self, name: &str, from: u64, to: u64, keys: &mut HashSet<String>) -> Result<bool, SelectError> {
        let mut file = File::open(&self.path).map_err(SelectError::at(&self.path))?;
        file.seek(SeekFrom::Start(from)).map_err(SelectError::at(&self.path))?;
        let (mut input, mut at, mut line) = (BufReader::with_capacity(BUFFER_BYTES, file), from, Vec::new());
        while at < to {
            line.clear();
            let read = std::io::Read::take(&mut input, MAX_LINE_BYTES as u64).read_until(b'\n', &mut line);
            let read = read.map_err(SelectError::at(&self.path))?;
            if read == 0 {
                break;
            }
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            if text.len() >= MAX_LINE_BYTES {
                return Err(self.bad(at, "a line of more than a megabyte"));
            }
            let text = std::str::from_utf8(text).map_err(|_| self.bad(at, "a line that is not UTF-8"))?;
            let text = text.strip_suffix('\r').unwrap_or(text);
            match text.strip_prefix(name).and_then(|rest| rest.strip_prefix('/')) {
                Some(key) => {
                    keys.insert(key.to_owned());
                }
                None if self.grouped && !keys.is_empty() => {
                    self.last.store(at, Ordering::Relaxed);
                    return Ok(true);
                }
                None if text.is_empty() || text.contains('/') => {}
                None => return Err(self.bad(at, &format!("`{text:.100}`; SHARD/KEY is due"))),
            }
            at += read as u64;
        }
        Ok(false)
    }

    fn bad(&self, at: u64, what: &str) -> SelectError {
        SelectError::Input(format!("{}: no list of samples: at byte {at}: {what}", self.path.display()))
    }
}

/// DataComp's list of uids, searched in its file.
#[derive(Debug)]
pub struct UidList {
    path: PathBuf,
    file: File,
    count: u64,
    first_byte: u64,
}

impl UidList {
    pub(super) fn open(path: &Path) -> Result<Self, SelectError> {
        let mut file = File::open(path).map_err(SelectError::at(path))?;
        let bytes = file.metadata().map_err(SelectError::at(path))?.len();
        let (count, first_byte) = npy::read_pair_head(path, &mut file, bytes)?;
        Ok(Self { path: path.into(), file, count, first_byte })
    }

    /// How often a uid stands in the list.
    ///
    /// # Errors
    /// A file that cannot be read, or whose uids are not sorted.
    pub fn times(&self, uid: u128) -> Result<u64, SelectError> {
        let first = self.first_from(uid)?;
        let mut times = 0;
        while first + times < self.count && self.uid(first + times)? == uid {
            times += 1;
        }
        Ok(times)
    }

    /// The place of the first uid that is not below `uid`.
    fn first_from(&self, uid: u128) -> Result<u64, SelectError> {
        let (mut low, mut high) = (0, self.count);
        let (mut below, mut above) = (0, u128::MAX);
        while low < high {
            let middle = low + (high - low) / 2;
            let found = self.uid(middle)?;
            if found < below || found > above {
                return Err(SelectError::Input(format!(
                    "{}: its uids are not sorted, at row {middle}",
                    self.path.display()
                )));
            }
            if found < uid {
                (low, below) = (middle + 1, found);
            } else {
                (high, above) = (middle, found);
            }
        }
        Ok(low)
    }

    fn uid(&self, row: u64) -> Result<u128, SelectError> {
        let (mut first, mut second) = ([0; 8], [0; 8]);
        let at = self.first_byte + 16 * row;
        let read = self.file.read_exact_at(&mut first, at).and_then(|()| self.file.read_exact_at(&mut second, at + 8));
        read.map_err(SelectError::at(&self.path))?;
        Ok(u128::from(u64::from_le_bytes(first)) << 64 | u128::from(u64::from_le_bytes(second)))
    }
}
