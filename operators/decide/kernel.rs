//! The seam between the join and whoever multiplies for it: a kernel finds, the join decides.
//!
//! ```text
//!  rows ──▶ Kernel::multiply ──▶ Products: approximate values v(row, point), |v - s| <= error_bound, wherever they lie
//!                                   │  row_tops        largest value of each row                    ─▶ thresholds ([`Reach`])
//!                                   │  rows_reaching   what reaches them, and how many surely hit   ─▶ scores, verdict
//!                                   │  column_tops     largest value of each point over some rows   ─▶ floors
//!                                   └─ columns_reaching  who reaches them                           ─▶ what the points saw
//! ```
//!
//! Only tops and lists come back, never the products: those may lie on a card. What is listed is computed canonically by the join, so
//! a kernel changes no answer: two kernels whose bounds hold give equal bits. [`Cpu`](super::cpu::Cpu) is the kernel of this crate.

use std::fmt;
use std::ops::Range;

use half::f16;
use thiserror::Error;

use super::join_config::Needs;

/// Why a kernel gave no answer: what its device said.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct KernelError(pub String);

/// Rows to be multiplied at once.
#[derive(Clone, Copy, Debug)]
pub struct Portion<'a> {
    /// Canonical vectors.
    pub vectors: &'a [&'a [f16]],
    /// Which of them are of one shard: neighbours, all rows in order.
    pub groups: &'a [Range<usize>],
    /// What is asked of each benchmark; one of which nothing is asked is not multiplied.
    pub needs: &'a [Needs],
}

/// Largest values of a row, or somewhat less: what is listed then is more, but nothing is missed. Never more. Negative infinity where nothing was asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tops {
    /// Of its values with the points.
    pub value: f32,
    /// Of its values less the points' radii (the nearest f32, subtracted in f32).
    pub excess: f32,
}

impl Tops {
    /// The tops of a row of which nothing was asked.
    pub const NOTHING: Self = Self { value: f32::NEG_INFINITY, excess: f32::NEG_INFINITY };
}

/// What of a row is to be listed: `v >= value`, and where radii are asked for, with `m = v - radius` in f32, `m >= excess` and `-sure <= m <= sure`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reach {
    /// Least value; positive infinity where no maximum is asked for.
    pub value: f32,
    /// Least value minus radius.
    pub excess: f32,
    /// What is further above its radius is a hit for sure, what is further below for sure none. Not negative.
    pub sure: f32,
}

impl Reach {
    /// Whether a value minus its radius is listed for its own sake.
    #[must_use]
    pub fn lists_excess(&self, m: f32) -> bool {
        m >= self.excess || (m >= -self.sure && m <= self.sure)
    }

    /// Whether a value minus its radius is a hit for sure, and counted without being listed for it.
    #[must_use]
    pub fn counts(&self, m: f32) -> bool {
        m > self.sure && m < self.excess
    }

    /// Lists a point of this value and radius, or counts it as a sure hit, or passes it over.
    pub(crate) fn sort(&self, point: usize, v: f32, radius: Option<f32>, found: &mut Found) {
        let m = radius.map(|radius| v - radius);
        if v >= self.value || m.is_some_and(|m| self.lists_excess(m)) {
            found.listed.push((point as u32, v));
        }
        if m.is_some_and(|m| self.counts(m)) {
            found.sure.push(point);
        }
    }

    /// Nothing below this is listed for its excess, or counted.
    #[must_use]
    pub fn least_excess(&self) -> f32 {
        self.excess.min(-self.sure)
    }
}

/// Takes what reaches. A row may come in several parts.
pub trait RowSink {
    /// Points of a benchmark, with their values, that a row lists.
    fn listed(&mut self, benchmark: usize, row: usize, points: &[(u32, f32)]);
    /// Sure hits of a row.
    fn counted(&mut self, benchmark: usize, row: usize, hits: u32);
    /// Where the sure hits of each point by the rows of a group are to be added: u32\[points\]; `None`: nobody asks.
    fn hits(&mut self, benchmark: usize, group: usize) -> Option<&mut [u32]>;
}

