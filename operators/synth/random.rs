//! A counter-based source of chance: value `n` of a stream is a fixed function of (key, n), on any machine.

use trommel_core::hash::mix;

/// One stream of pseudo-random values (SplitMix64's finaliser over a counter).
#[derive(Clone, Debug)]
pub(super) struct Stream {
    key: u64,
    counter: u64,
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Folds words into one key; the order of the words matters.
pub(super) fn key_of(words: &[u64]) -> u64 {
    words.iter().fold(0x7472_6f6d_6d65_6c00, |key, word| mix(key.wrapping_add(STEP) ^ mix(word.wrapping_add(STEP))))
}

impl Stream {
    /// The stream named by these words.
    pub(super) fn of(words: &[u64]) -> Self {
        Self { key: key_of(words), counter: 0 }
    }

    /// The next 64 bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.counter += 1;
        mix(self.key.wrapping_add(self.counter.wrapping_mul(STEP)))
    }

    /// Uniform in [0, 1), a multiple of 2^-53.
    pub(super) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Uniform in [low, high).
    pub(super) fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// As [`Stream::range`], rounded to f32.
    pub(super) fn tone(&mut self, low: f64, high: f64) -> f32 {
        self.range(low, high) as f32
    }

    /// Uniform in 0..count; the bias is below 2^-32 for the small counts used here.
    pub(super) fn below(&mut self, count: usize) -> usize {
        (((self.bits() >> 32) * count as u64) >> 32) as usize
    }

    /// True with this probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// One of these choices, each equally likely.
    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// An index drawn with the probabilities `weights`, which need not sum to one.
    pub(super) fn weighted(&mut self, weights: &[f64]) -> usize {
        let total: f64 = weights.iter().sum();
        let mut rest = self.unit() * total;
        for (index, weight) in weights.iter().enumerate() {
            rest -= weight;
            if rest < 0.0 {
                return index;
            }
        }
        weights.len().saturating_sub(1)
    }
}

/// The next integer below, without a call into libm; |value| below 2^31.
pub(super) fn floor(value: f32) -> i64 {
    let cut = value as i32;
    i64::from(cut) - i64::from(cut as f32 > value)
}

/// Smooth noise in [0, 1): random values on the integer lattice, blended by a cubic.
pub(super) fn lattice_noise(key: u64, x: f32, y: f32) -> f32 {
    let (ix, iy) = (floor(x), floor(y));
    let (tx, ty) = (x - ix as f32, y - iy as f32);
    let (sx, sy) = (tx * tx * (3.0 - 2.0 * tx), ty * ty * (3.0 - 2.0 * ty));
    let at = |cx: i64, cy: i64| {
        let word = (cx as u64).wrapping_mul(0x8cb9_2ba7_2f3d_8dd7) ^ (cy as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
        (mix(word.wrapping_add(key)) >> 40) as f32 * (1.0 / 16_777_216.0)
    };
    let (a, b, c, d) = (at(ix, iy), at(ix + 1, iy), at(ix, iy + 1), at(ix + 1, iy + 1));
    let (top, bottom) = (a + (b - a) * sx, c + (d - c) * sx);
    top + (bottom - top) * sy
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn values_are_pinned() {
        // The first outputs of SplitMix64 seeded with 0, from its published reference.
        assert_eq!(mix(STEP), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(STEP.wrapping_mul(2)), 0x6e78_9e6a_a1b9_65f4);
        assert_ne!(key_of(&[1, 2]), key_of(&[2, 1]));
        let mut stream = Stream::of(&[7]);
        assert!((0..1000).map(|_| stream.unit()).all(|u| (0.0..1.0).contains(&u)));
        assert!((0..1000).map(|_| stream.below(3)).all(|n| n < 3));
    }
}
