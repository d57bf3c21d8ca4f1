//! What several selections ask of a ledger, each question once.
//!
//! A rule is a *predicate*, answered sample by sample, or an exact number in an *order*, for which each sample has a place. Equal
//! questions of several splits are one, so that ten rungs of a ladder cost one column of places.

use std::collections::HashMap;

use trommel_decide::judge::Known;
use trommel_decide::rule::Rule;
use trommel_decide::selection::Selection;

use crate::SelectError;

/// A rule, and where it looks.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The rule.
    pub rule: Rule,
    /// Benchmarks that it looks at, by their place in the ledger.
    pub looks_at: Vec<usize>,
}

/// A set of samples, made of those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// Whom the predicate of this number keeps.
    Predicate(usize),
    /// Whoever was judged and is not in it.
    Not(usize),
    /// Whoever is in both.
    And(usize, usize),
    /// Whoever is in one.
    Or(usize, usize),
    /// Whoever is in the first and not in the second.
    Minus(usize, usize),
    /// The first ones in an order.
    First {
        /// So many, of each label.
        count: u64,
        /// Number of the order.
        order: usize,
        /// Number of the label; `None` = of all.
        label: Option<usize>,
        /// Of these; `None` = of all that were judged.
        of: Option<usize>,
    },
}

impl Node {
    /// The nodes that it is made of.
    #[must_use]
    pub fn parts(&self) -> Vec<usize> {
        match *self {
            Self::Predicate(_) => Vec::new(),
            Self::Not(a) => vec![a],
            Self::And(a, b) | Self::Or(a, b) | Self::Minus(a, b) => vec![a, b],
            Self::First { of, .. } => of.into_iter().collect(),
        }
    }
}

/// All that is asked.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Rules that are answered sample by sample.
    pub predicates: Vec<Asked>,
    /// Rules by whose order samples are counted.
    pub orders: Vec<Asked>,
    /// Columns whose values have numbers of their own.
    pub labels: Vec<String>,
    /// Sets, each after those that it is made of.
    pub nodes: Vec<Node>,
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
        benchmarks: &[Known<'_>],
    ) -> Result<Self, SelectError> {
        let mut maker = Maker { program: Self::default(), benchmarks, known: HashMap::new() };
        for selection in selections {
            let node = maker.node(selection)?;
            maker.program.wanted.push(node);
        }
        Ok(maker.program)
    }
}

struct Maker<'a> {
    program: Program,
    benchmarks: &'a [Known<'a>],
    /// By its text.
    known: HashMap<String, usize>,
}

impl Maker<'_> {
    fn node(&mut self, selection: &Selection) -> Result<usize, SelectError> {
        let text = selection.to_string();
        if let Some(&known) = self.known.get(&text) {
            return Ok(known);
        }
        let node = match selection {
            Selection::Rule { rule, per, of } => self.rule(rule, per.as_deref(), of.as_deref())?,
            Selection::Not(of) => Node::Not(self.node(of)?),
            Selection::And(a, b) => Node::And(self.node(a)?, self.node(b)?),
            Selection::Or(a, b) => Node::Or(self.node(a)?, self.node(b)?),
            Selection::Minus(a, b) => Node::Minus(self.node(a)?, self.node(b)?),
        };
        let at = self.add(node);
        self.known.insert(text, at);
        Ok(at)
    }

    fn add(&mut self, node: Node) -> usize {
        let nodes = &mut self.program.nodes;
        nodes.iter().position(|known| *known == node).unwrap_or_else(|| {
            nodes.push(node);
            nodes.len() - 1
        })
    }

    fn rule(&mut self, rule: &Rule, per: Option<&str>, of: Option<&Selection>) -> Result<Node, SelectError> {
        let asked = Asked { rule: rule.clone(), looks_at: rule.resolve(self.benchmarks)? };
        let of = of.map(|of| self.node(of)).transpose()?;
        let Some((count, order)) = rule.policy().first() else {
            let predicates = &mut self.program.predicates;
            let known = predicates.iter().position(|known| known.rule == *rule);
            let predicate = Node::Predicate(known.unwrap_or_else(|| {
                predicates.push(asked);
                predicates.len() - 1
            }));
            return Ok(match of {
                None => predicate,
                Some(of) => Node::And(self.add(predicate), of),
            });
        };
        let orders = &mut self.program.orders;
        let same = |known: &Asked| {
            known.looks_at == asked.looks_at
                && known.rule.policy().first().is_some_and(|(_, other)| other.is_like(order))
        };
        let order = orders.iter().position(same).unwrap_or_else(|| {
            orders.push(asked);
            orders.len() - 1
        });
        let labels = &mut self.program.labels;
        let label = per.map(|column| {
            labels.iter().position(|known| known == column).unwrap_or_else(|| {
                labels.push(column.into());
                labels.len() - 1
            })
        });
        Ok(Node::First { count, order, label, of })
    }
}
