//! What a split of `trommel dedup` says its rule is: all that decides who stays, in one line that can be asked again.
//!
//! ```text
//! dedup:above=0.876,order=plan,clusters=50000,apart=0.9,moved=0.0000001,iterations=100
//! ```

use std::fmt;
use std::str::FromStr;

use trommel_dedup::inside::Order;

use crate::error::PipelineError;

/// What begins it.
pub const PREFIX: &str = "dedup:";

/// Who is a duplicate of whom.
#[derive(Clone, Debug, PartialEq)]
pub struct DedupRule {
    /// A cosine; what lies strictly above it is a duplicate.
    pub above: f64,
    /// Who comes first, and so stays.
    pub order: Order,
    /// Whether only those suppress that stay themselves.
    pub greedy: bool,
    /// Only inside the clusters of a k-means.
    pub clusters: Option<ClusterRule>,
    /// With the samples of other sets, and not with those of the set itself.
    pub against: bool,
    /// Only samples of a split take part: the hash of its keys, or of the decisions of the run that it is.
    pub of: Option<String>,
}

/// How the k-means is made whose clusters are compared inside.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterRule {
    /// Centres wanted.
    pub clusters: usize,
    /// First centres are taken that lie not above this cosine of one another.
    pub apart: f64,
    /// Share of the rows; when less have moved it ends.
    pub moved: f64,
    /// Rounds after which the k-means ends in any case.
    pub iterations: usize,
    /// Rows to learn from.
    pub sample: Option<usize>,
    /// Rows of a round.
    pub batch: Option<usize>,
    /// Centres are directions.
    pub spherical: bool,
}

/// Names of the orders.
const ORDERS: [(&str, Order); 4] = [
    ("plan", Order::Plan),
    ("random", Order::Random),
    ("centroid-far", Order::CentroidFar),
    ("centroid-near", Order::CentroidNear),
];

/// Reads the name of an order.
///
/// # Errors
/// Any other text.
pub fn order(text: &str) -> Result<Order, PipelineError> {
    let found = ORDERS.iter().find(|(name, _)| *name == text).map(|(_, order)| *order);
    found.ok_or_else(|| {
        PipelineError::usage(format!("--order {text}: plan, random, centroid-far and centroid-near are known"))
    })
}

impl DedupRule {
    /// Refuses what has no meaning.
    ///
    /// # Errors
    /// A threshold that is no cosine, an order by centres where there are none, clusters without a number.
    pub fn check(&self) -> Result<(), PipelineError> {
        let wrong = |text: String| Err(PipelineError::usage(text));
        if !(-1.0..=1.0).contains(&self.above) {
            return wrong(format!("--above {}: a cosine, -1 to 1", self.above));
        }
        let by_centres = matches!(self.order, Order::CentroidFar | Order::CentroidNear);
        if by_centres && self.clusters.is_none() {
            return wrong("--order centroid-far and centroid-near need --clusters".into());
        }
        if self.against && (self.order != Order::Plan || self.greedy || self.clusters.is_some()) {
            return wrong(
                "--against compares with all of another set: --order, --greedy and --clusters say nothing there".into(),
            );
        }
        let Some(clusters) = &self.clusters else { return Ok(()) };
        if !(-1.0..=1.0).contains(&clusters.apart) || !(0.0..=1.0).contains(&clusters.moved) {
            return wrong(format!("--apart {} is a cosine, --moved {} a share", clusters.apart, clusters.moved));
        }
        let least = [Some(clusters.clusters), Some(clusters.iterations), clusters.sample, clusters.batch];
        if least.contains(&Some(0)) {
            return wrong("--clusters, --iterations, --sample and --batch are 1 at least".into());
        }
        Ok(())
    }
}

impl fmt::Display for DedupRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}above={}", self.above)?;
        if let Some(of) = &self.of {
            write!(f, ",of={of}")?;
        }
        if self.against {
            return write!(f, ",against");
        }
        let order = ORDERS.iter().find(|(_, order)| *order == self.order).map_or("", |(name, _)| name);
        write!(f, ",order={order}")?;
        if self.greedy {
            write!(f, ",greedy")?;
        }
        if let Some(of) = &self.clusters {
            let ClusterRule { clusters, apart, moved, iterations, .. } = of;
            write!(f, ",clusters={clusters},apart={apart},moved={moved},iterations={iterations}")?;
            let numbers = [("sample", of.sample), ("batch", of.batch)];
            for (name, number) in numbers.into_iter().filter_map(|(name, number)| Some((name, number?))) {
                write!(f, ",{name}={number}")?;
            }
            if of.spherical {
                write!(f, ",spherical")?;
            }
        }
        Ok(())
    }
}

impl FromStr for DedupRule {
    type Err = PipelineError;

    fn from_str(text: &str) -> Result<Self, PipelineError> {
        let bad = |what: &str| PipelineError::usage(format!("`{text}` is no rule of `trommel dedup`: {what}"));
        let rest = text.strip_prefix(PREFIX).ok_or_else(|| bad("it does not begin with dedup:"))?;
        let mut rule =
            Self { above: f64::NAN, order: Order::Plan, greedy: false, clusters: None, against: false, of: None };
        let mut of = ClusterRule {
            clusters: 0,
            apart: f64::NAN,
            moved: f64::NAN,
            iterations: 0,
            sample: None,
            batch: None,
            spherical: false,
        };
        for word in rest.split(',') {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let real = || value.parse::<f64>().map_err(|_| bad(word));
            let number = || value.parse::<usize>().map_err(|_| bad(word));
            match name {
                "above" => rule.above = real()?,
                "order" => rule.order = order(value)?,
                "greedy" => rule.greedy = true,
                "against" => rule.against = true,
                "of" => rule.of = Some(value.to_owned()),
                "clusters" => of.clusters = number()?,
                "apart" => of.apart = real()?,
                "moved" => of.moved = real()?,
                "iterations" => of.iterations = number()?,
                "sample" => of.sample = Some(number()?),
                "batch" => of.batch = Some(number()?),
                "spherical" => of.spherical = true,
                _ => return Err(bad(word)),
            }
        }
        rule.clusters = (of.clusters > 0).then_some(of);
        rule.check()?;
        // What it says is all that it says.
        if rule.to_string() == text { Ok(rule) } else { Err(bad(&format!("it would be `{rule}`"))) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in [
            "dedup:above=0.876,order=plan",
            "dedup:above=-0.1,order=random,greedy",
            "dedup:above=0.3,against",
            "dedup:above=0.3,of=0a1b,order=plan",
            "dedup:above=0.876,order=centroid-far,clusters=50000,apart=0.9,moved=0.0000001,iterations=100",
            "dedup:above=0.876,order=plan,greedy,clusters=9,apart=0.9,moved=0,iterations=1,sample=8,batch=7,spherical",
        ] {
            assert_eq!(text.parse::<DedupRule>().unwrap().to_string(), text);
        }
        for text in [
            "near@val",
            "dedup:",
            "dedup:above=2,order=plan",
            "dedup:above=0.9,order=centroid-far",
            "dedup:above=0.9,order=plan,clusters=3",
            "dedup:above=0.9,order=plan,sample=3",
            "dedup:above=0.9,order=plan,best",
        ] {
            assert!(text.parse::<DedupRule>().is_err(), "{text}");
        }
    }
}
