//! Down the columns of products: the largest canonical similarity of each test point over some rows.
//!
//! With `e` the bound of a value: a row can raise a point's maximum only if its value is at least the maximum less `e`, and at least the largest
//! value of these rows less `2e` (by the argument of [`scan`](super::scan), with points and rows exchanged). What reaches both is computed canonically; any other row is
//! beaten by one of those, or by the maximum as it stands. So maxima are exact, and depend on the rows alone, whatever blocks they come in.
//! Where values are coarse (see there, 4), the row with the largest value is looked at first, which halves the distance.
//!
//! Cost: one pass over the values for their largest, one for who reaches it (two where they are coarse), and a canonical product for each that does.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use half::f16;
use trommel_core::peak::{Peak, offer};
use trommel_kernels::dot::{dot, prefetch};
use trommel_kernels::join::{Block, f32_below, visit_reaching};

use super::benchmark::Benchmark;
use super::kernel::{KernelError, Products};
use super::scan::Bounds;

/// The value that a row must reach to raise a maximum, which is `now`, where the largest of all rows lies in `tops`; positive infinity if none does.
#[must_use]
pub fn floor(tops: RangeInclusive<f32>, bound: f64, now: f64) -> f32 {
    let floor = f32_below((f64::from(*tops.start()) - 2.0 * bound).max(now - bound));
    if *tops.end() < floor { f32::INFINITY } else { floor }
}

/// The value of the row that is looked at first, since it surely raises a maximum, which is `now`; positive infinity if that is not sure of the largest, `top`.
#[must_use]
pub fn first(top: f32, bound: f64, now: f64) -> f32 {
    if now < f64::from(top) - bound { top } else { f32::INFINITY }
}

/// Points whose vectors are fetched from memory while those before them are multiplied.
const ON_THEIR_WAY: usize = 4;

/// Shows `look` the benchmark, row and point of each value that reaches its floor; `vector` is that of a point of a benchmark, which `look` will want.
///
/// # Errors
/// What the device said. Some may have been shown.
pub(crate) fn reaching<'t>(
    products: &mut dyn Products,
    rows: &[usize],
    floors: &[Vec<f32>],
    vector: impl Fn(usize, usize) -> &'t [f16],
    mut look: impl FnMut(usize, usize, usize),
) -> Result<(), KernelError> {
    let mut coming = VecDeque::with_capacity(ON_THEIR_WAY + 1);
    products.columns_reaching(rows, floors, &mut |at, row, points| {
        for point in points.iter().map(|&point| point as usize) {
            prefetch(vector(at, point));
            coming.push_back((at, row, point));
            if coming.len() > ON_THEIR_WAY
                && let Some((at, row, point)) = coming.pop_front()
            {
                look(at, row, point);
            }
        }
    })?;
    coming.into_iter().for_each(|(at, row, point)| look(at, row, point));
    Ok(())
}

/// Offers all rows of products with one benchmark alone, at least one, to its points' peaks. `bounds` hold for each of the rows, whose vectors and
/// identities `of` gives by their places.
///
/// # Errors
/// What the device said. Some rows may have been offered.
pub fn raise_all<'x, I: Ord + Copy>(
    products: &mut dyn Products,
    benchmark: &Benchmark,
    bounds: Bounds,
    rows: usize,
    of: impl Fn(usize) -> (&'x [f16], I),
    peaks: &mut [Peak<I>],
) -> Result<(), KernelError> {
    let rows: Vec<usize> = (0..rows).collect();
    let tops = products.column_tops(&rows)?.swap_remove(0);
    let mut look = |peaks: &mut [Peak<I>], floor: &dyn Fn(f32, f64, f64) -> f32| {
        let floors: Vec<f32> = tops.iter().zip(&*peaks).map(|(&top, peak)| floor(top, bounds.value, peak.0)).collect();
        reaching(
            products,
            &rows,
            &[floors],
            |_, point| benchmark.vector(point),
            |_, row, point| {
                let ((x, id), t, peak) = (of(row), benchmark.vector(point), &mut peaks[point]);
                if bounds.near(x, t).1 >= peak.0 {
                    offer(peak, (dot(x, t), id));
                }
            },
        )
    };
    if bounds.are_coarse() {
        look(peaks, &first)?;
    }
    look(peaks, &|top, bound, now| floor(top..=top, bound, now))
}

/// Neighbouring columns of a filled block: some test points of a benchmark.
#[derive(Clone, Copy)]
pub struct Columns<'a> {
    block: &'a Block,
    benchmark: &'a Benchmark,
    /// The largest bound of a value of the rows.
    bound: f64,
    first: usize,
    count: usize,
}

impl<'a> Columns<'a> {
    /// All columns of a block of products with the benchmark's points. `bound` holds for the values of all rows that will be asked for.
    #[must_use]
    pub fn new(block: &'a Block, benchmark: &'a Benchmark, bound: f64) -> Self {
        Self { block, benchmark, bound, first: 0, count: benchmark.points() }
    }

    /// `count` columns from `first` on; what is said of columns afterwards counts from there.
    #[must_use]
    pub fn part(self, first: usize, count: usize) -> Self {
        Self { first: self.first + first, count, ..self }
    }

    /// Largest value of each column over the rows.
    pub fn tops(&self, rows: impl IntoIterator<Item = usize>) -> Vec<f32> {
        let mut tops = vec![f32::NEG_INFINITY; self.count];
        self.block.raise_columns(rows, self.first, &mut tops);
        tops
    }

    /// The value that a row must reach to raise a column's maximum, which is `now(column)`.
    pub fn floors(&self, tops: &[f32], now: impl Fn(usize) -> f64) -> Vec<f32> {
        tops.iter().enumerate().map(|(at, &top)| floor(top..=top, self.bound, now(at))).collect()
    }

    /// Calls `found` with each column whose floor the row reaches, and their canonical similarity; `x` is the row's vector.
    pub fn reaching(&self, row: usize, x: &[f16], floors: &[f32], mut found: impl FnMut(usize, f64)) {
        visit_reaching(&self.block.row(row)[self.first..self.first + self.count], floors, |at| {
            found(at, dot(x, self.benchmark.vector(self.first + at)));
        });
    }

    /// Offers rows (place in the block, vector, identity) to the peaks of all columns; `place` says where a column's peak stands.
    pub fn raise<'x, I: Ord + Copy>(
        &self,
        rows: impl Iterator<Item = (usize, &'x [f16], I)> + Clone,
        peaks: &mut [Peak<I>],
        place: impl Fn(usize) -> usize,
    ) {
        let floors = self.floors(&self.tops(rows.clone().map(|row| row.0)), |at| peaks[place(at)].0);
        for (row, x, id) in rows {
            self.reaching(row, x, &floors, |at, s| offer(&mut peaks[place(at)], (s, id)));
        }
    }
}
