//! A portion's products, in each of the three ways, and what is found out about the ways.

use trommel_core::wake::locked;
use trommel_kernels::int8::pays::lists_too_much;
use trommel_kernels::join::{Block, visit_reaching};

use super::{Cpu, Scratch};
use crate::benchmark::Held;
use crate::join::Needs;
use crate::kernel::{ColumnSink, Found, KernelError, Portion, Products, Reach, RowSink, Tops};
use crate::leading::Leading;
use crate::scan;

/// Tops by benchmark and row.
fn tops(portion: Portion<'_>, of: impl Fn(usize, usize) -> Option<(Tops, [Option<u32>; 2])>) -> Vec<Vec<Tops>> {
    let top = |at: usize, row: usize| of(at, row).map_or(Tops::NOTHING, |(tops, _)| tops);
    (0..portion.needs.len()).map(|at| (0..portion.vectors.len()).map(|row| top(at, row)).collect()).collect()
}

/// A portion's products in codes.
pub(super) struct Coded<'a, B: Held> {
    pub cpu: &'a Cpu<B>,
    pub portion: Portion<'a>,
    pub scratch: Scratch,
}

impl<B: Held> Products for Coded<'_, B> {
    fn row_tops(&mut self) -> Result<Vec<Vec<Tops>>, KernelError> {
        Ok(tops(self.portion, |at, row| self.scratch.coded.tops(at, row)))
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

    fn low_column_tops(&mut self, rows: &[usize]) -> Result<Vec<Vec<f32>>, KernelError> {
        Ok(self.scratch.coded.low_column_tops(rows))
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

impl<B: Held> Drop for Coded<'_, B> {
    fn drop(&mut self) {
        let rows = self.portion.vectors.len();
        let points = self.cpu.pairs(self.portion) as usize / rows.max(1);
        if lists_too_much(rows, points, self.scratch.coded.listed) {
            self.cpu.pause.begin();
        }
        locked(&self.cpu.idle).push(std::mem::take(&mut self.scratch));
    }
}

/// A portion in leading directions.
pub(super) struct Led<'a, B: Held> {
    pub cpu: &'a Cpu<B>,
    pub leading: &'a Leading,
    pub portion: Portion<'a>,
    pub scratch: Scratch,
}

/// Decisions ask nothing of columns.
fn no_columns() -> KernelError {
    KernelError("decisions alone were to be asked for".into())
}

impl<B: Held> Products for Led<'_, B> {
    fn row_tops(&mut self) -> Result<Vec<Vec<Tops>>, KernelError> {
        Ok(tops(self.portion, |at, row| self.scratch.leading.tops(at, row)))
    }

    fn error_bound(&self, benchmark: usize) -> Option<f64> {
        Some(self.scratch.leading.error_bound(benchmark))
    }

    fn top_points(&self, benchmark: usize, row: usize) -> (Option<u32>, Option<u32>) {
        self.scratch.leading.tops(benchmark, row).map_or((None, None), |(_, [nearest, exceeds])| (nearest, exceeds))
    }

    fn rows_reaching(&mut self, reach: &[Vec<Reach>], sink: &mut dyn RowSink) -> Result<(), KernelError> {
        self.leading.rows_reaching(&mut self.scratch.leading, self.portion, &self.cpu.prepared, reach, sink);
        Ok(())
    }

    fn column_tops(&mut self, _: &[usize]) -> Result<Vec<Vec<f32>>, KernelError> {
        Err(no_columns())
    }

    fn columns_reaching(&mut self, _: &[usize], _: &[Vec<f32>], _: &mut ColumnSink<'_>) -> Result<(), KernelError> {
        Err(no_columns())
    }
}

impl<B: Held> Drop for Led<'_, B> {
    fn drop(&mut self) {
        if self.leading.left_too_many(self.cpu.pairs(self.portion), self.scratch.leading.listed()) {
            self.cpu.learning.pause();
        }
        locked(&self.cpu.idle).push(std::mem::take(&mut self.scratch));
    }
}

/// A portion's products in f32.
pub(super) struct Blocks<'a, B: Held> {
    pub cpu: &'a Cpu<B>,
    pub portion: Portion<'a>,
    pub scratch: Scratch,
}

impl<B: Held> Blocks<'_, B> {
    /// The blocks of which something is asked.
    fn blocks(&self) -> impl Iterator<Item = (usize, &Block, Needs)> {
        let blocks = self.scratch.blocks.iter().zip(self.portion.needs).enumerate();
        blocks.filter(|(_, (_, needs))| needs.any()).map(|(at, (block, needs))| (at, block, *needs))
    }
}

impl<B: Held> Products for Blocks<'_, B> {
    fn row_tops(&mut self) -> Result<Vec<Vec<Tops>>, KernelError> {
        let rows = self.portion.vectors.len();
        let mut tops = vec![vec![Tops::NOTHING; rows]; self.portion.needs.len()];
        for (at, block, _) in self.blocks() {
            tops[at] = (0..rows).map(|row| scan::tops(block, row)).collect();
        }
        Ok(tops)
    }

    fn rows_reaching(&mut self, reach: &[Vec<Reach>], sink: &mut dyn RowSink) -> Result<(), KernelError> {
        let mut found = Found::default();
        for (at, block, needs) in self.blocks() {
            let radii = self.cpu.prepared[at].radii.as_deref().filter(|_| needs.radii);
            for (group, rows) in self.portion.groups.iter().enumerate() {
                for row in rows.clone() {
                    scan::reaching(block, row, radii, reach[at][row], &mut found);
                    found.tell(at, group, row, sink);
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

impl<B: Held> Drop for Blocks<'_, B> {
    fn drop(&mut self) {
        locked(&self.cpu.idle).push(std::mem::take(&mut self.scratch));
    }
}
