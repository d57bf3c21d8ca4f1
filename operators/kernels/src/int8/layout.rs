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
    /// Codes that a row has, filled up to whole steps.
    width: usize,
    /// By what codes of points are moved up.
    moved: i32,
    /// Rows of a block.
    block: usize,
    /// The number of rows here is a multiple of this: the last may be none's.
    together: usize,
    /// i8\[rows, width\].
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
        (self.width, self.moved) = (width.next_multiple_of(with.codes_together()), i32::from(with.ranges().moved));
        (self.block, self.together) = (with.block_rows(), with.rows_together());
        self.codes.clear();
        self.firsts.clear();
        self.runs = with.sums_in_runs().then(|| self.runs.take().unwrap_or_default());
        if let Some(runs) = &mut self.runs {
            runs.clear(self.width);
        }
    }

    /// Adds the codes of a row.
    pub fn push(&mut self, codes: &[i8]) {
        let row = self.firsts.len();
        if row.is_multiple_of(self.together) {
            self.codes.resize((row + self.together) * self.width, 0);
        }
        let to = &mut self.codes[row * self.width..][..self.width];
        to[..codes.len()].copy_from_slice(codes);
        let codes = &*to;
        if let Some(runs) = &mut self.runs {
            runs.push(codes, self.moved, row / self.block);
        }
        self.firsts.push(-self.moved * codes.iter().map(|code| i32::from(*code)).sum::<i32>());
    }

    pub fn count(&self) -> usize {
        self.firsts.len()
    }

    /// Rows of a block.
    pub fn block_rows(&self) -> usize {
        self.block
    }

    /// Rows, [so many](Self::block_rows) by so many.
    pub fn blocks(&self) -> impl Iterator<Item = BlockCodes<'_>> {
        let blocks = self.codes.chunks(self.block * self.width).zip(self.firsts.chunks(self.block));
        blocks.enumerate().map(|(at, (codes, firsts))| {
            let runs = self.runs.as_ref().map(|runs| runs.some(at * self.block, firsts.len(), at));
            BlockCodes { codes, firsts, runs }
        })
    }

    pub fn row(&self, row: usize) -> BlockCodes<'_> {
        BlockCodes {
            codes: &self.codes[row * self.width..][..self.width],
            firsts: &self.firsts[row..=row],
            runs: self.runs.as_ref().map(|runs| runs.some(row, 1, row / self.block)),
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
