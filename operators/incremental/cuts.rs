//! Rules and radii as cuts: what a match means.
//!
//! A *threshold* is a [`Cut`] on one benchmark: each point's radius, or one value for all points. A sample hits a threshold at a point iff its
//! similarity to that point exceeds the cut.
//! Every benchmark with radii has the threshold of its radii, whatever the rules; a rule with a value of its own adds one for each benchmark.
//! A split is the union of hits on its rule's thresholds, and whether a hit drops or keeps: exactly the rule (see `trommel_decide::condition`).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ChangeError;
use super::flow::Hit;
use super::inputs::{Inputs, Points};
use trommel_core::sample::SampleId;
use trommel_decide::checked_rule::KnownBenchmark;
use trommel_decide::condition::Cut;

/// One kind of cut on one benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// Its number in the dataflow.
    pub id: u16,
    /// What it compares with.
    pub cut: Cut,
    /// Splits in which its hits drop.
    pub drops: u32,
    /// Splits in which its hits keep.
    pub keeps: u32,
}

/// A benchmark with its thresholds.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchmarkCuts {
    /// Vectors, keys and radii of the points.
    pub points: Arc<Points>,
    /// The thresholds.
    pub thresholds: Vec<Threshold>,
}

/// Numbers of the thresholds in use, by benchmark and cut.
pub type ThresholdIds = BTreeMap<(u32, Cut), u16>;

/// All cuts of a state of the inputs.
#[derive(Clone, Debug, Default)]
pub struct Cuts {
    /// Benchmarks by lasting number, which is also their order.
    pub benchmarks: BTreeMap<u32, Arc<BenchmarkCuts>>,
    /// Numbers in use.
    pub ids: ThresholdIds,
    /// Splits in which hits drop.
    pub drops: u32,
    /// Splits in which hits keep.
    pub keeps: u32,
}

impl BenchmarkCuts {
    /// The value that a similarity to the point must exceed.
    #[must_use]
    pub fn cut(&self, threshold: &Threshold, place: usize) -> f64 {
        threshold.cut.value(self.points.radius(place))
    }

    /// The smallest cut of a point; infinite where nothing looks at it.
    #[must_use]
    pub fn lowest_cut(&self, place: usize) -> f64 {
        self.thresholds.iter().map(|threshold| self.cut(threshold, place)).fold(f64::INFINITY, f64::min)
    }

    /// The threshold of the radii.
    #[must_use]
    pub fn radius_threshold(&self) -> Option<&Threshold> {
        self.thresholds.iter().find(|threshold| threshold.cut == Cut::RADIUS)
    }

    /// What a similarity of `s` hits.
    pub fn hits(&self, sample: SampleId, place: usize, s: f64) -> impl Iterator<Item = Hit> + '_ {
        let point = self.points.numbers[place];
        let hit = move |threshold: &Threshold| Hit {
            sample,
            threshold: threshold.id,
            point,
            drops: threshold.drops,
            keeps: threshold.keeps,
        };
        let radius = self.points.radius(place);
        self.thresholds.iter().filter(move |threshold| threshold.cut.is_hit(s, radius)).map(hit)
    }
}

impl Cuts {
    /// The cuts of a state; thresholds that `before` had keep their numbers.
    ///
    /// # Errors
    /// A rule that the inputs cannot satisfy, or more thresholds than can be numbered.
    pub fn of(inputs: &Inputs, before: &Self) -> Result<Self, ChangeError> {
        let known: Vec<KnownBenchmark<'_>> =
            inputs.benchmarks.iter().map(|points| KnownBenchmark::from(&*points.benchmark)).collect();
        let mut masks_of = BTreeMap::<(u32, Cut), (u32, u32)>::new();
        for points in inputs.benchmarks.iter().filter(|points| points.benchmark.radii.is_some()) {
            masks_of.insert((points.id, Cut::RADIUS), (0, 0));
        }
        let mut cuts = Self::default();
        for split in inputs.splits.values() {
            let Some((condition, _)) = split.rule.policy().condition() else {
                return Err(ChangeError::Rule(split.rule.to_string()));
            };
            let cut = condition.limit.cut();
            let bit = 1u32 << split.bit;
            *(if split.keeps { &mut cuts.keeps } else { &mut cuts.drops }) |= bit;
            for at in split.rule.resolve(&known).map_err(ChangeError::Unsatisfied)? {
                let masks = masks_of.entry((inputs.benchmarks[at].id, cut)).or_default();
                *(if split.keeps { &mut masks.1 } else { &mut masks.0 }) |= bit;
            }
        }
        let mut taken: Vec<u16> = before.ids.values().copied().collect();
        taken.sort_unstable();
        let mut free = (0..=u16::MAX).filter(|id| taken.binary_search(id).is_err());
        let mut thresholds = BTreeMap::<u32, Vec<Threshold>>::new();
        for ((benchmark, cut), (drops, keeps)) in masks_of {
            let held = before.ids.get(&(benchmark, cut)).copied();
            let id = held.or_else(|| free.next()).ok_or(ChangeError::TooManyThresholds)?;
            cuts.ids.insert((benchmark, cut), id);
            thresholds.entry(benchmark).or_default().push(Threshold { id, cut, drops, keeps });
        }
        for points in &inputs.benchmarks {
            let thresholds = thresholds.remove(&points.id).unwrap_or_default();
            cuts.benchmarks.insert(points.id, Arc::new(BenchmarkCuts { points: points.clone(), thresholds }));
        }
        Ok(cuts)
    }
}
