//! Codes of rows and points where instructions look for them.

use super::CHUNK;
use super::instructions::{Instructions, Ranges};
use super::runs::{RowRuns, Runs, Squares, raise, squares};

/// Rows of a block at most, whatever the instructions.
pub(super) const MOST_BLOCK_ROWS: usize = 32;

/// To a multiple of so many codes are rows and points filled up at most, whatever the instructions.
const MOST_CODES_TOGETHER: usize = 64;

/// Four codes of each point of a chunk, and so on: u8\[steps, CHUNK, 4\], moved up.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Four(pub [[u8; 4]; CHUNK]);

/// Codes of all points.
#[derive(Debug)]
pub(super) struct PointCodes {
    with: Instructions,
    /// Steps of four codes that a point has.
    steps: usize,
    /// u8\[chunks, steps, CHUNK, 4\].
    fours: Vec<Four>,
    /// Largest ones of each chunk, for instructions whose sums go in runs.
    squares: Vec<Squares>,
}

/// Codes of a chunk of points.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkCodes<'a> {
    pub with: Instructions,
    pub fours: &'a [Four],
    pub squares: &'a Squares,
}

impl PointCodes {
    /// Memory for so many points of so many codes, all of which are zero.
    pub fn new(with: Instructions, points: usize, width: usize) -> Self {
        let (chunks, steps) = (points.div_ceil(CHUNK), width.next_multiple_of(with.codes_together()) / 4);
        let fours = vec![Four([[with.ranges().moved; 4]; CHUNK]); chunks * steps];
        Self { with, steps, fours, squares: vec![Squares::default(); chunks] }
    }

    /// Puts the codes of a point in.
    pub fn put(&mut self, point: usize, codes: &[i8]) {
        let (chunk, lane) = (point / CHUNK, point % CHUNK);
        let Ranges { moved, .. } = self.with.ranges();
        for (four, codes) in self.fours[chunk * self.steps..].iter_mut().zip(codes.chunks(4)) {
            for (to, code) in four.0[lane].iter_mut().zip(codes) {
                *to = (i32::from(*code) + i32::from(moved)) as u8;
            }
        }
        if self.with.sums_in_runs() {
            raise(&mut self.squares[chunk], &squares(codes));
        }
    }

    pub fn chunk(&self, chunk: usize) -> ChunkCodes<'_> {
        let fours = &self.fours[chunk * self.steps..(chunk + 1) * self.steps];
        ChunkCodes { with: self.with, fours, squares: &self.squares[chunk] }
    }

    /// Bytes of so many points of so many codes, at most.
    pub fn bytes(points: usize, width: usize) -> usize {
        points.div_ceil(CHUNK) * (CHUNK * width.next_multiple_of(MOST_CODES_TOGETHER) + size_of::<Squares>())
    }
}

/// Codes of a portion of rows. Reused from portion to portion.
#[derive(Debug, Default)]
pub(super) struct RowCodes {
    with: Instructions,
    /// Codes that a row has, filled up to whole steps.
    width: usize,
    /// i8\[rows, width\]: as many rows as [come together](Instructions::rows_together), of which the last may be none's.
    codes: Vec<i8>,
    /// What a row's sums start at, so that it does not matter that codes of points are moved up.
    firsts: Vec<i32>,
    runs: Option<RowRuns>,
}

/// Codes of a few rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockCodes<'a> {
    /// i8\[rows, width\], or some more rows, which are none's.
    pub codes: &'a [i8],
    /// See [`RowCodes::firsts`].
    pub firsts: &'a [i32],
    /// For instructions whose sums go in runs.
    pub runs: Option<Runs<'a>>,
}

impl RowCodes {
    /// Forgets all rows; those to come have so many codes.
    pub fn clear(&mut self, with: Instructions, width: usize) {
        (self.with, self.width) = (with, width.next_multiple_of(with.codes_together()));
        self.codes.clear();
        self.firsts.clear();
        self.runs = with.sums_in_runs().then(|| self.runs.take().unwrap_or_default());
        if let Some(runs) = &mut self.runs {
            runs.clear(self.width);
        }
    }

    /// Adds the codes of a row.
    pub fn push(&mut self, codes: &[i8]) {
        let (row, together, moved) = (self.count(), self.with.rows_together(), i32::from(self.with.ranges().moved));
        if row.is_multiple_of(together) {
            self.codes.resize((row + together) * self.width, 0);
        }
        let to = &mut self.codes[row * self.width..][..self.width];
        to[..codes.len()].copy_from_slice(codes);
        let codes = &*to;
        if let Some(runs) = &mut self.runs {
            runs.push(codes, moved, row / self.with.block_rows());
        }
        self.firsts.push(-moved * codes.iter().map(|code| i32::from(*code)).sum::<i32>());
    }

    pub fn count(&self) -> usize {
        self.firsts.len()
    }

    /// Rows of a block.
    pub fn block_rows(&self) -> usize {
        self.with.block_rows()
    }

    /// Rows, [so many](Self::block_rows) by so many.
    pub fn blocks(&self) -> impl Iterator<Item = BlockCodes<'_>> {
        let some = self.block_rows();
        let blocks = self.codes.chunks(some * self.width).zip(self.firsts.chunks(some));
        blocks.enumerate().map(move |(at, (codes, firsts))| {
            let runs = self.runs.as_ref().map(|runs| runs.some(at * some, firsts.len(), at));
            BlockCodes { codes, firsts, runs }
        })
    }

    pub fn row(&self, row: usize) -> BlockCodes<'_> {
        BlockCodes {
            codes: &self.codes[row * self.width..][..self.width],
            firsts: &self.firsts[row..=row],
            runs: self.runs.as_ref().map(|runs| runs.some(row, 1, row / self.block_rows())),
        }
    }

    /// All of them, for instructions whose sums do not go in runs.
    pub fn all(&self) -> BlockCodes<'_> {
        BlockCodes { codes: &self.codes, firsts: &self.firsts, runs: None }
    }

    /// Bytes that one row of so many codes takes at most.
    pub fn row_bytes(width: usize) -> usize {
        width.next_multiple_of(MOST_CODES_TOGETHER) + size_of::<i32>() + RowRuns::row_bytes(width)
    }
}
