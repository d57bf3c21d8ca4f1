//! The two passes, portable and with AVX2.
//!
//! AVX2 has no fast 32-bit product, but sums 16-bit products in pairs. A coefficient c (24 bits with its sign) is cut
//! into c = high * 2^11 + low with 0 <= low < 2^11; both parts fit i16, all sums fit i32 wherever Pillow's own does, and
//! two's complement makes (sum of p * high) * 2^11 + sum of p * low the very sum that the portable path takes.

use super::{PRECISION_BITS, TAP_GROUP, Taps};

/// One pass along the rows and one down the columns.
#[derive(Clone, Copy)]
pub(super) struct Kernels {
    /// `(first needed source row.., stride, source width, taps, out u8[rows, outputs, 3])`
    pub rows: fn(&[u8], usize, usize, &Taps, &mut [u8]),
    /// `(rows u8[n, row_bytes], number of the first of them, row_bytes, taps, out u8[outputs, row_bytes])`
    pub columns: fn(&[u8], usize, usize, &Taps, &mut [u8]),
}

/// The fastest that this machine runs.
pub(super) fn fast() -> Kernels {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        return Kernels { rows: avx2::rows, columns: avx2::columns };
    }
    portable()
}

/// The plain ones: the reference of the tests.
pub(super) fn portable() -> Kernels {
    Kernels { rows, columns }
}

const HALF: i32 = 1 << (PRECISION_BITS - 1);

