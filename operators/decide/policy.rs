//! A policy: who stays. It is made of a [`Condition`], of a seeded share, of an exact count, or of a column's [`Test`]; a [`Rule`](super::rule::Rule) is its written form.
//!
//! Whoever must know what a rule means asks its policy: the join and the pruning (does the sample stay, what is read of a score), the
//! incremental engine (which hits count, and for what), `why` and `report` (what speaks for and against, in words).
//!
//! ```
//! use trommel_core::sample::Score;
//! use trommel_decide::rule::Rule;
//! let rule: Rule = "drop-from:0.5".parse()?;
//! let near = Score { max_similarity: Some(0.5), ..Score::default() };
//! assert!(!rule.policy().keeps([&near], || 0));
//! assert_eq!(rule.policy().because(true, "0.5", "val", "val"), "0.5 >= 0.5 against val");
//! # Ok::<(), trommel_decide::checked_rule::RuleError>(())
//! ```

use super::column::Test;
use super::condition::Condition;
use super::percent::Percent;
use crate::join::Needs;
use trommel_core::sample::Score;

/// Who stays, as the rule says it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Policy<'a> {
    /// Whoever hits no test point.
    DropHits(Condition<'a>),
    /// Whoever hits a test point.
    KeepHits(Condition<'a>),
    /// A share, by the seeded [hash](super::hash) of names.
    Share(Percent),
    /// Exactly so many, in an order of all samples.
    First(u64, Order<'a>),
    /// Whoever's value in a column passes.
    Where(&'a Test),
}

/// An order of all samples; of equal ones the smaller (shard, index) comes first, shards by their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order<'a> {
    /// The largest similarity first, over these benchmarks (`None` = all).
    Nearest(Option<&'a [String]>),
    /// The smallest one first.
    Farthest(Option<&'a [String]>),
    /// The smallest seeded hash first.
    Hash,
    /// The largest value of a column first.
    Highest(&'a str),
    /// The smallest one first.
    Lowest(&'a str),
}

impl Order<'_> {
    /// A sample's place among all, smaller ones first, from its scores against the benchmarks that are looked at, its
    /// [draw](super::hash::random_hash), and a column's value; `None` for one that has no place, since what orders it is missing.
    pub fn place<'s>(
        self,
        scores: impl IntoIterator<Item = &'s Score>,
        draw: impl FnOnce() -> u64,
        column: impl FnOnce(&str) -> Option<f64>,
    ) -> Option<u64> {
        let largest = || scores.into_iter().filter_map(|score| score.max_similarity).reduce(f64::max);
        match self {
            Self::Nearest(_) => largest().and_then(ascending).map(|place| !place),
            Self::Farthest(_) => largest().and_then(ascending),
            Self::Hash => Some(draw()),
            Self::Highest(name) => column(name).and_then(ascending).map(|place| !place),
            Self::Lowest(name) => column(name).and_then(ascending),
        }
    }
}

impl<'a> Order<'a> {
    /// The column that orders, where one does.
    #[must_use]
    pub const fn column(self) -> Option<&'a str> {
        match self {
            Self::Highest(name) | Self::Lowest(name) => Some(name),
            Self::Nearest(_) | Self::Farthest(_) | Self::Hash => None,
        }
    }

    /// Whether it is the order of another one that looks at the same benchmarks.
    #[must_use]
    pub fn is_like(self, other: Order<'_>) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other) && self.column() == other.column()
    }

    /// Whether every sample has a place, whatever its scores and columns say.
    #[must_use]
    pub const fn places_all(self) -> bool {
        match self {
            Self::Hash => true,
            Self::Nearest(_) | Self::Farthest(_) | Self::Highest(_) | Self::Lowest(_) => false,
        }
    }
}

/// Numbers in the order of numbers: `a < b` iff `ascending(a) < ascending(b)`, and both zeros are one. NaN has no place.
fn ascending(x: f64) -> Option<u64> {
    let bits = (x + 0.0).to_bits();
    let mask = if bits >> 63 == 1 { u64::MAX } else { 1 << 63 };
    (!x.is_nan()).then_some(bits ^ mask)
}

/// The number of a place of [`Order::Lowest`], with one zero.
#[must_use]
pub const fn number_at(place: u64) -> f64 {
    f64::from_bits(place ^ if place >> 63 == 1 { 1 << 63 } else { u64::MAX })
}

impl<'a> Policy<'a> {
    /// The condition, and whether a hit keeps (else it drops), where the policy is made of one.
    #[must_use]
    pub const fn condition(self) -> Option<(Condition<'a>, bool)> {
        match self {
            Self::DropHits(condition) => Some((condition, false)),
            Self::KeepHits(condition) => Some((condition, true)),
            Self::Share(_) | Self::First(..) | Self::Where(_) => None,
        }
    }

    /// The benchmarks named, where any are.
    #[must_use]
    pub const fn names(self) -> Option<&'a [String]> {
        match self {
            Self::DropHits(condition) | Self::KeepHits(condition) => condition.benchmarks,
            Self::First(_, Order::Nearest(names) | Order::Farthest(names)) => names,
            Self::Share(_) | Self::First(_, Order::Hash | Order::Highest(_) | Order::Lowest(_)) | Self::Where(_) => {
                None
            }
        }
    }

    /// What is read of the score of a benchmark that is looked at.
    #[must_use]
    pub const fn needs(self) -> Needs {
        match self {
            Self::DropHits(condition) | Self::KeepHits(condition) => condition.limit.cut().needs(),
            Self::First(_, Order::Nearest(_) | Order::Farthest(_)) => Needs { maximum: true, radii: false },
            Self::Share(_) | Self::First(_, Order::Hash | Order::Highest(_) | Order::Lowest(_)) | Self::Where(_) => {
                Needs { maximum: false, radii: false }
            }
        }
    }

    /// Whether similarities are looked at, and therefore embeddings. Without, nothing need be embedded.
    #[must_use]
    pub const fn needs_embeddings(self) -> bool {
        let needs = self.needs();
        needs.maximum || needs.radii
    }

    /// Whether it can be answered only when all samples are known, since it asks for their order or for columns beside their scores.
    #[must_use]
    pub const fn needs_ledger(self) -> bool {
        match self {
            Self::DropHits(_) | Self::KeepHits(_) | Self::Share(_) => false,
            Self::First(..) | Self::Where(_) => true,
        }
    }

    /// Whether a seed decides who stays.
    #[must_use]
    pub const fn draws(self) -> bool {
        match self {
            Self::Share(_) | Self::First(_, Order::Hash) => true,
            Self::DropHits(_) | Self::KeepHits(_) | Self::First(..) | Self::Where(_) => false,
        }
    }

    /// How many stay, and in which order, where the policy is an exact number.
    #[must_use]
    pub const fn first(self) -> Option<(u64, Order<'a>)> {
        match self {
            Self::First(count, order) => Some((count, order)),
            Self::DropHits(_) | Self::KeepHits(_) | Self::Share(_) | Self::Where(_) => None,
        }
    }

    /// The test of a column, where it is one.
    #[must_use]
    pub const fn test(self) -> Option<&'a Test> {
        match self {
            Self::Where(test) => Some(test),
            Self::DropHits(_) | Self::KeepHits(_) | Self::Share(_) | Self::First(..) => None,
        }
    }

    /// The column that is read, where one is.
    #[must_use]
    pub fn column(self) -> Option<&'a str> {
        match self {
            Self::First(_, order) => order.column(),
            Self::Where(test) => Some(&test.column),
            Self::DropHits(_) | Self::KeepHits(_) | Self::Share(_) => None,
        }
    }

    /// Whether the score of a benchmark that is looked at says what is asked of it.
    #[must_use]
    pub const fn is_answered(self, score: &Score) -> bool {
        let Needs { maximum, radii } = self.needs();
        !(maximum && score.max_similarity.is_none() || radii && score.hits.is_none())
    }

    /// Whether a sample stays, from its scores against the benchmarks that are looked at, and its [draw](super::hash::random_hash).
    /// Nobody stays where a [ledger is needed](Self::needs_ledger).
    pub fn keeps<'s>(self, scores: impl IntoIterator<Item = &'s Score>, draw: impl FnOnce() -> u64) -> bool {
        let any = |condition: Condition<'_>| {
            let cut = condition.limit.cut();
            scores.into_iter().any(|score| cut.is_met(score) == Some(true))
        };
        match self {
            Self::DropHits(condition) => !any(condition),
            Self::KeepHits(condition) => any(condition),
            Self::Share(share) => share.takes(draw()),
            Self::First(..) | Self::Where(_) => false,
        }
    }

    /// Whether a dropped sample fell because of the benchmark with this score, which is looked at. Where hits keep, whoever hits nothing fell because of
    /// all of them.
    #[must_use]
    pub fn removes(self, score: &Score) -> bool {
        self.condition().is_some_and(|(condition, keeps)| condition.limit.cut().is_met(score) == Some(!keeps))
    }

    /// Whether a test point removes any sample (none does where hits keep): see [`Cut::is_point_hit`](super::condition::Cut::is_point_hit).
    #[must_use]
    pub fn point_removes(self, max_similarity: f64, over_radius: u64) -> bool {
        let of = self.condition().filter(|(_, keeps)| !keeps);
        of.is_some_and(|(condition, _)| condition.limit.cut().is_point_hit(max_similarity, over_radius))
    }

    /// The share that it keeps by names alone, where that is all that it asks.
    #[must_use]
    pub const fn share(self) -> Option<Percent> {
        match self {
            Self::Share(share) => Some(share),
            Self::DropHits(_) | Self::KeepHits(_) | Self::First(..) | Self::Where(_) => None,
        }
    }

    /// The one threshold, where there is one.
    #[must_use]
    pub fn threshold(self) -> Option<f64> {
        self.condition().and_then(|(condition, _)| condition.limit.threshold())
    }

    /// A decision in words: the largest similarity, the names of the benchmarks that are looked at, and of those that [remove](Self::removes).
    #[must_use]
    pub fn because(self, dropped: bool, largest: &str, counting: &str, removing: &str) -> String {
        match self {
            Self::DropHits(condition) if dropped => condition.limit.in_words(true, largest, removing),
            Self::DropHits(condition) => condition.limit.in_words(false, largest, counting),
            Self::KeepHits(condition) => condition.limit.in_words(!dropped, largest, counting),
            Self::Share(_) | Self::First(_, Order::Hash) => "by the seeded hash of shard and key".into(),
            Self::First(_, Order::Nearest(_) | Order::Farthest(_) | Order::Highest(_) | Order::Lowest(_)) => {
                "by its rank among all samples".into()
            }
            Self::Where(test) => format!("by the test {test}"),
        }
    }
}
