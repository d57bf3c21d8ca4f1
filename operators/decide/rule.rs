//! The rules: how they are written, what they need, what they keep.
//!
//! | rule | alias | |
//! |---|---|---|
//! | `drop-over-radius[@B,..]` | `near` | drops a sample iff `s > r` (strictly) for any test point of any named benchmark |
//! | `drop-above:T[@B,..]` | | drops iff the largest `s` over the named benchmarks is `> T` |
//! | `drop-from:T[@B,..]` | | drops iff it is `>= T` |
//! | `drop-below:T[@B,..]` | | drops iff it is `< T` |
//! | `random:P%` | `rand` | keeps iff the sample's [hash](super::hash) falls into the share |
//! | `keep-nearest:N[@B,..]` | `far` | keeps exactly N: needs a finished ledger |
//! | `keep-farthest:N[@B,..]` | `near-N` | keeps exactly N: needs a finished ledger |
//! | `random:N` | `rand` | keeps exactly N: needs a finished ledger |
//!
//! Without `@B,..` all benchmarks of the run are meant. Similarities and radii are canonical f64 values, thresholds the f64 nearest to what was
//! written; they are compared as they are. [`Rule::judge`] checks a rule against the benchmarks of the run and gives what decides.
//!
//! ```
//! use trommel_decide::rule::{Known, Rule};
//! let rule: Rule = "near@sketch".parse().unwrap();
//! assert_eq!(rule.to_string(), "drop-over-radius@sketch");
//! let judge = rule.judge(&[Known { name: "sketch", radii: true }], 0).unwrap();
//! assert_eq!(judge.rule(), &rule);
//! assert_eq!("drop-above:x".parse::<Rule>().unwrap_err().to_string(), "rule `drop-above:x`: threshold `x` is no number");
//! ```

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use super::hash::random_hash;
use super::percent::Percent;
use crate::benchmark::Benchmark;
use crate::join::{Needs, Verdict};
use trommel_core::sample::{SampleId, Score};

/// Why a rule cannot be used.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum RuleError {
    /// It cannot be read.
    #[error("rule `{rule}`: {problem}")]
    Syntax {
        /// As written.
        rule: String,
        /// Which part is wrong, and how.
        problem: String,
    },
    /// It keeps an exact number, which nobody can know while samples still come.
    #[error(
        "rule `{rule}` needs a finished ledger: prune first, then `trommel select DIR --rule {rule} -o FILE` and `--split FILE`"
    )]
    NeedsLedger {
        /// The rule.
        rule: String,
    },
    /// It names a benchmark that the run has not.
    #[error("rule `{rule}`: no benchmark `{name}`; there is {known}")]
    NoSuchBenchmark {
        /// The rule.
        rule: String,
        /// The name.
        name: String,
        /// What exists.
        known: String,
    },
    /// It needs a benchmark and the run has none.
    #[error("rule `{rule}` needs a benchmark: add --benchmark NAME=DIR")]
    NoBenchmark {
        /// The rule.
        rule: String,
    },
    /// It needs radii and a benchmark has none.
    #[error(
        "rule `{rule}` needs radii and benchmark `{name}` has none: make them with `trommel radii --reference DIR --benchmark {name}=DIR -o DIR`"
    )]
    NoRadii {
        /// The rule.
        rule: String,
        /// The benchmark.
        name: String,
    },
}

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
    /// `random:P%`.
    RandomPercent(Percent),
    /// `random:N`.
    RandomCount(u64),
    /// `keep-nearest:N[@B,..]`.
    KeepNearest(u64, BenchmarkNames),
    /// `keep-farthest:N[@B,..]`.
    KeepFarthest(u64, BenchmarkNames),
}

const WORDS: &str = "drop-over-radius (near), drop-above:T, drop-from:T, drop-below:T, random:P% or random:N (rand), \
                     keep-nearest:N (far), keep-farthest:N (near-N)";

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        parse(text).map_err(|problem| RuleError::Syntax { rule: text.into(), problem })
    }
}

