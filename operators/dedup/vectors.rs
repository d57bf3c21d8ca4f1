//! Where a scan reads its rows.

use half::f16;

use crate::DedupError;

/// Rows f16\[len, dim\] of norm 1 as far as f16 can say it, by their position.
pub trait Vectors: Sync {
    /// Elements of a row.
    fn dim(&self) -> usize;

    /// Number of rows.
    fn len(&self) -> usize;

    /// Whether there is no row.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows from `first` on, as many as `into` has room for; it must be whole rows, and they must be there.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn read(&self, first: usize, into: &mut [f16]) -> Result<(), DedupError>;
}

/// Rows in memory.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a> {
    /// f16\[len, dim\].
    pub vectors: &'a [f16],
    /// Elements of a row.
    pub dim: usize,
}

impl Vectors for Slice<'_> {
    fn dim(&self) -> usize {
        self.dim
    }

    fn len(&self) -> usize {
        self.vectors.len() / self.dim
    }

    fn read(&self, first: usize, into: &mut [f16]) -> Result<(), DedupError> {
        into.copy_from_slice(&self.vectors[first * self.dim..][..into.len()]);
        Ok(())
    }
}

/// Some rows of others, in an order of their own.
#[derive(Clone, Copy)]
pub struct Gathered<'a> {
    /// The rows that are chosen from.
    pub of: &'a dyn Vectors,
    /// Their positions.
    pub rows: &'a [u32],
}

impl Vectors for Gathered<'_> {
    fn dim(&self) -> usize {
        self.of.dim()
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn read(&self, first: usize, into: &mut [f16]) -> Result<(), DedupError> {
        let dim = self.dim();
        let rows = &self.rows[first..first + into.len() / dim];
        let mut at = 0;
        // Rows that follow one another are read at once.
        for run in rows.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
            self.of.read(run[0] as usize, &mut into[at * dim..(at + run.len()) * dim])?;
            at += run.len();
        }
        Ok(())
    }
}
