//! The products of some rows' codes with those of a chunk of points: sums in i32, and values in i16.

#[cfg(target_arch = "x86_64")]
mod x86;

use super::CHUNK;
use super::instructions::{Instructions, Tiles};
use super::layout::{BlockCodes, ChunkCodes, Four, MOST_BLOCK_ROWS, RowCodes};
#[cfg(target_arch = "x86_64")]
use super::tiles::{FEWEST_ROWS, ROWS};

/// A row's part in what its products become: `sum * scale * steps[point] - length * slack[point] - shift`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RowTerms {
    pub scale: f32,
    pub shift: f32,
}

/// Sums of a row's codes times those of a chunk of points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub(super) struct Sums(pub [i32; CHUNK]);

/// Sums of a block of rows. Reused from block to block.
pub(super) struct BlockSums([Sums; MOST_BLOCK_ROWS]);

/// Values of a row with a chunk of points.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Values(pub [i16; CHUNK]);

/// The points of a chunk.
#[derive(Clone, Copy)]
pub(super) struct Chunk<'a> {
    pub codes: ChunkCodes<'a>,
    pub steps: &'a [f32; CHUNK],
    pub slack: &'a [f32; CHUNK],
    /// Factor of `slack`.
    pub length: f32,
}

/// Values of all rows with a chunk; `tiles` are those of its instructions.
pub(super) fn multiply(
    rows: &RowCodes,
    terms: &[RowTerms],
    chunk: Chunk<'_>,
    tiles: Option<&Tiles>,
    out: &mut [Values],
) {
    assert!(rows.count() == terms.len() && out.len() == terms.len(), "as many values as rows");
    #[cfg(target_arch = "x86_64")]
    if chunk.codes.with == Instructions::Avx512Vnni {
        checked(rows.all(), chunk.codes, out.len());
        // SAFETY: the features are there, and lengths fit.
        return unsafe { x86::multiply_512(rows.all(), terms, chunk, out) };
    }
    let mut block = BlockSums::default();
    let some = rows.block_rows();
    for ((rows, terms), out) in rows.blocks().zip(terms.chunks(some)).zip(out.chunks_mut(some)) {
        let sums_of = block.of(rows, chunk.codes, tiles);
        #[cfg(target_arch = "x86_64")]
        if chunk.codes.with == Instructions::Amx {
            // SAFETY: `sums` has seen that AVX-512 VNNI is there, which is asked for with AMX.
            unsafe { x86::values_of_512(sums_of, terms, chunk, out) };
            continue;
        }
        #[cfg(target_arch = "x86_64")]
        if chunk.codes.with != Instructions::Portable {
            // SAFETY: `sums` has seen that AVX2 and FMA are there, which all others of this processor's instructions come with.
            unsafe { x86::values_256(sums_of, terms, chunk, out) };
            continue;
        }
        values(sums_of, terms, chunk, out);
    }
}

/// What unsafe code asks for.
fn checked(rows: BlockCodes<'_>, points: ChunkCodes<'_>, out: usize) {
    let width = 4 * points.fours.len();
    assert!(rows.codes.len() >= rows.firsts.len() * width && out == rows.firsts.len(), "as many sums as rows");
    assert!(points.with.are_there(), "the processor has the instructions");
}

impl Default for BlockSums {
    fn default() -> Self {
        Self([Sums([0; CHUNK]); MOST_BLOCK_ROWS])
    }
}

impl BlockSums {
    /// Sums of a block of rows with a chunk; `tiles` are those of its instructions.
    pub fn of(&mut self, rows: BlockCodes<'_>, points: ChunkCodes<'_>, tiles: Option<&Tiles>) -> &[Sums] {
        let out = &mut self.0[..rows.firsts.len()];
        match tiles {
            #[cfg(target_arch = "x86_64")]
            Some(tiles) if out.len() >= FEWEST_ROWS => {
                let (width, firsts) = (4 * points.fours.len(), rows.firsts);
                assert!(self.0.len() >= ROWS && rows.codes.len() == ROWS * width, "a whole block");
                let (rows, points, out) = (rows.codes.as_ptr(), points.fours.as_ptr(), self.0.as_mut_ptr());
                // SAFETY: so many rows lie there, points are as wide, and there is memory for the sums of as many.
                unsafe { tiles.multiply(rows, firsts, width, points.cast(), out.cast()) };
            }
            _ => sums(rows, points, out),
        }
        &self.0[..rows.firsts.len()]
    }
}

fn values(sums: &[Sums], terms: &[RowTerms], chunk: Chunk<'_>, out: &mut [Values]) {
    for ((sums, terms), out) in sums.iter().zip(terms).zip(out) {
        let terms_of = sums.0.iter().zip(chunk.steps.iter().zip(chunk.slack));
        for (out, (sum, (step, slack))) in out.0.iter_mut().zip(terms_of) {
            let value = *sum as f32 * (terms.scale * step) - chunk.length * slack - terms.shift;
            *out = value.round_ties_even() as i16;
        }
    }
}

