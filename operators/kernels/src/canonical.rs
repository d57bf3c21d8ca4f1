//! The canonical embedding: the L2-normalised vector (f64 norm), each component rounded once to f16, ties to even.
//!
//! `half`'s own conversion from f64 goes through f32 on processors with F16C, which rounds twice and so depends on the
//! machine; [`round_to_f16`] rounds once, everywhere the same.

use half::f16;

use crate::dot::to_f32;

/// Rows of f16 within this distance of norm 1 are used as they are.
pub const UNIT_TOLERANCE: f64 = 1e-3;

/// Why a vector has no direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoDirection {
    /// All components are zero.
    Zero,
    /// A component, or the norm, is infinite or not a number.
    NotFinite,
}

impl NoDirection {
    /// In words: `zero`, `not finite`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Zero => "zero",
            Self::NotFinite => "not finite",
        }
    }

    /// The stable code of a reject: `embedding_zero`, `embedding_not_finite`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Zero => "embedding_zero",
            Self::NotFinite => "embedding_not_finite",
        }
    }
}

/// `value` rounded once to f16, ties to even; beyond the range, infinite.
///
/// Every component of every embedding comes through here, so a component calls nothing: the one branch is for values that no f16 can hold.
#[must_use]
pub fn round_to_f16(value: f64) -> f16 {
    /// Biased exponents of f64: of f16's smallest normal number, 2^-14, and of its largest, below 2^16.
    const LEAST: u64 = 1023 - 14;
    const MOST: u64 = 1023 + 15;
    let magnitude = value.abs().to_bits();
    let exponent = (magnitude >> 52).max(LEAST);
    if exponent > MOST {
        // The value is beyond the range, infinite or not a number. `half` goes through f32, which changes none of these.
        return f16::from_f64(value);
    }
    // f16 has 10 bits after the leading one, and none below 2^-24. The last bit of 1.5 x 2^(exponent + 42) has just the size of f16's last
    // one, so the addition rounds there, and what it adds to the bits is the number of such steps in the value: at most 2048.
    let large = (exponent + 42) << 52 | 1 << 51;
    let steps = (value.abs() + f64::from_bits(large)).to_bits().wrapping_sub(large);
    // A number of 2048 steps carries into the exponent: the next power of two, or infinity.
    let sign = (value.to_bits() >> 48) & 0x8000;
    f16::from_bits((sign | ((exponent - LEAST) << 10).wrapping_add(steps)) as u16)
}

/// The f64 norm, squares summed in index order.
///
/// # Errors
/// A vector without a direction.
pub fn norm(values: impl Iterator<Item = f64>) -> Result<f64, NoDirection> {
    let mut sum = 0.0;
    for value in values {
        sum += value * value;
    }
    let norm = f64::sqrt(sum);
    if !norm.is_finite() {
        Err(NoDirection::NotFinite)
    } else if norm == 0.0 {
        Err(NoDirection::Zero)
    } else {
        Ok(norm)
    }
}

/// Normalises f32 values into `out`.
///
/// # Errors
/// A vector without a direction; `out` is then as it was.
pub fn canonicalise_into(values: &[f32], out: &mut Vec<f16>) -> Result<(), NoDirection> {
    let length = norm(values.iter().map(|&v| f64::from(v)))?;
    out.extend(values.iter().map(|&v| round_to_f16(f64::from(v) / length)));
    Ok(())
}

/// f16 values as f32, exactly, into a buffer that is used again.
pub fn widen(values: &[f16], out: &mut Vec<f32>) {
    out.resize(values.len(), 0.0);
    to_f32(values, out);
}

/// Whether a stored row's norm is close enough to 1 to be used as it is. Rows without a direction count as unit:
/// they are rejects whatever happens to the others.
#[must_use]
pub fn is_unit(values: &[f32]) -> bool {
    norm(values.iter().map(|&v| f64::from(v))).map_or(true, |n| (n - 1.0).abs() <= UNIT_TOLERANCE)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Nearest f16 by search over all finite values, ties to the even bit pattern.
    fn naive(value: f64) -> u16 {
        let mut best = (f64::INFINITY, 0u16);
        for bits in 0..0x7c00u16 {
            let distance = (f16::from_bits(bits).to_f64() - value.abs()).abs();
            if distance < best.0 || (distance == best.0 && bits % 2 == 0) {
                best = (distance, bits);
            }
        }
        best.1 | if value.is_sign_negative() { 0x8000 } else { 0 }
    }

    #[test]
    fn rounds_once_and_to_even() {
        let tie = 0.5 + 0.5f64.powi(12); // exactly between two neighbours above 0.5
        for value in [
            tie,
            tie + 2f64.powi(-40), // a hair above the tie: rounding through f32 would lose the hair
            -(tie + 2f64.powi(-40)),
            2f64.powi(-24),
            2f64.powi(-25),
            2f64.powi(-25) * 1.000_000_1,
            6.1e-5,
            65504.0,
            65519.9,
            1.0,
            -0.333_333_333,
            2f64.powi(-1030),
        ] {
            assert_eq!(round_to_f16(value).to_bits(), naive(value), "{value:e}");
        }
        assert_eq!(round_to_f16(tie + 2f64.powi(-40)).to_bits(), round_to_f16(tie).to_bits() + 1);
        assert_eq!(round_to_f16(65520.0), f16::INFINITY);
        assert_eq!(round_to_f16(-1e300), f16::NEG_INFINITY);
        assert!(round_to_f16(f64::NAN).is_nan());
        assert_eq!(round_to_f16(-0.0).to_bits(), 0x8000);
        let mut state = 7u64;
        for _ in 0..300 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let value = (state >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0;
            assert_eq!(round_to_f16(value).to_bits(), naive(value), "{value:e}");
        }
    }

    /// A larger value never rounds to a smaller number, so what is right at both ends of the stretch between two halfway points is right inside it.
    #[test]
    fn every_halfway_point_rounds_to_even_and_its_neighbours_to_theirs() {
        for below in 0..0x7c00u16 {
            let low = f16::from_bits(below).to_f64();
            // Above the largest number lies what would be the next one.
            let high = if below == 0x7bff { 65536.0 } else { f16::from_bits(below + 1).to_f64() };
            let half = low.midpoint(high);
            for (value, due) in
                [(low, below), (half.next_down(), below), (half, below + below % 2), (half.next_up(), below + 1)]
            {
                assert_eq!(round_to_f16(value).to_bits(), due, "{value:e}");
                assert_eq!(round_to_f16(-value).to_bits(), due | 0x8000, "-{value:e}");
            }
        }
    }

    #[test]
    fn vectors_without_direction() {
        let mut out = Vec::new();
        assert_eq!(canonicalise_into(&[0.0, -0.0], &mut out), Err(NoDirection::Zero));
        assert_eq!(canonicalise_into(&[1.0, f32::NAN], &mut out), Err(NoDirection::NotFinite));
        assert_eq!(canonicalise_into(&[1.0, f32::INFINITY], &mut out), Err(NoDirection::NotFinite));
        assert!(out.is_empty());
        canonicalise_into(&[3.0, 4.0], &mut out).unwrap();
        assert_eq!(out, [round_to_f16(0.6), round_to_f16(0.8)]);
    }
}
