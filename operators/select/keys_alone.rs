//! Keys without shards, in the order of their bytes: a list that finds samples wherever they stand.
//!
//! What was selected from stored embeddings is named by the files of embeddings, and the shards with the pictures are other files: only a sample's
//! key is the same in both. Whoever reads searches the file, so that a process for each shard costs no more than the shard's own keys do.
//! A key that stands for two samples decides nothing: it is refused where the list is written, whether both are kept or one of them, in the list, and
//! in shards as far as they are read. So whoever writes a list sorts the keys of who is not kept too, in files beside it where memory is short.
//!
//! `LC_ALL=C sort` makes such a list of anybody's keys.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::SelectError;
use crate::byte_order_mark::text_begins;
use crate::external_sort::ExternalSort;
use crate::head::SplitHead;
use crate::sink::{Kept, ListFile, Sink, Whole};

/// Bytes that are read at a time in a search.
const WINDOW_BYTES: u64 = 256;
/// Most bytes of a key.
const MAX_KEY_BYTES: u64 = 1 << 20;

/// A list, searched in its file.
#[derive(Debug)]
pub struct KeyList {
    path: PathBuf,
    file: File,
    /// Where the first key begins.
    first: u64,
    bytes: u64,
}

impl KeyList {
    pub(crate) fn open(path: &Path) -> Result<Self, SelectError> {
        let file = File::open(path).map_err(SelectError::at(path))?;
        let bytes = file.metadata().map_err(SelectError::at(path))?.len();
        let first = text_begins(&file).map_err(SelectError::at(path))?;
        Ok(Self { path: path.into(), file, first, bytes })
    }

    /// Where a key's line begins; `None` where it is not in the list.
    ///
    /// # Errors
    /// A file that cannot be read, lines that are not sorted, or the key twice.
    pub fn place(&self, key: &str) -> Result<Option<u64>, SelectError> {
        // Lines that begin before `low` are smaller, those that begin from `high` on are larger.
        let (mut low, mut high) = (self.first, self.bytes);
        let (mut below, mut above): (Option<Vec<u8>>, Option<Vec<u8>>) = (None, None);
        while low < high {
            let middle = low + (high - low) / 2;
            let start = if middle == low { low } else { self.line(middle - 1)?.1 };
            if start >= high {
                high = middle;
                continue;
            }
            let (line, next) = self.line(start)?;
            let in_order =
                below.as_ref().is_none_or(|below| *below < line) && above.as_ref().is_none_or(|above| line < *above);
            if !in_order {
                return Err(self.disorder(start, &line));
            }
            match line.as_slice().cmp(key.as_bytes()) {
                Ordering::Less => (low, below) = (next, Some(line)),
                Ordering::Greater => (high, above) = (middle, Some(line)),
                Ordering::Equal => {
                    // Its neighbours are all that can be equal in a sorted list; the one before ends in one byte or in two.
                    let before = [1, 2].into_iter().filter_map(|end| start.checked_sub(line.len() as u64 + end));
                    let before = before.filter(|from| *from >= self.first);
                    for from in before.chain([next].into_iter().filter(|next| *next < self.bytes)) {
                        let begins = from == self.first || self.line(from - 1)?.1 == from;
                        if begins && self.line(from)?.0 == line {
                            return Err(self.disorder(start, &line));
                        }
                    }
                    return Ok(Some(start));
                }
            }
        }
        Ok(None)
    }

    /// How many keys there are; the whole list is read.
    ///
    /// # Errors
    /// A file that cannot be read, lines that are not sorted, or a key twice.
    pub fn count(&self) -> Result<u64, SelectError> {
        self.each_line(|_, _| ())
    }

    /// Bytes of the list.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Calls with where each line begins, and its key; gives how many there are.
    pub(crate) fn each_line(&self, mut each: impl FnMut(u64, &[u8])) -> Result<u64, SelectError> {
        let file = self.file.try_clone().map_err(SelectError::at(&self.path))?;
        let mut input = BufReader::with_capacity(1 << 20, file);
        input.seek(SeekFrom::Start(self.first)).map_err(SelectError::at(&self.path))?;
        let (mut count, mut at, mut last, mut line) = (0, self.first, Vec::new(), Vec::new());
        loop {
            line.clear();
            let read = input.read_until(b'\n', &mut line).map_err(SelectError::at(&self.path))? as u64;
            if read == 0 {
                return Ok(count);
            }
            bare(&mut line);
            if count > 0 && last >= line {
                return Err(self.disorder(at, &line));
            }
            each(at, &line);
            (count, at) = (count + 1, at + read);
            std::mem::swap(&mut last, &mut line);
        }
    }

