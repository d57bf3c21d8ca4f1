//! A portion looked at in the leading directions of the benchmarks alone, where the decision asks for nothing that the rest could change: see `trommel_kernels::int8`.
//!
//! For each benchmark either radii or the maximum is asked for. What lies below the radius, and below the largest value less radius known of the row, is left after a few of its elements;
//! so is, where the maximum is asked for, what lies below the largest. What is left over is sifted by f32 products, as after all [codes](super::coded).
//!
//! **Cost.** A pair costs as many products as there are directions, one that is left over as much as some tens of thousands of them ([`LEFT_OVER`]). How many directions make
//! the sum least, and whether it is less than all elements' then, is estimated from the first rows and some points when directions are learned. The answers do not depend on it.

use std::sync::Arc;

use half::f16;
use trommel_kernels::dot::to_f32;
use trommel_kernels::int8::{Ceilings, Directions, Instructions, LeadingPoints, LeadingRows, MOST_WIDTH, WIDTH_STEP};
use trommel_kernels::join::{Block, Tiling};

use super::benchmark::{Benchmark, Held};
use super::join_config::Needs;
use super::kernel::{Found, Portion, Reach, RowSink, Tops};
use super::scan::{self, Prepared};

/// Points that directions are learned from.
const POINTS_LEARNED_FROM: usize = 2048;

/// Rows that the number of directions is chosen by.
const ROWS_LOOKED_AT: usize = 32;

/// Rows whose products with all points are held at once while it is chosen.
const ROWS_AT_ONCE: usize = 8;

/// What a pair costs beside its directions, in products of codes: terms, comparisons.
const BESIDE: usize = 64;

/// What a pair costs in codes of all elements beside these: values written and read.
const BESIDE_ALL: usize = 192;

/// What a pair that is left over costs, in products of codes: its chunk looked at again, a vector brought near, a call; and for each of its elements.
const LEFT_OVER: (usize, usize) = (10_000, 50);

/// Numbers of directions that are tried.
const WIDTHS: [usize; 9] = [32, 48, 64, 96, 128, 160, 192, 224, MOST_TRIED];

/// Largest number of directions that is tried.
const MOST_TRIED: usize = 256;

/// The benchmarks' points in their leading directions.
#[derive(Debug)]
pub(crate) struct Leading {
    /// One a benchmark of which something is asked.
    points: Vec<Option<LeadingPoints>>,
    needs: Vec<Needs>,
    dim: usize,
    width: usize,
}

/// Memory of one call.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    rows: LeadingRows,
    /// One a benchmark.
    blocks: Vec<Scored>,
    /// Pairs listed so far of the portion.
    listed: u64,
}

/// One benchmark's ceilings.
#[derive(Debug, Default)]
struct Scored {
    ceilings: Ceilings,
    /// By row, where something is asked.
    tops: Vec<(Tops, [Option<u32>; 2])>,
}

/// Most directions of vectors of so many elements, or none where there are too few.
fn most_width(dim: usize) -> Option<usize> {
    Some((dim / 2).min(MOST_WIDTH) / WIDTH_STEP * WIDTH_STEP).filter(|&width| width > 0)
}

/// Every so many-th of `all`, so that there are `most` at most.
fn some<T>(all: impl ExactSizeIterator<Item = T>, most: usize) -> impl Iterator<Item = T> {
    let step = all.len().div_ceil(most.max(1)).max(1);
    all.step_by(step)
}

/// Vectors as f32\[n, dim\].
fn wide<'v>(vectors: impl Iterator<Item = &'v [f16]>, dim: usize) -> Vec<f32> {
    let mut all = Vec::new();
    for vector in vectors {
        let from = all.len();
        all.resize(from + dim, 0.0);
        to_f32(vector, &mut all[from..]);
    }
    all
}

/// Whether one threshold a point says all that is asked of it.
fn asks_for_one(needs: &[Needs]) -> bool {
    needs.iter().any(|needs| needs.any()) && needs.iter().all(|needs| !(needs.maximum && needs.radii))
}

/// The benchmarks of which something is asked, with that.
fn asked<'b>(benchmarks: &'b [impl Held], needs: &'b [Needs]) -> impl Iterator<Item = (&'b Benchmark, Needs)> + Clone {
    benchmarks.iter().map(|it| &**it).zip(needs.iter().copied()).filter(|(_, needs)| needs.any())
}

