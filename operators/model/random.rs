//! Random numbers that are a function of (seed, name, index) and of nothing else.
//!
//! ```text
//! mix(z)      = SplitMix64's finaliser: z ^= z >> 30; z *= 0xbf58476d1ce4e5b9; z ^= z >> 27;
//!               z *= 0x94d049bb133111eb; z ^= z >> 31
//! stream      = fold over the name's bytes b, from mix(seed):  h = mix(h ^ b) + 0x9e3779b97f4a7c15
//! bits(i)     = mix(stream + (i + 1) * 0x9e3779b97f4a7c15)
//! uniform(i)  = ((bits(i) >> 11) + 0.5) * 2^-53                          in (0, 1), f64
//! truncated(i) = the first of normal(2 i), normal(2 (i + 2^40)), .. that lies within two deviations
//! normal(2k)  = sqrt(-2 ln u(2k)) * cos(2 pi u(2k+1)),  normal(2k+1) = the same with sin (Box-Muller)
//! ```
//!
//! All additions and products wrap. Weights are computed in f64 and rounded once to f32.

use trommel_core::hash::mix;

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The numbers of one (seed, name).
#[derive(Clone, Copy, Debug)]
pub struct Stream(u64);

impl Stream {
    /// The stream of `name` under `seed`.
    #[must_use]
    pub fn new(seed: u64, name: &str) -> Self {
        Self(name.bytes().fold(mix(seed), |h, b| mix(h ^ u64::from(b)).wrapping_add(GOLDEN)))
    }

    /// 64 random bits.
    #[must_use]
    pub const fn bits(self, index: u64) -> u64 {
        mix(self.0.wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN)))
    }

    /// Uniform in (0, 1).
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn uniform(self, index: u64) -> f64 {
        ((self.bits(index) >> 11) as f64 + 0.5) * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Standard normal pair with indices `2 * pair` and `2 * pair + 1`.
    #[must_use]
    pub fn normal_pair(self, pair: u64) -> (f64, f64) {
        let radius = (-2.0 * self.uniform(2 * pair).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.uniform(2 * pair + 1)).sin_cos();
        (radius * cos, radius * sin)
    }
}

/// A distribution of weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// Every value the same.
    Constant(f64),
    /// Uniform in (-bound, bound).
    Uniform(f64),
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// The same without what lies further out than two deviations, which is drawn again.
    Truncated(f64),
}

/// Fills `out` with numbers `start..`, `start` even.
#[allow(clippy::cast_possible_truncation)]
fn fill_from(stream: Stream, distribution: Distribution, start: u64, out: &mut [f32]) {
    match distribution {
        Distribution::Constant(value) => out.fill(value as f32),
        Distribution::Uniform(bound) => {
            for (i, x) in (start..).zip(out) {
                *x = (bound * (2.0 * stream.uniform(i) - 1.0)) as f32;
            }
        }
        Distribution::Truncated(std) => {
            // Numbers of one tensor are fewer than 2^40, so that each has its own.
            let normal = |i: u64| (0..).map(move |again: u64| stream.normal_pair(i + (again << 40)).0);
            for (i, x) in (start..).zip(out) {
                let within = normal(i).find(|z| z.abs() <= 2.0);
                *x = (std * within.unwrap_or_default()) as f32;
            }
        }
        Distribution::Normal(std) => {
            for (pair, xs) in (start / 2..).zip(out.chunks_mut(2)) {
                let (a, b) = stream.normal_pair(pair);
                xs[0] = (std * a) as f32;
                if let Some(x) = xs.get_mut(1) {
                    *x = (std * b) as f32;
                }
            }
        }
    }
}

/// `count` numbers of (seed, name), on up to `threads` threads; the values do not depend on them.
#[must_use]
pub fn fill(seed: u64, name: &str, distribution: Distribution, count: usize, threads: usize) -> Vec<f32> {
    let stream = Stream::new(seed, name);
    let mut out = vec![0f32; count];
    let chunk = count.div_ceil(threads.max(1)).next_multiple_of(2).max(1 << 14);
    std::thread::scope(|scope| {
        for (i, part) in out.chunks_mut(chunk).enumerate() {
            let start = (i * chunk) as u64;
            if count <= chunk {
                fill_from(stream, distribution, start, part);
            } else {
                scope.spawn(move || fill_from(stream, distribution, start, part));
            }
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finaliser_matches_published_splitmix64() {
        // The first outputs of SplitMix64 seeded with 1234567 are mix(seed + k * golden).
        let outputs: Vec<u64> = (1..=3).map(|k| mix(1_234_567u64.wrapping_add(GOLDEN.wrapping_mul(k)))).collect();
        assert_eq!(outputs, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn values_do_not_depend_on_threads() {
        for distribution in [Distribution::Uniform(0.5), Distribution::Normal(2.0), Distribution::Truncated(2.0)] {
            let one = fill(7, "a.weight", distribution, 100_001, 1);
            assert_eq!(one, fill(7, "a.weight", distribution, 100_001, 3));
            assert_ne!(one, fill(8, "a.weight", distribution, 100_001, 1));
            assert_ne!(one, fill(7, "a.bias", distribution, 100_001, 1));
        }
    }

    #[test]
    fn moments_are_right() {
        let n = 1 << 20;
        let moments = |xs: &[f32]| {
            let mean = xs.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64;
            let power = |p: i32| xs.iter().map(|&x| (f64::from(x) - mean).powi(p)).sum::<f64>() / n as f64;
            (mean, power(2), power(4))
        };
        let (mean, variance, fourth) = moments(&fill(1, "n", Distribution::Normal(1.0), n, 2));
        assert!(mean.abs() < 5e-3 && (variance - 1.0).abs() < 1e-2 && (fourth - 3.0).abs() < 5e-2);
        let truncated = fill(1, "t", Distribution::Truncated(1.0), n, 2);
        let (mean, variance, _) = moments(&truncated);
        // 1 - 2 z phi(z) / (2 Phi(z) - 1) at z = 2.
        assert!(mean.abs() < 5e-3 && (variance - 0.773_741).abs() < 5e-3, "{mean} {variance}");
        assert!(truncated.iter().all(|x| x.abs() <= 2.0));
        let uniform = fill(1, "u", Distribution::Uniform(1.0), n, 2);
        let (mean, variance, _) = moments(&uniform);
        assert!(mean.abs() < 5e-3 && (variance - 1.0 / 3.0).abs() < 5e-3);
        assert!(uniform.iter().all(|x| x.abs() <= 1.0));
    }
}