    /// What stands from a byte to the end of its line, and where the next one begins.
    fn line(&self, from: u64) -> Result<(Vec<u8>, u64), SelectError> {
        let mut line = Vec::new();
        loop {
            let (have, at) = (line.len(), from + line.len() as u64);
            let more = WINDOW_BYTES.max(have as u64).min(self.bytes.saturating_sub(at));
            line.resize(have + more as usize, 0);
            self.file.read_exact_at(&mut line[have..], at).map_err(SelectError::at(&self.path))?;
            if let Some(end) = line[have..].iter().position(|&byte| byte == b'\n') {
                line.truncate(have + end + 1);
            } else if more > 0 && line.len() as u64 <= MAX_KEY_BYTES {
                continue;
            } else if more > 0 {
                let path = self.path.display();
                return Err(SelectError::Input(format!(
                    "{path}: no list of keys: at byte {from}: more than a megabyte"
                )));
            }
            let next = from + line.len() as u64;
            bare(&mut line);
            return Ok((line, next));
        }
    }

    fn disorder(&self, at: u64, line: &[u8]) -> SelectError {
        SelectError::Input(format!(
            "{}: keys alone stand once each in the order of their bytes (LC_ALL=C sort), and at byte {at} `{:.100}` does not",
            self.path.display(),
            String::from_utf8_lossy(line)
        ))
    }
}

/// A line without its end.
fn bare(line: &mut Vec<u8>) {
    for end in [b'\n', b'\r'] {
        line.pop_if(|last| *last == end);
    }
}

/// A list being written.
pub(crate) struct KeysAlone {
    path: PathBuf,
    keys: ExternalSort<String>,
    /// Keys of samples that are not kept.
    others: ExternalSort<String>,
}

impl KeysAlone {
    pub fn begin(path: &Path, memory_bytes: u64) -> Self {
        let sort = || ExternalSort::beside(path, memory_bytes / 2);
        Self { path: path.into(), keys: sort(), others: sort() }
    }

    /// The same, with so many bytes at a time, however few.
    #[cfg(test)]
    pub fn sorting(self, run_bytes: u64) -> Self {
        let sort = || ExternalSort::of_runs(&self.path, run_bytes);
        Self { keys: sort(), others: sort(), ..self }
    }

    /// Writes the list; gives whose key is another sample's too, if one is.
    fn write(&mut self, out: &mut impl Write) -> std::io::Result<Option<String>> {
        let (mut last, mut others) = (None, self.others.sorted()?);
        let mut other = others.next().transpose()?;
        for key in self.keys.sorted()? {
            let key = key?;
            if last.as_ref() == Some(&key) {
                return Ok(Some(format!("two kept samples have the key `{key}`")));
            }
            while other.as_ref().is_some_and(|other| *other < key) {
                other = others.next().transpose()?;
            }
            if other.as_ref() == Some(&key) {
                return Ok(Some(format!("of the samples with the key `{key}` one is kept and another is not")));
            }
            writeln!(out, "{key}")?;
            last = Some(key);
        }
        Ok(None)
    }
}

impl Sink for KeysAlone {
    fn add(&mut self, Kept { shard, key, .. }: Kept<'_>) -> Result<(), SelectError> {
        if key.contains(['\n', '\r']) || key.is_empty() {
            let path = self.path.display();
            return Err(SelectError::Input(format!("{path}: the key {key:?} of shard {shard:?} is no line")));
        }
        self.keys.add(key.to_owned()).map_err(SelectError::at(&self.path))
    }

    fn leave_out(&mut self, _: &str, key: &str) -> Result<(), SelectError> {
        // What is no line is no kept sample's key.
        if key.contains(['\n', '\r']) {
            return Ok(());
        }
        self.others.add(key.to_owned()).map_err(SelectError::at(&self.path))
    }

    fn finish(mut self: Box<Self>, _: &SplitHead) -> Result<Whole, SelectError> {
        let mut out = ListFile::begin(&self.path)?;
        if let Some(whose) = self.write(&mut out).map_err(SelectError::at(&self.path))? {
            let path = self.path.display();
            return Err(SelectError::Input(format!(
                "{path}: {whose}: keys alone do not tell them apart, .parquet does"
            )));
        }
        out.finish(None)
    }

    fn looks_at_all(&self) -> bool {
        true
    }
}
