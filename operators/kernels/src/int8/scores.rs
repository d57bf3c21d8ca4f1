//! The values of a portion of rows with all points, chunk by chunk, and what is largest where.

mod reaching;

use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use super::product::{Chunk, Values, multiply};
use super::{CHUNK, Points, Rows, UNITS};
use crate::widened::widened;
use reaching::reaching;

/// Rows whose columns' largest values are kept together.
pub const ROWS_TOGETHER: usize = 8;

/// Units by which a value less its radius is off in 16 bits: half of one for the radius, and what f32 would round.
const RADIUS_UNITS: i32 = 1;

/// Nothing is known of a value less its radius below this, since the subtraction saturates.
const LEAST_UNITS: i16 = -32_000;

/// Memory for a block of values and what is known of it. Reused from block to block; grows to the largest one asked for.
#[derive(Debug, Default)]
pub struct Scores {
    rows: usize,
    points: usize,
    chunks: usize,
    /// i16\[chunks, rows, CHUNK\].
    values: Vec<Values>,
    /// i16\[chunks, rows\]: largest of each chunk.
    maxima: Vec<i16>,
    /// i16\[chunks, rows\]: largest value less radius of each chunk; empty without radii.
    excess: Vec<i16>,
    /// i16\[chunks, rows / ROWS_TOGETHER, CHUNK\]: largest of some rows.
    together: Vec<Values>,
}

/// A row's largest value, or value less radius, and the point that has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Top {
    /// At most the largest one, and by a few units at most (unless it is below -3).
    pub value: f32,
    /// Index of the test point.
    pub point: u32,
}

impl Scores {
    /// Multiplies. With `radii` values less radii are looked at too, where the points have any.
    pub fn fill(&mut self, rows: &mut Rows, points: &Points, radii: bool, threads: usize) {
        rows.terms(points);
        let rows = &*rows;
        (self.rows, self.points, self.chunks) = (rows.count(), points.count(), points.chunks());
        let radii = points.radii.as_deref().filter(|_| radii);
        let blocks = self.rows.div_ceil(ROWS_TOGETHER);
        // Every element of them is overwritten below, so old contents may stay.
        self.values.resize(self.chunks * self.rows, Values([0; CHUNK]));
        self.maxima.resize(self.chunks * self.rows, 0);
        self.excess.resize(if radii.is_some() { self.chunks * self.rows } else { 0 }, 0);
        self.together.resize(self.chunks * blocks, Values([0; CHUNK]));
        if self.rows == 0 || self.chunks == 0 {
            return;
        }
        let fill =
            |first: usize, values: &mut [Values], maxima: &mut [i16], excess: &mut [i16], together: &mut [Values]| {
                let mut excess = excess.chunks_mut(rows.count());
                let tiles = points.with.tiles();
                let parts = values
                    .chunks_mut(rows.count())
                    .zip(maxima.chunks_mut(rows.count()))
                    .zip(together.chunks_mut(blocks));
                for (at, ((values, maxima), together)) in parts.enumerate() {
                    let at = first + at;
                    let chunk = Chunk {
                        codes: points.codes.chunk(at),
                        steps: &points.steps[at],
                        slack: &points.slack[at],
                        length: rows.length as f32,
                    };
                    multiply(&rows.codes, &rows.terms, chunk, tiles.as_ref(), values);
                    sweep(values, maxima, together);
                    if let Some(radii) = radii {
                        over(values, &radii[at], excess.next().unwrap_or_default());
                    }
                }
            };
        if threads <= 1 {
            return fill(0, &mut self.values, &mut self.maxima, &mut self.excess, &mut self.together);
        }
        let stripe = self.chunks.div_ceil(threads);
        let mut none: Vec<i16> = Vec::new();
        let excess = if radii.is_some() {
            &mut self.excess
        } else {
            none.resize(self.chunks, 0);
            &mut none
        };
        let width = excess.len() / self.chunks.max(1);
        let parts = self.values.par_chunks_mut(stripe * self.rows).zip(self.maxima.par_chunks_mut(stripe * self.rows));
        let parts = parts.zip(excess.par_chunks_mut(stripe * width)).zip(self.together.par_chunks_mut(stripe * blocks));
        parts.enumerate().for_each(|(at, (((values, maxima), excess), together))| {
            fill(at * stripe, values, maxima, excess, together)
        });
    }

    /// Points of the block last filled.
    #[must_use]
    pub fn points(&self) -> usize {
        self.points
    }

    /// Bytes of a block for one row.
    #[must_use]
    pub fn row_bytes(points: usize) -> usize {
        let chunks = points.div_ceil(CHUNK);
        chunks * (2 * CHUNK + 2 * CHUNK / ROWS_TOGETHER + 4)
    }

