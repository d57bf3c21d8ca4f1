//! The kernel of the processor: blocks of products, one a benchmark, in this process's memory.
//!
//! Where the processor multiplies 8-bit integers faster than f32 and there are points enough, it does that (`coded`); the answers are the same. A portion that
//! lists too much that way is followed by some in f32 before it is tried again.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use trommel_core::wake::locked;
use trommel_kernels::dot::to_f32;
use trommel_kernels::int8::Instructions;
use trommel_kernels::join::{Block, Tiling, visit_reaching};

use super::benchmark::Benchmark;
use super::coded::{self, Codes};
use super::join::{JoinConfig, Needs};
use super::kernel::{ColumnSink, Kernel, KernelError, Portion, Products, Reach, RowSink, Tops};
use super::scan::{self, Prepared};

/// Most rows of a portion.
const MOST_ROWS: usize = 256;

/// Most rows of a portion in codes: points are read once a portion, and there is less to read of a row.
const MOST_CODED_ROWS: usize = 512;

/// Samples that are worth a call while others wait.
const WORTH_ROWS: usize = 32;

/// Fewest points for which rows are coded: below it coding takes longer than what it saves.
const FEWEST_CODED_POINTS: usize = 1024;

/// Codes do not pay where of so many pairs more than one is listed: one takes about as long as a tenth of so many products.
const PAIRS_A_LISTED: usize = 24;

/// A point may list so many rows beside: each has a largest one, whoever multiplies.
const FREE_LISTED: usize = 4;

/// Portions in f32 after one that listed too much.
const PORTIONS_APART: u32 = 63;

/// Memory of one call.
#[derive(Debug, Default)]
struct Scratch {
    wide: Vec<f32>,
    blocks: Vec<Block>,
    coded: coded::Scratch,
}

/// Multiplies on the calling thread.
#[derive(Debug)]
pub struct Cpu {
    benchmarks: Vec<Arc<Benchmark>>,
    prepared: Arc<[Prepared]>,
    config: JoinConfig,
    idle: Mutex<Vec<Scratch>>,
    /// What multiplies codes, where that pays.
    with: Option<Instructions>,
    codes: OnceLock<Codes>,
    /// Portions to be multiplied in f32 before codes are tried again.
    apart: AtomicU32,
}

impl Cpu {
    /// A kernel for benchmarks of one dimension.
    #[must_use]
    pub fn new(benchmarks: Vec<Arc<Benchmark>>, prepared: Arc<[Prepared]>, config: JoinConfig) -> Self {
        let points: usize = benchmarks.iter().map(|benchmark| benchmark.points()).sum();
        let pays = points >= FEWEST_CODED_POINTS && Codes::fit(&benchmarks);
        let with = Instructions::fast().filter(|_| pays);
        let (idle, codes, apart) = (Mutex::default(), OnceLock::new(), AtomicU32::new(0));
        Self { benchmarks, prepared, config, idle, with, codes, apart }
    }

    /// The same that multiplies codes with these instructions, which the processor must have, wherever codes can be made; or f32.
    #[must_use]
    pub fn with_codes(self, with: Option<Instructions>) -> Self {
        let with = with.filter(|_| Codes::fit(&self.benchmarks));
        Self { with, codes: OnceLock::new(), ..self }
    }

    /// What multiplies the next portion's codes, where it is not to be f32.
    fn coding(&self) -> Option<Instructions> {
        self.with.filter(|_| self.apart.load(Ordering::Relaxed) == 0)
    }

    /// Rows of a portion in f32, or in codes.
    fn rows(&self, coded: bool) -> usize {
        let (row_bytes, most) = if coded {
            (Codes::row_bytes(&self.benchmarks), MOST_CODED_ROWS)
        } else {
            // Products, and two chunk maxima for each 64 of them.
            (4 * self.points() + self.points() / 8 + 16 * self.benchmarks.len(), MOST_ROWS)
        };
        usize::try_from(self.config.block_bytes / row_bytes.max(1) as u64).unwrap_or(most).clamp(1, most)
    }

