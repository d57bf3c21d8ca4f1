//! The canonical dot product of two f16 vectors, and the conversions around it.
//!
//! **Claim.** For finite f16 vectors `a`, `b` with `|a| |b| <= 32` (Euclidean norms), the sum of `a_k b_k` computed
//! in f64 has one value, whatever the order and grouping of the additions, with or without fused multiply-add.
//!
//! **Proof.** A finite f16 is an integer multiple of 2^-24 with at most 11 significant bits. A product of two is
//! an integer multiple of 2^-48 with at most 22 significant bits, so f64 (53 bits) holds it exactly. A sum of any subset of the
//! products is an integer multiple of 2^-48 and, by Cauchy and Schwarz, at most `|a| |b| <= 32 = 2^5` in magnitude:
//! an integer of at most 2^53 times 2^-48, which f64 holds exactly. Every addition in every order adds two such
//! subset sums and yields a third, so none of them rounds. Sums start at +0, so the result is never -0. ∎
//!
//! Unit vectors rounded to f16 have norms within 2^-11 + 2^-24 sqrt(n) of 1, far inside the condition. Outside of it [`dot`] still has one value
//! per machine kind but may differ between kinds: callers check norms (see [`norm`]) before.
//!
//! ```
//! use half::f16;
//! let (a, b) = ([f16::from_f32(0.6), f16::from_f32(0.8)], [f16::from_f32(1.0), f16::from_f32(-0.0)]);
//! assert_eq!(trommel_kernels::dot::dot(&a, &b), f64::from(f16::from_f32(0.6)));
//! ```

use half::f16;

/// Largest product of norms for which [`dot`] is exact: see the module's proof.
pub const EXACT_NORM_PRODUCT: f64 = 32.0;

/// The canonical dot product: products of f16 summed in f64. Both slices must have the same length; what one has more is ignored.
///
/// Exact, and therefore one value on every machine, if the product of the norms is at most [`EXACT_NORM_PRODUCT`].
#[must_use]
pub fn dot(a: &[f16], b: &[f16]) -> f64 {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("f16c") {
            // SAFETY: the features were just seen.
            return unsafe { x86::dot_512(a, b) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
            // SAFETY: the three features were just seen.
            return unsafe { x86::dot_256(a, b) };
        }
    }
    dot_scalar(a, b)
}

/// [`dot`], one product after the other: the reference, and the path of machines without f16c.
#[must_use]
pub fn dot_scalar(a: &[f16], b: &[f16]) -> f64 {
    let mut sum = 0.0;
    for (x, y) in a.iter().zip(b) {
        sum += x.to_f64() * y.to_f64();
    }
    sum
}

/// The same product summed in f32, within [`error_bound`](crate::join::error_bound) of [`dot`] and three times as fast: for what need not be known exactly.
///
/// Its bits depend on the machine.
#[must_use]
pub fn dot_f32(a: &[f16], b: &[f16]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature was just seen.
            return unsafe { x86::dot_f32_512(a, b) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
            // SAFETY: the three features were just seen.
            return unsafe { x86::dot_f32_256(a, b) };
        }
    }
    dot_f32_scalar(a, b)
}

/// Fetches a vector into the nearest cache while others are multiplied.
pub fn prefetch(vector: &[f16]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    for line in vector.chunks(64 / size_of::<f16>()) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: it reads nothing, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = vector;
}

fn dot_f32_scalar(a: &[f16], b: &[f16]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x.to_f32() * y.to_f32()).sum()
}

/// Euclidean norm in f64: one value on every machine for any vector.
///
/// Squares are not negative, so a computed sum below 16 has had no partial sum above 32, and is exact by the module's proof; a larger one
/// is summed again in index order.
#[must_use]
pub fn norm(a: &[f16]) -> f64 {
    let squares = dot(a, a);
    if squares < EXACT_NORM_PRODUCT / 2.0 { squares.sqrt() } else { dot_scalar(a, a).sqrt() }
}

/// f16 to f32, element by element, exactly. `to` must be as long as `from`; the shorter one ends the work.
pub fn to_f32(from: &[f16], to: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c") {
            // SAFETY: the two features were just seen.
            return unsafe { x86::to_f32(from, to) };
        }
    }
    to_f32_scalar(from, to);
}

