//! Radii: `r_i = max over the reference set of s(x, t_i)`, the similarity gap that a pruned set must keep.
//!
//! The reference set streams through in portions, which the join's kernel multiplies; a radius is exact and depends on the set alone, not on order
//! or portions (see [`maxima`](super::maxima)).

use std::sync::Arc;

use half::f16;
use thiserror::Error;
use trommel_kernels::canonical::UNIT_TOLERANCE;
use trommel_kernels::dot::norm;
use trommel_kernels::int8::Instructions;

use super::benchmark::Benchmark;
use super::cpu::Cpu;
use super::join_config::{JoinConfig, Needs};
use super::kernel::{Kernel, KernelError, Portion};
use super::maxima::raise_all;
use super::scan::Prepared;
use trommel_core::peak::Peak;

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
    /// Nobody could multiply.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// Radii in the making: feed it the reference set, then finish.
#[derive(Debug)]
pub struct Radii<'a> {
    benchmark: &'a Benchmark,
    prepared: Arc<[Prepared]>,
    kernel: Cpu<&'a Benchmark>,
    references: u64,
    /// Largest canonical similarity and the number of the reference that has it (lowest on ties).
    best: Vec<Peak<u64>>,
    waiting: Vec<f16>,
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
        let prepared: Arc<[Prepared]> = [Prepared::new(benchmark)].into();
        let kernel = Cpu::new(vec![benchmark], prepared.clone(), JoinConfig { threads, ..JoinConfig::default() });
        let best = vec![(f64::NEG_INFINITY, u64::MAX); benchmark.points()];
        Self { benchmark, prepared, kernel, references: 0, best, waiting: Vec::new() }
    }

    /// The same that multiplies codes with these instructions, which the processor must have, from the first reference on wherever codes can be made; or f32.
    #[must_use]
    pub fn with_codes(self, with: Option<Instructions>) -> Self {
        Self { kernel: self.kernel.with_codes(with), ..self }
    }

    /// Bytes that it holds at most beside the benchmark: a portion's products and what waits for it, codes, and the best of each point.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let (points, dim) = (self.benchmark.points() as u64, self.benchmark.dim as u64);
        // A portion's vectors and where they are; the largest similarity of each point so far.
        let waiting = self.kernel.widest_portion_rows() as u64 * (2 * dim + 24);
        self.kernel.held_bytes() + self.kernel.call_bytes() + waiting + 16 * points
    }

    /// Takes one reference: a canonical vector.
    ///
    /// # Errors
    /// If its dimension or norm is wrong, or nobody could multiply.
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
        if self.waiting.len() >= self.kernel.portion_rows() * self.benchmark.dim { self.flush() } else { Ok(()) }
    }

    /// The radii over all that was pushed.
    ///
    /// # Errors
    /// If nothing was, or nobody could multiply.
    pub fn finish(mut self) -> Result<RadiiOutcome, RadiiError> {
        if self.references == 0 {
            return Err(RadiiError::Empty(self.benchmark.name.clone()));
        }
        self.flush()?;
        let (radii, nearest) = self.best.into_iter().unzip();
        Ok(RadiiOutcome { radii, nearest, references: self.references })
    }

    fn flush(&mut self) -> Result<(), RadiiError> {
        let vectors: Vec<&[f16]> = self.waiting.chunks_exact(self.benchmark.dim).collect();
        if vectors.is_empty() {
            return Ok(());
        }
        let (rows, needs) = (vectors.len(), [Needs { maximum: true, radii: false }]);
        let all = 0..rows;
        let portion = Portion { vectors: &vectors, groups: std::slice::from_ref(&all), needs: &needs };
        let mut products = self.kernel.multiply(portion)?;
        let special = products.error_bound(0);
        let bound = |row: f64, point: f64| special.unwrap_or_else(|| self.kernel.error_bound(row, point));
        // Every row's norm is within the tolerance of 1.
        let bounds = self.prepared[0].bounds(1.0 + UNIT_TOLERANCE, bound);
        let first = self.references - rows as u64;
        let of = |row: usize| (vectors[row], first + row as u64);
        raise_all(&mut *products, self.benchmark, bounds, rows, of, &mut self.best)?;
        drop(products);
        self.waiting.clear();
        Ok(())
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
