//! What the decisions depend on, as data: shards, benchmarks, splits, takedowns; and how each may change.
//!
//! Changes of one epoch are a set: all of them are taken into a copy of the [`Inputs`], which is then checked as a whole, and only the difference
//! between the two states counts. So a rule may name a benchmark that arrives in the same epoch, and an arrival with its own withdrawal is nothing.
//!
//! Points keep a *lasting number* while others come and go; the order of the numbers is the order of the points, so ties fall as they would
//! in a fresh run over what is left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use half::f16;

use super::ChangeError;
use trommel_core::sample::{ORDINAL_BITS, SampleId};
use trommel_decide::benchmark::Benchmark;
use trommel_decide::checked_rule::KnownBenchmark;
use trommel_decide::radii::Radii;
use trommel_decide::rule::Rule;

/// Splits that can be maintained side by side.
pub const MAX_SPLITS: usize = 32;

/// A shard whose embeddings are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardInput {
    /// Its stable name.
    pub name: Arc<str>,
    /// Number of its content: a shard that changes comes again with another one.
    pub generation: u64,
    /// Raw samples, rejects included.
    pub count: u32,
    /// Raw indices of the rejects, ascending.
    pub rejected: Vec<u32>,
}

impl ShardInput {
    /// Whether a raw index is that of a judged sample.
    #[must_use]
    pub fn is_judged(&self, index: u32) -> bool {
        index < self.count && self.rejected.binary_search(&index).is_err()
    }

    /// Judged samples.
    #[must_use]
    pub fn judged(&self) -> u64 {
        u64::from(self.count) - self.rejected.len() as u64
    }
}

/// One change of what the decisions depend on.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A shard arrives, or replaces the one of its ordinal if the generation differs.
    Arrive(u64, ShardInput),
    /// A shard is withdrawn.
    Withdraw(u64),
    /// A benchmark joins, as the last.
    AddBenchmark(Arc<Benchmark>),
    /// A benchmark goes.
    RemoveBenchmark(String),
    /// Points join a benchmark, as its last; with radii iff it has radii.
    AddPoints(Arc<Benchmark>),
    /// Points leave a benchmark, by their places.
    RemovePoints(String, Vec<u32>),
    /// Points get other radii, by their places.
    SetRadii(String, Vec<(u32, f64)>),
    /// The reference set of a benchmark grows: f16\[n, dim\], canonical. Radii can only rise by it.
    GrowReference(String, Arc<[f16]>),
    /// A split joins, or its rule changes.
    SetSplit(String, Rule),
    /// Removes the split of this name.
    RemoveSplit(String),
    /// Samples are taken down, by id and by key in whatever shard; they need not be there yet.
    TakeDown(Vec<SampleId>, Vec<String>),
    /// Takedowns are lifted.
    Restore(Vec<SampleId>, Vec<String>),
}

/// A benchmark with its points' lasting numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Points {
    /// Lasting number of the benchmark.
    pub id: u32,
    /// Points, vectors, radii.
    pub benchmark: Arc<Benchmark>,
    /// Lasting numbers, ascending, one a point.
    pub numbers: Arc<[u32]>,
    /// The next point's number.
    pub(super) next: u32,
}

impl Points {
    /// The place of a point.
    #[must_use]
    pub fn place(&self, number: u32) -> Option<usize> {
        self.numbers.binary_search(&number).ok()
    }

    /// The radius of the point at a place.
    #[must_use]
    pub fn radius(&self, place: usize) -> Option<f64> {
        self.benchmark.radii.as_ref().map(|radii| radii[place])
    }
}

/// A split: a name and the rule that makes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// Its bit in masks, the same while it keeps its polarity.
    pub bit: u8,
    /// The rule whose decisions the split keeps.
    pub rule: Rule,
    /// Whether a hit keeps instead of dropping, as the rule's policy says.
    pub keeps: bool,
}

/// The state of all inputs.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// Live shards by ordinal.
    pub shards: BTreeMap<u64, Arc<ShardInput>>,
    /// Benchmarks in their order.
    pub benchmarks: Vec<Arc<Points>>,
    /// Splits by name.
    pub splits: BTreeMap<String, Split>,
    /// Samples taken down by id.
    pub taken: Arc<BTreeSet<SampleId>>,
    /// Keys taken down.
    pub taken_keys: Arc<BTreeSet<String>>,
    /// The next benchmark's number.
    pub(super) next_benchmark: u32,
}

