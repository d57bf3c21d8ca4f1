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

/// A text as it is said: in lower case, signs and blanks one blank, with one at both ends.
fn spoken(text: &str) -> String {
    let plain: String =
        text.chars().flat_map(char::to_lowercase).map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
    format!(" {} ", plain.split_whitespace().collect::<Vec<_>>().join(" "))
}

impl Naive {
    pub(crate) fn judged(&self) -> BTreeSet<usize> {
        let judged = |at: &usize| !self.rows[*at].row.rejected && self.rows[*at].row.reason != Some("taken_down");
        (0..self.rows.len()).filter(judged).collect()
    }

    pub(crate) fn keeps(&self, selection: &Selection) -> BTreeSet<usize> {
        match selection {
            Selection::Rule { rule, per: Some(per), by: Some(by), of } => {
                let of = of.as_ref().map_or_else(|| self.judged(), |of| self.keeps(of));
                self.apportioned(rule, (per, by), &of)
            }
            Selection::Rule { rule, per, of, .. } => {
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
            Selection::And(parts) => self.each(parts, |a, b| a & b),
            Selection::Or(parts) => self.each(parts, |a, b| a | b),
            Selection::Minus(parts) => self.each(parts, |a, b| a - b),
        }
    }

    /// A number apportioned to groups: those that would give more than they have give all, until nobody would; then whole shares, and the largest remainders.
    fn apportioned(&self, rule: &Rule, (per, by): (&str, &str), of: &BTreeSet<usize>) -> BTreeSet<usize> {
        let text = rule.to_string();
        let count: u128 = text.split([':', '@']).nth(1).unwrap().parse().unwrap();
        // Whom the rule could keep at all, by group, the group of the first one first.
        let able = self.rule(&text.replacen(&format!(":{count}"), ":1000000", 1).parse().unwrap(), of);
        let mut groups: Vec<(String, f64, BTreeSet<usize>)> = Vec::new();
        for at in able {
            let (Some(label), Some(weight)) = (self.label(per, at), self.number(by, at)) else { continue };
            match groups.iter_mut().find(|(known, ..)| *known == label) {
                Some((_, known, rows)) => {
                    assert_eq!(*known, weight);
                    rows.insert(at);
                }
                None => groups.push((label, weight, BTreeSet::from([at]))),
            }
        }
        let most = groups.iter().map(|group| group.1).fold(0.0, f64::max);
        let steps: Vec<u128> =
            groups.iter().map(|group| (group.1 / most * 4_503_599_627_370_496.0).round() as u128).collect();
        let size = |at: usize| groups[at].2.len() as u128;
        let mut shares = vec![0; groups.len()];
        let (mut open, mut left): (Vec<usize>, u128) = ((0..groups.len()).filter(|&at| steps[at] > 0).collect(), count);
        loop {
            let all: u128 = open.iter().map(|&at| steps[at]).sum();
            let (full, others): (Vec<usize>, Vec<usize>) =
                open.iter().partition(|&&at| size(at) * all <= left * steps[at]);
            if full.is_empty() {
                let over = |at: &usize| left * steps[*at] % all;
                others.iter().for_each(|&at| shares[at] = left * steps[at] / all);
                let mut sorted = others.clone();
                sorted.sort_by(|a, b| over(b).cmp(&over(a)).then(a.cmp(b)));
                let lacking =
                    if others.is_empty() { 0 } else { left - others.iter().map(|&at| shares[at]).sum::<u128>() };
                sorted.iter().take(lacking as usize).for_each(|&at| shares[at] += 1);
                break;
            }
            left -= full.iter().map(|&at| size(at)).sum::<u128>();
            full.iter().for_each(|&at| shares[at] = size(at));
            open = others;
        }
        let kept = groups.iter().zip(shares).flat_map(|((_, _, rows), share)| {
            self.rule(&text.replacen(&format!(":{count}"), &format!(":{share}"), 1).parse().unwrap(), rows)
        });
        kept.collect()
    }

    /// From the left, as they are read.
    fn each(
        &self,
        parts: &[Selection],
        with: impl Fn(&BTreeSet<usize>, &BTreeSet<usize>) -> BTreeSet<usize>,
    ) -> BTreeSet<usize> {
        parts.iter().map(|part| self.keeps(part)).reduce(|a, b| with(&a, &b)).unwrap()
    }

    fn label(&self, column: &str, at: usize) -> Option<String> {
        let known = &self.rows[at];
        match column {
            "folder" => known.row.key.split_once('/').map(|(folder, _)| folder.to_owned()),
            "shard" => Some(known.shard.clone()),
            _ => match self.texts.get(column) {
                Some(texts) => texts[at].clone(),
                None => self.number(column, at).map(|x| (x + 0.0).to_string()),
            },
        }
    }

    fn number(&self, column: &str, at: usize) -> Option<f64> {
        let known = &self.rows[at];
        if let Some((what, name)) = column.split_once('.') {
            // As the world makes them.
            let (max, hits) = known.row.scores.get(self.benchmarks.iter().position(|b| b == name)?)?;
            return match what {
                "max_similarity" => Some(*max),
                "nearest" => Some((max.abs() * 4.0).floor()),
                "margin" => Some(f64::from((*hits)?) - 0.5),
                "exceeds" => Some(f64::from((*hits)? % 7)),
                "hits" => Some(f64::from((*hits)?)),
                _ => panic!("{column}"),
            };
        }
        match column {
            "size" | "index" => Some(f64::from(known.index)),
            "offset" => Some(512.0 * f64::from(known.index / 3)),
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
                        _ => label.is_some_and(|label| spoken(&label).contains(&spoken(value))),
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