    /// Bytes that it holds whoever calls.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.with.map_or(0, |_| Codes::bytes(&self.benchmarks))
    }

    fn dim(&self) -> usize {
        self.benchmarks.first().map_or(0, |benchmark| benchmark.dim)
    }

    fn points(&self) -> usize {
        self.benchmarks.iter().map(|benchmark| benchmark.points()).sum()
    }

    /// Bytes that one call holds at most beside its rows.
    #[must_use]
    pub fn call_bytes(&self) -> u64 {
        let (points, dim, rows) = (self.points(), self.dim(), self.rows(false));
        let tile = (self.config.tile_bytes as usize).max(4 * 64 * dim) * self.benchmarks.len();
        let single = rows * (4 * points + points / 8 + 4 * dim) + tile;
        let coded = self.rows(true) * (Codes::row_bytes(&self.benchmarks) + dim);
        // And the maxima of all points as they were before.
        (single.max(self.with.map_or(0, |_| coded)) + 32 * points) as u64
    }
}

impl Kernel for Cpu {
    fn error_bound(&self, row_norm: f64, point_norm: f64) -> f64 {
        scan::f32_bound(self.dim(), row_norm, point_norm)
    }

    fn name(&self) -> String {
        self.with.map_or_else(|| "cpu".into(), |with| format!("cpu in int8 ({})", with.name()))
    }

    /// As many as [`JoinConfig::block_bytes`] allows.
    fn portion_rows(&self) -> usize {
        self.rows(self.coding().is_some())
    }

    fn worth_rows(&self) -> usize {
        WORTH_ROWS
    }

    fn multiply<'a>(&'a self, portion: Portion<'a>) -> Result<Box<dyn Products + 'a>, KernelError> {
        let mut scratch = locked(&self.idle).pop().unwrap_or_default();
        // Who was given rows enough for codes gets codes, even if others have found meanwhile that they do not pay.
        if let Some(with) = self.with.filter(|_| self.coding().is_some() || portion.vectors.len() > self.rows(false)) {
            // What the other way has held is given back, so that a call holds no more than the larger of the two.
            (scratch.wide, scratch.blocks) = (Vec::new(), Vec::new());
            let codes = self.codes.get_or_init(|| Codes::new(&self.benchmarks, with));
            codes.multiply(portion, self.config.threads, &mut scratch.coded);
            return Ok(Box::new(Coded { cpu: self, portion, scratch }));
        }
        scratch.coded = coded::Scratch::default();
        let _none_is_left = self.apart.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        let dim = self.dim();
        scratch.wide.resize(portion.vectors.len() * dim, 0.0);
        for (vector, wide) in portion.vectors.iter().zip(scratch.wide.chunks_exact_mut(dim.max(1))) {
            to_f32(vector, wide);
        }
        scratch.blocks.resize_with(self.benchmarks.len(), Block::default);
        let tiling = Tiling { tile_bytes: self.config.tile_bytes as usize, threads: self.config.threads };
        for ((benchmark, prepared), (block, needs)) in
            self.benchmarks.iter().zip(&*self.prepared).zip(scratch.blocks.iter_mut().zip(portion.needs))
        {
            if needs.any() {
                let radii = prepared.radii.as_deref().filter(|_| needs.radii);
                block.fill(&scratch.wide, &benchmark.vectors, dim, radii, tiling);
            }
        }
        Ok(Box::new(Blocks { cpu: self, portion, scratch }))
    }
}

/// A portion's products in codes.
struct Coded<'a> {
    cpu: &'a Cpu,
    portion: Portion<'a>,
    scratch: Scratch,
}

impl Products for Coded<'_> {
    fn row_tops(&mut self) -> Result<Vec<Vec<Tops>>, KernelError> {
        let top = |at: usize, row: usize| self.scratch.coded.tops(at, row).map_or(Tops::NOTHING, |(tops, _)| tops);
        let rows = self.portion.vectors.len();
        Ok((0..self.portion.needs.len()).map(|at| (0..rows).map(|row| top(at, row)).collect()).collect())
    }

    fn error_bound(&self, benchmark: usize) -> Option<f64> {
        Some(self.scratch.coded.error_bound(benchmark))
    }

    fn top_points(&self, benchmark: usize, row: usize) -> (Option<u32>, Option<u32>) {
        self.scratch.coded.tops(benchmark, row).map_or((None, None), |(_, [nearest, exceeds])| (nearest, exceeds))
    }

    fn rows_reaching(&mut self, reach: &[Vec<Reach>], sink: &mut dyn RowSink) -> Result<(), KernelError> {
        self.scratch.coded.rows_reaching(self.portion, &self.cpu.prepared, reach, sink);
        Ok(())
    }

    fn column_tops(&mut self, rows: &[usize]) -> Result<Vec<Vec<f32>>, KernelError> {
        Ok(self.scratch.coded.column_tops(rows))
    }

    fn columns_reaching(
        &mut self,
        rows: &[usize],
        floors: &[Vec<f32>],
        sink: &mut ColumnSink<'_>,
    ) -> Result<(), KernelError> {
        self.scratch.coded.columns_reaching(self.portion.needs, rows, floors, sink);
        Ok(())
    }
}

