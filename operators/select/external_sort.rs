//! Sorts more than memory holds: runs that had no room are put aside, sorted, in files beside the result, and merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Result, Seek, Write};
use std::path::{Path, PathBuf};

use trommel_core::durable;

/// Bytes that are sorted at a time, at least.
const LEAST_RUN_BYTES: u64 = 1 << 20;

/// Files that are open at a time: so many runs become one.
const MOST_RUNS: usize = 64;

/// What is sorted: how it is put aside and read back.
pub(crate) trait Record: Ord + Clone {
    /// Bytes of memory that it takes.
    fn bytes(&self) -> u64;

    fn write(&self, out: &mut impl Write) -> Result<()>;

    /// The next record of what [`Self::write`] wrote; none at the end.
    fn read(from: &mut impl BufRead) -> Result<Option<Self>>;
}

impl Record for u128 {
    fn bytes(&self) -> u64 {
        size_of::<Self>() as u64
    }

    fn write(&self, out: &mut impl Write) -> Result<()> {
        out.write_all(&self.to_ne_bytes())
    }

    fn read(from: &mut impl BufRead) -> Result<Option<Self>> {
        if from.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut bytes = [0; size_of::<Self>()];
        from.read_exact(&mut bytes)?;
        Ok(Some(Self::from_ne_bytes(bytes)))
    }
}

/// Text of one line.
impl Record for String {
    fn bytes(&self) -> u64 {
        (size_of::<Self>() + self.len()) as u64
    }

    fn write(&self, out: &mut impl Write) -> Result<()> {
        writeln!(out, "{self}")
    }

    fn read(from: &mut impl BufRead) -> Result<Option<Self>> {
        from.lines().next().transpose()
    }
}

/// Records being sorted.
pub(crate) struct ExternalSort<T> {
    folder: PathBuf,
    run: Vec<T>,
    held_bytes: u64,
    run_bytes: u64,
    /// Sorted runs that had no room.
    runs: Vec<File>,
}

impl<T: Record> ExternalSort<T> {
    /// For a result at `path`: what is put aside lies in its folder.
    pub fn beside(path: &Path, memory_bytes: u64) -> Self {
        Self::of_runs(path, memory_bytes.max(LEAST_RUN_BYTES))
    }

    /// The same, with so many bytes at a time, however few.
    pub fn of_runs(path: &Path, run_bytes: u64) -> Self {
        Self { folder: durable::parent(path).into(), run: Vec::new(), held_bytes: 0, run_bytes, runs: Vec::new() }
    }

    pub fn add(&mut self, record: T) -> Result<()> {
        self.held_bytes += record.bytes();
        self.run.push(record);
        if self.held_bytes >= self.run_bytes { self.put_aside() } else { Ok(()) }
    }

    fn put_aside(&mut self) -> Result<()> {
        let mut out = BufWriter::new(tempfile::tempfile_in(&self.folder)?);
        if self.runs.len() < MOST_RUNS {
            self.run.sort_unstable();
            self.run.iter().try_for_each(|record| record.write(&mut out))?;
        } else {
            self.sorted()?.try_for_each(|record| record?.write(&mut out))?;
            self.runs.clear();
        }
        self.run.clear();
        self.held_bytes = 0;
        self.runs.push(out.into_inner().map_err(std::io::IntoInnerError::into_error)?);
        Ok(())
    }

    /// All of them in order, as often as they were added. It can be asked for again.
    pub fn sorted(&mut self) -> Result<impl Iterator<Item = Result<T>>> {
        self.run.sort_unstable();
        let mut runs = Vec::new();
        for run in &mut self.runs {
            run.rewind()?;
            runs.push(BufReader::new(run));
        }
        let (files, mut held) = (runs.len(), self.run.iter().cloned());
        let mut next = move |from: usize| match runs.get_mut(from) {
            Some(run) => T::read(run),
            None => Ok(held.next()),
        };
        let mut heap = BinaryHeap::new();
        for from in 0..=files {
            heap.extend(next(from)?.map(|record| Reverse((record, from))));
        }
        Ok(std::iter::from_fn(move || {
            let Reverse((record, from)) = heap.pop()?;
            match next(from) {
                Ok(following) => heap.extend(following.map(|record| Reverse((record, from)))),
                Err(error) => return Some(Err(error)),
            }
            Some(Ok(record))
        }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_were_put_aside_come_back_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut sort = ExternalSort::<u128>::of_runs(&folder.path().join("x"), 1);
        [3 << 100, 1, u128::MAX, 256, 1].into_iter().for_each(|number| sort.add(number).unwrap());
        let all: Vec<u128> = sort.sorted().unwrap().map(Result::unwrap).collect();
        assert_eq!(all, [1, 1, 256, 3 << 100, u128::MAX]);
    }
}
