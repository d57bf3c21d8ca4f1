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

    /// Factors of a group of four taps, as the products want them: the high parts of taps 0 and 1 four times, of 2 and 3 four times, then
    /// the low parts likewise.
    type Factors = [[i16; 2]; 16];

    fn factors(taps: &Taps) -> Vec<Factors> {
        let group = |four: &[i32]| {
            let parts = [split(four[0]), split(four[1]), split(four[2]), split(four[3])];
            let mut out = [[0i16; 2]; 16];
            for i in 0..4 {
                (out[i], out[i + 4]) = ([parts[0].0, parts[1].0], [parts[2].0, parts[3].0]);
                (out[i + 8], out[i + 12]) = ([parts[0].1, parts[1].1], [parts[2].1, parts[3].1]);
            }
            out
        };
        taps.fixed.chunks_exact(TAP_GROUP).map(group).collect()
    }

    /// Rows that go together, so that each factor is loaded once for all of them.
    const ROWS: usize = 4;

    pub(super) fn rows(source: &[u8], stride: usize, width: usize, taps: &Taps, out: &mut [u8]) {
        if !fits(taps) {
            return super::rows(source, stride, width, taps, out);
        }
        let factors = factors(taps);
        let out_stride = taps.runs.len() * 3;
        for (block, out) in out.chunks_mut(ROWS * out_stride).enumerate() {
            let lines = &source[block * ROWS * stride..];
            // SAFETY: AVX2 was detected by whoever handed out this function.
            unsafe {
                if out.len() == ROWS * out_stride {
                    rows_together::<ROWS>(lines, stride, width, taps, &factors, out);
                } else {
                    for (row, out) in out.chunks_exact_mut(out_stride).enumerate() {
                        rows_together::<1>(&lines[row * stride..], stride, width, taps, &factors, out);
                    }
                }
            }
        }
    }

    /// `N` rows u8\[N, outputs, 3\], from as many at the head of `lines`.
    ///
    /// # Safety
    /// AVX2 must be there.
    #[target_feature(enable = "avx2")]
    unsafe fn rows_together<const N: usize>(
        lines: &[u8],
        stride: usize,
        width: usize,
        taps: &Taps,
        factors: &[Factors],
        out: &mut [u8],
    ) {
        // Taps 0 and 1 as pairs r0 r1 g0 g1 b0 b1 - - in the lower half, taps 2 and 3 in the upper, widened to i16.
        const E: i8 = -1;
        let order = _mm256_setr_epi8(
            0, E, 3, E, 1, E, 4, E, 2, E, 5, E, E, E, E, E, //
            6, E, 9, E, 7, E, 10, E, 8, E, 11, E, E, E, E, E,
        );
        let (last, outputs, groups) = ((N - 1) * stride, taps.runs.len(), taps.width / TAP_GROUP);
        let out_stride = outputs * 3;
        // Of the two halves of a sum, one.
        let half = _mm256_setr_epi32(HALF, HALF, HALF, HALF, 0, 0, 0, 0);
        assert!(out.len() == N * out_stride && factors.len() == outputs * groups && lines.len() >= last + width * 3);
        for (output, &(start, count)) in taps.runs.iter().enumerate() {
            let used = count.div_ceil(TAP_GROUP);
            // Loads reach over a run's end, into the row's rest or the next row, where factors are zero; each pixel is written with a fourth byte.
            let reach = last + start * 3 + (used - usize::from(used > 0)) * 3 * TAP_GROUP + LOAD;
            if reach > lines.len() || output + 1 == outputs {
                for row in 0..N {
                    let line = &lines[row * stride + start * 3..row * stride + (start + count) * 3];
                    let at = row * out_stride + output * 3;
                    out[at..at + 3].copy_from_slice(&one_pixel(line, taps.coefficients(output)));
                }
                continue;
            }
            let (mut high, mut low) = ([_mm256_setzero_si256(); N], [half; N]);
            for (group, factors) in factors[output * groups..output * groups + used].iter().enumerate() {
                let at = start * 3 + group * 3 * TAP_GROUP;
                // SAFETY: factors are 64 bytes; the load of 16 bytes in the last row ends at or before `reach`, inside `lines`.
                let (by_high, by_low) = unsafe {
                    let factors: *const __m256i = factors.as_ptr().cast();
                    (_mm256_loadu_si256(factors), _mm256_loadu_si256(factors.add(1)))
                };
                for row in 0..N {
                    // SAFETY: as above.
                    let pixels = unsafe { _mm_loadu_si128(lines.as_ptr().add(row * stride + at).cast()) };
                    let pairs = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(pixels), order);
                    high[row] = _mm256_add_epi32(high[row], _mm256_madd_epi16(pairs, by_high));
                    low[row] = _mm256_add_epi32(low[row], _mm256_madd_epi16(pairs, by_low));
                }
            }
            for two in (0..N).step_by(2) {
                // The second of two rows goes into the upper halves; a row alone is both.
                let whole =
                    |row: usize| _mm256_add_epi32(_mm256_slli_epi32::<{ LOW_BITS as i32 }>(high[row]), low[row]);
                let (a, b) = (whole(two), whole((two + 1).min(N - 1)));
                let sums =
                    _mm256_add_epi32(_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b));
                let sums = _mm256_srai_epi32::<{ PRECISION_BITS as i32 }>(sums);
                let words = _mm256_packs_epi32(sums, sums);
                let bytes = _mm256_packus_epi16(words, words);
                let pixels = [_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes)];
                for (row, pixel) in (two..N).zip(pixels) {
                    let at = row * out_stride + output * 3;
                    // SAFETY: the fourth byte is the next output's, which there is, and which comes after this one.
                    unsafe { out.as_mut_ptr().add(at).cast::<i32>().write_unaligned(_mm_cvtsi128_si32(pixel)) };
                }
            }
        }
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
            if row_bytes >= BLOCK && blocks * BLOCK < row_bytes {
                // What is left, with some of what is there already.
                let at = row_bytes - BLOCK;
                // SAFETY: as above.
                unsafe { block_sum(&lines[at..], row_bytes, count, &pairs, &mut out_row[at..]) };
            } else {
                columns_from(blocks * BLOCK, rows, first, row_bytes, taps, output, out_row);
            }
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