/// What a row lists, and its sure hits.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub listed: Vec<(u32, f32)>,
    pub sure: Vec<usize>,
}

impl Found {
    /// Shows all of it to the sink, and forgets it.
    pub fn tell(&mut self, benchmark: usize, group: usize, row: usize, sink: &mut dyn RowSink) {
        sink.listed(benchmark, row, &self.listed);
        if !self.sure.is_empty() {
            sink.counted(benchmark, row, self.sure.len() as u32);
            if let Some(hits) = sink.hits(benchmark, group) {
                self.sure.iter().for_each(|&point| hits[point] += 1);
            }
        }
        self.listed.clear();
        self.sure.clear();
    }
}

/// Takes a benchmark, a row, and the points whose floor it reaches. A row may come in several parts.
pub type ColumnSink<'a> = dyn FnMut(usize, usize, &[u32]) + 'a;

/// Approximate values of one portion, wherever they lie.
pub trait Products {
    /// Largest values by benchmark and row.
    ///
    /// # Errors
    /// What the device said.
    fn row_tops(&mut self) -> Result<Vec<Vec<Tops>>, KernelError>;

    /// Largest distance of these values with a benchmark's points from the canonical products, where it is another one than the kernel's.
    fn error_bound(&self, benchmark: usize) -> Option<f64> {
        let _ = benchmark;
        None
    }

    /// Points that have a row's largest value and value less radius, or come near, where the kernel knows some: it saves lists to look at these first.
    fn top_points(&self, benchmark: usize, row: usize) -> (Option<u32>, Option<u32>) {
        let _ = (benchmark, row);
        (None, None)
    }

    /// Shows the sink what reaches `reach`, by benchmark and row.
    ///
    /// # Errors
    /// What the device said. The sink may have been shown a part.
    fn rows_reaching(&mut self, reach: &[Vec<Reach>], sink: &mut dyn RowSink) -> Result<(), KernelError>;

    /// Largest value of each point over some rows, ascending and at least one: f32\[points\] a benchmark. Asked where all benchmarks were multiplied.
    ///
    /// # Errors
    /// What the device said.
    fn column_tops(&mut self, rows: &[usize]) -> Result<Vec<Vec<f32>>, KernelError>;

    /// The same or somewhat less, never more, where that takes less time: what is listed then is more, but nothing is missed.
    ///
    /// # Errors
    /// What the device said.
    fn low_column_tops(&mut self, rows: &[usize]) -> Result<Vec<Vec<f32>>, KernelError> {
        self.column_tops(rows)
    }

    /// Shows the sink which points' floors (f32\[points\] a benchmark; positive infinity = nobody) the rows reach (`>=`).
    ///
    /// # Errors
    /// What the device said. The sink may have been shown a part.
    fn columns_reaching(
        &mut self,
        rows: &[usize],
        floors: &[Vec<f32>],
        sink: &mut ColumnSink<'_>,
    ) -> Result<(), KernelError>;
}

/// Who multiplies. Any number of threads may ask at once.
pub trait Kernel: fmt::Debug + Send + Sync {
    /// Largest distance of a value from the canonical product of vectors with these norms.
    fn error_bound(&self, row_norm: f64, point_norm: f64) -> f64;

    /// Where, for people: `cpu`, `cuda:0 in f16`.
    fn name(&self) -> String;

    /// Rows that it takes at once.
    fn portion_rows(&self) -> usize;

    /// Samples that are worth a call while others wait.
    fn worth_rows(&self) -> usize;

    /// Portions that are multiplied at once: further callers wait. `None`: any number.
    fn portions_at_once(&self) -> Option<usize> {
        None
    }

    /// Multiplies.
    ///
    /// # Errors
    /// What the device said.
    fn multiply<'a>(&'a self, portion: Portion<'a>) -> Result<Box<dyn Products + 'a>, KernelError>;
}