    /// A value as it is stored, as the number that it is.
    #[must_use]
    pub fn value(stored: i16) -> f32 {
        narrow(stored)
    }

    /// Values of a row with a chunk of points, as they are stored.
    #[must_use]
    pub fn values(&self, row: usize, chunk: usize) -> &[i16] {
        &self.chunk(chunk, row)[..CHUNK.min(self.points - chunk * CHUNK)]
    }

    fn chunk(&self, chunk: usize, row: usize) -> &[i16; CHUNK] {
        &self.values[chunk * self.rows + row].0
    }

    /// The largest value of each row.
    #[must_use]
    pub fn tops(&self) -> Vec<Top> {
        let tops = largest(&self.maxima, self.rows);
        let top = |(row, (most, chunk)): (usize, (i16, usize))| {
            let at = self.chunk(chunk, row).iter().position(|&value| value == most).unwrap_or_default();
            Top { value: narrow(most), point: (chunk * CHUNK + at) as u32 }
        };
        tops.into_iter().enumerate().map(top).collect()
    }

    /// The largest value less its radius of each row, for a block filled with radii.
    #[must_use]
    pub fn excess_tops(&self, points: &Points) -> Vec<Top> {
        let Some(radii) = points.radii.as_deref().filter(|_| !self.excess.is_empty()) else { return Vec::new() };
        let top = |(row, (most, chunk)): (usize, (i16, usize))| {
            let over =
                self.chunk(chunk, row).iter().zip(&radii[chunk]).map(|(value, radius)| value.saturating_sub(*radius));
            let at = over.take(self.points - chunk * CHUNK).position(|value| value == most).unwrap_or_default();
            let value = if most > LEAST_UNITS { (i32::from(most) - RADIUS_UNITS) as f32 / UNITS as f32 } else { -5.0 };
            Top { value, point: (chunk * CHUNK + at) as u32 }
        };
        largest(&self.excess, self.rows).into_iter().enumerate().map(top).collect()
    }

    /// Chunks of a row that hold a value of at least `value`, or one that is at least `excess` above its radius, with their values; ascending.
    pub fn chunks_reaching(&self, row: usize, value: f32, excess: f32) -> impl Iterator<Item = (usize, &[i16; CHUNK])> {
        let least = units(value);
        let over = units(excess).saturating_sub(RADIUS_UNITS);
        let reaches = move |at: usize| {
            i32::from(self.maxima[at]) >= least || self.excess.get(at).is_some_and(|&most| i32::from(most) >= over)
        };
        let chunks = (0..self.chunks).map(move |chunk| (chunk, chunk * self.rows + row));
        chunks.filter(move |(_, at)| reaches(*at)).map(move |(chunk, _)| (chunk, self.chunk(chunk, row)))
    }

    /// Largest value of each point over some rows, ascending: f32\[points\].
    #[must_use]
    pub fn column_tops(&self, rows: &[usize]) -> Vec<f32> {
        let (whole, single) = self.blocks_of(rows);
        self.tops_of(&whole, &single)
    }

    /// The same, or that of half of the rows at least: of those whose largest values are kept together. The values of others would have to be read row by row.
    #[must_use]
    pub fn low_column_tops(&self, rows: &[usize]) -> Vec<f32> {
        let (whole, single) = self.blocks_of(rows);
        self.tops_of(&whole, if single.len() <= rows.len() / 2 { &[] } else { &single })
    }

    /// Largest value of each point over whole blocks and single rows.
    fn tops_of(&self, whole: &[usize], single: &[usize]) -> Vec<f32> {
        let mut tops = Vec::with_capacity(self.chunks * CHUNK);
        let blocks = self.rows.div_ceil(ROWS_TOGETHER);
        for chunk in 0..self.chunks {
            let mut most = [i16::MIN; CHUNK];
            for block in whole {
                raise(&mut most, &self.together[chunk * blocks + block].0);
            }
            for &row in single {
                raise(&mut most, self.chunk(chunk, row));
            }
            tops.extend(most.map(narrow));
        }
        tops.truncate(self.points);
        tops
    }

    /// Blocks all of whose rows are among `rows`, and the rows that are in none of these.
    fn blocks_of(&self, rows: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let (mut whole, mut single) = (Vec::new(), Vec::new());
        for some in rows.chunk_by(|a, b| a / ROWS_TOGETHER == b / ROWS_TOGETHER) {
            let block = some[0] / ROWS_TOGETHER;
            let size = ROWS_TOGETHER.min(self.rows - block * ROWS_TOGETHER);
            if some.len() == size { whole.push(block) } else { single.extend_from_slice(some) }
        }
        (whole, single)
    }