impl Leading {
    /// Learns directions, as many as pay for rows such as these, or `width` of them at most; `None` if none pay.
    pub fn learn<B: Held>(
        benchmarks: &[B],
        needs: &[Needs],
        rows: &[&[f16]],
        with: Instructions,
        width: Option<usize>,
    ) -> Option<Self> {
        let dim = benchmarks.first()?.dim;
        let most = most_width(dim)?;
        if !asks_for_one(needs) || rows.is_empty() {
            return None;
        }
        let all = asked(benchmarks, needs).map(|(benchmark, _)| benchmark.points()).sum::<usize>();
        let sample = |benchmark: &Benchmark| {
            let most = (POINTS_LEARNED_FROM * benchmark.points()).div_ceil(all.max(1));
            wide(some(benchmark.vectors.chunks_exact(dim), most), dim)
        };
        let sampled: Vec<f32> = asked(benchmarks, needs).flat_map(|(benchmark, _)| sample(benchmark)).collect();
        let tried = width.unwrap_or(MOST_TRIED).clamp(WIDTH_STEP, most) / WIDTH_STEP * WIDTH_STEP;
        let learned = Directions::of(&sampled, dim, tried);
        let width = match width {
            Some(_) => learned.width(),
            None => {
                let rows = wide(some(rows.iter().copied(), ROWS_LOOKED_AT), dim);
                best_width(&learned, benchmarks, needs, &rows, with)?
            }
        };
        let directions = Arc::new(learned.first(width)?);
        let points = |(benchmark, needs): (&B, &Needs)| {
            let less = benchmark.radii.as_deref().filter(|_| needs.radii);
            needs.any().then(|| LeadingPoints::new(&benchmark.vectors, &directions, less, with))
        };
        let points = benchmarks.iter().zip(needs).map(points).collect();
        Some(Self { points, needs: needs.to_vec(), dim, width })
    }

    /// Most bytes that it takes.
    pub fn most_bytes(benchmarks: &[impl Held]) -> u64 {
        let width = benchmarks.first().and_then(|benchmark| most_width(benchmark.dim)).unwrap_or(0).min(MOST_TRIED);
        benchmarks.iter().map(|benchmark| LeadingPoints::bytes(benchmark.points(), width) as u64).sum()
    }

    /// Bytes that learning takes at most while it lasts: vectors that it looks at, as f32 and across, their moment, directions, and some rows' products with all points.
    pub fn learning_bytes(benchmarks: &[impl Held]) -> u64 {
        let dim = benchmarks.first().map_or(0, |benchmark| benchmark.dim);
        let points = benchmarks.iter().map(|benchmark| benchmark.points()).max().unwrap_or(0);
        let learned = 3 * POINTS_LEARNED_FROM * dim + dim * dim + 2 * MOST_TRIED * dim;
        4 * (learned + (ROWS_AT_ONCE + 1) * points) as u64
    }

    /// Most bytes of a portion for one row.
    pub fn row_bytes(benchmarks: &[impl Held]) -> usize {
        let ceilings: usize = benchmarks.iter().map(|benchmark| Ceilings::row_bytes(benchmark.points())).sum();
        ceilings + LeadingRows::row_bytes(MOST_TRIED)
    }

    /// How many directions are looked at.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Whether it was made for what is asked.
    pub fn answers(&self, needs: &[Needs]) -> bool {
        self.needs == needs
    }

    /// Whether so many pairs were left over of all of a portion that all elements' codes would have taken less time.
    pub fn left_too_many(&self, pairs: u64, listed: u64) -> bool {
        let (dim, width) = (self.dim as u64, self.width as u64);
        let saved = (dim + BESIDE_ALL as u64).saturating_sub(width + BESIDE as u64);
        listed * (LEFT_OVER.0 as u64 + LEFT_OVER.1 as u64 * dim) > pairs * saved
    }

    pub fn multiply(&self, portion: Portion<'_>, threads: usize, scratch: &mut Scratch) {
        scratch.blocks.resize_with(self.points.len(), Scored::default);
        scratch.listed = 0;
        let Some(first) = self.points.iter().flatten().next() else { return };
        scratch.rows.code(portion.vectors, first);
        for ((points, block), needs) in self.points.iter().zip(&mut scratch.blocks).zip(portion.needs) {
            let Scored { ceilings, tops } = block;
            tops.clear();
            let Some(points) = points else { continue };
            ceilings.fill(&scratch.rows, points, threads);
            tops.extend(ceilings.tops(&scratch.rows, points).into_iter().map(|top| {
                let of = |asked: bool| if asked { (top.value, Some(top.point)) } else { (f32::NEG_INFINITY, None) };
                let ((value, nearest), (excess, exceeds)) = (of(needs.maximum), of(needs.radii));
                (Tops { value, excess }, [nearest, exceeds])
            }));
        }
    }