fn clip(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

fn rows(source: &[u8], stride: usize, width: usize, taps: &Taps, out: &mut [u8]) {
    for (row, out_row) in out.chunks_exact_mut(taps.runs.len() * 3).enumerate() {
        let line = &source[row * stride..row * stride + width * 3];
        for (output, (pixel, &(start, count))) in out_row.chunks_exact_mut(3).zip(&taps.runs).enumerate() {
            pixel.copy_from_slice(&one_pixel(&line[start * 3..(start + count) * 3], taps.coefficients(output)));
        }
    }
}

fn one_pixel(line: &[u8], coefficients: &[i32]) -> [u8; 3] {
    let mut sums = [HALF; 3];
    for (p, &c) in line.chunks_exact(3).zip(coefficients) {
        for (sum, &value) in sums.iter_mut().zip(p) {
            *sum = sum.wrapping_add(i32::from(value).wrapping_mul(c));
        }
    }
    sums.map(clip)
}

fn columns(rows: &[u8], first: usize, row_bytes: usize, taps: &Taps, out: &mut [u8]) {
    for (output, out_row) in out.chunks_exact_mut(row_bytes).enumerate() {
        columns_from(0, rows, first, row_bytes, taps, output, out_row);
    }
}

/// Bytes `from..` of one output row.
fn columns_from(
    from: usize,
    rows: &[u8],
    first: usize,
    row_bytes: usize,
    taps: &Taps,
    output: usize,
    out_row: &mut [u8],
) {
    const BLOCK: usize = 32;
    let (start, count) = taps.runs[output];
    let coefficients = &taps.coefficients(output)[..count];
    for (block, out) in out_row[from..].chunks_mut(BLOCK).enumerate() {
        let mut sums = [HALF; BLOCK];
        for (tap, &c) in coefficients.iter().enumerate() {
            let at = (start - first + tap) * row_bytes + from + block * BLOCK;
            for (sum, &value) in sums.iter_mut().zip(&rows[at..at + out.len()]) {
                *sum = sum.wrapping_add(i32::from(value).wrapping_mul(c));
            }
        }
        for (byte, &sum) in out.iter_mut().zip(&sums) {
            *byte = clip(sum);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{HALF, PRECISION_BITS, TAP_GROUP, Taps, columns_from, one_pixel};

    /// Bits of a coefficient's low part.
    const LOW_BITS: u32 = 11;

    /// Bytes that one load of a group of taps reads: 12 are used.
    const LOAD: usize = 16;

    fn split(c: i32) -> (i16, i16) {
        ((c >> LOW_BITS) as i16, (c & ((1 << LOW_BITS) - 1)) as i16)
    }

    /// Whether every high part fits: only a filter that overshoots by a factor of eight would not.
    fn fits(taps: &Taps) -> bool {
        taps.fixed.iter().all(|&c| i16::try_from(c >> LOW_BITS).is_ok())
    }

    /// Groups of four taps: the four high parts, then the four low parts.
    fn grouped(taps: &Taps) -> Vec<[i16; 2 * TAP_GROUP]> {
        let group = |four: &[i32]| {
            let mut out = [0i16; 2 * TAP_GROUP];
            for (i, &c) in four.iter().enumerate() {
                (out[i], out[i + TAP_GROUP]) = split(c);
            }
            out
        };
        taps.fixed.chunks_exact(TAP_GROUP).map(group).collect()
    }

    pub(super) fn rows(source: &[u8], stride: usize, width: usize, taps: &Taps, out: &mut [u8]) {
        if !fits(taps) {
            return super::rows(source, stride, width, taps, out);
        }
        let groups = grouped(taps);
        for (row, out_row) in out.chunks_exact_mut(taps.runs.len() * 3).enumerate() {
            let (from, end) = (row * stride, row * stride + width * 3);
            // Loads reach over a run's end, into the row's rest or the next row, where coefficients are zero.
            let line = &source[from..];
            for (output, (pixel, &(start, count))) in out_row.chunks_exact_mut(3).zip(&taps.runs).enumerate() {
                let used = count.div_ceil(TAP_GROUP);
                let reach = start * 3 + (used - usize::from(used > 0)) * 3 * TAP_GROUP + LOAD;
                let value = if reach <= line.len() {
                    let at = output * (taps.width / TAP_GROUP);
                    // SAFETY: AVX2 was detected by whoever handed out this function; every load of 16 bytes ends at or
                    // before `reach`, which lies inside `line`.
                    unsafe { pixel_sum(&line[start * 3..], &groups[at..at + used]) }
                } else {
                    one_pixel(&source[from + start * 3..end.min(from + (start + count) * 3)], taps.coefficients(output))
                };
                pixel.copy_from_slice(&value);
            }
        }
    }

    /// One output pixel.
    ///
    /// # Safety
    /// AVX2 must be there, and `line` hold `12 * (groups.len() - 1) + 16` bytes.
    #[target_feature(enable = "avx2")]
    unsafe fn pixel_sum(line: &[u8], groups: &[[i16; 2 * TAP_GROUP]]) -> [u8; 3] {
        // Taps 0 and 1 as pairs r0 r1 g0 g1 b0 b1 - - in the lower half, taps 2 and 3 in the upper, widened to i16.
        const N: i8 = -1;
        let order = _mm256_setr_epi8(
            0, N, 3, N, 1, N, 4, N, 2, N, 5, N, N, N, N, N, //
            6, N, 9, N, 7, N, 10, N, 8, N, 11, N, N, N, N, N,
        );
        let high_pairs = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
        let low_pairs = _mm256_setr_epi32(2, 2, 2, 2, 3, 3, 3, 3);
        let (mut high, mut low) = (_mm256_setzero_si256(), _mm256_setzero_si256());
        for (i, group) in groups.iter().enumerate() {
            debug_assert!(i * 3 * TAP_GROUP + LOAD <= line.len());
            // SAFETY: the caller's promise; a group is 16 bytes.
            let (pixels, coefficients) = unsafe {
                (_mm_loadu_si128(line.as_ptr().add(i * 3 * TAP_GROUP).cast()), _mm_loadu_si128(group.as_ptr().cast()))
            };
            let pairs = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(pixels), order);
            let coefficients = _mm256_castsi128_si256(coefficients);
            let by_high = _mm256_permutevar8x32_epi32(coefficients, high_pairs);
            let by_low = _mm256_permutevar8x32_epi32(coefficients, low_pairs);
            high = _mm256_add_epi32(high, _mm256_madd_epi16(pairs, by_high));
            low = _mm256_add_epi32(low, _mm256_madd_epi16(pairs, by_low));
        }
        let sums = _mm256_add_epi32(_mm256_slli_epi32::<{ LOW_BITS as i32 }>(high), low);
        let sums = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
        let sums = _mm_srai_epi32::<{ PRECISION_BITS as i32 }>(_mm_add_epi32(sums, _mm_set1_epi32(HALF)));
        let words = _mm_packs_epi32(sums, sums);
        let bytes = _mm_cvtsi128_si32(_mm_packus_epi16(words, words)).to_le_bytes();
        [bytes[0], bytes[1], bytes[2]]
    }

    /// Bytes of a row that one round of the column pass makes.
    const BLOCK: usize = 32;

    pub(super) fn columns(rows: &[u8], first: usize, row_bytes: usize, taps: &Taps, out: &mut [u8]) {
        if !fits(taps) {
            return super::columns(rows, first, row_bytes, taps, out);
        }
        let blocks = row_bytes / BLOCK;
        let mut pairs: Vec<(i32, i32)> = Vec::with_capacity(taps.width / 2);
        for (output, out_row) in out.chunks_exact_mut(row_bytes).enumerate() {
            let (start, count) = taps.runs[output];
            pairs.clear();
            pairs.extend(taps.coefficients(output)[..count.next_multiple_of(2)].chunks_exact(2).map(|two| {
                let ((h0, l0), (h1, l1)) = (split(two[0]), split(two[1]));
                let pack = |a: i16, b: i16| (i32::from(b) << 16) | i32::from(a as u16);
                (pack(h0, h1), pack(l0, l1))
            }));
            let from = (start - first) * row_bytes;
            let lines = &rows[from..from + count * row_bytes];
            for block in 0..blocks {
                let out = &mut out_row[block * BLOCK..(block + 1) * BLOCK];
                // SAFETY: AVX2 was detected; `lines` holds `count` rows, of which each has a block here.
                unsafe { block_sum(&lines[block * BLOCK..], row_bytes, count, &pairs, out) };
            }
            columns_from(blocks * BLOCK, rows, first, row_bytes, taps, output, out_row);
        }
    }

    /// 32 bytes of one output row.
    ///
    /// # Safety
    /// AVX2 must be there; `lines` hold `(count - 1) * stride + 32` bytes, `pairs` `count / 2` rounded up, `out` 32.
    #[target_feature(enable = "avx2")]
    unsafe fn block_sum(lines: &[u8], stride: usize, count: usize, pairs: &[(i32, i32)], out: &mut [u8]) {
        debug_assert!(count > 0 && (count - 1) * stride + BLOCK <= lines.len() && out.len() == BLOCK);
        let zero = _mm256_setzero_si256();
        let (mut high, mut low) = ([zero; 4], [zero; 4]);
        for (i, &(by_high, by_low)) in pairs.iter().enumerate() {
            let (by_high, by_low) = (_mm256_set1_epi32(by_high), _mm256_set1_epi32(by_low));
            // SAFETY: rows 2i and, where it exists, 2i + 1 lie inside, by the caller's promise.
            let (a, b) = unsafe {
                let at = lines.as_ptr().add(2 * i * stride);
                let b = if 2 * i + 1 < count { _mm256_loadu_si256(at.add(stride).cast()) } else { zero };
                (_mm256_loadu_si256(at.cast()), b)
            };
            let (left, right) = (_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b));
            let wide = [
                _mm256_unpacklo_epi8(left, zero),
                _mm256_unpackhi_epi8(left, zero),
                _mm256_unpacklo_epi8(right, zero),
                _mm256_unpackhi_epi8(right, zero),
            ];
            for quarter in 0..4 {
                high[quarter] = _mm256_add_epi32(high[quarter], _mm256_madd_epi16(wide[quarter], by_high));
                low[quarter] = _mm256_add_epi32(low[quarter], _mm256_madd_epi16(wide[quarter], by_low));
            }
        }
        let half = _mm256_set1_epi32(HALF);
        let mut sums = [zero; 4];
        for (sum, (&high, &low)) in sums.iter_mut().zip(high.iter().zip(&low)) {
            let whole = _mm256_add_epi32(_mm256_slli_epi32::<{ LOW_BITS as i32 }>(high), low);
            *sum = _mm256_srai_epi32::<{ PRECISION_BITS as i32 }>(_mm256_add_epi32(whole, half));
        }
        // All of it happened inside 128-bit halves, so packing puts the bytes back into their order.
        let words = (_mm256_packs_epi32(sums[0], sums[1]), _mm256_packs_epi32(sums[2], sums[3]));
        // SAFETY: `out` has 32 bytes.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm256_packus_epi16(words.0, words.1)) };
    }
}
