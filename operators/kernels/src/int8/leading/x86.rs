//! Ceilings and comparisons with the instructions of x86-64: the same operations as the plain ones, nothing fused, so that the results are the same.

use std::arch::x86_64::*;

use super::super::product::Sums;
use super::{CHUNK, PointTerms, RowTerms};

#[target_feature(enable = "avx512f")]
pub(super) fn largest_of_512(
    sums: &[Sums],
    rows: &[RowTerms],
    points: &PointTerms,
    added: &[f32; CHUNK],
    out: &mut [f32],
) {
    for ((sums, row), out) in sums.iter().zip(rows).zip(out) {
        let (scale, rest) = (_mm512_set1_ps(row.scale), _mm512_set1_ps(row.rest));
        let mut most = _mm512_set1_ps(f32::NEG_INFINITY);
        for at in (0..CHUNK).step_by(16) {
            // SAFETY: 64 elements each.
            let (sums, steps, rests, added) = unsafe {
                (
                    _mm512_loadu_si512(sums.0.as_ptr().add(at).cast()),
                    _mm512_loadu_ps(points.steps.as_ptr().add(at)),
                    _mm512_loadu_ps(points.rests.as_ptr().add(at)),
                    _mm512_loadu_ps(added.as_ptr().add(at)),
                )
            };
            let product = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_mul_ps(scale, steps));
            most = _mm512_max_ps(most, _mm512_add_ps(product, _mm512_add_ps(_mm512_mul_ps(rest, rests), added)));
        }
        *out = _mm512_reduce_max_ps(most);
    }
}

#[target_feature(enable = "avx2")]
pub(super) fn largest_of_256(
    sums: &[Sums],
    rows: &[RowTerms],
    points: &PointTerms,
    added: &[f32; CHUNK],
    out: &mut [f32],
) {
    for ((sums, row), out) in sums.iter().zip(rows).zip(out) {
        let (scale, rest) = (_mm256_set1_ps(row.scale), _mm256_set1_ps(row.rest));
        let mut most = _mm256_set1_ps(f32::NEG_INFINITY);
        for at in (0..CHUNK).step_by(8) {
            // SAFETY: 64 elements each.
            let (sums, steps, rests, added) = unsafe {
                (
                    _mm256_loadu_si256(sums.0.as_ptr().add(at).cast()),
                    _mm256_loadu_ps(points.steps.as_ptr().add(at)),
                    _mm256_loadu_ps(points.rests.as_ptr().add(at)),
                    _mm256_loadu_ps(added.as_ptr().add(at)),
                )
            };
            let product = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_mul_ps(scale, steps));
            most = _mm256_max_ps(most, _mm256_add_ps(product, _mm256_add_ps(_mm256_mul_ps(rest, rests), added)));
        }
        let half = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps::<1>(most));
        let two = _mm_max_ps(half, _mm_movehl_ps(half, half));
        *out = _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
    }
}

#[target_feature(enable = "avx2")]
pub(super) fn reaching_256(values: &[f32; CHUNK], floor: f32) -> u64 {
    let floor = _mm256_set1_ps(floor);
    (0..CHUNK / 8).fold(0, |mask, at| {
        // SAFETY: eight vectors of 8 each.
        let values = unsafe { _mm256_loadu_ps(values.as_ptr().add(8 * at)) };
        let bits = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(values, floor)) as u32;
        mask | u64::from(bits) << (8 * at)
    })
}
