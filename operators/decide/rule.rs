//! The rules: how they are written, and what policy each of them is.
//!
//! | rule | alias | |
//! |---|---|---|
//! | `drop-over-radius[@B,..]` | `near` | drops a sample iff `s > r` (strictly) for any test point of any named benchmark |
//! | `drop-above:T[@B,..]` | | drops iff the largest `s` over the named benchmarks is `> T` |
//! | `drop-from:T[@B,..]` | | drops iff it is `>= T` |
//! | `drop-below:T[@B,..]` | | drops iff it is `< T` |
//! | `random:P%` | `rand` | keeps iff the sample's [hash](super::hash) falls into the share |
//! | `random:N` | `rand` | keeps exactly N: needs a finished ledger |
//! | `keep-nearest:N[@B,..]` | `far` | keeps exactly N: needs a finished ledger |
//! | `keep-farthest:N[@B,..]` | `near-N` | keeps exactly N: needs a finished ledger |
//! | `keep-highest:N@C`, `keep-lowest:N@C` | | keeps exactly N by a column of a finished ledger, or of a table joined to it |
//! | `where:C>=T`, `where:C=V`, .. | | keeps iff a column's value passes a [`Test`]: needs a finished ledger |
//!
//! Without `@B,..` all benchmarks of the run are meant. Similarities and radii are canonical f64 values, thresholds the f64 nearest to what was
//! written; they are compared as they are. [`Rule::policy`] says what a rule means, and [`Rule::check`] checks it against the benchmarks of a run.
//!
//! A rule of one's own is written here and in the tests' oracle: `docs/how-to/add-a-rule.md`.
//!
//! ```
//! use trommel_decide::{checked_rule::KnownBenchmark, rule::Rule};
//! let rule: Rule = "near@sketch".parse().unwrap();
//! assert_eq!(rule.to_string(), "drop-over-radius@sketch");
//! let checked = rule.check(&[KnownBenchmark { name: "sketch", radii: true }], 0).unwrap();
//! assert_eq!(checked.rule(), &rule);
//! assert_eq!("drop-above:x".parse::<Rule>().unwrap_err().to_string(), "rule `drop-above:x`: threshold `x` is no number");
//! ```

use std::fmt;

use super::column::Test;
use super::condition::{Condition, Limit};
use super::percent::Percent;
use super::policy::{Order, Policy};
use super::syntax::SyntaxError;
use super::written::Written;

/// What a run that drops nothing says in place of its rule.
pub const KEEP_ALL: &str = "keep-all";

/// On which side of a radius or a threshold an equal similarity falls, as run folders state it.
pub const TIES: &str = "strict: > drops for drop-over-radius and drop-above, >= for drop-from, < for drop-below";

/// Which benchmarks a rule looks at: names in the order written, none repeated; `None` = all of the run.
pub type BenchmarkNames = Option<Vec<String>>;

/// A rule as written.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// `drop-over-radius[@B,..]`.
    DropOverRadius(BenchmarkNames),
    /// `drop-above:T[@B,..]`: `>`.
    DropAbove(f64, BenchmarkNames),
    /// `drop-from:T[@B,..]`: `>=`.
    DropFrom(f64, BenchmarkNames),
    /// `drop-below:T[@B,..]`: `<`.
    DropBelow(f64, BenchmarkNames),
    /// `random:P%`: a seeded share.
    RandomPercent(Percent),
    /// `random:N`: exactly N by a seeded hash.
    RandomCount(u64),
    /// `keep-nearest:N[@B,..]`.
    KeepNearest(u64, BenchmarkNames),
    /// `keep-farthest:N[@B,..]`.
    KeepFarthest(u64, BenchmarkNames),
    /// `keep-highest:N@C`.
    KeepHighest(u64, String),
    /// `keep-lowest:N@C`.
    KeepLowest(u64, String),
    /// `where:TEST`: a test of a column of the tables.
    Where(Test),
}

/// Makes an enum with the list of all its variants, so that the list cannot lack one.
macro_rules! listed {
    ($(#[$about:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// All of them, in the order in which people are told.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];
        }
    };
}

listed! {
    /// The form of each [`Rule`]: its word, and what stands behind it.
    pub enum Form {
        /// Of [`Rule::DropOverRadius`].
        DropOverRadius,
        /// Of [`Rule::DropAbove`].
        DropAbove,
        /// Of [`Rule::DropFrom`].
        DropFrom,
        /// Of [`Rule::DropBelow`].
        DropBelow,
        /// Of [`Rule::RandomPercent`].
        RandomPercent,
        /// Of [`Rule::RandomCount`].
        RandomCount,
        /// Of [`Rule::KeepNearest`].
        KeepNearest,
        /// Of [`Rule::KeepFarthest`].
        KeepFarthest,
        /// Of [`Rule::KeepHighest`].
        KeepHighest,
        /// Of [`Rule::KeepLowest`].
        KeepLowest,
        /// Of [`Rule::Where`].
        Where,
    }
}

