//! A u64 a row, in memory where there is room, else in a file that has no name and is gone with the process.
//!
//! ```
//! use trommel_select::values::Values;
//! for in_memory in [true, false] {
//!     let folder = std::env::temp_dir();
//!     let mut values = Values::new(&folder, in_memory)?;
//!     values.add(&[3, 1])?;
//!     values.add(&[2])?;
//!     let mut seen = Vec::new();
//!     values.scan(|row, some| {
//!         seen.push((row, some.to_vec()));
//!         Ok(())
//!     })?;
//!     assert_eq!(seen, [(0, vec![3, 1, 2])]);
//!     assert_eq!(values.read(1..3)?, [1, 2]);
//! }
//! # Ok::<(), trommel_select::SelectError>(())
//! ```

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytemuck::{cast_slice, cast_slice_mut};

use crate::SelectError;

/// Values that are written, or read, at a time.
const BLOCK_VALUES: usize = 64 << 10;

/// The value of a row that has none.
pub const MISSING: u64 = u64::MAX;

/// Values in the order of the rows.
#[derive(Debug)]
pub struct Values {
    held: Vec<u64>,
    file: Option<(File, PathBuf)>,
    len: u64,
    /// How often they were read in order.
    #[cfg(test)]
    scans: std::sync::atomic::AtomicU64,
}

impl Values {
    /// None yet. In a file they lie in `folder`.
    ///
    /// # Errors
    /// A file that cannot be made.
    pub fn new(folder: &Path, in_memory: bool) -> Result<Self, SelectError> {
        let file = || {
            let file = tempfile::tempfile_in(folder).map_err(SelectError::at(folder))?;
            Ok::<_, SelectError>((file, folder.to_path_buf()))
        };
        Ok(Self {
            held: Vec::new(),
            file: if in_memory { None } else { Some(file()?) },
            len: 0,
            #[cfg(test)]
            scans: Default::default(),
        })
    }

    /// Number of values.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no row.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds rows.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn add(&mut self, values: &[u64]) -> Result<(), SelectError> {
        self.held.extend_from_slice(values);
        self.len += values.len() as u64;
        if self.held.len() >= BLOCK_VALUES { self.flush() } else { Ok(()) }
    }

    #[cfg(test)]
    pub(crate) fn scans(&self) -> u64 {
        self.scans.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn flush(&mut self) -> Result<(), SelectError> {
        let Some((file, folder)) = &self.file else { return Ok(()) };
        let at = (self.len - self.held.len() as u64) * 8;
        file.write_all_at(cast_slice(&self.held), at).map_err(SelectError::at(folder))?;
        self.held.clear();
        Ok(())
    }

    /// A range of rows.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(&self, rows: Range<u64>) -> Result<Vec<u64>, SelectError> {
        let Some((file, folder)) = &self.file else {
            return Ok(self.held.get(rows.start as usize..rows.end as usize).unwrap_or_default().to_vec());
        };
        let written = self.len - self.held.len() as u64;
        let mut values = vec![0; (rows.end.min(written).saturating_sub(rows.start)) as usize];
        file.read_exact_at(cast_slice_mut(&mut values), rows.start * 8).map_err(SelectError::at(folder))?;
        let held = rows.start.max(written) - written..rows.end.max(written) - written;
        values.extend_from_slice(self.held.get(held.start as usize..held.end as usize).unwrap_or_default());
        Ok(values)
    }

    /// All rows in order, some at a time, with the first one's number.
    ///
    /// # Errors
    /// A file that cannot be read, or what `each` says.
    pub fn scan(&self, mut each: impl FnMut(u64, &[u64]) -> Result<(), SelectError>) -> Result<(), SelectError> {
        #[cfg(test)]
        self.scans.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut row = 0;
        while row < self.len {
            let end = self.len.min(row + BLOCK_VALUES as u64);
            match &self.file {
                None => each(row, &self.held[row as usize..end as usize])?,
                Some(_) => each(row, &self.read(row..end)?)?,
            }
            row = end;
        }
        Ok(())
    }
}
