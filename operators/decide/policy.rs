//! A policy: who stays. It is made of a [`Condition`], of a seeded share, or of an exact count; a [`Rule`](super::rule::Rule) is its written form.
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
//! # Ok::<(), trommel_decide::judge::RuleError>(())
//! ```

use super::condition::Condition;
use super::percent::Percent;
use crate::join::Needs;
use trommel_core::sample::Score;

/// Who stays.
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
}

/// An order of all samples; of equal ones the smaller (shard, index) comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order<'a> {
    /// The largest similarity first, over these benchmarks (`None` = all).
    Nearest(Option<&'a [String]>),
    /// The smallest one first.
    Farthest(Option<&'a [String]>),
    /// The smallest seeded hash first.
    Hash,
}

impl<'a> Policy<'a> {
    /// The condition, and whether a hit keeps (else it drops), where the policy is made of one.
    #[must_use]
    pub const fn condition(self) -> Option<(Condition<'a>, bool)> {
        match self {
            Self::DropHits(condition) => Some((condition, false)),
            Self::KeepHits(condition) => Some((condition, true)),
            Self::Share(_) | Self::First(..) => None,
        }
    }

    /// The benchmarks named, where any are.
    #[must_use]
    pub const fn names(self) -> Option<&'a [String]> {
        match self {
            Self::DropHits(condition) | Self::KeepHits(condition) => condition.benchmarks,
            Self::First(_, Order::Nearest(names) | Order::Farthest(names)) => names,
            Self::Share(_) | Self::First(_, Order::Hash) => None,
        }
    }

    /// What is read of the score of a benchmark that is looked at.
    #[must_use]
    pub const fn needs(self) -> Needs {
        match self {
            Self::DropHits(condition) | Self::KeepHits(condition) => condition.limit.cut().needs(),
            Self::First(_, Order::Nearest(_) | Order::Farthest(_)) => Needs { maximum: true, radii: false },
            Self::Share(_) | Self::First(_, Order::Hash) => Needs { maximum: false, radii: false },
        }
    }

    /// Whether similarities are looked at, and therefore embeddings. Without, nothing need be embedded.
    #[must_use]
    pub const fn needs_embeddings(self) -> bool {
        let needs = self.needs();
        needs.maximum || needs.radii
    }

    /// Whether all samples must be known before the first is decided.
    #[must_use]
    pub const fn needs_ledger(self) -> bool {
        match self {
            Self::DropHits(_) | Self::KeepHits(_) | Self::Share(_) => false,
            Self::First(..) => true,
        }
    }

    /// Whether a sample stays, from its scores against the benchmarks that are looked at, and its [draw](super::hash::random_hash).
    /// Nobody stays where all samples must be known first.
    pub fn keeps<'s>(self, scores: impl IntoIterator<Item = &'s Score>, draw: impl FnOnce() -> u64) -> bool {
        let any = |condition: Condition<'_>| {
            let cut = condition.limit.cut();
            scores.into_iter().any(|score| cut.is_met(score) == Some(true))
        };
        match self {
            Self::DropHits(condition) => !any(condition),
            Self::KeepHits(condition) => any(condition),
            Self::Share(share) => share.takes(draw()),
            Self::First(..) => false,
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
            Self::First(_, Order::Nearest(_) | Order::Farthest(_)) => "by its rank among all samples".into(),
        }
    }
}