impl Form {
    /// As people are told: the word and a capital for the number behind it (`T` a threshold, `P%` a percentage, `N` a count, `C` a
    /// column); and the
    /// alias of the word.
    pub(super) const fn spelling(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::DropOverRadius => ("drop-over-radius", Some("near")),
            Self::DropAbove => ("drop-above:T", None),
            Self::DropFrom => ("drop-from:T", None),
            Self::DropBelow => ("drop-below:T", None),
            Self::RandomPercent => ("random:P%", Some("rand")),
            Self::RandomCount => ("random:N", Some("rand")),
            Self::KeepNearest => ("keep-nearest:N", Some("far")),
            Self::KeepFarthest => ("keep-farthest:N", Some("near-N")),
            Self::KeepHighest => ("keep-highest:N@C", None),
            Self::KeepLowest => ("keep-lowest:N@C", None),
            Self::Where => ("where:C>=T", None),
        }
    }

    /// The rule of this form, from what was written.
    pub(super) fn read(self, written: Written<'_>) -> Result<Rule, SyntaxError> {
        Ok(match self {
            Self::DropOverRadius => {
                written.no_number("for the N farthest write keep-farthest:N")?;
                Rule::DropOverRadius(written.names)
            }
            Self::DropAbove => Rule::DropAbove(written.threshold()?, written.names),
            Self::DropFrom => Rule::DropFrom(written.threshold()?, written.names),
            Self::DropBelow => Rule::DropBelow(written.threshold()?, written.names),
            Self::RandomPercent => {
                written.no_names()?;
                Rule::RandomPercent(written.percent()?)
            }
            Self::RandomCount => {
                written.no_names()?;
                Rule::RandomCount(written.count(" or a percentage")?)
            }
            Self::KeepNearest => Rule::KeepNearest(written.count("")?, written.names),
            Self::KeepFarthest => Rule::KeepFarthest(written.count("")?, written.names),
            Self::KeepHighest => Rule::KeepHighest(written.count("")?, written.column()?),
            Self::KeepLowest => Rule::KeepLowest(written.count("")?, written.column()?),
            Self::Where => Rule::Where(written.test()?),
        })
    }
}

impl Rule {
    /// The rule that asks a column for its order, and keeps nobody.
    #[must_use]
    pub fn in_order_of(column: &str) -> Self {
        Self::KeepLowest(0, column.into())
    }

    /// Which of the written forms it has.
    #[must_use]
    pub const fn form(&self) -> Form {
        match self {
            Self::DropOverRadius(_) => Form::DropOverRadius,
            Self::DropAbove(..) => Form::DropAbove,
            Self::DropFrom(..) => Form::DropFrom,
            Self::DropBelow(..) => Form::DropBelow,
            Self::RandomPercent(_) => Form::RandomPercent,
            Self::RandomCount(_) => Form::RandomCount,
            Self::KeepNearest(..) => Form::KeepNearest,
            Self::KeepFarthest(..) => Form::KeepFarthest,
            Self::KeepHighest(..) => Form::KeepHighest,
            Self::KeepLowest(..) => Form::KeepLowest,
            Self::Where(_) => Form::Where,
        }
    }

    /// The same rule with other benchmarks in the place of its own, where it looks at any, and another column in the place of its own.
    #[must_use]
    pub fn renamed(
        &self,
        names: impl FnOnce(&BenchmarkNames) -> BenchmarkNames,
        column: impl FnOnce(&str) -> String,
    ) -> Self {
        match self {
            Self::DropOverRadius(old) => Self::DropOverRadius(names(old)),
            Self::DropAbove(threshold, old) => Self::DropAbove(*threshold, names(old)),
            Self::DropFrom(threshold, old) => Self::DropFrom(*threshold, names(old)),
            Self::DropBelow(threshold, old) => Self::DropBelow(*threshold, names(old)),
            Self::KeepNearest(count, old) => Self::KeepNearest(*count, names(old)),
            Self::KeepFarthest(count, old) => Self::KeepFarthest(*count, names(old)),
            Self::KeepHighest(count, old) => Self::KeepHighest(*count, column(old)),
            Self::KeepLowest(count, old) => Self::KeepLowest(*count, column(old)),
            Self::Where(test) => Self::Where(test.of_column(column(&test.column))),
            Self::RandomPercent(_) | Self::RandomCount(_) => self.clone(),
        }
    }

    /// The policy that it stands for.
    #[must_use]
    pub fn policy(&self) -> Policy<'_> {
        match self {
            Self::DropOverRadius(names) => Policy::DropHits(condition(Limit::OverRadius, names)),
            Self::DropAbove(threshold, names) => Policy::DropHits(condition(Limit::Above(*threshold), names)),
            Self::DropFrom(threshold, names) => Policy::DropHits(condition(Limit::From(*threshold), names)),
            Self::DropBelow(threshold, names) => Policy::KeepHits(condition(Limit::From(*threshold), names)),
            Self::RandomPercent(percent) => Policy::Share(*percent),
            Self::RandomCount(count) => Policy::First(*count, Order::Hash),
            Self::KeepNearest(count, names) => Policy::First(*count, Order::Nearest(names.as_deref())),
            Self::KeepFarthest(count, names) => Policy::First(*count, Order::Farthest(names.as_deref())),
            Self::KeepHighest(count, column) => Policy::First(*count, Order::Highest(column)),
            Self::KeepLowest(count, column) => Policy::First(*count, Order::Lowest(column)),
            Self::Where(test) => Policy::Where(test),
        }
    }
}

fn condition(limit: Limit, names: &BenchmarkNames) -> Condition<'_> {
    Condition { limit, benchmarks: names.as_deref() }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.form().word())?;
        match self {
            Self::DropOverRadius(_) => Ok(()),
            Self::DropAbove(threshold, _) | Self::DropFrom(threshold, _) | Self::DropBelow(threshold, _) => {
                write!(f, ":{threshold}")
            }
            Self::RandomPercent(percent) => write!(f, ":{percent}%"),
            Self::RandomCount(count) | Self::KeepNearest(count, _) | Self::KeepFarthest(count, _) => {
                write!(f, ":{count}")
            }
            Self::KeepHighest(count, column) | Self::KeepLowest(count, column) => write!(f, ":{count}@{column}"),
            Self::Where(test) => write!(f, ":{test}"),
        }?;
        match self.policy().names() {
            Some(names) => write!(f, "@{}", names.join(",")),
            None => Ok(()),
        }
    }
}
