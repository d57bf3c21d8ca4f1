//! Which of a chunk's values reach their floors.

use super::CHUNK;

/// Which values reach their floors: a bit each.
#[inline]
pub(super) fn reaching(values: &[i16; CHUNK], floors: &[i16; CHUNK]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
            // SAFETY: the features were just seen.
            return unsafe { x86::reaching_512(values, floors) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was just seen.
            return unsafe { x86::reaching_256(values, floors) };
        }
    }
    reaching_plain(values, floors)
}

fn reaching_plain(values: &[i16; CHUNK], floors: &[i16; CHUNK]) -> u64 {
    let bits = values.iter().zip(floors).enumerate();
    bits.fold(0, |mask, (lane, (value, floor))| mask | u64::from(value >= floor) << lane)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256i, __m512i, _mm256_cmpgt_epi16, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_packs_epi16,
        _mm256_permute4x64_epi64, _mm512_cmpge_epi16_mask, _mm512_loadu_si512,
    };

    use super::CHUNK;

    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn reaching_512(values: &[i16; CHUNK], floors: &[i16; CHUNK]) -> u64 {
        let half = |at: usize| {
            // SAFETY: two vectors of 32 each.
            let (values, floors) = unsafe {
                (
                    _mm512_loadu_si512(values.as_ptr().cast::<__m512i>().add(at)),
                    _mm512_loadu_si512(floors.as_ptr().cast::<__m512i>().add(at)),
                )
            };
            u64::from(_mm512_cmpge_epi16_mask(values, floors))
        };
        half(0) | half(1) << 32
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn reaching_256(values: &[i16; CHUNK], floors: &[i16; CHUNK]) -> u64 {
        let half = |at: usize| {
            // SAFETY: four vectors of 16 each, of which `at` and the next one are read.
            let below = |at: usize| unsafe {
                let values = _mm256_loadu_si256(values.as_ptr().cast::<__m256i>().add(at));
                _mm256_cmpgt_epi16(_mm256_loadu_si256(floors.as_ptr().cast::<__m256i>().add(at)), values)
            };
            // Pairs of quarters come out crossed, and are put right.
            let below = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi16(below(at), below(at + 1)));
            u64::from(!(_mm256_movemask_epi8(below) as u32))
        };
        half(0) | half(2) << 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_those_of_the_plain_loop() {
        let mut state = 5u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            [i16::MIN, i16::MAX, (state >> 62) as i16, (state >> 48) as i16][(state >> 60) as usize % 4]
        };
        for _ in 0..100 {
            let (values, floors) = (std::array::from_fn(|_| next()), std::array::from_fn(|_| next()));
            let expected = reaching_plain(&values, &floors);
            assert_eq!(reaching(&values, &floors), expected);
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the feature was just seen.
                assert_eq!(unsafe { x86::reaching_256(&values, &floors) }, expected);
            }
        }
    }
}
