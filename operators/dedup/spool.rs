//! The rows while they are worked on: in memory as long as they fit, else in a file without a name, which is gone with the process.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use half::f16;
use trommel_kernels::dot::norm;

use crate::DedupError;
use crate::scan::MOST_NORM;
use crate::vectors::Vectors;

enum Held {
    Memory(Vec<f16>),
    File(File),
}

/// Rows f16\[len, dim\].
pub struct Spool {
    dim: usize,
    len: usize,
    held: Held,
}

/// A [`Spool`] that is being filled.
pub struct Filling {
    dim: usize,
    len: usize,
    memory_bytes: u64,
    folder: PathBuf,
    memory: Vec<f16>,
    file: Option<BufWriter<File>>,
}

impl Filling {
    /// Begins a spool of rows of `dim` elements, which holds up to `memory_bytes` in memory; what is more goes to a file in `folder`.
    #[must_use]
    pub fn begin(dim: usize, memory_bytes: u64, folder: &Path) -> Self {
        Self { dim, len: 0, memory_bytes, folder: folder.into(), memory: Vec::new(), file: None }
    }

    /// Adds a row, f16\[dim\].
    ///
    /// # Errors
    /// A vector that is not a unit vector, or a file that cannot be written.
    ///
    /// # Panics
    /// A vector of another length, which is a defect of the caller.
    pub fn push(&mut self, vector: &[f16]) -> Result<(), DedupError> {
        assert_eq!(vector.len(), self.dim, "rows have dim elements");
        let norm = norm(vector);
        if !(norm > 0.5 && norm <= MOST_NORM) {
            return Err(DedupError::Norm { row: self.len, norm });
        }
        if self.len == u32::MAX as usize {
            return Err(DedupError::TooMany);
        }
        self.len += 1;
        if self.file.is_none() && 2 * (self.memory.len() + self.dim) as u64 > self.memory_bytes {
            let mut file = BufWriter::with_capacity(1 << 20, tempfile::tempfile_in(&self.folder)?);
            file.write_all(bytemuck::cast_slice(&std::mem::take(&mut self.memory)))?;
            self.file = Some(file);
        }
        match &mut self.file {
            Some(file) => file.write_all(bytemuck::cast_slice(vector))?,
            None => self.memory.extend_from_slice(vector),
        }
        Ok(())
    }

    /// Number of rows pushed so far.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no row yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The rows, to be read from now on.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn finish(self) -> Result<Spool, DedupError> {
        let held = match self.file {
            Some(file) => Held::File(file.into_inner().map_err(|error| error.into_error())?),
            None => Held::Memory(self.memory),
        };
        Ok(Spool { dim: self.dim, len: self.len, held })
    }
}

impl Spool {
    /// Bytes that its rows take in memory: 0 where they lie in a file.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        match &self.held {
            Held::Memory(vectors) => 2 * vectors.capacity() as u64,
            Held::File(_) => 0,
        }
    }
}

impl Vectors for Spool {
    fn dim(&self) -> usize {
        self.dim
    }

    fn len(&self) -> usize {
        self.len
    }

    fn read(&self, first: usize, into: &mut [f16]) -> Result<(), DedupError> {
        let from = first * self.dim;
        match &self.held {
            Held::Memory(vectors) => into.copy_from_slice(&vectors[from..][..into.len()]),
            Held::File(file) => file.read_exact_at(bytemuck::cast_slice_mut(into), 2 * from as u64)?,
        }
        Ok(())
    }
}
