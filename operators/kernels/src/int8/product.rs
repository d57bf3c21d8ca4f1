//! The products of some rows' codes with those of a chunk of points, as i16.

use super::CHUNK;

/// Instructions that can multiply codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instructions {
    /// `VPDPBUSD` on 512 bits: AVX-512 VNNI.
    Avx512Vnni,
    /// `VPDPBUSD` on 256 bits: AVX-VNNI.
    AvxVnni,
    /// Any processor's. It is for tests: f32 is faster.
    Portable,
}

impl Instructions {
    /// All that this processor has, the fastest first.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Avx512Vnni, Self::AvxVnni, Self::Portable].into_iter().filter(|it| it.are_there())
    }

    /// The fastest that are faster than f32, if the processor has any.
    #[must_use]
    pub fn fast() -> Option<Self> {
        Self::all().find(|it| *it != Self::Portable)
    }

    fn are_there(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("avxvnni")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512Vnni | Self::AvxVnni => false,
            Self::Portable => true,
        }
    }

    /// A word for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512Vnni => "avx512-vnni",
            Self::AvxVnni => "avx-vnni",
            Self::Portable => "portable",
        }
    }
}

/// A row's part in what its products become: `sum * scale * steps[point] - length * slack[point] - shift`, with `sum` starting at `first`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RowTerms {
    pub first: i32,
    pub scale: f32,
    pub shift: f32,
}

/// Four codes of each point of a chunk, and so on: u8\[steps, CHUNK, 4\], moved up by 128.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Four(pub [[u8; 4]; CHUNK]);

/// Values of a row with a chunk of points.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Values(pub [i16; CHUNK]);

/// The points of a chunk.
#[derive(Clone, Copy)]
pub(super) struct Chunk<'a> {
    pub codes: &'a [Four],
    pub steps: &'a [f32; CHUNK],
    pub slack: &'a [f32; CHUNK],
    /// Factor of `slack`.
    pub length: f32,
}

