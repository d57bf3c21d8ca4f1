//! Who lies above a similarity of whom: all pairs of a set, each row with the rows before it; or all rows of a set with all of another.
//!
//! ```text
//!            points ──▶
//!  rows   ┌────┐
//!   │     │▒▒▒▒└────┐        rows f32[some thousand, dim] stay; points f16 stream by, block by block; each thread multiplies
//!   ▼     │▒▒▒▒▒▒▒▒▒└────┐   up to 256 rows with a block, and looks at what reaches the threshold less the bound
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
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;
use trommel_kernels::dot::{dot, to_f32};
use trommel_kernels::join::{Block, CHUNK, Tiling, error_bound, f32_below};

use crate::DedupError;
use crate::vectors::Vectors;
use crate::work::Work;

/// Largest norm of a row or a centre: unit vectors rounded to f16 are far below, and so is every mean of them.
pub const MOST_NORM: f64 = 1.01;

/// Rows of one multiplication.
pub(crate) const PORTION_ROWS: usize = 256;

/// Largest distance of a fast product from the canonical one.
pub(crate) fn bound(dim: usize) -> f64 {
    // Without a bound everything is a candidate.
    error_bound(dim, MOST_NORM, MOST_NORM).unwrap_or(f64::INFINITY)
}

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
        let portion = self.rows.min(PORTION_ROWS) * self.points * 5;
        let tile = Tiling::default().tile_bytes.max(4 * CHUNK * dim);
        let open = 8 * self.rows * self.rows.div_ceil(WORD);
        (6 * dim * self.rows + open + 2 * dim * self.points + threads * (portion + tile)) as u64
    }

    fn of(dim: usize, rows: usize, points: usize, machine: Machine) -> Self {
        let mut sizes = Self { rows: 4096, points: 8192 };
        while sizes.bytes(dim, machine.threads) > machine.memory_bytes && sizes.points > CHUNK {
            if sizes.rows < sizes.points { sizes.points /= 2 } else { sizes.rows /= 2 }
        }
        Self { rows: sizes.rows.min(rows.max(1)), points: sizes.points.min(points.max(1)) }
    }
}

/// The most similar row so far.
#[derive(Clone, Copy, Debug)]
struct Best {
    by: u32,
    similarity: f64,
}

fn raise(best: &mut Option<Best>, by: u32, similarity: f64) {
    // Strictly: whoever came first stays.
    if best.is_none_or(|best| similarity > best.similarity) {
        *best = Some(Best { by, similarity });
    }
}

/// What is known of a row of the block.
#[derive(Clone, Debug, Default)]
struct Row {
    best: Option<Best>,
    /// Rows of the same block above the threshold, of which it is not known yet whether they stay, as bits by their places in it: greedy only,
    /// and empty as long as there is none. Their similarities are taken once more, from those that do stay: of many copies each has all before
    /// it here, and one of them stays.
    open: Vec<u64>,
}

/// Bits of a word of [`Row::open`].
const WORD: usize = u64::BITS as usize;

impl Row {
    /// Notes the row at a place in the block, which has so many rows.
    fn note(&mut self, at: usize, rows: usize) {
        if self.open.is_empty() {
            self.open = vec![0; rows.div_ceil(WORD)];
        }
        self.open[at / WORD] |= 1 << (at % WORD);
    }

    /// The places that are noted, ascending.
    fn places(&self) -> impl Iterator<Item = usize> {
        let bits = |(word, bits): (usize, &u64)| {
            let bits = *bits;
            (0..WORD).filter(move |at| (bits >> at) & 1 == 1).map(move |at| word * WORD + at)
        };
        self.open.iter().enumerate().filter(|(_, bits)| **bits != 0).flat_map(bits)
    }
}

/// Rows of the set, each with those before it.
///
/// # Errors
/// Rows that cannot be read.
pub fn within(rows: &dyn Vectors, rule: Rule, machine: Machine, work: &Work) -> Result<Scanned, DedupError> {
    Ok(Scan { rows, points: None, rule, machine, work, most_kept: usize::MAX }.run()?.0)
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
    Ok(Scan { rows, points: Some(others), rule, machine, work, most_kept: usize::MAX }.run()?.0)
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
    let (_, kept) = Scan { rows, points: None, rule, machine, work, most_kept: count }.run()?;
    Ok((0..).zip(kept).filter_map(|(row, kept)| kept.then_some(row)).take(count).collect())
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
}

/// The rows of a block, and what multiplies them.
struct Rows<'a> {
    first: usize,
    stored: &'a [f16],
    wide: &'a [f32],
}

/// Points of a block: f16\[ids, dim\], ids ascending.
struct Points<'a> {
    ids: &'a [u32],
    vectors: &'a [f16],
}

