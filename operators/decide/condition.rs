//! A condition: what a similarity is compared with, which side of it is a hit, and against which benchmarks.
//!
//! A [`Limit`] is what was written; a [`Cut`] is the same as one strict comparison, and all that is ever computed: a similarity hits a test
//! point iff `s > cut`. `s >= T` is the cut just below T, since no f64 lies between. A score meets a cut iff the sample hits any point of
//! the benchmark: "any point is hit" and "the maximum is over the threshold" say the same.
//!
//! ```
//! use trommel_decide::condition::Limit;
//! let (above, from) = (Limit::Above(0.5).cut(), Limit::From(0.5).cut());
//! assert!(!above.is_hit(0.5, None) && from.is_hit(0.5, None) && !from.is_hit(0.5f64.next_down(), None));
//! assert!(Limit::OverRadius.cut().is_hit(0.5, Some(0.4)) && !Limit::OverRadius.cut().is_hit(0.5, Some(0.5)));
//! ```

use crate::join::Needs;
use trommel_core::sample::Score;

/// What a similarity is compared with, as written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Each test point's own radius: `s > r`.
    OverRadius,
    /// One threshold for all: `s > T`.
    Above(f64),
    /// One threshold for all: `s >= T`.
    From(f64),
}

/// What a similarity must exceed to be a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cut {
    /// The test point's radius.
    Radius,
    /// One f64 for all test points, by its bits.
    At(u64),
}

/// A limit and the benchmarks that it is asked of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Condition<'a> {
    /// What similarities are compared with.
    pub limit: Limit,
    /// Names in the order written; `None` = all benchmarks of the run.
    pub benchmarks: Option<&'a [String]>,
}

impl Limit {
    /// The same as one strict comparison.
    #[must_use]
    pub const fn cut(self) -> Cut {
        match self {
            Self::OverRadius => Cut::Radius,
            Self::Above(threshold) => Cut::At(threshold.to_bits()),
            Self::From(threshold) => Cut::At(threshold.next_down().to_bits()),
        }
    }

    /// The one threshold for all test points, where there is one.
    #[must_use]
    pub const fn threshold(self) -> Option<f64> {
        match self {
            Self::OverRadius => None,
            Self::Above(threshold) | Self::From(threshold) => Some(threshold),
        }
    }

    /// What was seen, in words: whether the limit was met, with the largest similarity and the names of the benchmarks.
    #[must_use]
    pub fn in_words(self, met: bool, largest: &str, names: &str) -> String {
        let compared = |sign: &str, threshold: f64| format!("{largest} {sign} {threshold} against {names}");
        match (self, met) {
            (Self::OverRadius, true) => format!("over the radius of test points of {names}"),
            (Self::OverRadius, false) => format!("over no radius of {names}"),
            (Self::Above(threshold), true) => compared(">", threshold),
            (Self::Above(threshold), false) => compared("<=", threshold),
            (Self::From(threshold), true) => compared(">=", threshold),
            (Self::From(threshold), false) => compared("<", threshold),
        }
    }
}

impl Cut {
    /// Each test point's own radius.
    pub const RADIUS: Self = Self::Radius;

    /// The value that a similarity to a test point of this radius must exceed; infinite where the point lacks the radius that is asked for.
    #[must_use]
    pub fn value(self, radius: Option<f64>) -> f64 {
        match self {
            Self::Radius => radius.unwrap_or(f64::INFINITY),
            Self::At(bits) => f64::from_bits(bits),
        }
    }

    /// Whether a similarity hits a test point of this radius.
    #[must_use]
    pub fn is_hit(self, s: f64, radius: Option<f64>) -> bool {
        s > self.value(radius)
    }

    /// Whether the sample of a score hits any test point of the score's benchmark; `None` where the score does not say.
    #[must_use]
    pub fn is_met(self, score: &Score) -> Option<bool> {
        match self {
            Self::Radius => score.hits.map(|hits| hits > 0),
            Self::At(bits) => score.max_similarity.map(|s| s > f64::from_bits(bits)),
        }
    }

    /// Whether a test point is hit by any sample: from the largest similarity to it, and the number of samples over its radius.
    #[must_use]
    pub fn is_point_hit(self, max_similarity: f64, over_radius: u64) -> bool {
        match self {
            Self::Radius => over_radius > 0,
            Self::At(bits) => max_similarity > f64::from_bits(bits),
        }
    }

    /// What [`Cut::is_met`] reads of a score.
    #[must_use]
    pub const fn needs(self) -> Needs {
        match self {
            Self::Radius => Needs { maximum: false, radii: true },
            Self::At(_) => Needs { maximum: true, radii: false },
        }
    }
}
