//! Runs of steps whose products are added up in 16 bits, with a proof that the sums are exact, for instructions whose products have 16 bits.
//!
//! `VPMADDUBSW` gives the sum of two products in 16 bits, and to widen it takes a second multiplication, `VPMADDWD`. So the sums of a run of steps are added up in 16 bits, and widened once.
//!
//! Codes of points are moved up by `m`: what is added up over a run is `sum p (q + m)`, beginning with `-m sum p`, which is the row's alone. Additions wrap, so it does not matter whether
//! they leave the range on their way. They end at `sum p q` if that is in the range, and by Cauchy and Schwarz it is where `|p|^2 |q|^2 <= 32767^2`, with the norms of the codes of this run.
//! Largest norms are kept of the rows of a block and of the points of a chunk, for each length that a run may have; the longest that is proven is taken. The shortest is always exact.
//!
//! A lane of 16 bits sees two of a step's four codes, the first two or the last two.

/// Steps of a run, the longest first. Of vectors such as `benches/decisions.rs` makes, the longest is proven for 99.6 % of blocks and chunks or more from 512 elements
/// on, for 85 % in 160 leading directions, and for few of 64 elements, which go by eight. The last needs no proof for codes of up to 64 and 63: `4 * 64 * 63 = 16,128`.
pub(super) const RUNS: [usize; 3] = [16, 8, 2];

/// Lengths of which it must be proven.
const TO_PROVE: usize = RUNS.len() - 1;

/// For each of these lengths the largest squared norm of the codes that a lane sees in a run.
pub(super) type Squares = [i64; TO_PROVE];

/// The largest sum of 16 bits.
const MOST: i64 = i16::MAX as i64;

/// The largest squared norms of one vector's codes.
pub(super) fn squares(codes: &[i8]) -> Squares {
    let mut largest = Squares::default();
    for (largest, run) in largest.iter_mut().zip(RUNS) {
        for codes in codes.chunks(4 * run) {
            let mut lanes = [0; 4];
            for codes in codes.chunks(4) {
                lanes.iter_mut().zip(codes).for_each(|(sum, code)| *sum += i64::from(*code) * i64::from(*code));
            }
            *largest = (*largest).max(lanes[0] + lanes[1]).max(lanes[2] + lanes[3]);
        }
    }
    largest
}

pub(super) fn raise(largest: &mut Squares, squares: &Squares) {
    largest.iter_mut().zip(squares).for_each(|(largest, square)| *largest = (*largest).max(*square));
}

/// What runs of rows start at, and how large they may become.
#[derive(Debug, Default)]
pub(super) struct RowRuns {
    /// By length: runs of a row.
    runs: [usize; RUNS.len()],
    /// By length: i16\[rows, runs, 2\], two in one, as instructions read them.
    starts: [Vec<i32>; RUNS.len()],
    /// By block of rows.
    squares: Vec<Squares>,
}

impl RowRuns {
    /// Forgets all rows; those to come have so many codes.
    pub fn clear(&mut self, width: usize) {
        self.runs = RUNS.map(|run| width.div_ceil(4 * run));
        self.starts.iter_mut().for_each(Vec::clear);
        self.squares.clear();
    }

    /// Adds the codes of the next row, which is in this block.
    pub fn push(&mut self, codes: &[i8], moved: i32, block: usize) {
        for (starts, run) in self.starts.iter_mut().zip(RUNS) {
            starts.extend(codes.chunks(4 * run).map(|codes| {
                let sum = |lane: usize| {
                    codes.chunks(4).flat_map(|four| &four[2 * lane..2 * lane + 2]).copied().map(i32::from).sum::<i32>()
                };
                let start = |lane: usize| u32::from((-moved * sum(lane)) as u16);
                (start(0) | start(1) << 16) as i32
            }));
        }
        self.squares.resize(block + 1, Squares::default());
        raise(&mut self.squares[block], &squares(codes));
    }

    /// Those of some rows of this block.
    pub fn some(&self, first: usize, count: usize, block: usize) -> Runs<'_> {
        let of = |at: usize| &self.starts[at][first * self.runs[at]..][..count * self.runs[at]];
        Runs { starts: std::array::from_fn(of), squares: &self.squares[block] }
    }

    /// Bytes of one row of so many codes.
    pub fn row_bytes(width: usize) -> usize {
        let starts: usize = RUNS.iter().map(|run| 4 * width.div_ceil(4 * run)).sum();
        starts + size_of::<Squares>()
    }
}

/// Runs of a few rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runs<'a> {
    starts: [&'a [i32]; RUNS.len()],
    squares: &'a Squares,
}

impl Runs<'_> {
    /// The length of the longest runs that are exact with a chunk of points, and what they start at.
    pub fn longest(&self, points: &Squares) -> (usize, &[i32]) {
        let exact = self.squares.iter().zip(points).position(|(p, q)| p * q <= MOST * MOST);
        let at = exact.unwrap_or(TO_PROVE);
        (RUNS[at], self.starts[at])
    }
}