impl Drop for Coded<'_> {
    fn drop(&mut self) {
        let points = self.cpu.benchmarks.iter().zip(self.portion.needs).filter(|(_, needs)| needs.any());
        let points: usize = points.map(|(benchmark, _)| benchmark.points()).sum();
        let most = points * (self.portion.vectors.len() + FREE_LISTED * PAIRS_A_LISTED) / PAIRS_A_LISTED;
        if self.scratch.coded.listed > most as u64 {
            self.cpu.apart.store(PORTIONS_APART, Ordering::Relaxed);
        }
        locked(&self.cpu.idle).push(std::mem::take(&mut self.scratch));
    }
}

/// A portion's products in f32.
struct Blocks<'a> {
    cpu: &'a Cpu,
    portion: Portion<'a>,
    scratch: Scratch,
}

impl Blocks<'_> {
    /// The blocks of which something is asked.
    fn blocks(&self) -> impl Iterator<Item = (usize, &Block, Needs)> {
        let blocks = self.scratch.blocks.iter().zip(self.portion.needs).enumerate();
        blocks.filter(|(_, (_, needs))| needs.any()).map(|(at, (block, needs))| (at, block, *needs))
    }
}

impl Products for Blocks<'_> {
    fn row_tops(&mut self) -> Result<Vec<Vec<Tops>>, KernelError> {
        let rows = self.portion.vectors.len();
        let mut tops = vec![vec![Tops::NOTHING; rows]; self.portion.needs.len()];
        for (at, block, _) in self.blocks() {
            tops[at] = (0..rows).map(|row| scan::tops(block, row)).collect();
        }
        Ok(tops)
    }

    fn rows_reaching(&mut self, reach: &[Vec<Reach>], sink: &mut dyn RowSink) -> Result<(), KernelError> {
        let (mut listed, mut sure) = (Vec::new(), Vec::new());
        for (at, block, needs) in self.blocks() {
            let radii = self.cpu.prepared[at].radii.as_deref().filter(|_| needs.radii);
            for (group, rows) in self.portion.groups.iter().enumerate() {
                for row in rows.clone() {
                    listed.clear();
                    sure.clear();
                    scan::reaching(block, row, radii, reach[at][row], &mut listed, |point| sure.push(point));
                    sink.listed(at, row, &listed);
                    if !sure.is_empty() {
                        sink.counted(at, row, sure.len() as u32);
                        let hits = sink.hits(at, group);
                        sure.iter().for_each(|&point| hits[point] += 1);
                    }
                }
            }
        }
        Ok(())
    }

    fn column_tops(&mut self, rows: &[usize]) -> Result<Vec<Vec<f32>>, KernelError> {
        let tops = |block: &Block| {
            let mut tops = vec![f32::NEG_INFINITY; block.points()];
            block.raise_columns(rows.iter().copied(), 0, &mut tops);
            tops
        };
        Ok(self.scratch.blocks.iter().map(tops).collect())
    }

    fn columns_reaching(
        &mut self,
        rows: &[usize],
        floors: &[Vec<f32>],
        sink: &mut ColumnSink<'_>,
    ) -> Result<(), KernelError> {
        let mut found = Vec::new();
        for (at, block, _) in self.blocks() {
            for &row in rows {
                found.clear();
                visit_reaching(block.row(row), &floors[at], |point| found.push(point as u32));
                sink(at, row, &found);
            }
        }
        Ok(())
    }
}

impl Drop for Blocks<'_> {
    fn drop(&mut self) {
        locked(&self.cpu.idle).push(std::mem::take(&mut self.scratch));
    }
}