/// Sums of a few rows with a chunk.
pub(super) fn sums(rows: BlockCodes<'_>, points: ChunkCodes<'_>, out: &mut [Sums]) {
    checked(rows, points, out.len());
    match (points.with, rows.runs) {
        // SAFETY: the features are there, and lengths fit.
        #[cfg(target_arch = "x86_64")]
        (Instructions::Amx | Instructions::Avx512Vnni, _) => unsafe { x86::sums_512(rows, points.fours, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        (Instructions::AvxVnni, _) => unsafe { x86::sums_256(rows, points.fours, out) },
        #[cfg(target_arch = "x86_64")]
        (Instructions::Avx2, Some(runs)) => {
            let (run, starts) = runs.longest(points.squares);
            assert!(starts.len() == out.len() * points.fours.len().div_ceil(run), "each run starts at something");
            // SAFETY: as above.
            unsafe { x86::sums_avx2(rows.codes, starts, run, points.fours, out) }
        }
        _ => sums_portable(rows, points.fours, out),
    }
}

fn sums_portable(rows: BlockCodes<'_>, codes: &[Four], out: &mut [Sums]) {
    for ((row, first), out) in rows.codes.chunks_exact(4 * codes.len()).zip(rows.firsts).zip(out) {
        out.0.fill(*first);
        for (four, x) in codes.iter().zip(row.as_chunks::<4>().0) {
            for (sum, codes) in out.0.iter_mut().zip(&four.0) {
                for (t, x) in codes.iter().zip(x) {
                    *sum += i32::from(*t) * i32::from(*x);
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::instructions::Ranges;
    use super::super::layout::PointCodes;
    use super::*;

    /// As large as codes may be, all of one sign or of two, as large as a long run may just have them and one more, and anything: no sum overflows, whatever the number of rows
    /// and steps that are left over.
    #[test]
    fn sums_are_exact_with_the_largest_codes() {
        let mut state = 9u64;
        let mut below = |n: i32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as i32 % n
        };
        for with in Instructions::all() {
            let Ranges { rows: most_x, points: most_t, .. } = with.ranges();
            let (most_x, most_t) = (most_x as i32, most_t as i32);
            let sizes = [(1, 1), (5, 2), (6, 3), (7, 4), (8, 9), (15, 31), (24, 160), (30, 17)];
            for (rows, steps) in sizes.into_iter().take(if cfg!(miri) { 4 } else { 8 }) {
                for kind in 0..8 {
                    let mut code = |most: i32, sign: i32| match kind {
                        0 => most,
                        1 => sign * most,
                        2 => most * (1 - 2 * below(2)),
                        3 => below(2 * most + 1) - most,
                        // The 32 products that a lane adds up in 16 steps come to 30,752 and 32,768, the 16 of 8 steps to 32,400 and 33,856.
                        4 => 31,
                        5 => 32,
                        6 => 45,
                        _ => 46,
                    };
                    let mut rows_codes = RowCodes::default();
                    rows_codes.clear(with, 4 * steps);
                    for _ in 0..rows {
                        rows_codes.push(&(0..4 * steps).map(|_| code(most_x, -1) as i8).collect::<Vec<_>>());
                    }
                    let mut points = PointCodes::new(with, CHUNK, 4 * steps);
                    for point in 0..CHUNK {
                        points.put(point, &(0..4 * steps).map(|_| code(most_t, 1) as i8).collect::<Vec<_>>());
                    }
                    for block in rows_codes.blocks() {
                        let rows = block.firsts.len();
                        let (mut out, mut expected) = (vec![Sums([1; CHUNK]); rows], vec![Sums([2; CHUNK]); rows]);
                        sums(block, points.chunk(0), &mut out);
                        sums_portable(block, points.chunk(0).fours, &mut expected);
                        assert_eq!(out, expected, "{with:?}, {rows} rows, {steps} steps, kind {kind}");
                    }
                }
            }
        }
    }

    /// A block of any number of rows, of as many elements as a tile takes or more, with codes as large as they may be, against the plain loop; by an emulator where the processor has no tiles.
    #[test]
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    #[cfg_attr(miri, ignore = "assembly")]
    fn blocks_by_tiles_are_exact() {
        use super::super::tiles::{Tiles, emulator};
        emulator::install();
        let mut state = 7u64;
        let mut code = |most: i8| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            match state >> 60 {
                0 => most,
                1 => -most,
                _ => ((state >> 33) % 255) as u8 as i8 / 2,
            }
        };
        // SAFETY: they are emulated, and nobody else uses them.
        let tiles = unsafe { Tiles::configured() };
        let mut block = BlockSums::default();
        for (rows, width) in [(FEWEST_ROWS, 1), (16, 64), (17, 65), (31, 160), (ROWS, 640)] {
            let mut of_rows = RowCodes::default();
            of_rows.clear(Instructions::Amx, width);
            let mut points = PointCodes::new(Instructions::Amx, CHUNK, width);
            (0..rows).for_each(|_| of_rows.push(&(0..width).map(|_| code(127)).collect::<Vec<_>>()));
            (0..CHUNK).for_each(|at| points.put(at, &(0..width).map(|_| code(127)).collect::<Vec<_>>()));
            let whole = of_rows.blocks().next().unwrap();
            let mut expected = vec![Sums([2; CHUNK]); rows];
            sums_portable(whole, points.chunk(0).fours, &mut expected);
            assert_eq!(block.of(whole, points.chunk(0), Some(&tiles)), expected, "{rows} rows, {width} codes");
        }
    }
}