    pub fn rows_reaching(
        &self,
        scratch: &mut Scratch,
        portion: Portion<'_>,
        prepared: &[Prepared],
        reach: &[Vec<Reach>],
        sink: &mut dyn RowSink,
    ) {
        let Scratch { rows, blocks, listed } = scratch;
        let mut found = Found::default();
        for (at, (points, Scored { ceilings, .. })) in self.points.iter().zip(blocks).enumerate() {
            let Some(points) = points else { continue };
            let radii = prepared[at].radii.as_deref().filter(|_| portion.needs[at].radii);
            let least = |reach: &Reach| if radii.is_some() { reach.least_excess() } else { reach.value };
            let least: Vec<f32> = reach[at].iter().map(least).collect();
            ceilings.reaching(rows, points, &least, |row, values| {
                for &(point, v) in values {
                    reach[at][row].sort(point as usize, v, radii.map(|radii| radii[point as usize]), &mut found);
                }
                *listed += found.listed.len() as u64;
                found.tell(at, portion.groups.partition_point(|group| group.end <= row), row, sink);
            });
        }
    }
}

impl Scratch {
    pub fn error_bound(&self, benchmark: usize) -> f64 {
        self.blocks[benchmark].ceilings.error_bound()
    }

    pub fn tops(&self, benchmark: usize, row: usize) -> Option<(Tops, [Option<u32>; 2])> {
        self.blocks[benchmark].tops.get(row).copied()
    }

    pub fn listed(&self) -> u64 {
        self.listed
    }
}

/// What a value less its radius must reach to matter to the row (f32\[n, dim\]): the largest one, or 0 if that is lower; where the maximum is asked for, the largest value.
fn thresholds(benchmark: &Benchmark, needs: Needs, rows: &[f32]) -> Vec<f32> {
    let narrow = |radii: &[f64]| -> Vec<f32> { radii.iter().map(|&radius| radius as f32).collect() };
    let radii = benchmark.radii.as_deref().filter(|_| needs.radii).map(narrow);
    let (mut block, mut thresholds) = (Block::default(), Vec::new());
    for rows in rows.chunks(ROWS_AT_ONCE * benchmark.dim) {
        block.fill(rows, &benchmark.vectors, benchmark.dim, radii.as_deref(), Tiling::default());
        thresholds.extend((0..block.rows()).map(|row| {
            let Tops { value, excess } = scan::tops(&block, row);
            if needs.radii { excess.min(0.0) } else { value }
        }));
    }
    thresholds
}

/// The number of directions with which a pair costs least, if that is less than with all elements, on the average of some rows (f32\[n, dim\]) and points.
fn best_width(
    learned: &Directions,
    benchmarks: &[impl Held],
    needs: &[Needs],
    rows: &[f32],
    with: Instructions,
) -> Option<usize> {
    let (dim, all) = (learned.dim(), asked(benchmarks, needs).map(|it| it.0.points()).sum::<usize>());
    let widths: Vec<usize> = WIDTHS.into_iter().filter(|&width| width <= learned.width()).collect();
    let mut left = vec![0.0; widths.len()];
    for (benchmark, needs) in asked(benchmarks, needs) {
        let points = wide(some(benchmark.vectors.chunks_exact(dim), POINTS_LEARNED_FROM), dim);
        let radii = benchmark.radii.as_deref().filter(|_| needs.radii);
        let less: Option<Vec<f32>> =
            radii.map(|radii| some(radii.iter(), POINTS_LEARNED_FROM).map(|&radius| radius as f32).collect());
        let thresholds = thresholds(benchmark, needs, rows);
        let shares = learned.shares(rows, &points, less.as_deref(), &thresholds, with.typical_error(), &widths);
        let part = benchmark.points() as f64 / all as f64;
        left.iter_mut().zip(shares).for_each(|(left, share)| *left += part * share);
    }
    let left_over = (LEFT_OVER.0 + LEFT_OVER.1 * dim) as f64;
    let cost = |(&width, left): (&usize, f64)| ((width + BESIDE) as f64 + left * left_over, width);
    let (least, width) = widths.iter().zip(left).map(cost).min_by(|a, b| a.0.total_cmp(&b.0))?;
    (least < 0.9 * (dim + BESIDE_ALL) as f64).then_some(width)
}
