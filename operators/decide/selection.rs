//! Who is kept of a finished ledger: rules, put together by names and by `and`, `or`, `minus` and `not`.
//!
//! ```text
//! expr  = term, or terms joined by one of: and  or  minus
//! term  = not term | ( expr ) | NAME | RULE [per COLUMN] [of term]
//! ```
//!
//! - Samples that could not be judged take part in nothing, neither in `not` nor in an order.
//! - `RULE of term` asks the rule of the samples of the term only: `keep-nearest:N of T` keeps the N nearest that are in T, while
//!   `keep-nearest:N and T` keeps those of the N nearest of all that are in T.
//! - `RULE per COLUMN` keeps the exact number of each value of the column; samples without a value have no place.
//! - A NAME stands for what an earlier rule of that name says.
//! - Words are parted by blanks; quotes (`'..'`, `".."`) keep blanks and parentheses in a word. `and`, `or` and `minus` are mixed
//!   with parentheses only.
//!
//! ```
//! use trommel_decide::selection::{Selection, named};
//! let splits = named(&["wide=drop-over-radius or where:class=dog", "core=far:100 per class of (wide minus random:1%)"])?;
//! let [_, (name, core)] = splits.as_slice() else { panic!() };
//! assert_eq!(name, "core");
//! let text = "keep-nearest:100 per class of ((drop-over-radius or where:class=dog) minus random:1%)";
//! assert_eq!(core.to_string(), text);
//! assert_eq!(&text.parse::<Selection>()?, core);
//! # Ok::<(), trommel_decide::judge::RuleError>(())
//! ```

use std::fmt;

use super::rule::Rule;

mod parse;

pub use parse::named;

/// Rules of a finished ledger, put together.
#[derive(Clone, Debug, PartialEq)]
pub enum Selection {
    /// Whom a rule keeps.
    Rule {
        /// The rule.
        rule: Rule,
        /// Its exact number is kept of each value of this column.
        per: Option<String>,
        /// It is asked of these only; `None` = of all that were judged.
        of: Option<Box<Selection>>,
    },
    /// Whoever was judged and is not there.
    Not(Box<Selection>),
    /// Whoever is in both.
    And(Box<Selection>, Box<Selection>),
    /// Whoever is in one of them.
    Or(Box<Selection>, Box<Selection>),
    /// Whoever is in the first and not in the second.
    Minus(Box<Selection>, Box<Selection>),
}

impl Selection {
    /// All rules in it, in the order written.
    #[must_use]
    pub fn rules(&self) -> Vec<&Rule> {
        match self {
            Self::Rule { rule, of, .. } => {
                let mut rules = vec![rule];
                rules.extend(of.iter().flat_map(|of| of.rules()));
                rules
            }
            Self::Not(of) => of.rules(),
            Self::And(a, b) | Self::Or(a, b) | Self::Minus(a, b) => [a.rules(), b.rules()].concat(),
        }
    }

    /// Columns that it reads beside scores, those of `per` included.
    #[must_use]
    pub fn columns(&self) -> Vec<&str> {
        match self {
            Self::Rule { rule, per, of } => {
                let mut columns: Vec<&str> = rule.policy().column().into_iter().chain(per.as_deref()).collect();
                columns.extend(of.iter().flat_map(|of| of.columns()));
                columns
            }
            Self::Not(of) => of.columns(),
            Self::And(a, b) | Self::Or(a, b) | Self::Minus(a, b) => [a.columns(), b.columns()].concat(),
        }
    }

    /// Whether the fate of one sample hangs on the others': an exact number is in it.
    #[must_use]
    pub fn needs_all(&self) -> bool {
        self.rules().iter().any(|rule| rule.policy().first().is_some())
    }

    /// Rules and operations in it.
    #[must_use]
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Rule { of, .. } => 1 + of.as_ref().map_or(0, |of| of.size()),
            Self::Not(of) => 1 + of.size(),
            Self::And(a, b) | Self::Or(a, b) | Self::Minus(a, b) => 1 + a.size() + b.size(),
        }
    }

    fn is_term(&self) -> bool {
        match self {
            Self::Rule { .. } | Self::Not(_) => true,
            Self::And(..) | Self::Or(..) | Self::Minus(..) => false,
        }
    }

    /// As a term: what has two sides stands in parentheses.
    fn term(&self) -> String {
        if self.is_term() { self.to_string() } else { format!("({self})") }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let two = |a: &Self, word: &str, b: &Self| format!("{} {word} {}", a.term(), b.term());
        match self {
            Self::Rule { rule, per, of } => {
                f.write_str(&parse::quoted(&rule.to_string()))?;
                per.iter().try_for_each(|column| write!(f, " per {}", parse::quoted(column)))?;
                of.iter().try_for_each(|of| write!(f, " of {}", of.term()))
            }
            Self::Not(of) => write!(f, "not {}", of.term()),
            Self::And(a, b) => f.write_str(&two(a, "and", b)),
            Self::Or(a, b) => f.write_str(&two(a, "or", b)),
            Self::Minus(a, b) => f.write_str(&two(a, "minus", b)),
        }
    }
}