    /// Shows `found` the points of each row that reach their floors (`>=`), some points at a time: a row comes in several parts.
    pub fn columns_reaching(&self, rows: &[usize], floors: &[f32], mut found: impl FnMut(usize, &[u32])) {
        /// Chunks whose points' vectors stay in a core's cache while rows are compared with them.
        const SLAB: usize = 8;
        let blocks = self.rows.div_ceil(ROWS_TOGETHER);
        let mut points = Vec::new();
        let floors: Vec<[i16; CHUNK]> = floors.chunks(CHUNK).map(floors_in_units).collect();
        for first in (0..self.chunks).step_by(SLAB) {
            let slab = first..self.chunks.min(first + SLAB);
            for some in rows.chunk_by(|a, b| a / ROWS_TOGETHER == b / ROWS_TOGETHER) {
                let mut look = [0; SLAB];
                let mut count = 0;
                for chunk in slab.clone() {
                    if reaching(&self.together[chunk * blocks + some[0] / ROWS_TOGETHER].0, &floors[chunk]) != 0 {
                        look[count] = chunk;
                        count += 1;
                    }
                }
                for &row in some {
                    points.clear();
                    for &chunk in &look[..count] {
                        let mut mask = reaching(self.chunk(chunk, row), &floors[chunk]);
                        while mask != 0 {
                            let point = chunk * CHUNK + mask.trailing_zeros() as usize;
                            mask &= mask - 1;
                            points.push(point as u32);
                        }
                    }
                    // A point that is none reaches nothing but the lowest of floors.
                    points.retain(|&point| (point as usize) < self.points);
                    if !points.is_empty() {
                        found(row, &points);
                    }
                }
            }
        }
    }
}

/// A value in units as f32, exactly.
fn narrow(units: i16) -> f32 {
    f32::from(units) / UNITS as f32
}

/// The least number of units that is at least `value`; beyond every value where none is.
fn units(value: f32) -> i32 {
    (f64::from(value) * UNITS).ceil() as i32
}

/// Floors as the least units that reach them.
fn floors_in_units(floors: &[f32]) -> [i16; CHUNK] {
    let mut least = [i16::MAX; CHUNK];
    for (least, floor) in least.iter_mut().zip(floors) {
        *least = units(*floor).clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
    }
    least
}

/// The largest of each row, and the first chunk that has it.
fn largest(maxima: &[i16], rows: usize) -> Vec<(i16, usize)> {
    let mut largest = vec![(i16::MIN, 0); rows];
    for (chunk, maxima) in maxima.chunks(rows.max(1)).enumerate() {
        for (largest, &most) in largest.iter_mut().zip(maxima) {
            if most > largest.0 {
                *largest = (most, chunk);
            }
        }
    }
    largest
}

#[inline(always)]
fn raise(most: &mut [i16; CHUNK], values: &[i16; CHUNK]) {
    for (most, value) in most.iter_mut().zip(values) {
        *most = (*most).max(*value);
    }
}

#[inline(always)]
fn most_of(values: &[i16; CHUNK]) -> i16 {
    let mut lanes = [i16::MIN; 16];
    for values in values.as_chunks::<16>().0 {
        for (lane, value) in lanes.iter_mut().zip(values) {
            *lane = (*lane).max(*value);
        }
    }
    lanes.into_iter().fold(i16::MIN, i16::max)
}

widened! {
    /// The largest of each row, and of the columns of rows that are kept together.
    fn sweep / sweep_wide / sweep_widest / sweep_plain(values: &[Values], maxima: &mut [i16], together: &mut [Values]) {
        let blocks = values.chunks(ROWS_TOGETHER).zip(maxima.chunks_mut(ROWS_TOGETHER)).zip(together);
        for ((values, maxima), together) in blocks {
            let mut most = [i16::MIN; CHUNK];
            for (values, maximum) in values.iter().zip(maxima) {
                raise(&mut most, &values.0);
                *maximum = most_of(&values.0);
            }
            together.0 = most;
        }
    }
}

widened! {
    /// The largest value less radius of each row.
    fn over / over_wide / over_widest / over_plain(values: &[Values], radii: &[i16; CHUNK], excess: &mut [i16]) {
        for (values, excess) in values.iter().zip(excess) {
            let mut over = [0; CHUNK];
            for ((over, value), radius) in over.iter_mut().zip(&values.0).zip(radii) {
                *over = value.saturating_sub(*radius);
            }
            *excess = most_of(&over);
        }
    }
}
