//! A rule checked against the benchmarks of a run: what decides each sample while it streams by.

use std::sync::Arc;

use thiserror::Error;

use super::hash::random_hash;
use super::rule::Rule;
use super::syntax::SyntaxError;
use crate::benchmark::Benchmark;
use crate::join::{Needs, Verdict};
use trommel_core::sample::{SampleId, Score};

/// Why a rule cannot be used.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum RuleError {
    /// It cannot be read.
    #[error("rule `{rule}`: {problem}")]
    Syntax {
        /// The rule as the user wrote it.
        rule: String,
        /// Which part is wrong, and how.
        problem: SyntaxError,
    },
    /// It keeps an exact number, which nobody can know while samples still come.
    #[error(
        "rule `{rule}` needs a finished ledger: prune first, then `trommel select DIR --rule {rule} -o FILE.parquet` and `--split FILE.parquet`"
    )]
    NeedsLedger {
        /// The rule as the user wrote it.
        rule: String,
    },
    /// It names a benchmark that the run has not.
    #[error("rule `{rule}`: no benchmark `{name}`; there is {known}")]
    NoSuchBenchmark {
        /// The rule as the user wrote it.
        rule: String,
        /// The benchmark that the rule names.
        name: String,
        /// The run's benchmarks, as a list in words.
        known: String,
    },
    /// It needs a benchmark and the run has none.
    #[error("rule `{rule}` needs a benchmark: add --benchmark NAME=DIR")]
    NoBenchmark {
        /// The rule as the user wrote it.
        rule: String,
    },
    /// It needs radii and a benchmark has none.
    #[error(
        "rule `{rule}` needs radii and benchmark `{name}` has none: make them with `trommel radii --reference DIR --benchmark {name}=DIR -o DIR`"
    )]
    NoRadii {
        /// The rule as the user wrote it.
        rule: String,
        /// The benchmark without radii.
        name: String,
    },
}

/// A benchmark as far as a rule must know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownBenchmark<'a> {
    /// Name of the benchmark, as rules write it after `@`.
    pub name: &'a str,
    /// Whether it has radii.
    pub radii: bool,
}

impl<'a> From<&'a Benchmark> for KnownBenchmark<'a> {
    fn from(benchmark: &'a Benchmark) -> Self {
        Self { name: &benchmark.name, radii: benchmark.radii.is_some() }
    }
}

impl Rule {
    /// The indices, in the run's order, of the benchmarks that it looks at; empty for `random`.
    ///
    /// # Errors
    /// If a name is unknown, a benchmark has no radii where radii are needed, or there is none at all.
    pub fn resolve(&self, benchmarks: &[KnownBenchmark<'_>]) -> Result<Vec<usize>, RuleError> {
        let (policy, rule) = (self.policy(), || self.to_string());
        if !policy.needs_embeddings() {
            return Ok(Vec::new());
        }
        if benchmarks.is_empty() {
            return Err(RuleError::NoBenchmark { rule: rule() });
        }
        let mut found: Vec<usize> = match policy.names() {
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
        if let Some(&bare) = found.iter().find(|&&at| policy.needs().radii && !benchmarks[at].radii) {
            return Err(RuleError::NoRadii { rule: rule(), name: benchmarks[bare].name.into() });
        }
        Ok(found)
    }

    /// What decides sample by sample. `seed` is that of `random`.
    ///
    /// # Errors
    /// As [`Rule::resolve`]; and a rule that keeps an exact number needs a finished ledger.
    pub fn check(&self, benchmarks: &[KnownBenchmark<'_>], seed: u64) -> Result<CheckedRule, RuleError> {
        if self.policy().needs_ledger() {
            return Err(RuleError::NeedsLedger { rule: self.to_string() });
        }
        let mut looks_at = vec![false; benchmarks.len()];
        for at in self.resolve(benchmarks)? {
            looks_at[at] = true;
        }
        Ok(CheckedRule { rule: self.clone(), looks_at, seed })
    }

    /// [`Rule::check`] for loaded benchmarks.
    ///
    /// # Errors
    /// The same.
    pub fn check_against(&self, benchmarks: &[Arc<Benchmark>], seed: u64) -> Result<CheckedRule, RuleError> {
        let known: Vec<KnownBenchmark<'_>> =
            benchmarks.iter().map(|benchmark| KnownBenchmark::from(&**benchmark)).collect();
        self.check(&known, seed)
    }
}

/// A rule checked against the benchmarks of a run: decides each sample from its names and scores alone.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedRule {
    rule: Rule,
    /// For each benchmark of the run.
    looks_at: Vec<bool>,
    seed: u64,
}

impl CheckedRule {
    /// The rule that was checked.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// The seed of `random`.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }
}

impl Verdict for CheckedRule {
    fn keeps(&self, shard_name: &str, key: &str, _: SampleId, scores: &[Score]) -> bool {
        let policy = self.rule.policy();
        debug_assert!(!policy.needs_embeddings() || scores.len() == self.looks_at.len(), "one score a benchmark");
        let counting = scores.iter().zip(&self.looks_at).filter_map(|(score, &looks)| looks.then_some(score));
        policy.keeps(counting, || random_hash(self.seed, shard_name, key))
    }

    fn needs(&self, benchmark: usize) -> Needs {
        let looks = self.looks_at.get(benchmark).copied().unwrap_or(false);
        let Needs { maximum, radii } = self.rule.policy().needs();
        Needs { maximum: looks && maximum, radii: looks && radii }
    }
}
