//! Radii: `r_i = max over the reference set of s(x, t_i)`, the similarity gap that a pruned set must keep.
//!
//! The reference set streams through in chunks, one block of products at a time; a radius is exact and depends on the set alone, not on order
//! or chunks (see [`maxima`](super::maxima)).

use half::f16;
use thiserror::Error;
use trommel_kernels::dot::{norm, to_f32};
use trommel_kernels::join::{Block, Tiling};

use super::benchmark::{Benchmark, UNIT_TOLERANCE};
use super::maxima::Columns;
use super::scan::Prepared;
use trommel_core::peak::Peak;

/// Rows of a block of products.
const BLOCK_ROWS: usize = 256;

/// Bytes of a block of products, unless one row takes more.
const BLOCK_BYTES: usize = 64 << 20;

/// Why radii cannot be had.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum RadiiError {
    /// Nothing to measure against.
    #[error("radii of benchmark {0}: the reference set is empty")]
    Empty(String),
    /// A reference of another dimension.
    #[error("reference {reference} has {found} dimensions, benchmark {name} has {expected}")]
    Dimensions {
        /// Name of the benchmark.
        name: String,
        /// Number of the reference, from 0.
        reference: u64,
        /// Its dimensions.
        found: usize,
        /// The benchmark's.
        expected: usize,
    },
    /// A reference that is no unit vector.
    #[error("reference {reference} has norm {norm}, expected 1 within 1e-3")]
    Norm {
        /// Number of the reference, from 0.
        reference: u64,
        /// The norm of its vector, in f64.
        norm: f64,
    },
}

/// Radii in the making: feed it the reference set, then finish.
#[derive(Debug)]
pub struct Radii<'a> {
    benchmark: &'a Benchmark,
    prepared: Prepared,
    tiling: Tiling,
    references: u64,
    /// Largest canonical similarity and the number of the reference that has it (lowest on ties).
    best: Vec<Peak<u64>>,
    waiting: Vec<f16>,
    block: Block,
    block_rows: usize,
}

/// Finished radii.
#[derive(Clone, Debug, PartialEq)]
pub struct RadiiOutcome {
    /// One radius a test point.
    pub radii: Vec<f64>,
    /// The reference that is nearest to each test point, by its number from 0; lowest on ties.
    pub nearest: Vec<u64>,
    /// References seen.
    pub references: u64,
}

impl<'a> Radii<'a> {
    /// Nothing seen yet. `threads` of the products; 1 where several run side by side.
    #[must_use]
    pub fn new(benchmark: &'a Benchmark, threads: usize) -> Self {
        let points = benchmark.points();
        Self {
            benchmark,
            prepared: Prepared::new(benchmark),
            tiling: Tiling { threads, ..Tiling::default() },
            references: 0,
            best: vec![(f64::NEG_INFINITY, u64::MAX); points],
            waiting: Vec::new(),
            block: Block::default(),
            block_rows: (BLOCK_BYTES / (4 * points)).clamp(1, BLOCK_ROWS),
        }
    }

    /// Bytes that it holds at most beside the benchmark: a block of products and what waits for it, and the best of each point.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let (points, dim) = (self.benchmark.points() as u64, self.benchmark.dim as u64);
        let row = 4 * points + points / 8 + 16 + (2 + 4) * dim;
        // The norms, f32 radii and bounds that are prepared, and the largest similarity so far.
        let tiles = self.tiling.threads as u64 * (self.tiling.tile_bytes as u64).max(256 * dim);
        self.block_rows as u64 * row + 48 * points + tiles
    }

    /// Takes one reference: a canonical vector.
    ///
    /// # Errors
    /// If its dimension or norm is wrong.
    pub fn push(&mut self, vector: &[f16]) -> Result<(), RadiiError> {
        let reference = self.references;
        if vector.len() != self.benchmark.dim {
            let (name, expected) = (self.benchmark.name.clone(), self.benchmark.dim);
            return Err(RadiiError::Dimensions { name, reference, found: vector.len(), expected });
        }
        let norm = norm(vector);
        let unit = (norm - 1.0).abs() <= UNIT_TOLERANCE; // false for NaN
        if !unit {
            return Err(RadiiError::Norm { reference, norm });
        }
        self.waiting.extend_from_slice(vector);
        self.references += 1;
        if self.waiting.len() >= self.block_rows * self.benchmark.dim {
            self.flush();
        }
        Ok(())
    }

    /// The radii over all that was pushed.
    ///
    /// # Errors
    /// If nothing was.
    pub fn finish(mut self) -> Result<RadiiOutcome, RadiiError> {
        if self.references == 0 {
            return Err(RadiiError::Empty(self.benchmark.name.clone()));
        }
        self.flush();
        let (radii, nearest) = self.best.into_iter().unzip();
        Ok(RadiiOutcome { radii, nearest, references: self.references })
    }

    fn flush(&mut self) {
        let dim = self.benchmark.dim;
        let mut wide = vec![0.0; self.waiting.len()];
        to_f32(&self.waiting, &mut wide);
        self.block.fill(&wide, &self.benchmark.vectors, dim, None, self.tiling);
        let rows = self.block.rows();
        let first = self.references - rows as u64;
        // Every row's norm is within the tolerance of 1.
        let bound = self.prepared.block_bounds(dim, 1.0 + UNIT_TOLERANCE).value;
        let row = |row: usize| (row, &self.waiting[row * dim..(row + 1) * dim], first + row as u64);
        Columns::new(&self.block, self.benchmark, bound).raise((0..rows).map(row), &mut self.best, |point| point);
        self.waiting.clear();
    }
}

/// The radii of a benchmark over a reference set of canonical vectors.
///
/// # Errors
/// See [`RadiiError`].
pub fn radii<V: AsRef<[f16]>>(
    reference: impl IntoIterator<Item = V>,
    benchmark: &Benchmark,
) -> Result<Vec<f64>, RadiiError> {
    let mut radii = Radii::new(benchmark, 1);
    for vector in reference {
        radii.push(vector.as_ref())?;
    }
    Ok(radii.finish()?.radii)
}