fn parse(text: &str) -> Result<Rule, String> {
    let (head, names) = text.split_once('@').map_or((text, None), |(head, names)| (head, Some(names)));
    let (word, number) = head.split_once(':').map_or((head, None), |(word, number)| (word, Some(number)));
    let names = names.map(parse_names).transpose()?;
    let threshold = || parse_threshold(word, number);
    let count = || parse_count(word, number);
    match word {
        "drop-over-radius" | "near" => match number {
            None => Ok(Rule::DropOverRadius(names)),
            Some(_) => Err(format!("`{word}` takes no number (for the N farthest write keep-farthest:N)")),
        },
        "drop-above" => Ok(Rule::DropAbove(threshold()?, names)),
        "drop-from" => Ok(Rule::DropFrom(threshold()?, names)),
        "drop-below" => Ok(Rule::DropBelow(threshold()?, names)),
        "keep-nearest" | "far" => Ok(Rule::KeepNearest(count()?, names)),
        "keep-farthest" | "near-N" => Ok(Rule::KeepFarthest(count()?, names)),
        "random" | "rand" => {
            if names.is_some() {
                return Err(format!("`{word}` looks at no benchmark, so it takes no @ list"));
            }
            match number.and_then(|number| number.strip_suffix('%')) {
                Some(percent) => Ok(Rule::RandomPercent(percent.parse().map_err(|e| format!("percentage {e}"))?)),
                None => Ok(Rule::RandomCount(count()?)),
            }
        }
        "" => Err(format!("it names nothing to do; rules are {WORDS}")),
        _ => Err(format!("unknown word `{word}`; rules are {WORDS}")),
    }
}

fn parse_names(list: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::<String>::new();
    for name in list.split(',') {
        if name.is_empty() {
            return Err(format!("the list after @ has an empty name: `@{list}`"));
        }
        if names.iter().any(|other| other == name) {
            return Err(format!("benchmark `{name}` stands twice in `@{list}`"));
        }
        names.push(name.into());
    }
    Ok(names)
}

fn parse_threshold(word: &str, number: Option<&str>) -> Result<f64, String> {
    let text = number.filter(|text| !text.is_empty()).ok_or(format!("`{word}` needs a threshold: {word}:T"))?;
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    let value = text.parse::<f64>().ok().filter(|_| plain).ok_or(format!("threshold `{text}` is no number"))?;
    if !(-2.0..=2.0).contains(&value) {
        return Err(format!("threshold `{text}` is no cosine (those lie between -1 and 1)"));
    }
    Ok(value)
}

fn parse_count(word: &str, number: Option<&str>) -> Result<u64, String> {
    let share = if word.starts_with("rand") { " or a percentage" } else { "" };
    let text = number.filter(|text| !text.is_empty()).ok_or(format!("`{word}` needs a number{share}: {word}:N"))?;
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(format!("number `{text}` is no count of samples"))
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DropOverRadius(_) => write!(f, "drop-over-radius")?,
            Self::DropAbove(threshold, _) => write!(f, "drop-above:{threshold}")?,
            Self::DropFrom(threshold, _) => write!(f, "drop-from:{threshold}")?,
            Self::DropBelow(threshold, _) => write!(f, "drop-below:{threshold}")?,
            Self::RandomPercent(percent) => write!(f, "random:{percent}%")?,
            Self::RandomCount(count) => write!(f, "random:{count}")?,
            Self::KeepNearest(count, _) => write!(f, "keep-nearest:{count}")?,
            Self::KeepFarthest(count, _) => write!(f, "keep-farthest:{count}")?,
        }
        match self.names() {
            Some(names) => write!(f, "@{}", names.join(",")),
            None => Ok(()),
        }
    }
}

/// A benchmark as far as a rule must know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether it has radii.
    pub radii: bool,
}

impl<'a> From<&'a Benchmark> for Known<'a> {
    fn from(benchmark: &'a Benchmark) -> Self {
        Self { name: &benchmark.name, radii: benchmark.radii.is_some() }
    }
}

impl Rule {
    /// The benchmarks named, where any are.
    #[must_use]
    pub fn names(&self) -> Option<&[String]> {
        match self {
            Self::DropOverRadius(names)
            | Self::DropAbove(_, names)
            | Self::DropFrom(_, names)
            | Self::DropBelow(_, names)
            | Self::KeepNearest(_, names)
            | Self::KeepFarthest(_, names) => names.as_deref(),
            Self::RandomPercent(_) | Self::RandomCount(_) => None,
        }
    }

    /// Whether it looks at similarities, and therefore at embeddings. Without, nothing need be embedded.
    #[must_use]
    pub fn needs_embeddings(&self) -> bool {
        !matches!(self, Self::RandomPercent(_) | Self::RandomCount(_))
    }

    /// Whether it looks at radii.
    #[must_use]
    pub fn needs_radii(&self) -> bool {
        matches!(self, Self::DropOverRadius(_))
    }

