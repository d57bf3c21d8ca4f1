//! Products with the instructions of x86-64.
#![allow(clippy::needless_range_loop)] // loops over registers, which are numbered

use std::arch::x86_64::*;

use super::{BlockCodes, CHUNK, Chunk, Four, RowTerms, Sums, Values};

/// Rows at once on 512 bits: with four vectors of points these are 24 sums in registers, and ten loads for 24 products.
const ROWS_512: usize = 6;

/// Rows at once on 256 bits, with two vectors of points.
const ROWS_256: usize = 6;

/// Rows and vectors of points (8 each) at once without `VPDPBUSD`: twelve sums of a run, and registers for what leads to them.
const ROWS_AVX2: usize = 6;
const PARTS_AVX2: usize = 2;

/// Vectors of 8 points that make a chunk. Of a row alone all are made at once, so that an addition need not wait for the one before.
const PARTS_256: usize = CHUNK / 8;

/// Vectors of 16 sums each that make a chunk, on 512 bits.
const PARTS: usize = CHUNK / 16;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn multiply_512(rows: BlockCodes<'_>, terms: &[RowTerms], chunk: Chunk<'_>, out: &mut [Values]) {
    let width = 4 * chunk.codes.fours.len();
    let (rows, firsts) = (rows.codes, rows.firsts);
    let whole = terms.len() / ROWS_512 * ROWS_512;
    for first in (0..whole).step_by(ROWS_512) {
        // SAFETY: so many rows are left.
        unsafe {
            values_512::<ROWS_512>(
                rows.as_ptr().add(first * width),
                &firsts[first..],
                &terms[first..],
                chunk,
                &mut out[first..],
            )
        };
    }
    let (rows, firsts, left, out) = (&rows[whole * width..], &firsts[whole..], &terms[whole..], &mut out[whole..]);
    // SAFETY: so many rows are left.
    unsafe {
        match left.len() {
            1 => values_512::<1>(rows.as_ptr(), firsts, left, chunk, out),
            2 => values_512::<2>(rows.as_ptr(), firsts, left, chunk, out),
            3 => values_512::<3>(rows.as_ptr(), firsts, left, chunk, out),
            4 => values_512::<4>(rows.as_ptr(), firsts, left, chunk, out),
            5 => values_512::<5>(rows.as_ptr(), firsts, left, chunk, out),
            _ => (),
        }
    }
}