impl Inputs {
    /// The state after some changes.
    ///
    /// # Errors
    /// The first change that cannot be, or a rule that the outcome cannot satisfy; nothing has changed then.
    pub fn after(&self, changes: &[Change]) -> Result<Self, ChangeError> {
        let mut next = self.clone();
        let before: u32 = self.splits.values().fold(0, |mask, split| mask | 1 << split.bit);
        for change in changes {
            next.take(change, before)?;
        }
        next.check()?;
        Ok(next)
    }

    fn find(&self, name: &str) -> Result<usize, ChangeError> {
        let found = self.benchmarks.iter().position(|points| points.benchmark.name == name);
        found.ok_or_else(|| ChangeError::NoBenchmark(name.into()))
    }

    fn take(&mut self, change: &Change, bits_before: u32) -> Result<(), ChangeError> {
        match change {
            Change::Arrive(ordinal, shard) => {
                let ordered = shard.rejected.windows(2).all(|pair| pair[0] < pair[1]);
                if *ordinal >> ORDINAL_BITS != 0
                    || !ordered
                    || shard.rejected.last().is_some_and(|&at| at >= shard.count)
                {
                    return Err(ChangeError::Shard(*ordinal));
                }
                if self.shards.get(ordinal).is_none_or(|held| **held != *shard) {
                    self.shards.insert(*ordinal, Arc::new(shard.clone()));
                }
            }
            Change::Withdraw(ordinal) => {
                self.shards.remove(ordinal).ok_or(ChangeError::NoShard(*ordinal))?;
            }
            Change::AddBenchmark(benchmark) => {
                if self.find(&benchmark.name).is_ok() {
                    return Err(ChangeError::BenchmarkTwice(benchmark.name.clone()));
                }
                let numbers: Arc<[u32]> = (0..benchmark.points() as u32).collect();
                let (id, next) = (self.next_benchmark, numbers.len() as u32);
                self.benchmarks.push(Arc::new(Points { id, benchmark: benchmark.clone(), numbers, next }));
                self.next_benchmark += 1;
            }
            Change::RemoveBenchmark(name) => {
                let at = self.find(name)?;
                self.benchmarks.remove(at);
            }
            Change::AddPoints(more) => {
                let at = self.find(&more.name)?;
                let grown = grown(&self.benchmarks[at], more)?;
                self.benchmarks[at] = Arc::new(grown);
            }
            Change::RemovePoints(name, places) => {
                let at = self.find(name)?;
                let shrunk = shrunk(&self.benchmarks[at], places)?;
                self.benchmarks[at] = Arc::new(shrunk);
            }
            Change::SetRadii(name, radii) => {
                let at = self.find(name)?;
                let mut all = self.benchmarks[at].benchmark.radii.clone();
                let all = all.as_mut().ok_or_else(|| ChangeError::NoRadii(name.clone()))?;
                for &(place, radius) in radii {
                    let held = all.get_mut(place as usize);
                    *held.ok_or_else(|| ChangeError::NoPoint(name.clone(), place))? = radius;
                }
                self.set_radii(at, all.clone())?;
            }
            Change::GrowReference(name, vectors) => {
                let at = self.find(name)?;
                let benchmark = self.benchmarks[at].benchmark.clone();
                let mut all = benchmark.radii.clone().ok_or_else(|| ChangeError::NoRadii(name.clone()))?;
                let mut radii = Radii::new(&benchmark, 1);
                for row in vectors.chunks(benchmark.dim) {
                    radii.push(row).map_err(ChangeError::Reference)?;
                }
                let fresh = radii.finish().map_err(ChangeError::Reference)?.radii;
                all.iter_mut().zip(fresh).for_each(|(held, fresh)| *held = held.max(fresh));
                self.set_radii(at, all)?;
            }
            Change::SetSplit(name, rule) => self.set_split(name, rule, bits_before)?,
            Change::RemoveSplit(name) => {
                self.splits.remove(name).ok_or_else(|| ChangeError::NoSplit(name.clone()))?;
            }
            Change::TakeDown(samples, keys) => {
                Arc::make_mut(&mut self.taken).extend(samples);
                Arc::make_mut(&mut self.taken_keys).extend(keys.iter().cloned());
            }
            Change::Restore(samples, keys) => {
                let (taken, taken_keys) = (Arc::make_mut(&mut self.taken), Arc::make_mut(&mut self.taken_keys));
                for sample in samples {
                    taken.remove(sample);
                }
                for key in keys {
                    taken_keys.remove(key);
                }
            }
        }
        Ok(())
    }

