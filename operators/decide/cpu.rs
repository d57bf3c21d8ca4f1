//! The kernel of the processor: blocks of f32 products, one a benchmark, in this process's memory.

use std::sync::{Arc, Mutex};

use trommel_core::wake::locked;
use trommel_kernels::dot::to_f32;
use trommel_kernels::join::{Block, Tiling, visit_reaching};

use super::benchmark::Benchmark;
use super::join::{JoinConfig, Needs};
use super::kernel::{ColumnSink, Kernel, KernelError, Portion, Products, Reach, RowSink, Tops};
use super::scan::{self, Prepared};

/// Most rows of a portion.
const MOST_ROWS: usize = 256;

/// Samples that are worth a call while others wait.
const WORTH_ROWS: usize = 32;

/// Memory of one call.
#[derive(Debug, Default)]
struct Scratch {
    wide: Vec<f32>,
    blocks: Vec<Block>,
}

/// Multiplies on the calling thread.
#[derive(Debug)]
pub struct Cpu {
    benchmarks: Vec<Arc<Benchmark>>,
    prepared: Arc<[Prepared]>,
    config: JoinConfig,
    idle: Mutex<Vec<Scratch>>,
}

impl Cpu {
    /// A kernel for benchmarks of one dimension.
    #[must_use]
    pub fn new(benchmarks: Vec<Arc<Benchmark>>, prepared: Arc<[Prepared]>, config: JoinConfig) -> Self {
        Self { benchmarks, prepared, config, idle: Mutex::default() }
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
        let (points, dim, rows) = (self.points(), self.dim(), self.portion_rows());
        let tile = (self.config.tile_bytes as usize).max(4 * 64 * dim) * self.benchmarks.len();
        (rows * (4 * points + points / 8 + 4 * dim) + tile) as u64
    }
}

impl Kernel for Cpu {
    fn error_bound(&self, row_norm: f64, point_norm: f64) -> f64 {
        scan::f32_bound(self.dim(), row_norm, point_norm)
    }

    fn name(&self) -> String {
        "cpu".into()
    }

    /// As many as [`JoinConfig::block_bytes`] allows.
    fn portion_rows(&self) -> usize {
        // Products, and two chunk maxima for each 64 of them.
        let row_bytes = (4 * self.points() + self.points() / 8 + 16 * self.benchmarks.len()).max(1);
        usize::try_from(self.config.block_bytes / row_bytes as u64).unwrap_or(MOST_ROWS).clamp(1, MOST_ROWS)
    }

    fn worth_rows(&self) -> usize {
        WORTH_ROWS
    }

    fn multiply<'a>(&'a self, portion: Portion<'a>) -> Result<Box<dyn Products + 'a>, KernelError> {
        let mut scratch = locked(&self.idle).pop().unwrap_or_default();
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

/// A portion's products.
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
        let nothing = Tops { value: f32::NEG_INFINITY, excess: f32::NEG_INFINITY };
        let rows = self.portion.vectors.len();
        let mut tops = vec![vec![nothing; rows]; self.portion.needs.len()];
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
