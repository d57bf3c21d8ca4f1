//! Who lies above a similarity of whom: all pairs of a set, each row with the rows before it; or all rows of a set with all of another.
//!
//! ```text
//!            points ──▶
//!  rows   ┌────┐
//!   │     │▒▒▒▒└────┐        rows f16[some thousand, dim] stay; points f16 stream by, block by block; each thread multiplies
//!   ▼     │▒▒▒▒▒▒▒▒▒└────┐   up to 256 rows with a block, and looks at what reaches the threshold less the bound (`products.rs`)
//!         └──────────────┘
//! ```
//!
//! A row is *suppressed* iff its canonical similarity to an earlier row is strictly above the threshold. As the paper has it a suppressed row
//! still suppresses later ones; `greedy` asks only earlier rows that are not suppressed. The row that suppresses it is the most similar of those;
//! of equal ones the earliest. Cost: `n (n - 1) / 2` products of `2 dim` operations. Memory beside [`Machine::memory_bytes`]: 24 bytes a
//! suppressed row, and a byte a row where greedy.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use half::f16;
use rayon::iter::{IndexedParallelIterator, IntoParallelRefMutIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;
use trommel_kernels::dot::dot;
use trommel_kernels::int8::pays::FEWEST_POINTS;
use trommel_kernels::int8::{self, Instructions};
use trommel_kernels::join::{CHUNK, Tiling};

use crate::DedupError;
use crate::known::{Best, Row, WORD, raise};
pub use crate::products::MOST_NORM;
use crate::products::{Pair, Products, Scratch};
use crate::vectors::Vectors;
use crate::work::Work;

/// Rows of one multiplication.
pub(crate) const PORTION_ROWS: usize = 256;

/// What suppresses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// A cosine; what lies strictly above it suppresses.
    pub above: f64,
    /// Whether only rows suppress that are not suppressed themselves.
    pub greedy: bool,
}

/// A scan's share of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Threads; the calling thread alone, or those of the rayon pool that it is in.
    pub threads: usize,
    /// Bytes for blocks of rows, points and products. Below the least that works, the least is taken: see [`Machine::least_bytes`].
    pub memory_bytes: u64,
}

impl Machine {
    /// Least memory of a scan of vectors of `dim` elements.
    #[must_use]
    pub fn least_bytes(dim: usize, threads: usize) -> u64 {
        Sizes { rows: CHUNK, points: CHUNK }.bytes(dim, threads)
    }
}

/// A row that is suppressed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Suppressed {
    /// Number of the suppressed row, from 0.
    pub row: u32,
    /// The row that suppresses it; of a scan against another set, the other's.
    pub by: u32,
    /// Their canonical cosine.
    pub similarity: f64,
}

/// What a scan has found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scanned {
    /// Suppressed rows, ascending.
    pub suppressed: Vec<Suppressed>,
    /// Pairs above the threshold; where greedy, those with an earlier row that stays.
    pub pairs_above: u64,
}

/// Rows and points of a block.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    rows: usize,
    points: usize,
}

impl Sizes {
    fn bytes(self, dim: usize, threads: usize) -> u64 {
        let some = self.rows.min(PORTION_ROWS);
        let portion = some * (5 * self.points + 4 * dim) + Tiling::default().tile_bytes.max(4 * CHUNK * dim);
        let open = 8 * self.rows * self.rows.div_ceil(WORD);
        // Vectors and codes, and what codes are made in.
        let rows = self.rows * (2 * dim + int8::Rows::row_bytes(dim));
        let points = 2 * dim * self.points + int8::Points::bytes(self.points, dim);
        let coding = (self.rows.div_ceil(PORTION_ROWS) + threads) * 4 * int8::LANES * dim;
        (rows + open + points + coding + threads * portion) as u64
    }

    fn of(dim: usize, rows: usize, points: usize, machine: Machine) -> Self {
        let mut sizes = Self { rows: 8192, points: 8192 };
        while sizes.bytes(dim, machine.threads) > machine.memory_bytes && sizes.points > CHUNK {
            if sizes.rows < sizes.points { sizes.points /= 2 } else { sizes.rows /= 2 }
        }
        Self { rows: sizes.rows.min(rows.max(1)), points: sizes.points.min(points.max(1)) }
    }
}

/// Rows of the set, each with those before it.
///
/// # Errors
/// Rows that cannot be read.
pub fn within(rows: &dyn Vectors, rule: Rule, machine: Machine, work: &Work) -> Result<Scanned, DedupError> {
    Ok(Scan::new(rows, None, rule, machine, work).run()?.0)
}

/// Rows of the set, each with all of another set.
///
/// # Errors
/// Rows that cannot be read.
pub fn against(
    rows: &dyn Vectors,
    others: &dyn Vectors,
    above: f64,
    machine: Machine,
    work: &Work,
) -> Result<Scanned, DedupError> {
    let rule = Rule { above, greedy: false };
    Ok(Scan::new(rows, Some(others), rule, machine, work).run()?.0)
}