impl Scan<'_> {
    /// What was found, and whether each row asked so far is kept; the latter where greedy.
    fn run(&self) -> Result<(Scanned, Vec<bool>), DedupError> {
        let (dim, count) = (self.rows.dim(), self.rows.len());
        let points = self.points.unwrap_or(self.rows);
        let sizes = Sizes::of(dim, count, points.len(), self.machine);
        let (mut found, mut kept, mut kept_count) = (Scanned::default(), Vec::new(), 0);
        let (mut stored, mut wide, mut block) = (Vec::new(), Vec::new(), Vec::new());
        let idle = Mutex::new(Vec::new());
        let above = AtomicU64::new(0);
        for first in (0..count).step_by(sizes.rows) {
            let end = (first + sizes.rows).min(count);
            stored.resize((end - first) * dim, f16::ZERO);
            wide.resize(stored.len(), 0.0);
            self.rows.read(first, &mut stored)?;
            to_f32(&stored, &mut wide);
            let rows = Rows { first, stored: &stored, wide: &wide };
            let mut known = vec![Row::default(); end - first];
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
                    self.multiply(&rows, &Points { ids: &ids, vectors }, &mut known, &idle, &above);
                }
            }
            for (row, known) in (first as u32..).zip(known) {
                let mut best = known.best;
                let vector = |at: usize| &stored[at * dim..(at + 1) * dim];
                for at in known.places().filter(|at| kept[first + at]) {
                    above.fetch_add(1, Ordering::Relaxed);
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
        found.pairs_above = above.into_inner();
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
        known: &mut [Row],
        idle: &Mutex<Vec<Block>>,
        above: &AtomicU64,
    ) {
        let portion = known.len().div_ceil(self.machine.threads.max(1)).clamp(32, PORTION_ROWS);
        let job = |(at, known): (usize, &mut [Row])| {
            let mut block = idle.lock().ok().and_then(|mut idle| idle.pop()).unwrap_or_default();
            above.fetch_add(self.portion(rows, at * portion, points, known, &mut block), Ordering::Relaxed);
            if let Ok(mut idle) = idle.lock() {
                idle.push(block);
            }
        };
        if self.machine.threads > 1 {
            known.par_chunks_mut(portion).enumerate().for_each(job);
        } else {
            known.chunks_mut(portion).enumerate().for_each(job);
        }
    }

    /// Some rows of a block, the first of them being its `at`-th, with some points; pairs above the threshold whose fate is known.
    fn portion(&self, rows: &Rows<'_>, at: usize, points: &Points<'_>, known: &mut [Row], block: &mut Block) -> u64 {
        let dim = self.rows.dim();
        let before = |row: usize| match self.points {
            Some(_) => points.ids.len(),
            None => points.ids.partition_point(|&id| (id as usize) < row),
        };
        let count = before(rows.first + at + known.len());
        if count == 0 {
            return 0;
        }
        let wide = &rows.wide[at * dim..(at + known.len()) * dim];
        block.fill(wide, &points.vectors[..count * dim], dim, None, Tiling::default());
        let bound = bound(dim);
        let least = f32_below(self.rule.above - bound);
        let (mut above, mut compared) = (0, 0);
        for (number, known) in known.iter_mut().enumerate() {
            let row = at + number;
            let (end, vector) = (before(rows.first + row), &rows.stored[row * dim..(row + 1) * dim]);
            compared += end as u64;
            let chunks = block.row(number)[..end].chunks(CHUNK).zip(block.chunk_maxima(number));
            for (chunk, (values, _)) in chunks.enumerate().filter(|(_, (_, maximum))| **maximum >= least) {
                for (lane, value) in values.iter().enumerate().filter(|(_, value)| **value >= least) {
                    let point = chunk * CHUNK + lane;
                    let (by, open) = (points.ids[point], self.rule.greedy && points.ids[point] as usize >= rows.first);
                    // Surely above the threshold, and surely not the most similar: of many copies few are looked at.
                    let is_behind = |best: Best| f64::from(*value) + bound <= best.similarity;
                    if !open && f64::from(*value) - bound > self.rule.above && known.best.is_some_and(is_behind) {
                        above += 1;
                        continue;
                    }
                    let similarity = dot(vector, &points.vectors[point * dim..(point + 1) * dim]);
                    if similarity > self.rule.above && open {
                        known.note(by as usize - rows.first, rows.stored.len() / dim);
                    } else if similarity > self.rule.above {
                        above += 1;
                        raise(&mut known.best, by, similarity);
                    }
                }
            }
        }
        self.work.add(compared);
        above
    }
}
