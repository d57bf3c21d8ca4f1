//! DataComp's list of uids, searched in its file: what a split of uids is read by.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use trommel_columnar::npy;

use crate::SelectError;

/// Bytes that are read at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// DataComp's list of uids, searched in its file.
#[derive(Debug)]
pub struct UidList {
    path: PathBuf,
    file: File,
    count: u64,
    first_byte: u64,
}

impl UidList {
    /// How many uids stand in it.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn open(path: &Path) -> Result<Self, SelectError> {
        let mut file = File::open(path).map_err(SelectError::at(path))?;
        let bytes = file.metadata().map_err(SelectError::at(path))?.len();
        let (count, first_byte) = npy::read_pair_head(path, &mut file, bytes)?;
        Ok(Self { path: path.into(), file, count, first_byte })
    }

    /// The rows where a uid stands; none where it is not in the list.
    ///
    /// # Errors
    /// A file that cannot be read, or whose uids are not sorted.
    pub fn places(&self, uid: u128) -> Result<Range<u64>, SelectError> {
        let first = self.first_from(uid)?;
        let mut end = first;
        while end < self.count && self.uid(end)? == uid {
            end += 1;
        }
        Ok(first..end)
    }

    /// Calls with each uid once, and the first row where it stands.
    pub(crate) fn each(&self, mut each: impl FnMut(u64, u128)) -> Result<(), SelectError> {
        let file = self.file.try_clone().map_err(SelectError::at(&self.path))?;
        let mut input = BufReader::with_capacity(BUFFER_BYTES, file);
        input.seek(SeekFrom::Start(self.first_byte)).map_err(SelectError::at(&self.path))?;
        let mut last = None;
        for row in 0..self.count {
            let mut pair = [[0; 8]; 2];
            pair.iter_mut().try_for_each(|half| input.read_exact(half)).map_err(SelectError::at(&self.path))?;
            let uid = of_pair(pair);
            if last.is_some_and(|last| last > uid) {
                return Err(self.disorder(row));
            }
            if last != Some(uid) {
                each(row, uid);
            }
            last = Some(uid);
        }
        Ok(())
    }

    fn disorder(&self, row: u64) -> SelectError {
        SelectError::Input(format!(
            "{}: its uids are not sorted, at row {row}: np.save(path, np.sort(np.load(path))) sorts them",
            self.path.display()
        ))
    }

    /// The place of the first uid that is not below `uid`.
    fn first_from(&self, uid: u128) -> Result<u64, SelectError> {
        let (mut low, mut high) = (0, self.count);
        let (mut below, mut above) = (0, u128::MAX);
        while low < high {
            let middle = low + (high - low) / 2;
            let found = self.uid(middle)?;
            if found < below || found > above {
                return Err(self.disorder(middle));
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
        let mut pair = [[0; 8]; 2];
        let [first, second] = &mut pair;
        let at = self.first_byte + 16 * row;
        let read = self.file.read_exact_at(first, at).and_then(|()| self.file.read_exact_at(second, at + 8));
        read.map_err(SelectError::at(&self.path))?;
        Ok(of_pair(pair))
    }
}

fn of_pair(pair: [[u8; 8]; 2]) -> u128 {
    let [high, low] = pair.map(|half| u128::from(u64::from_le_bytes(half)));
    high << 64 | low
}