/// [`to_f32`], one element after the other.
pub fn to_f32_scalar(from: &[f16], to: &mut [f32]) {
    for (x, y) in from.iter().zip(to) {
        *y = x.to_f32();
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! The compiler knows each sum's index, so sums stay in registers. An index that is computed block by block would keep all of them in memory.

    use std::arch::x86_64::{
        __m128i, __m256i, _mm_loadu_si128, _mm256_add_pd, _mm256_add_ps, _mm256_castps256_ps128, _mm256_cvtph_ps,
        _mm256_cvtps_pd, _mm256_extractf128_ps, _mm256_fmadd_pd, _mm256_fmadd_ps, _mm256_loadu_si256,
        _mm256_setzero_pd, _mm256_setzero_ps, _mm256_storeu_pd, _mm256_storeu_ps, _mm512_add_pd, _mm512_add_ps,
        _mm512_cvtph_ps, _mm512_cvtps_pd, _mm512_fmadd_pd, _mm512_fmadd_ps, _mm512_reduce_add_pd, _mm512_reduce_add_ps,
        _mm512_setzero_pd, _mm512_setzero_ps,
    };

    use half::f16;

    #[target_feature(enable = "avx512f,f16c")]
    pub(super) unsafe fn dot_512(a: &[f16], b: &[f16]) -> f64 {
        let len = a.len().min(b.len());
        let blocks = len / 8;
        let mut sums = [_mm512_setzero_pd(); 4];
        let mut add = |block: usize, at: usize| {
            // SAFETY: `block * 8 + 8 <= len`, so both loads stay inside their slices; loads are unaligned ones.
            let (x, y) = unsafe {
                (
                    _mm256_cvtph_ps(_mm_loadu_si128(a.as_ptr().add(block * 8).cast::<__m128i>())),
                    _mm256_cvtph_ps(_mm_loadu_si128(b.as_ptr().add(block * 8).cast::<__m128i>())),
                )
            };
            sums[at] = _mm512_fmadd_pd(_mm512_cvtps_pd(x), _mm512_cvtps_pd(y), sums[at]);
        };
        let whole = blocks / 4 * 4;
        for block in (0..whole).step_by(4) {
            (0..4).for_each(|at| add(block + at, at));
        }
        (whole..blocks).for_each(|block| add(block, 0));
        let total = _mm512_add_pd(_mm512_add_pd(sums[0], sums[1]), _mm512_add_pd(sums[2], sums[3]));
        _mm512_reduce_add_pd(total) + super::dot_scalar(&a[blocks * 8..len], &b[blocks * 8..len])
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn dot_256(a: &[f16], b: &[f16]) -> f64 {
        let len = a.len().min(b.len());
        let blocks = len / 8;
        let mut sums = [_mm256_setzero_pd(); 4];
        let mut add = |block: usize, at: usize| {
            // SAFETY: `block * 8 + 8 <= len`, so both loads stay inside their slices; loads are unaligned ones.
            let (x, y) = unsafe {
                (
                    _mm256_cvtph_ps(_mm_loadu_si128(a.as_ptr().add(block * 8).cast::<__m128i>())),
                    _mm256_cvtph_ps(_mm_loadu_si128(b.as_ptr().add(block * 8).cast::<__m128i>())),
                )
            };
            let low = (_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(_mm256_castps256_ps128(y)));
            let high = (_mm256_cvtps_pd(_mm256_extractf128_ps::<1>(x)), _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(y)));
            sums[at] = _mm256_fmadd_pd(low.0, low.1, sums[at]);
            sums[at + 1] = _mm256_fmadd_pd(high.0, high.1, sums[at + 1]);
        };
        let whole = blocks / 2 * 2;
        for block in (0..whole).step_by(2) {
            add(block, 0);
            add(block + 1, 2);
        }
        (whole..blocks).for_each(|block| add(block, 0));
        let total = _mm256_add_pd(_mm256_add_pd(sums[0], sums[1]), _mm256_add_pd(sums[2], sums[3]));
        let mut lanes = [0.0f64; 4];
        // SAFETY: four f64 fit in `lanes`.
        unsafe { _mm256_storeu_pd(lanes.as_mut_ptr(), total) };
        let head = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
        head + super::dot_scalar(&a[blocks * 8..len], &b[blocks * 8..len])
    }

    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn dot_f32_512(a: &[f16], b: &[f16]) -> f32 {
        let len = a.len().min(b.len());
        let blocks = len / 16;
        let mut sums = [_mm512_setzero_ps(); 4];
        let mut add = |block: usize, at: usize| {
            // SAFETY: `block * 16 + 16 <= len`, so both loads stay inside their slices; loads are unaligned ones.
            let (x, y) = unsafe {
                (
                    _mm512_cvtph_ps(_mm256_loadu_si256(a.as_ptr().add(block * 16).cast::<__m256i>())),
                    _mm512_cvtph_ps(_mm256_loadu_si256(b.as_ptr().add(block * 16).cast::<__m256i>())),
                )
            };
            sums[at] = _mm512_fmadd_ps(x, y, sums[at]);
        };
        let whole = blocks / 4 * 4;
        for block in (0..whole).step_by(4) {
            (0..4).for_each(|at| add(block + at, at));
        }
        (whole..blocks).for_each(|block| add(block, 0));
        let total = _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
        _mm512_reduce_add_ps(total) + super::dot_f32_scalar(&a[blocks * 16..len], &b[blocks * 16..len])
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn dot_f32_256(a: &[f16], b: &[f16]) -> f32 {
        let len = a.len().min(b.len());
        let blocks = len / 8;
        let mut sums = [_mm256_setzero_ps(); 4];
        let mut add = |block: usize, at: usize| {
            // SAFETY: `block * 8 + 8 <= len`, so both loads stay inside their slices; loads are unaligned ones.
            let (x, y) = unsafe {
                (
                    _mm256_cvtph_ps(_mm_loadu_si128(a.as_ptr().add(block * 8).cast::<__m128i>())),
                    _mm256_cvtph_ps(_mm_loadu_si128(b.as_ptr().add(block * 8).cast::<__m128i>())),
                )
            };
            sums[at] = _mm256_fmadd_ps(x, y, sums[at]);
        };
        let whole = blocks / 4 * 4;
        for block in (0..whole).step_by(4) {
            (0..4).for_each(|at| add(block + at, at));
        }
        (whole..blocks).for_each(|block| add(block, 0));
        let total = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
        let mut lanes = [0.0f32; 8];
        // SAFETY: eight f32 fit in `lanes`.
        unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), total) };
        lanes.iter().sum::<f32>() + super::dot_f32_scalar(&a[blocks * 8..len], &b[blocks * 8..len])
    }

    #[target_feature(enable = "avx2,f16c")]
    pub(super) unsafe fn to_f32(from: &[f16], to: &mut [f32]) {
        let len = from.len().min(to.len());
        let blocks = len / 8;
        for block in 0..blocks {
            // SAFETY: `block * 8 + 8 <= len`, so load and store stay inside their slices; both are unaligned ones.
            unsafe {
                let x = _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().add(block * 8).cast::<__m128i>()));
                _mm256_storeu_ps(to.as_mut_ptr().add(block * 8), x);
            }
        }
        super::to_f32_scalar(&from[blocks * 8..len], &mut to[blocks * 8..len]);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::canonical::round_to_f16;

    /// The next number of splitmix64.
    fn next(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Of many numbers an interpreter looks at so many only.
    const STEP: usize = if cfg!(miri) { 997 } else { 1 };

    /// A finite f16 as an integer number of 2^-24.
    fn scaled(x: f16) -> i128 {
        (x.to_f64() * f64::from(1u32 << 24)) as i128
    }

    /// The dot product as an integer number of 2^-48: no floating-point addition at all.
    fn dot_integer(a: &[f16], b: &[f16]) -> i128 {
        a.iter().zip(b).map(|(x, y)| scaled(*x) * scaled(*y)).sum()
    }

    fn unit(dim: usize, state: &mut u64) -> Vec<f16> {
        let raw: Vec<f64> = (0..dim).map(|_| (next(state) >> 11) as f64 / (1u64 << 53) as f64 - 0.5).collect();
        let norm = raw.iter().map(|x| x * x).sum::<f64>().sqrt();
        raw.iter().map(|x| round_to_f16(x / norm)).collect()
    }

    #[test]
    fn exact_in_any_order_against_integers() {
        let mut state = 7;
        for dim in [1, 2, 7, 8, 9, 15, 16, 17, 63, 64, 65, 255, 512, 639, 640, 641, 1023, 1024] {
            for _ in 0..if cfg!(miri) { u32::from(dim < 100) } else { 20 } {
                let (a, b) = (unit(dim, &mut state), unit(dim, &mut state));
                let exact = dot_integer(&a, &b) as f64 / (1u64 << 48) as f64;
                assert_eq!(dot(&a, &b).to_bits(), exact.to_bits(), "dim {dim}");
                assert_eq!(dot_scalar(&a, &b).to_bits(), exact.to_bits());
                #[cfg(target_arch = "x86_64")]
                if is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
                {
                    // SAFETY: the three features were just seen.
                    assert_eq!(unsafe { x86::dot_256(&a, &b) }.to_bits(), exact.to_bits());
                }
                let mut order: Vec<usize> = (0..dim).collect();
                for i in (1..dim).rev() {
                    order.swap(i, (next(&mut state) % (i as u64 + 1)) as usize);
                }
                let (x, y): (Vec<f16>, Vec<f16>) = order.iter().map(|&i| (a[i], b[i])).unzip();
                assert_eq!(dot(&x, &y).to_bits(), exact.to_bits());
                assert_eq!(dot(&b, &a).to_bits(), exact.to_bits());
            }
        }
    }

    #[test]
    fn exact_up_to_the_stated_norms_with_subnormals_beside() {
        // |a| |b| is just below 32, with a product of 2^-48 next to it: needs all 53 bits.
        let (big, tiny) = (f16::from_f32(4.0), f16::from_bits(1));
        let a = [big, tiny, big];
        let b = [f16::from_f32(4.0), tiny, f16::from_f32(3.996)];
        let exact = dot_integer(&a, &b);
        assert!(exact < 1 << 53);
        assert_eq!(dot(&a, &b), exact as f64 / (1u64 << 48) as f64);
        let zero = [f16::from_f32(-0.0), f16::from_f32(0.0)];
        assert_eq!(dot(&zero, &[f16::ONE, f16::NEG_ONE]).to_bits(), 0);
    }

    #[test]
    fn the_f32_sum_is_within_the_bound_of_f32_sums() {
        let mut state = 11;
        for dim in [1, 7, 8, 16, 31, 100, 640, 1000] {
            for _ in 0..if cfg!(miri) { u32::from(dim < 100) } else { 20 } {
                let (a, b) = (unit(dim, &mut state), unit(dim, &mut state));
                let bound = crate::join::error_bound(dim, norm(&a), norm(&b)).unwrap();
                let off = |sum: f32| (f64::from(sum) - dot_scalar(&a, &b)).abs();
                assert!(off(dot_f32(&a, &b)) <= bound && off(dot_f32_scalar(&a, &b)) <= bound);
                #[cfg(target_arch = "x86_64")]
                if is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
                {
                    // SAFETY: the three features were just seen.
                    assert!(off(unsafe { x86::dot_f32_256(&a, &b) }) <= bound);
                }
            }
        }
    }

    #[test]
    fn conversion_equals_the_scalar_one_on_every_finite_f16() {
        let all: Vec<f16> = (0..=u16::MAX).step_by(STEP).map(f16::from_bits).filter(|x| x.is_finite()).collect();
        let (mut fast, mut slow) = (vec![0.0; all.len()], vec![0.0; all.len()]);
        to_f32(&all, &mut fast);
        to_f32_scalar(&all, &mut slow);
        assert!(fast.iter().zip(&slow).all(|(x, y): (&f32, &f32)| x.to_bits() == y.to_bits()));
        assert!(all.iter().zip(&slow).all(|(x, y)| x.to_f64() == f64::from(*y)));
    }

    #[test]
    fn norms_are_those_of_the_scalar_sum() {
        let mut state = 9;
        for scale in [1e-3, 0.9, 3.9, 4.1, 100.0, 6e4] {
            for dim in [1, 9, 64, 333] {
                let a: Vec<f16> = unit(dim, &mut state).iter().map(|x| round_to_f16(x.to_f64() * scale)).collect();
                assert_eq!(norm(&a).to_bits(), dot_scalar(&a, &a).sqrt().to_bits());
            }
        }
        assert!(norm(&[f16::NAN]).is_nan() && norm(&[f16::INFINITY]).is_infinite());
    }
}