    /// Whether it keeps an exact number, for which all samples must be known.
    #[must_use]
    pub fn needs_ledger(&self) -> bool {
        matches!(self, Self::RandomCount(_) | Self::KeepNearest(..) | Self::KeepFarthest(..))
    }

    /// The indices, in the run's order, of the benchmarks that it looks at; empty for `random`.
    ///
    /// # Errors
    /// If a name is unknown, a benchmark has no radii where radii are needed, or there is none at all.
    pub fn resolve(&self, benchmarks: &[Known<'_>]) -> Result<Vec<usize>, RuleError> {
        let rule = || self.to_string();
        if !self.needs_embeddings() {
            return Ok(Vec::new());
        }
        if benchmarks.is_empty() {
            return Err(RuleError::NoBenchmark { rule: rule() });
        }
        let mut found: Vec<usize> = match self.names() {
            None => (0..benchmarks.len()).collect(),
            Some(names) => {
                let find = |name: &String| {
                    benchmarks.iter().position(|known| known.name == name).ok_or_else(|| {
                        let known: Vec<&str> = benchmarks.iter().map(|known| known.name).collect();
                        RuleError::NoSuchBenchmark { rule: rule(), name: name.clone(), known: known.join(", ") }
                    })
                };
                names.iter().map(find).collect::<Result<_, _>>()?
            }
        };
        found.sort_unstable();
        if let Some(&bare) = found.iter().find(|&&at| self.needs_radii() && !benchmarks[at].radii) {
            return Err(RuleError::NoRadii { rule: rule(), name: benchmarks[bare].name.into() });
        }
        Ok(found)
    }

    /// What decides sample by sample. `seed` is that of `random`.
    ///
    /// # Errors
    /// As [`Rule::resolve`]; and a rule that keeps an exact number needs a finished ledger.
    pub fn judge(&self, benchmarks: &[Known<'_>], seed: u64) -> Result<Judge, RuleError> {
        if self.needs_ledger() {
            return Err(RuleError::NeedsLedger { rule: self.to_string() });
        }
        let mut looks_at = vec![false; benchmarks.len()];
        for at in self.resolve(benchmarks)? {
            looks_at[at] = true;
        }
        Ok(Judge { rule: self.clone(), looks_at, seed })
    }

    /// [`Rule::judge`] for loaded benchmarks.
    ///
    /// # Errors
    /// The same.
    pub fn judge_with(&self, benchmarks: &[Arc<Benchmark>], seed: u64) -> Result<Judge, RuleError> {
        let known: Vec<Known<'_>> = benchmarks.iter().map(|benchmark| Known::from(&**benchmark)).collect();
        self.judge(&known, seed)
    }
}

/// A rule checked against the benchmarks of a run: decides each sample from its names and scores alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Judge {
    rule: Rule,
    /// For each benchmark of the run.
    looks_at: Vec<bool>,
    seed: u64,
}

impl Judge {
    /// The rule.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// The seed of `random`.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The scores that count.
    fn scores<'a>(&'a self, scores: &'a [Score]) -> impl Iterator<Item = &'a Score> {
        scores.iter().zip(&self.looks_at).filter_map(|(score, &looks)| looks.then_some(score))
    }

    /// Largest similarity over the benchmarks that count.
    fn largest(&self, scores: &[Score]) -> f64 {
        self.scores(scores).filter_map(|score| score.max_similarity).fold(f64::NEG_INFINITY, f64::max)
    }
}

impl Verdict for Judge {
    fn keeps(&self, shard_name: &str, key: &str, _: SampleId, scores: &[Score]) -> bool {
        debug_assert!(!self.rule.needs_embeddings() || scores.len() == self.looks_at.len(), "one score a benchmark");
        match &self.rule {
            Rule::DropOverRadius(_) => self.scores(scores).all(|score| score.hits.unwrap_or(0) == 0),
            Rule::DropAbove(threshold, _) => self.largest(scores) <= *threshold,
            Rule::DropFrom(threshold, _) => self.largest(scores) < *threshold,
            Rule::DropBelow(threshold, _) => self.largest(scores) >= *threshold,
            Rule::RandomPercent(percent) => percent.takes(random_hash(self.seed, shard_name, key)),
            // `Rule::judge` makes no judge of these.
            Rule::RandomCount(_) | Rule::KeepNearest(..) | Rule::KeepFarthest(..) => false,
        }
    }

    fn needs(&self, benchmark: usize) -> Needs {
        let looks = self.looks_at.get(benchmark).copied().unwrap_or(false);
        let radii = self.rule.needs_radii();
        Needs { maximum: looks && !radii, radii: looks && radii }
    }
}
