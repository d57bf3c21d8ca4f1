//! What several selections ask of a ledger, each question once.
//!
//! A rule is a *predicate*, answered sample by sample, or an exact number in an *order*, for which each sample has a place. Equal
//! questions of several splits are one, so that ten rungs of a ladder cost one column of places.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use trommel_decide::checked_rule::{KnownBenchmark, RuleError};
use trommel_decide::rule::Rule;
use trommel_decide::selection::Selection;

use crate::SelectError;

/// A rule, and where it looks.
#[derive(Clone, Debug)]
pub struct ResolvedRule {
    /// The rule of one term of the selection.
    pub rule: Rule,
    /// Benchmarks that it looks at, by their place in the ledger.
    pub looks_at: Vec<usize>,
}

/// A set of samples, made of those before it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    /// Whom the predicate of this number keeps.
    Predicate(usize),
    /// Whoever was judged and is not in it.
    Not(usize),
    /// Whoever is in all.
    And(Vec<usize>),
    /// Whoever is in one.
    Or(Vec<usize>),
    /// Whoever is in the first and in none of the others.
    Minus(Vec<usize>),
    /// The first ones in an order.
    First {
        /// So many, of each label.
        count: u64,
        /// Number of the order.
        order: usize,
        /// Number of the label; `None` = of all.
        label: Option<usize>,
        /// So many in all, apportioned to the labels by the weights that are the places of this order.
        by: Option<usize>,
        /// Of these; `None` = of all that were judged.
        of: Option<usize>,
    },
}

impl Node {
    /// The nodes that it is made of.
    #[must_use]
    pub fn parts(&self) -> Vec<usize> {
        match self {
            Self::Predicate(_) => Vec::new(),
            Self::Not(of) => vec![*of],
            Self::And(parts) | Self::Or(parts) | Self::Minus(parts) => parts.clone(),
            Self::First { of, .. } => of.iter().copied().collect(),
        }
    }
}

/// All that is asked.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Rules that are answered sample by sample.
    pub predicates: Vec<ResolvedRule>,
    /// Rules by whose order samples are counted.
    pub orders: Vec<ResolvedRule>,
    /// Columns whose values have numbers of their own.
    pub labels: Vec<String>,
    /// Sets, each after those that it is made of.
    pub nodes: Vec<Node>,
    /// What is asked for by each set of an exact number, as written.
    pub exact: BTreeMap<usize, String>,
    /// Each selection's set, in the order asked.
    pub wanted: Vec<usize>,
}

impl Program {
    /// What these selections ask of a run with these benchmarks.
    ///
    /// # Errors
    /// A rule that names a benchmark which the run has not.
    pub fn of<'s>(
        selections: impl IntoIterator<Item = &'s Selection>,
        benchmarks: &[KnownBenchmark<'_>],
    ) -> Result<Self, SelectError> {
        let mut maker =
            Maker { program: Self::default(), benchmarks, nodes: HashMap::new(), predicates: HashMap::new() };
        for selection in selections {
            let node = maker.node(selection)?;
            maker.program.wanted.push(node);
        }
        Ok(maker.program)
    }

    /// The sets of an exact number that a set is made of, as they are asked for, the inner ones first.
    #[must_use]
    pub fn exact_in(&self, node: usize) -> BTreeSet<usize> {
        let (mut seen, mut left) = (BTreeSet::new(), vec![node]);
        while let Some(node) = left.pop() {
            if seen.insert(node) {
                left.extend(self.nodes[node].parts());
            }
        }
        seen.retain(|node| self.exact.contains_key(node));
        seen
    }
}

struct Maker<'a> {
    program: Program,
    benchmarks: &'a [KnownBenchmark<'a>],
    /// Numbers of sets and of predicates, which texts of thousands of terms ask for again and again.
    nodes: HashMap<Node, usize>,
    predicates: HashMap<String, usize>,
}

impl Maker<'_> {
    fn node(&mut self, selection: &Selection) -> Result<usize, SelectError> {
        let node = match selection {
            Selection::Rule { rule, per, by, of } => {
                return self.rule(rule, [per.as_deref(), by.as_deref()], of.as_deref());
            }
            Selection::Not(of) => Node::Not(self.node(of)?),
            Selection::And(parts) => Node::And(self.all(parts)?),
            Selection::Or(parts) => Node::Or(self.all(parts)?),
            Selection::Minus(parts) => Node::Minus(self.all(parts)?),
        };
        Ok(self.add(node))
    }

    fn all(&mut self, parts: &[Selection]) -> Result<Vec<usize>, SelectError> {
        parts.iter().map(|part| self.node(part)).collect()
    }

    fn add(&mut self, node: Node) -> usize {
        let nodes = &mut self.program.nodes;
        *self.nodes.entry(node).or_insert_with_key(|node| {
            nodes.push(node.clone());
            nodes.len() - 1
        })
    }

    fn rule(
        &mut self,
        rule: &Rule,
        [per, by]: [Option<&str>; 2],
        of: Option<&Selection>,
    ) -> Result<usize, SelectError> {
        let looks_at = rule.resolve(self.benchmarks).map_err(|error| match error {
            // Of a finished run nobody adds one.
            RuleError::NoBenchmark { rule } => SelectError::Input(format!(
                "rule `{rule}` needs a benchmark, and the run judged none: prune again with --benchmark NAME=DIR"
            )),
            error => error.into(),
        })?;
        let asked = ResolvedRule { rule: rule.clone(), looks_at };
        let of = of.map(|of| self.node(of)).transpose()?;
        let Some((count, _)) = rule.policy().first() else {
            let predicates = &mut self.program.predicates;
            let known = self.predicates.entry(rule.to_string()).or_insert_with(|| {
                predicates.push(asked);
                predicates.len() - 1
            });
            let predicate = Node::Predicate(*known);
            let predicate = self.add(predicate);
            return Ok(match of {
                None => predicate,
                Some(of) => self.add(Node::And(vec![predicate, of])),
            });
        };
        let order = self.order(asked);
        let by_order =
            by.map(|column| self.order(ResolvedRule { rule: Rule::in_order_of(column), looks_at: Vec::new() }));
        let labels = &mut self.program.labels;
        let label = per.map(|column| {
            labels.iter().position(|known| known == column).unwrap_or_else(|| {
                labels.push(column.into());
                labels.len() - 1
            })
        });
        let node = self.add(Node::First { count, order, label, by: by_order, of });
        // Whom it is asked of may be thousands of terms.
        let of = if of.is_some() { " of .." } else { "" };
        let per = per.map_or(String::new(), |column| format!(" per {column}"));
        let by = by.map_or(String::new(), |column| format!(" by {column}"));
        self.program.exact.entry(node).or_insert_with(|| format!("{rule}{per}{by}{of}"));
        Ok(node)
    }

    /// The number of an order.
    fn order(&mut self, asked: ResolvedRule) -> usize {
        let orders = &mut self.program.orders;
        let order = asked.rule.policy().first().map(|(_, order)| order);
        let same = |known: &ResolvedRule| {
            let other = known.rule.policy().first().map(|(_, order)| order);
            known.looks_at == asked.looks_at && order.zip(other).is_some_and(|(one, other)| one.is_like(other))
        };
        orders.iter().position(same).unwrap_or_else(|| {
            orders.push(asked);
            orders.len() - 1
        })
    }
}