/// The first `count` rows of which no two lie above the threshold, taken greedily; fewer where there are no more.
///
/// # Errors
/// Rows that cannot be read.
pub fn apart(
    rows: &dyn Vectors,
    above: f64,
    count: usize,
    machine: Machine,
    work: &Work,
) -> Result<Vec<u32>, DedupError> {
    let rule = Rule { above, greedy: true };
    let (_, kept) = Scan { most_kept: count, ..Scan::new(rows, None, rule, machine, work) }.run()?;
    Ok((0..).zip(kept).filter_map(|(row, kept)| kept.then_some(row)).take(count).collect())
}

/// [`within`], or [`against`] others, all of it in codes that these instructions multiply, which the processor must have, or in f32.
#[cfg(test)]
pub(crate) fn scan_with(
    with: Option<Instructions>,
    rows: &dyn Vectors,
    others: Option<&dyn Vectors>,
    rule: Rule,
    machine: Machine,
) -> Result<Scanned, DedupError> {
    Ok(Scan { with, fewest: 0, ..Scan::new(rows, others, rule, machine, &Work::default()) }.run()?.0)
}

/// Pairs of a scan inside a set of so many rows.
#[must_use]
pub const fn pairs(rows: u64) -> u64 {
    rows * rows.saturating_sub(1) / 2
}

struct Scan<'a> {
    rows: &'a dyn Vectors,
    /// Another set, or the rows before each row.
    points: Option<&'a dyn Vectors>,
    rule: Rule,
    machine: Machine,
    work: &'a Work,
    most_kept: usize,
    /// What multiplies codes, where rows and points are not fewer.
    with: Option<Instructions>,
    fewest: usize,
}

/// The rows of a block.
struct Rows<'a> {
    first: usize,
    stored: &'a [f16],
}

/// Points of a block: f16\[ids, dim\], ids ascending, and their codes if they were made.
struct Points<'a> {
    ids: &'a [u32],
    vectors: &'a [f16],
    codes: &'a [int8::Points],
}

/// Who multiplies, and memory for it.
struct Multiplying {
    products: Products,
    idle: Mutex<Vec<Scratch>>,
    /// Pairs above the threshold whose fate is known.
    above: AtomicU64,
}

impl<'a> Scan<'a> {
    fn new(
        rows: &'a dyn Vectors,
        points: Option<&'a dyn Vectors>,
        rule: Rule,
        machine: Machine,
        work: &'a Work,
    ) -> Self {
        let (most_kept, with, fewest) = (usize::MAX, Instructions::fast(), FEWEST_POINTS);
        Self { rows, points, rule, machine, work, most_kept, with, fewest }
    }

    /// What was found, and whether each row asked so far is kept; the latter where greedy.
    fn run(&self) -> Result<(Scanned, Vec<bool>), DedupError> {
        let (dim, count) = (self.rows.dim(), self.rows.len());
        let points = self.points.unwrap_or(self.rows);
        let sizes = Sizes::of(dim, count, points.len(), self.machine);
        let (mut found, mut kept, mut kept_count) = (Scanned::default(), Vec::new(), 0);
        let (mut stored, mut block) = (Vec::new(), Vec::new());
        // Codes of points are used by a block of rows, and those of rows by all points.
        let with = self.with.filter(|_| sizes.rows.min(points.len()) >= self.fewest);
        let multiplying =
            Multiplying { products: Products::new(dim, with), idle: Mutex::default(), above: AtomicU64::new(0) };
        for first in (0..count).step_by(sizes.rows) {
            let end = (first + sizes.rows).min(count);
            stored.resize((end - first) * dim, f16::ZERO);
            self.rows.read(first, &mut stored)?;
            let rows = Rows { first, stored: &stored };
            let mut known = vec![Row::default(); end - first];
            let portion = known.len().div_ceil(self.machine.threads.max(1)).clamp(32, PORTION_ROWS);
            let mut coded: Vec<int8::Rows> = known.chunks(portion).map(|_| int8::Rows::default()).collect();
            let last = if self.points.is_some() { points.len() } else { end };
            let mut ids: Vec<u32> = Vec::new();
            for from in (0..last).step_by(sizes.points) {
                let to = (from + sizes.points).min(last);
                // A block never reaches over the edge of what is decided: its rows are at hand already.
                let edge = if self.points.is_none() { first.clamp(from, to) } else { to };
                for span in [from..edge, edge..to].into_iter().filter(|span| !span.is_empty()) {
                    ids.clear();
                    let vectors: &[f16] = if self.points.is_none() && span.start >= first {
                        ids.extend(span.clone().map(|id| id as u32));
                        &stored[(span.start - first) * dim..(span.end - first) * dim]
                    } else {
                        block.resize(span.len() * dim, f16::ZERO);
                        points.read(span.start, &mut block)?;
                        self.only_kept(span, &kept, &mut block, &mut ids);
                        &block[..ids.len() * dim]
                    };
                    let codes = multiplying.products.code(vectors, self.machine.threads);
                    let points = Points { ids: &ids, vectors, codes: &codes };
                    self.multiply(&rows, &points, (&mut known, portion), &mut coded, &multiplying);
                }
            }
            for (row, known) in (first as u32..).zip(known) {
                let mut best = known.best;
                let vector = |at: usize| &stored[at * dim..(at + 1) * dim];
                for at in known.places().filter(|at| kept[first + at]) {
                    multiplying.above.fetch_add(1, Ordering::Relaxed);
                    raise(&mut best, (first + at) as u32, dot(vector(row as usize - first), vector(at)));
                }
                if self.rule.greedy {
                    kept.push(best.is_none());
                    kept_count += usize::from(best.is_none());
                }
                found.suppressed.extend(best.map(|Best { by, similarity }| Suppressed { row, by, similarity }));
            }
            if kept_count >= self.most_kept {
                break;
            }
        }
        found.pairs_above = multiplying.above.into_inner();
        Ok((found, kept))
    }