/// Values of all rows (i8\[rows, 4 * chunk.codes.len()\]) with a chunk.
pub(super) fn multiply(with: Instructions, rows: &[i8], terms: &[RowTerms], chunk: Chunk<'_>, out: &mut [Values]) {
    let width = 4 * chunk.codes.len();
    assert!(rows.len() == terms.len() * width && out.len() == terms.len(), "as many values as rows");
    assert!(with.are_there(), "the processor has the instructions");
    match with {
        // SAFETY: the features are there, and lengths fit.
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512Vnni => unsafe { x86::multiply_512(rows, terms, chunk, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Instructions::AvxVnni => unsafe { x86::multiply_256(rows, terms, chunk, out) },
        _ => portable(rows, terms, chunk, out),
    }
}

fn portable(rows: &[i8], terms: &[RowTerms], chunk: Chunk<'_>, out: &mut [Values]) {
    for ((row, terms), out) in rows.chunks_exact(4 * chunk.codes.len()).zip(terms).zip(out) {
        let mut sums = [terms.first; CHUNK];
        for (four, x) in chunk.codes.iter().zip(row.as_chunks::<4>().0) {
            for (sum, codes) in sums.iter_mut().zip(&four.0) {
                for (t, x) in codes.iter().zip(x) {
                    *sum += i32::from(*t) * i32::from(*x);
                }
            }
        }
        let terms_of = sums.iter().zip(chunk.steps.iter().zip(chunk.slack));
        for (out, (sum, (step, slack))) in out.0.iter_mut().zip(terms_of) {
            let value = *sum as f32 * (terms.scale * step) - chunk.length * slack - terms.shift;
            *out = value.round_ties_even() as i16;
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(clippy::needless_range_loop)] // loops over registers, which are numbered
mod x86 {
    use std::arch::x86_64::*;

    use super::{CHUNK, Chunk, RowTerms, Values};

    /// Rows at once on 512 bits: with four vectors of points these are 24 sums in registers, and ten loads for 24 products.
    const ROWS_512: usize = 6;

    /// Rows at once on 256 bits, with two vectors of points.
    const ROWS_256: usize = 6;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub(super) unsafe fn multiply_512(rows: &[i8], terms: &[RowTerms], chunk: Chunk<'_>, out: &mut [Values]) {
        let width = 4 * chunk.codes.len();
        let whole = terms.len() / ROWS_512 * ROWS_512;
        for first in (0..whole).step_by(ROWS_512) {
            // SAFETY: so many rows are left.
            unsafe {
                tile_512::<ROWS_512>(rows.as_ptr().add(first * width), &terms[first..], chunk, &mut out[first..])
            };
        }
        let (rows, left, out) = (&rows[whole * width..], &terms[whole..], &mut out[whole..]);
        // SAFETY: so many rows are left.
        unsafe {
            match left.len() {
                1 => tile_512::<1>(rows.as_ptr(), left, chunk, out),
                2 => tile_512::<2>(rows.as_ptr(), left, chunk, out),
                3 => tile_512::<3>(rows.as_ptr(), left, chunk, out),
                4 => tile_512::<4>(rows.as_ptr(), left, chunk, out),
                5 => tile_512::<5>(rows.as_ptr(), left, chunk, out),
                _ => (),
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn tile_512<const ROWS: usize>(rows: *const i8, terms: &[RowTerms], chunk: Chunk<'_>, out: &mut [Values]) {
        let width = 4 * chunk.codes.len();
        let mut sums = [[_mm512_setzero_si512(); 4]; ROWS];
        for row in 0..ROWS {
            sums[row] = [_mm512_set1_epi32(terms[row].first); 4];
        }
        for (step, four) in chunk.codes.iter().enumerate() {
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
                    for j in 0..4 {
                        sums[row][j] = _mm512_dpbusd_epi32(sums[row][j], points[j], x);
                    }
                }
            }
        }
        let length = _mm512_set1_ps(chunk.length);
        for j in 0..4 {
            // SAFETY: 64 elements each.
            let (steps, slack) = unsafe {
                (_mm512_loadu_ps(chunk.steps.as_ptr().add(16 * j)), _mm512_loadu_ps(chunk.slack.as_ptr().add(16 * j)))
            };
            for row in 0..ROWS {
                let scale = _mm512_mul_ps(_mm512_set1_ps(terms[row].scale), steps);
                let value = _mm512_fmsub_ps(_mm512_cvtepi32_ps(sums[row][j]), scale, _mm512_set1_ps(terms[row].shift));
                let value = _mm512_cvtps_epi32(_mm512_fnmadd_ps(length, slack, value));
                // SAFETY: 64 values a row.
                unsafe {
                    _mm256_storeu_si256(out[row].0.as_mut_ptr().add(16 * j).cast(), _mm512_cvtsepi32_epi16(value));
                }
            }
        }
    }

    #[target_feature(enable = "avx2,fma,avxvnni")]
    pub(super) unsafe fn multiply_256(rows: &[i8], terms: &[RowTerms], chunk: Chunk<'_>, out: &mut [Values]) {
        let width = 4 * chunk.codes.len();
        for quarter in 0..CHUNK / 16 {
            let whole = terms.len() / ROWS_256 * ROWS_256;
            for first in (0..whole).step_by(ROWS_256) {
                // SAFETY: so many rows are left.
                unsafe {
                    tile_256::<ROWS_256>(
                        rows.as_ptr().add(first * width),
                        &terms[first..],
                        chunk,
                        quarter,
                        &mut out[first..],
                    );
                }
            }
            for row in whole..terms.len() {
                // SAFETY: a row is left.
                unsafe {
                    tile_256::<1>(rows.as_ptr().add(row * width), &terms[row..], chunk, quarter, &mut out[row..])
                };
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,avxvnni")]
    unsafe fn tile_256<const ROWS: usize>(
        rows: *const i8,
        terms: &[RowTerms],
        chunk: Chunk<'_>,
        quarter: usize,
        out: &mut [Values],
    ) {
        let width = 4 * chunk.codes.len();
        let mut sums = [[_mm256_setzero_si256(); 2]; ROWS];
        for row in 0..ROWS {
            sums[row] = [_mm256_set1_epi32(terms[row].first); 2];
        }
        for (step, four) in chunk.codes.iter().enumerate() {
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
        let length = _mm256_set1_ps(chunk.length);
        for row in 0..ROWS {
            let mut values = [_mm256_setzero_si256(); 2];
            for j in 0..2 {
                let at = 16 * quarter + 8 * j;
                // SAFETY: 64 elements each.
                let (steps, slack) = unsafe {
                    (_mm256_loadu_ps(chunk.steps.as_ptr().add(at)), _mm256_loadu_ps(chunk.slack.as_ptr().add(at)))
                };
                let scale = _mm256_mul_ps(_mm256_set1_ps(terms[row].scale), steps);
                let value = _mm256_fmsub_ps(_mm256_cvtepi32_ps(sums[row][j]), scale, _mm256_set1_ps(terms[row].shift));
                values[j] = _mm256_cvtps_epi32(_mm256_fnmadd_ps(length, slack, value));
            }
            // Pairs of quarters come out crossed, and are put right.
            let narrow = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(values[0], values[1]));
            // SAFETY: 64 values a row.
            unsafe { _mm256_storeu_si256(out[row].0.as_mut_ptr().add(16 * quarter).cast(), narrow) };
        }
    }
}