    fn set_radii(&mut self, at: usize, radii: Vec<f64>) -> Result<(), ChangeError> {
        let points = &self.benchmarks[at];
        let benchmark = (*points.benchmark).clone().with_radii(radii).map_err(ChangeError::Benchmark)?;
        self.benchmarks[at] = Arc::new(Points { benchmark: Arc::new(benchmark), ..(**points).clone() });
        Ok(())
    }

    fn set_split(&mut self, name: &str, rule: &Rule, bits_before: u32) -> Result<(), ChangeError> {
        let Some((_, keeps)) = rule.policy().condition() else { return Err(ChangeError::Rule(rule.to_string())) };
        let held = self.splits.remove(name).filter(|split| split.keeps == keeps);
        // A bit whose polarity changes is not used again in the same epoch.
        let used = self.splits.values().fold(bits_before, |mask, split| mask | 1 << split.bit);
        let free = (0..MAX_SPLITS as u8).find(|bit| used >> bit & 1 == 0);
        let bit = held.map(|split| split.bit).or(free).ok_or(ChangeError::TooManySplits)?;
        self.splits.insert(name.into(), Split { bit, rule: rule.clone(), keeps });
        Ok(())
    }

    fn check(&self) -> Result<(), ChangeError> {
        let known: Vec<KnownBenchmark<'_>> =
            self.benchmarks.iter().map(|points| KnownBenchmark::from(&*points.benchmark)).collect();
        for split in self.splits.values() {
            split.rule.resolve(&known).map_err(ChangeError::Unsatisfied)?;
        }
        let mut dims = self.benchmarks.iter().map(|points| points.benchmark.dim);
        let first = dims.next();
        match dims.find(|&dim| Some(dim) != first) {
            Some(found) => Err(ChangeError::Dimensions { found, expected: first.unwrap_or(0) }),
            None => Ok(()),
        }
    }
}

fn rebuilt(
    of: &Benchmark,
    vectors: Vec<f16>,
    keys: Vec<String>,
    labels: Vec<Option<String>>,
    radii: Option<Vec<f64>>,
) -> Result<Arc<Benchmark>, ChangeError> {
    let benchmark = Benchmark::new(of.name.clone(), of.dim, vectors, keys, labels, radii, of.identity.clone());
    Ok(Arc::new(benchmark.map_err(ChangeError::Benchmark)?))
}

fn grown(points: &Points, more: &Benchmark) -> Result<Points, ChangeError> {
    let of = &points.benchmark;
    if of.dim != more.dim {
        return Err(ChangeError::Dimensions { found: more.dim, expected: of.dim });
    }
    let radii = match (&of.radii, &more.radii) {
        (Some(a), Some(b)) => Some([&a[..], b].concat()),
        (None, None) => None,
        _ => return Err(ChangeError::NoRadii(of.name.clone())),
    };
    let benchmark = rebuilt(
        of,
        [&of.vectors[..], &more.vectors].concat(),
        [&of.keys[..], &more.keys].concat(),
        [&of.labels[..], &more.labels].concat(),
        radii,
    )?;
    let next =
        points.next.checked_add(more.points() as u32).ok_or_else(|| ChangeError::NumbersUsedUp(of.name.clone()))?;
    let numbers = points.numbers.iter().copied().chain(points.next..next).collect();
    Ok(Points { id: points.id, benchmark, numbers, next })
}

fn shrunk(points: &Points, places: &[u32]) -> Result<Points, ChangeError> {
    let of = &points.benchmark;
    let gone: BTreeSet<usize> = places.iter().map(|&place| place as usize).collect();
    if let Some(&place) = gone.range(of.points()..).next() {
        return Err(ChangeError::NoPoint(of.name.clone(), place as u32));
    }
    let left: Vec<usize> = (0..of.points()).filter(|place| !gone.contains(place)).collect();
    let benchmark = rebuilt(
        of,
        left.iter().flat_map(|&place| of.vector(place)).copied().collect(),
        left.iter().map(|&place| of.keys[place].clone()).collect(),
        left.iter().map(|&place| of.labels[place].clone()).collect(),
        of.radii.as_ref().map(|radii| left.iter().map(|&place| radii[place]).collect()),
    )?;
    let numbers = left.iter().map(|&place| points.numbers[place]).collect();
    Ok(Points { id: points.id, benchmark, numbers, next: points.next })
}