    /// Takes rows out of a block that do not suppress; `ids` are those that are left.
    fn only_kept(&self, span: Range<usize>, kept: &[bool], block: &mut [f16], ids: &mut Vec<u32>) {
        let dim = self.rows.dim();
        if !self.rule.greedy {
            ids.extend(span.map(|id| id as u32));
            return;
        }
        for (at, id) in span.enumerate().filter(|(_, id)| kept[*id]) {
            block.copy_within(at * dim..(at + 1) * dim, ids.len() * dim);
            ids.push(id as u32);
        }
    }

    fn multiply(
        &self,
        rows: &Rows<'_>,
        points: &Points<'_>,
        (known, portion): (&mut [Row], usize),
        coded: &mut [int8::Rows],
        multiplying: &Multiplying,
    ) {
        let Multiplying { products, idle, above } = multiplying;
        let job = |(at, (known, coded)): (usize, (&mut [Row], &mut int8::Rows))| {
            let mut scratch = idle.lock().ok().and_then(|mut idle| idle.pop()).unwrap_or_default();
            let found = self.portion(rows, at * portion, points, (known, coded), products, &mut scratch);
            above.fetch_add(found, Ordering::Relaxed);
            if let Ok(mut idle) = idle.lock() {
                idle.push(scratch);
            }
        };
        if self.machine.threads > 1 {
            known.par_chunks_mut(portion).zip(coded.par_iter_mut()).enumerate().for_each(job);
        } else {
            known.chunks_mut(portion).zip(coded).enumerate().for_each(job);
        }
    }

    /// Some rows of a block, the first of them being its `at`-th, with some points; pairs above the threshold whose fate is known.
    fn portion(
        &self,
        rows: &Rows<'_>,
        at: usize,
        points: &Points<'_>,
        (known, coded): (&mut [Row], &mut int8::Rows),
        products: &Products,
        scratch: &mut Scratch,
    ) -> u64 {
        let (dim, threshold) = (self.rows.dim(), self.rule.above);
        let before = |row: usize| match self.points {
            Some(_) => points.ids.len(),
            None => points.ids.partition_point(|&id| (id as usize) < row),
        };
        let ends: Vec<usize> = (rows.first + at..).take(known.len()).map(before).collect();
        let vectors = &rows.stored[at * dim..(at + known.len()) * dim];
        let mut above = 0;
        products.above(threshold, (vectors, coded), (points.vectors, points.codes), &ends, scratch, |pair| {
            let (known, by) = (&mut known[pair.row], points.ids[pair.point]);
            let (x, t) = (&vectors[pair.row * dim..][..dim], &points.vectors[pair.point * dim..][..dim]);
            let open = self.rule.greedy && by as usize >= rows.first;
            // Surely above the threshold, and surely not the most similar: of many copies few are looked at.
            let best = known.best;
            let is_behind =
                |pair: &Pair| !open && pair.least > threshold && best.is_some_and(|best| pair.most <= best.similarity);
            if is_behind(&pair) {
                above += 1;
                return;
            }
            let pair = pair.nearer(x, t);
            if pair.most <= threshold {
                return;
            }
            if is_behind(&pair) {
                above += 1;
                return;
            }
            let similarity = dot(x, t);
            if similarity > threshold && open {
                known.note(by as usize - rows.first, rows.stored.len() / dim);
            } else if similarity > threshold {
                above += 1;
                raise(&mut known.best, by, similarity);
            }
        });
        self.work.add(ends.iter().map(|end| *end as u64).sum());
        above
    }
}
