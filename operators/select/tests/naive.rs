//! Selections once more, from their table of meanings: sets of whole rows, plain comparisons, plain sorting. Nothing is shared with what is tested
//! but the types of what was written, and the seeded hash, which has vectors of its own.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};
use trommel_decide::hash::random_hash;
use trommel_decide::rule::Rule;
use trommel_decide::selection::Selection;

use super::world::Row;

/// A row with its place: in the order of (shard's name, index).
pub(crate) struct Known {
    pub shard: String,
    pub index: u32,
    pub row: Row,
}

pub(crate) struct Naive {
    pub benchmarks: Vec<String>,
    pub rows: Vec<Known>,
    pub seed: u64,
    /// Columns of a table: by name, a text a row.
    pub texts: BTreeMap<String, Vec<Option<String>>>,
    pub numbers: BTreeMap<String, Vec<Option<f64>>>,
}

impl Naive {
    pub(crate) fn judged(&self) -> BTreeSet<usize> {
        let judged = |at: &usize| !self.rows[*at].row.rejected && self.rows[*at].row.reason != Some("taken_down");
        (0..self.rows.len()).filter(judged).collect()
    }

    pub(crate) fn keeps(&self, selection: &Selection) -> BTreeSet<usize> {
        match selection {
            Selection::Rule { rule, per, of } => {
                let of = of.as_ref().map_or_else(|| self.judged(), |of| self.keeps(of));
                match per {
                    None => self.rule(rule, &of),
                    Some(column) => {
                        let mut groups: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
                        for at in of {
                            if let Some(label) = self.label(column, at) {
                                groups.entry(label).or_default().insert(at);
                            }
                        }
                        groups.values().flat_map(|group| self.rule(rule, group)).collect()
                    }
                }
            }
            Selection::Not(of) => &self.judged() - &self.keeps(of),
            Selection::And(a, b) => &self.keeps(a) & &self.keeps(b),
            Selection::Or(a, b) => &self.keeps(a) | &self.keeps(b),
            Selection::Minus(a, b) => &self.keeps(a) - &self.keeps(b),
        }
    }

    fn label(&self, column: &str, at: usize) -> Option<String> {
        let known = &self.rows[at];
        match column {
            "folder" => known.row.key.split_once('/').map(|(folder, _)| folder.to_owned()),
            "shard" => Some(known.shard.clone()),
            _ => match self.texts.get(column) {
                Some(texts) => texts[at].clone(),
                None => self.number(column, at).map(|x| x.to_string()),
            },
        }
    }

    fn number(&self, column: &str, at: usize) -> Option<f64> {
        let known = &self.rows[at];
        if let Some((_, name)) = column.split_once("max_similarity.") {
            return known.row.scores.get(self.benchmarks.iter().position(|b| b == name)?).map(|score| score.0);
        }
        match column {
            "size" => Some(f64::from(known.index)),
            _ => self.numbers.get(column)?[at],
        }
    }

    fn largest(&self, names: &Option<Vec<String>>, at: usize) -> f64 {
        let scores = self.scores(names, at);
        scores.iter().map(|score| score.0).fold(f64::NEG_INFINITY, f64::max)
    }

    fn scores(&self, names: &Option<Vec<String>>, at: usize) -> Vec<(f64, Option<u32>)> {
        let named = |name: &String| names.as_ref().is_none_or(|names| names.contains(name));
        let scores = self.benchmarks.iter().zip(&self.rows[at].row.scores);
        scores.filter(|(name, _)| named(name)).map(|(_, score)| *score).collect()
    }

    fn hash(&self, at: usize) -> u64 {
        random_hash(self.seed, &self.rows[at].shard, &self.rows[at].row.key)
    }

    /// The first ones by an order; `rows` come by (shard, index), and sorting keeps that among equals.
    fn first(count: u64, rows: Vec<usize>, order: impl Fn(usize, usize) -> Ordering) -> BTreeSet<usize> {
        let mut rows = rows;
        rows.sort_by(|a, b| order(*a, *b));
        rows.into_iter().take(count as usize).collect()
    }

    fn rule(&self, rule: &Rule, of: &BTreeSet<usize>) -> BTreeSet<usize> {
        let those = |keeps: &dyn Fn(usize) -> bool| of.iter().copied().filter(|at| keeps(*at)).collect();
        let all: Vec<usize> = of.iter().copied().collect();
        let valued = |column: &str| -> Vec<usize> {
            all.iter().copied().filter(|at| self.number(column, *at).is_some()).collect()
        };
        match rule {
            Rule::DropOverRadius(names) => those(&|at| self.scores(names, at).iter().all(|score| score.1 == Some(0))),
            Rule::DropAbove(threshold, names) => those(&|at| self.largest(names, at) <= *threshold),
            Rule::DropFrom(threshold, names) => those(&|at| self.largest(names, at) < *threshold),
            Rule::DropBelow(threshold, names) => those(&|at| self.largest(names, at) >= *threshold),
            Rule::RandomPercent(percent) => {
                let share = percent.to_string().parse::<f64>().unwrap() / 100.0;
                those(&|at| (self.hash(at) as f64) < share * 18_446_744_073_709_551_616.0)
            }
            Rule::RandomCount(count) => Self::first(*count, all, |a, b| self.hash(a).cmp(&self.hash(b))),
            Rule::KeepNearest(count, names) => {
                Self::first(*count, all, |a, b| self.largest(names, b).partial_cmp(&self.largest(names, a)).unwrap())
            }
            Rule::KeepFarthest(count, names) => {
                Self::first(*count, all, |a, b| self.largest(names, a).partial_cmp(&self.largest(names, b)).unwrap())
            }
            Rule::KeepHighest(count, column) => Self::first(*count, valued(column), |a, b| {
                self.number(column, b).partial_cmp(&self.number(column, a)).unwrap()
            }),
            Rule::KeepLowest(count, column) => Self::first(*count, valued(column), |a, b| {
                self.number(column, a).partial_cmp(&self.number(column, b)).unwrap()
            }),
            Rule::Where(test) => {
                let (text, sign) = (test.to_string(), test.compare.sign());
                let (column, value) = text.split_once(sign).unwrap();
                those(&|at| {
                    let (x, with) = (self.number(column, at), value.parse::<f64>());
                    let label = self.label(column, at);
                    match sign {
                        ">=" => x.is_some_and(|x| x >= with.unwrap()),
                        "<=" => x.is_some_and(|x| x <= with.unwrap()),
                        ">" => x.is_some_and(|x| x > with.unwrap()),
                        "<" => x.is_some_and(|x| x < with.unwrap()),
                        "=" => label.as_deref() == Some(value),
                        "!=" => label.as_deref() != Some(value),
                        _ => label.is_some_and(|label| label.to_lowercase().split(' ').any(|word| word == value)),
                    }
                })
            }
        }
    }

    /// The hash of the kept keys, as it is written down.
    pub(crate) fn keys_sha256(&self, kept: &BTreeSet<usize>) -> String {
        let mut message = b"trommel split 1".to_vec();
        for known in kept.iter().map(|at| &self.rows[*at]) {
            message.extend((known.shard.len() as u64).to_le_bytes());
            message.extend(known.shard.as_bytes());
            message.extend(known.index.to_le_bytes());
            message.extend((known.row.key.len() as u64).to_le_bytes());
            message.extend(known.row.key.as_bytes());
        }
        Sha256::digest(message).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