/// The sums of some rows, which have `4 * codes.len()` codes each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tile_512<const ROWS: usize>(
    rows: *const i8,
    firsts: [i32; ROWS],
    codes: &[Four],
) -> [[__m512i; PARTS]; ROWS] {
    let width = 4 * codes.len();
    let mut sums = [[_mm512_setzero_si512(); PARTS]; ROWS];
    for row in 0..ROWS {
        sums[row] = [_mm512_set1_epi32(firsts[row]); PARTS];
    }
    for (step, four) in codes.iter().enumerate() {
        let at = four.0.as_ptr().cast::<__m512i>();
        // SAFETY: a step has four aligned vectors, and a row has `width` codes, of which `4 * step` to `4 * step + 4` are read.
        unsafe {
            let points = [
                _mm512_load_si512(at),
                _mm512_load_si512(at.add(1)),
                _mm512_load_si512(at.add(2)),
                _mm512_load_si512(at.add(3)),
            ];
            for row in 0..ROWS {
                let x = _mm512_set1_epi32(rows.add(row * width + 4 * step).cast::<i32>().read_unaligned());
                for j in 0..PARTS {
                    sums[row][j] = _mm512_dpbusd_epi32(sums[row][j], points[j], x);
                }
            }
        }
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn values_512<const ROWS: usize>(
    rows: *const i8,
    firsts: &[i32],
    terms: &[RowTerms],
    chunk: Chunk<'_>,
    out: &mut [Values],
) {
    // SAFETY: as the caller says.
    let sums = unsafe { tile_512::<ROWS>(rows, std::array::from_fn(|row| firsts[row]), chunk.codes.fours) };
    for j in 0..PARTS {
        let points = point_terms(chunk, j);
        for row in 0..ROWS {
            store_values(sums[row][j], &terms[row], points, &mut out[row], j);
        }
    }
}

/// Sums as values.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn values_of_512(sums: &[Sums], terms: &[RowTerms], chunk: Chunk<'_>, out: &mut [Values]) {
    for j in 0..PARTS {
        let points = point_terms(chunk, j);
        for ((sums, terms), out) in sums.iter().zip(terms).zip(&mut *out) {
            // SAFETY: 64 aligned sums.
            let sums = unsafe { _mm512_load_si512(sums.0.as_ptr().add(16 * j).cast()) };
            store_values(sums, terms, points, out, j);
        }
    }
}

/// Steps and slack of a vector of points, and the factor of slack.
#[inline]
#[target_feature(enable = "avx512f")]
fn point_terms(chunk: Chunk<'_>, j: usize) -> [__m512; 3] {
    // SAFETY: 64 elements each.
    let (steps, slack) = unsafe {
        (_mm512_loadu_ps(chunk.steps.as_ptr().add(16 * j)), _mm512_loadu_ps(chunk.slack.as_ptr().add(16 * j)))
    };
    [steps, slack, _mm512_set1_ps(chunk.length)]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn store_values(sums: __m512i, terms: &RowTerms, [steps, slack, length]: [__m512; 3], out: &mut Values, j: usize) {
    let scale = _mm512_mul_ps(_mm512_set1_ps(terms.scale), steps);
    let value = _mm512_fmsub_ps(_mm512_cvtepi32_ps(sums), scale, _mm512_set1_ps(terms.shift));
    let value = _mm512_cvtps_epi32(_mm512_fnmadd_ps(length, slack, value));
    // SAFETY: 64 values a row.
    unsafe { _mm256_storeu_si256(out.0.as_mut_ptr().add(16 * j).cast(), _mm512_cvtsepi32_epi16(value)) };
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn sums_512(rows: BlockCodes<'_>, codes: &[Four], out: &mut [Sums]) {
    let (width, rows, firsts) = (4 * codes.len(), rows.codes, rows.firsts);
    let (tiles, left) = firsts.as_chunks::<ROWS_512>();
    let whole = tiles.len() * ROWS_512;
    for (at, firsts) in tiles.iter().enumerate() {
        // SAFETY: so many rows are left.
        let sums = unsafe { tile_512(rows.as_ptr().add(at * ROWS_512 * width), *firsts, codes) };
        for row in 0..ROWS_512 {
            store_512(&sums[row], &mut out[at * ROWS_512 + row]);
        }
    }
    for (row, first) in left.iter().enumerate() {
        // SAFETY: a row is left.
        let sums = unsafe { tile_512(rows.as_ptr().add((whole + row) * width), [*first], codes) };
        store_512(&sums[0], &mut out[whole + row]);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_512(sums: &[__m512i; PARTS], out: &mut Sums) {
    for j in 0..PARTS {
        // SAFETY: 64 aligned sums.
        unsafe { _mm512_store_si512(out.0.as_mut_ptr().add(16 * j).cast(), sums[j]) };
    }
}

#[target_feature(enable = "avx2,avxvnni")]
pub(super) unsafe fn sums_256(rows: BlockCodes<'_>, codes: &[Four], out: &mut [Sums]) {
    let (width, rows, firsts) = (4 * codes.len(), rows.codes, rows.firsts);
    let whole = firsts.len() / ROWS_256 * ROWS_256;
    for quarter in 0..CHUNK / 16 {
        for first in (0..whole).step_by(ROWS_256) {
            let (firsts, out) = (&firsts[first..], &mut out[first..]);
            // SAFETY: so many rows are left.
            unsafe { tile_256::<ROWS_256>(rows.as_ptr().add(first * width), firsts, codes, quarter, out) };
        }
        for row in whole..firsts.len() {
            // SAFETY: a row is left.
            unsafe { tile_256::<1>(rows.as_ptr().add(row * width), &firsts[row..], codes, quarter, &mut out[row..]) };
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn tile_256<const ROWS: usize>(
    rows: *const i8,
    firsts: &[i32],
    codes: &[Four],
    quarter: usize,
    out: &mut [Sums],
) {
    let width = 4 * codes.len();
    let mut sums = [[_mm256_setzero_si256(); 2]; ROWS];
    for row in 0..ROWS {
        sums[row] = [_mm256_set1_epi32(firsts[row]); 2];
    }
    for (step, four) in codes.iter().enumerate() {
        let at = four.0.as_ptr().cast::<__m256i>();
        // SAFETY: a step has eight aligned vectors, two a quarter, and a row has `width` codes, of which `4 * step` to `4 * step + 4` are read.
        unsafe {
            let points = [_mm256_load_si256(at.add(2 * quarter)), _mm256_load_si256(at.add(2 * quarter + 1))];
            for row in 0..ROWS {
                let x = _mm256_set1_epi32(rows.add(row * width + 4 * step).cast::<i32>().read_unaligned());
                for j in 0..2 {
                    sums[row][j] = _mm256_dpbusd_avx_epi32(sums[row][j], points[j], x);
                }
            }
        }
    }
    for row in 0..ROWS {
        for j in 0..2 {
            // SAFETY: 64 aligned sums.
            unsafe { _mm256_store_si256(out[row].0.as_mut_ptr().add(16 * quarter + 8 * j).cast(), sums[row][j]) };
        }
    }
}

/// `starts` are those of all runs of `run` steps, row by row: two of 16 bits each.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn sums_avx2(rows: &[i8], starts: &[i32], run: usize, codes: &[Four], out: &mut [Sums]) {
    let (width, runs) = (4 * codes.len(), codes.len().div_ceil(run));
    let whole = out.len() / ROWS_AVX2 * ROWS_AVX2;
    for part in 0..PARTS_256 / PARTS_AVX2 {
        for first in (0..whole).step_by(ROWS_AVX2) {
            let (rows, starts) = (&rows[first * width..], &starts[first * runs..]);
            // SAFETY: so many rows are left.
            unsafe {
                tile_avx2::<ROWS_AVX2, PARTS_AVX2>(rows.as_ptr(), starts, run, codes, part, &mut out[first..]);
            };
        }
    }
    for row in whole..out.len() {
        let (rows, starts) = (&rows[row * width..], &starts[row * runs..]);
        // SAFETY: a row is left.
        unsafe { tile_avx2::<1, PARTS_256>(rows.as_ptr(), starts, run, codes, 0, &mut out[row..]) };
    }
}

/// A multiplication and an addition for 32 products. What a run comes to is widened, and stored, or added to what the runs before left.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn tile_avx2<const ROWS: usize, const VECTORS: usize>(
    rows: *const i8,
    starts: &[i32],
    run: usize,
    codes: &[Four],
    part: usize,
    out: &mut [Sums],
) {
    let (width, runs, ones) = (4 * codes.len(), codes.len().div_ceil(run), _mm256_set1_epi16(1));
    // Three rows are read beside each pointer, for an instruction can add one or two widths to it by itself.
    let mut next = [rows, rows.wrapping_add(3 * width)];
    for (at, fours) in codes.chunks(run).enumerate() {
        let mut sums = [[_mm256_setzero_si256(); VECTORS]; ROWS];
        for row in 0..ROWS {
            sums[row] = [_mm256_set1_epi32(starts[row * runs + at]); VECTORS];
        }
        for four in fours {
            // SAFETY: a step has eight aligned vectors, `VECTORS` a part, and each row has four codes a step.
            unsafe {
                let points = four.0.as_ptr().cast::<__m256i>().add(VECTORS * part);
                let points: [_; VECTORS] = std::array::from_fn(|j| _mm256_load_si256(points.add(j)));
                for row in 0..ROWS {
                    let x = _mm256_set1_epi32(next[row / 3].add(row % 3 * width).cast::<i32>().read_unaligned());
                    for j in 0..VECTORS {
                        sums[row][j] = _mm256_add_epi16(sums[row][j], _mm256_maddubs_epi16(points[j], x));
                    }
                }
                next = next.map(|it| it.wrapping_add(4));
            }
        }
        for row in 0..ROWS {
            for j in 0..VECTORS {
                let wide = _mm256_madd_epi16(sums[row][j], ones);
                // SAFETY: 64 aligned sums.
                unsafe {
                    let to = out[row].0.as_mut_ptr().cast::<__m256i>().add(VECTORS * part + j);
                    let before = if at == 0 { _mm256_setzero_si256() } else { _mm256_load_si256(to) };
                    _mm256_store_si256(to, _mm256_add_epi32(before, wide));
                }
            }
        }
    }
}

/// Sums as values.
#[target_feature(enable = "avx2,fma")]
pub(super) fn values_256(sums: &[Sums], terms: &[RowTerms], chunk: Chunk<'_>, out: &mut [Values]) {
    let length = _mm256_set1_ps(chunk.length);
    for ((sums, terms), out) in sums.iter().zip(terms).zip(out) {
        let (scale, shift) = (_mm256_set1_ps(terms.scale), _mm256_set1_ps(terms.shift));
        let value = |at: usize| {
            // SAFETY: 64 elements each, the sums aligned.
            let (sums, steps, slack) = unsafe {
                (
                    _mm256_load_si256(sums.0.as_ptr().add(at).cast()),
                    _mm256_loadu_ps(chunk.steps.as_ptr().add(at)),
                    _mm256_loadu_ps(chunk.slack.as_ptr().add(at)),
                )
            };
            let value = _mm256_fmsub_ps(_mm256_cvtepi32_ps(sums), _mm256_mul_ps(scale, steps), shift);
            _mm256_cvtps_epi32(_mm256_fnmadd_ps(length, slack, value))
        };
        for at in (0..CHUNK).step_by(16) {
            // Pairs of quarters come out crossed, and are put right.
            let narrow = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(value(at), value(at + 8)));
            // SAFETY: 64 values a row.
            unsafe { _mm256_storeu_si256(out.0.as_mut_ptr().add(at).cast(), narrow) };
        }
    }
}
