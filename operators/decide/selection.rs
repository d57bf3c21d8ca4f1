//! Who is kept of a finished ledger: rules, put together by names and by `and`, `or`, `minus` and `not`.
//!
//! ```text
//! expr  = term, or terms joined by one of: and  or  minus
//! term  = not term | ( expr ) | NAME | RULE [per COLUMN [by COLUMN]] [of term]
//! ```
//!
//! - Samples that could not be judged take part in nothing, neither in `not` nor in an order.
//! - `RULE of term` asks the rule of the samples of the term only: `keep-nearest:N of T` keeps the N nearest that are in T, while
//!   `keep-nearest:N and T` keeps those of the N nearest of all that are in T.
//! - `RULE per COLUMN` keeps the exact number of each value of the column; samples without a value have no place.
//! - `RULE per COLUMN by WEIGHT` keeps the exact number in all, apportioned to the values of the column in proportion to another one, which is the same for
//!   all samples of a value; no value gives more than it has, and the others share what it lacks.
//! - A NAME stands for what an earlier rule of that name says.
//! - Whatever was read is written so that it is read again as it was: equal operations in a row stand without parentheses, and how deep terms may
//!   stand in each other is asked of what names stand for, too.
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
//! # Ok::<(), trommel_decide::checked_rule::RuleError>(())
//! ```

use std::fmt;

use super::rule::{BenchmarkNames, Rule};

mod parse;

pub use parse::named;

/// Rules of a finished ledger, put together.
#[derive(Clone, Debug, PartialEq)]
pub enum Selection {
    /// Whom a rule keeps.
    Rule {
        /// The rule that decides.
        rule: Rule,
        /// Its exact number is kept of each value of this column.
        per: Option<String>,
        /// It is apportioned to these values in proportion to this column instead.
        by: Option<String>,
        /// It is asked of these only; `None` = of all that were judged.
        of: Option<Box<Selection>>,
    },
    /// Whoever was judged and is not there.
    Not(Box<Selection>),
    /// Whoever is in all of them: two or more.
    And(Vec<Selection>),
    /// Whoever is in one of them: two or more.
    Or(Vec<Selection>),
    /// Whoever is in the first and in none of the others: two or more.
    Minus(Vec<Selection>),
}

impl Selection {
    /// All rules in it, in the order written.
    #[must_use]
    pub fn rules(&self) -> Vec<&Rule> {
        let own = match self {
            Self::Rule { rule, .. } => Some(rule),
            Self::Not(_) | Self::And(_) | Self::Or(_) | Self::Minus(_) => None,
        };
        own.into_iter().chain(self.parts().iter().flat_map(Self::rules)).collect()
    }

    /// Columns that it reads beside scores, those of `per` and `by` included.
    #[must_use]
    pub fn columns(&self) -> Vec<&str> {
        let own = match self {
            Self::Rule { rule, per, by, .. } => [rule.policy().column(), per.as_deref(), by.as_deref()],
            Self::Not(_) | Self::And(_) | Self::Or(_) | Self::Minus(_) => [None; 3],
        };
        own.into_iter().flatten().chain(self.parts().iter().flat_map(Self::columns)).collect()
    }

    /// The selections that it is made of.
    fn parts(&self) -> &[Self] {
        match self {
            Self::Rule { of, .. } => of.as_deref().map_or(&[], std::slice::from_ref),
            Self::Not(of) => std::slice::from_ref(of),
            Self::And(parts) | Self::Or(parts) | Self::Minus(parts) => parts,
        }
    }

    /// Whether the fate of one sample hangs on the others': an exact number is in it.
    #[must_use]
    pub fn needs_all(&self) -> bool {
        self.rules().iter().any(|rule| rule.policy().first().is_some())
    }

    /// Whether a seed decides who is kept.
    #[must_use]
    pub fn draws(&self) -> bool {
        self.rules().iter().any(|rule| rule.policy().draws())
    }

    /// The same with other names of benchmarks (`None` = all of the run) and of columns.
    #[must_use]
    pub fn renamed(
        &self,
        names: &impl Fn(&BenchmarkNames) -> BenchmarkNames,
        column: &impl Fn(&str) -> String,
    ) -> Self {
        let all = |parts: &[Self]| parts.iter().map(|part| part.renamed(names, column)).collect();
        match self {
            Self::Rule { rule, per, by, of } => Self::Rule {
                rule: rule.renamed(names, column),
                per: per.as_deref().map(column),
                by: by.as_deref().map(column),
                of: of.as_ref().map(|of| Box::new(of.renamed(names, column))),
            },
            Self::Not(of) => Self::Not(Box::new(of.renamed(names, column))),
            Self::And(parts) => Self::And(all(parts)),
            Self::Or(parts) => Self::Or(all(parts)),
            Self::Minus(parts) => Self::Minus(all(parts)),
        }
    }

    /// Rules and operations in it.
    fn size(&self) -> usize {
        let own = match self {
            Self::Rule { .. } | Self::Not(_) => 1,
            Self::And(parts) | Self::Or(parts) | Self::Minus(parts) => parts.len() - 1,
        };
        own + self.parts().iter().map(Self::size).sum::<usize>()
    }

    /// Terms that stand in each other where it is written as a term.
    fn depth(&self) -> usize {
        1 + self.parts().iter().map(Self::depth).max().unwrap_or(0)
    }

    /// As a term: what has several sides stands in parentheses.
    fn write_term(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { .. } | Self::Not(_) => write!(f, "{self}"),
            Self::And(_) | Self::Or(_) | Self::Minus(_) => write!(f, "({self})"),
        }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, parts) = match self {
            Self::Rule { rule, per, by, of } => {
                f.write_str(&parse::quoted(&rule.to_string()))?;
                per.iter().try_for_each(|column| write!(f, " per {}", parse::quoted(column)))?;
                by.iter().try_for_each(|column| write!(f, " by {}", parse::quoted(column)))?;
                return of.iter().try_for_each(|of| {
                    f.write_str(" of ")?;
                    of.write_term(f)
                });
            }
            Self::Not(of) => {
                f.write_str("not ")?;
                return of.write_term(f);
            }
            Self::And(parts) => ("and", parts),
            Self::Or(parts) => ("or", parts),
            Self::Minus(parts) => ("minus", parts),
        };
        for (at, part) in parts.iter().enumerate() {
            if at > 0 {
                write!(f, " {word} ")?;
            }
            part.write_term(f)?;
        }
        Ok(())
    }
}
