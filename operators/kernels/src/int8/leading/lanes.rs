//! Ceilings of a row with the points of a chunk, lane by lane: the same operations whatever the processor has.

use super::super::product::Sums;
#[cfg(target_arch = "x86_64")]
use super::x86;
use super::{CHUNK, PointTerms, RowTerms};
use crate::widened::widened;

/// Value less threshold of one of a row's sums with a chunk, but for what is the row's alone.
#[inline(always)]
fn value(sums: &Sums, row: &RowTerms, points: &PointTerms, added: &[f32; CHUNK], at: usize) -> f32 {
    sums.0[at] as f32 * (row.scale * points.steps[at]) + (row.rest * points.rests[at] + added[at])
}

/// The largest of each row.
pub(super) fn largest_of(sums: &[Sums], rows: &[RowTerms], points: &PointTerms, added: &[f32; CHUNK], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature was just seen.
            return unsafe { x86::largest_of_512(sums, rows, points, added, out) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was just seen.
            return unsafe { x86::largest_of_256(sums, rows, points, added, out) };
        }
    }
    largest_of_plain(sums, rows, points, added, out);
}

pub(super) fn largest_of_plain(
    sums: &[Sums],
    rows: &[RowTerms],
    points: &PointTerms,
    added: &[f32; CHUNK],
    out: &mut [f32],
) {
    for ((sums, row), out) in sums.iter().zip(rows).zip(out) {
        let values = (0..CHUNK).map(|at| value(sums, row, points, added, at));
        *out = values.fold(f32::NEG_INFINITY, |most, value| if value > most { value } else { most });
    }
}

widened! {
    /// All values less thresholds of a row with a chunk.
    pub(super) fn all_of / all_of_wide / all_of_widest / all_of_plain(
        sums: &Sums, row: &RowTerms, points: &PointTerms, added: &[f32; CHUNK], shift: f32, out: &mut [f32; CHUNK]
    ) {
        for (at, out) in out.iter_mut().enumerate() {
            *out = value(sums, row, points, added, at) + shift;
        }
    }
}

/// Which values are at least `floor`: a bit each.
#[inline]
pub(super) fn reaching(values: &[f32; CHUNK], floor: f32) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the feature was just seen.
        return unsafe { x86::reaching_256(values, floor) };
    }
    reaching_plain(values, floor)
}

pub(super) fn reaching_plain(values: &[f32; CHUNK], floor: f32) -> u64 {
    values.iter().enumerate().fold(0, |mask, (lane, value)| mask | u64::from(*value >= floor) << lane)
}
