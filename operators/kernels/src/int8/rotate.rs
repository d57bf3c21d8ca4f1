//! An orthogonal transform that spreads every vector over all of its coordinates, so that one step size suits them all.
//!
//! A pass multiplies a window of `2^k` coordinates by `+-2^(-k/2)`, signs by a fixed seed, and takes their Walsh-Hadamard transform. Where the
//! dimension is no power of two, windows at the one end and at the other overlap, and three passes mix everything. Each pass is orthogonal
//! in exact arithmetic, and so is their product `Q`.
//!
//! **Rounding.** A butterfly rounds each of its results once, so a level is off by at most `u` of the vector's norm; the factor is itself rounded, and so is the product
//! with it: `(k + 2) u` a pass to first order, and [`Rotation::error`] is `(k + 3) u` for each. Nothing underflows: what is not 0 is a multiple
//! of 2^-24 before the first pass, of 2^(-24-k/2-24) before the second, and so on, above 2^-126 for the windows allowed.

use crate::join::UNIT_ROUNDOFF_F32;

/// Vectors that are turned side by side.
pub const LANES: usize = 16;

/// One element of each of [`LANES`] vectors.
pub type Lanes = [f32; LANES];

/// Largest window: 2^11.
const LARGEST_WINDOW: usize = 1 << 11;

/// The transform for one dimension: always the same.
#[derive(Clone, Debug)]
pub struct Rotation {
    window: usize,
    /// Where each pass begins, and its factors, the same for all lanes.
    passes: Vec<(usize, Vec<Lanes>)>,
}

impl Rotation {
    /// The transform of vectors of `dim` elements, at least one.
    #[must_use]
    pub fn new(dim: usize) -> Self {
        let window = (1 << dim.max(1).ilog2()).min(LARGEST_WINDOW);
        let mut state = 0x7472_6f6d_6d65_6c00_u64;
        let scale = (1.0 / (window as f64).sqrt()) as f32;
        let mut factor = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            [if state >> 63 == 0 { scale } else { -scale }; LANES]
        };
        let starts: &[usize] = if window == dim { &[0] } else { &[0, dim - window, 0] };
        let passes = starts.iter().map(|&start| (start, (0..window).map(|_| factor()).collect())).collect();
        Self { window, passes }
    }

    /// `|turned - Q x| <= error * |x|`.
    #[must_use]
    pub fn error(&self) -> f64 {
        let levels = f64::from(self.window.ilog2()) + 3.0;
        levels * self.passes.len() as f64 * UNIT_ROUNDOFF_F32 * (1.0 + 1e-4)
    }

    /// Turns [`LANES`] vectors: element by element, f32\[dim, lanes\].
    #[inline(always)]
    pub(super) fn turn(&self, vectors: &mut [Lanes]) {
        for (start, factors) in &self.passes {
            let window = vectors[*start..*start + self.window].as_flattened_mut();
            for (x, factor) in window.iter_mut().zip(factors.as_flattened()) {
                *x *= factor;
            }
            let mut half = LANES;
            while half < window.len() {
                for block in window.chunks_exact_mut(2 * half) {
                    // Flat, so that compilers see neighbours added to neighbours.
                    let (low, high) = block.split_at_mut(half);
                    for (x, y) in low.iter_mut().zip(high) {
                        (*x, *y) = (*x + *y, *x - *y);
                    }
                }
                half *= 2;
            }
        }
    }
}
