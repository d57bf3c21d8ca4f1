//! A portion multiplied in 8-bit codes: see `trommel_kernels::int8`.
//!
//! Values are coarse, so the join sifts what they list by f32 products before it computes canonically ([`scan`](super::scan), 4).

use trommel_kernels::int8::{Instructions, Points, Rows, Scores, fits};
use trommel_kernels::join::CHUNK;

use super::benchmark::Held;
use super::join_config::Needs;
use super::kernel::{Found, Portion, Reach, RowSink, Tops};
use super::scan::Prepared;

/// Memory of one call.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    rows: Rows,
    /// One a benchmark.
    blocks: Vec<Block>,
    /// Pairs that all calls have listed.
    pub(crate) listed: u64,
}

/// One benchmark's values.
#[derive(Debug, Default)]
struct Block {
    scores: Scores,
    bound: f64,
    /// By row, where something is asked.
    tops: Vec<(Tops, [Option<u32>; 2])>,
}

/// Codes of all benchmarks.
#[derive(Debug)]
pub(crate) struct Codes {
    points: Vec<Points>,
}

impl Codes {
    /// Whether they can be made.
    pub fn fit(benchmarks: &[impl Held]) -> bool {
        benchmarks.first().is_some_and(|benchmark| fits(benchmark.dim))
    }

    /// Bytes that they take.
    pub fn bytes(benchmarks: &[impl Held]) -> u64 {
        benchmarks.iter().map(|benchmark| Points::bytes(benchmark.points(), benchmark.dim) as u64).sum()
    }

    pub fn new<B: Held>(benchmarks: &[B], with: Instructions) -> Self {
        let of = |it: &B| Points::new(&it.vectors, it.dim, it.radii.as_deref(), with);
        Self { points: benchmarks.iter().map(of).collect() }
    }

    /// Bytes of a portion for one row.
    pub fn row_bytes(benchmarks: &[impl Held]) -> usize {
        benchmarks.iter().map(|benchmark| Scores::row_bytes(benchmark.points())).sum()
    }

    pub fn multiply(&self, portion: Portion<'_>, threads: usize, scratch: &mut Scratch) {
        scratch.blocks.resize_with(self.points.len(), Block::default);
        scratch.listed = 0;
        let Some(first) = self.points.first() else { return };
        scratch.rows.code(portion.vectors, first);
        for ((points, block), needs) in self.points.iter().zip(&mut scratch.blocks).zip(portion.needs) {
            block.tops.clear();
            if !needs.any() {
                continue;
            }
            block.bound = scratch.rows.error_bound(points);
            block.scores.fill(&mut scratch.rows, points, needs.radii, threads);
            let excess = block.scores.excess_tops(points);
            let tops = block.scores.tops().into_iter().enumerate().map(|(row, top)| {
                let over = excess.get(row);
                let tops = Tops { value: top.value, excess: over.map_or(f32::NEG_INFINITY, |over| over.value) };
                (tops, [Some(top.point), over.map(|over| over.point)])
            });
            block.tops.extend(tops);
        }
    }
}

impl Scratch {
    pub fn error_bound(&self, benchmark: usize) -> f64 {
        self.blocks[benchmark].bound
    }

    pub fn tops(&self, benchmark: usize, row: usize) -> Option<(Tops, [Option<u32>; 2])> {
        self.blocks[benchmark].tops.get(row).copied()
    }

    pub fn rows_reaching(
        &mut self,
        portion: Portion<'_>,
        prepared: &[Prepared],
        reach: &[Vec<Reach>],
        sink: &mut dyn RowSink,
    ) {
        let mut found = Found::default();
        for (at, block) in self.blocks.iter().enumerate().filter(|(at, _)| portion.needs[*at].any()) {
            let radii = prepared[at].radii.as_deref().filter(|_| portion.needs[at].radii);
            for (group, rows) in portion.groups.iter().enumerate() {
                for row in rows.clone() {
                    let reach = reach[at][row];
                    for (chunk, values) in block.scores.chunks_reaching(row, reach.value, reach.least_excess()) {
                        let first = chunk * CHUNK;
                        for (lane, &value) in values.iter().enumerate().take(block.scores.points() - first) {
                            let point = first + lane;
                            reach.sort(point, Scores::value(value), radii.map(|radii| radii[point]), &mut found);
                        }
                    }
                    self.listed += found.listed.len() as u64;
                    found.tell(at, group, row, sink);
                }
            }
        }
    }

    pub fn column_tops(&self, rows: &[usize]) -> Vec<Vec<f32>> {
        self.blocks.iter().map(|block| block.scores.column_tops(rows)).collect()
    }

    pub fn low_column_tops(&self, rows: &[usize]) -> Vec<Vec<f32>> {
        self.blocks.iter().map(|block| block.scores.low_column_tops(rows)).collect()
    }

    pub fn columns_reaching(
        &mut self,
        needs: &[Needs],
        rows: &[usize],
        floors: &[Vec<f32>],
        mut found: impl FnMut(usize, usize, &[u32]),
    ) {
        let mut listed = 0;
        for (at, block) in self.blocks.iter().enumerate().filter(|(at, _)| needs[*at].any()) {
            block.scores.columns_reaching(rows, &floors[at], |row, points| {
                listed += points.len() as u64;
                found(at, row, points);
            });
        }
        self.listed += listed;
    }
}
