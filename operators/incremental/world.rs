//! The state between two epochs, and how two states of the inputs differ.
//!
//! Everything large stands behind an `Arc`, so that an epoch works on a copy and an error leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::cuts::{BenchmarkCuts, Cuts};
use super::flow::Tally;
use super::inputs::{Inputs, ShardInput};
use super::parts::StoredTable;
use super::point_set::{NOTHING, Peak, PointSet};
use super::tables::{Matches, Scores};

/// One bit a raw sample.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bits(Vec<u64>);

impl Bits {
    /// Whether a bit is set.
    #[must_use]
    pub fn get(&self, index: u32) -> bool {
        self.0.get(index as usize / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// Sets or clears a bit.
    pub fn set(&mut self, index: u32, value: bool) {
        let at = index as usize / 64;
        if at >= self.0.len() {
            if !value {
                return;
            }
            self.0.resize(at + 1, 0);
        }
        let bit = 1 << (index % 64);
        if value { self.0[at] |= bit } else { self.0[at] &= !bit }
    }

    /// Number of the bits that are set.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

/// A shard whose samples take part in the decisions.
#[derive(Clone, Debug)]
pub struct Live {
    /// The shard as it was announced.
    pub input: Arc<ShardInput>,
    /// Raw indices of judged samples that are taken down, ascending.
    pub taken: Arc<Vec<u32>>,
    /// Raw indices of those whose key is taken down, ascending.
    pub taken_by_key: Arc<Vec<u32>>,
    /// Marks by split: dropped samples where hits drop, kept ones where hits keep.
    pub marks: BTreeMap<u8, Bits>,
    /// Matches by benchmark.
    pub matches: BTreeMap<u32, Arc<StoredTable<Matches>>>,
    /// Scores by benchmark.
    pub scores: BTreeMap<u32, Arc<StoredTable<Scores>>>,
}

impl Live {
    /// A shard of which nothing is known yet.
    #[must_use]
    pub fn bare(input: Arc<ShardInput>) -> Self {
        Self {
            input,
            taken: Arc::default(),
            taken_by_key: Arc::default(),
            marks: BTreeMap::new(),
            matches: BTreeMap::new(),
            scores: BTreeMap::new(),
        }
    }
}

/// Maxima of the points by benchmark, in the order of its points.
pub type Peaks = BTreeMap<u32, Vec<Peak>>;

/// The state after an epoch.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// What the decisions depend on.
    pub inputs: Inputs,
    /// Thresholds of all benchmarks and rules.
    pub cuts: Cuts,
    /// By benchmark and place: every similarity of a live sample that reaches it is among the matches.
    pub floors: BTreeMap<u32, Vec<f64>>,
    /// All points of each benchmark, ready for products.
    pub point_sets: BTreeMap<u32, Arc<PointSet>>,
    /// Shards that take part in the decisions, by ordinal.
    pub shards: BTreeMap<u64, Arc<Live>>,
    /// Maxima over all judged samples.
    pub pool: Peaks,
    /// Maxima over the kept samples, by split.
    pub kept: BTreeMap<u8, Peaks>,
    /// Tallies that are not 0.
    pub tallies: BTreeMap<Tally, i64>,
    /// Hits by threshold and lasting number of the point, where there are any.
    pub hits: BTreeMap<u16, Arc<BTreeMap<u32, i64>>>,
}

impl World {
    /// Point sets for new cuts; those whose points stay are the old ones.
    #[must_use]
    pub fn point_sets_for(&self, cuts: &Cuts) -> BTreeMap<u32, Arc<PointSet>> {
        let of = |(&id, benchmark_cuts): (&u32, &Arc<BenchmarkCuts>)| {
            let same =
                self.cuts.benchmarks.get(&id).is_some_and(|old| Arc::ptr_eq(&old.points, &benchmark_cuts.points));
            let held = self.point_sets.get(&id).filter(|_| same).cloned();
            (id, held.unwrap_or_else(|| Arc::new(PointSet::whole(&benchmark_cuts.points))))
        };
        cuts.benchmarks.iter().map(of).collect()
    }

    /// The files of all shards outlive this process, or no longer do.
    pub fn set_lasting(&self, lasting: bool) {
        for live in self.shards.values() {
            live.matches.values().for_each(|part| part.set_lasting(lasting));
            live.scores.values().for_each(|part| part.set_lasting(lasting));
        }
    }

    /// Whether a judged sample is kept in a split.
    #[must_use]
    pub fn keeps(live: &Live, bit: u8, keeps: bool, index: u32) -> bool {
        live.input.is_judged(index) && live.marks.get(&bit).is_some_and(|bits| bits.get(index)) == keeps
    }
}

/// How a benchmark changed: places are those of the new points.
#[derive(Clone, Debug, Default)]
pub struct Shift {
    /// The benchmark before the epoch, if it was there.
    pub old: Option<Arc<BenchmarkCuts>>,
    /// The benchmark after the epoch, if it is there.
    pub new: Option<Arc<BenchmarkCuts>>,
    /// Places of new points.
    pub fresh: Vec<usize>,
    /// Places of old points whose lowest cut is now below their floor.
    pub low: Vec<usize>,
    /// Places of old points whose radius fell.
    pub fallen: Vec<usize>,
    /// Lasting numbers of points that went, or whose radius rose: what was best because of them must be found anew.
    pub spent: BTreeSet<u32>,
}

/// The benchmarks that differ between two states, by lasting number.
///
/// Gives the new floors too: those of unchanged points stay, a fresh or low one's is `slack` below its lowest cut.
#[must_use]
pub fn shifts(old: &World, new: &Cuts, slack: f64) -> (BTreeMap<u32, Shift>, BTreeMap<u32, Vec<f64>>) {
    let (mut shifts, mut floors) = (BTreeMap::new(), BTreeMap::new());
    for (&id, benchmark_cuts) in &new.benchmarks {
        let Some(before) = old.cuts.benchmarks.get(&id) else {
            let all = 0..benchmark_cuts.points.numbers.len();
            floors.insert(id, all.clone().map(|place| benchmark_cuts.lowest_cut(place) - slack).collect());
            let (new, fresh) = (Some(benchmark_cuts.clone()), all.collect());
            shifts.insert(id, Shift { new, fresh, ..Shift::default() });
            continue;
        };
        let held = &old.floors[&id];
        if Arc::ptr_eq(&before.points, &benchmark_cuts.points) && before.thresholds == benchmark_cuts.thresholds {
            floors.insert(id, held.clone());
            continue;
        }
        let mut shift = Shift { old: Some(before.clone()), new: Some(benchmark_cuts.clone()), ..Shift::default() };
        let mut at = Vec::with_capacity(benchmark_cuts.points.numbers.len());
        for (place, &number) in benchmark_cuts.points.numbers.iter().enumerate() {
            let cut = benchmark_cuts.lowest_cut(place);
            let Some(was) = before.points.place(number) else {
                shift.fresh.push(place);
                at.push(cut - slack);
                continue;
            };
            let floor = held[was];
            if cut < floor {
                shift.low.push(place);
                at.push(cut - slack);
            } else {
                at.push(floor);
            }
            if let (Some(new), Some(old)) = (benchmark_cuts.points.radius(place), before.points.radius(was)) {
                if new < old {
                    shift.fallen.push(place);
                } else if new > old {
                    shift.spent.insert(number);
                }
            }
        }
        let gone = before.points.numbers.iter().filter(|number| benchmark_cuts.points.place(**number).is_none());
        shift.spent.extend(gone);
        floors.insert(id, at);
        shifts.insert(id, shift);
    }
    for (&id, before) in old.cuts.benchmarks.iter().filter(|(id, _)| !new.benchmarks.contains_key(id)) {
        shifts.insert(id, Shift { old: Some(before.clone()), ..Shift::default() });
    }
    (shifts, floors)
}

/// Peaks in the order of the new points: those of old points stay, fresh ones have none.
#[must_use]
pub fn realigned(peaks: &Peaks, old: &Cuts, new: &Cuts) -> Peaks {
    let of = |(&id, benchmark_cuts): (&u32, &Arc<BenchmarkCuts>)| {
        let before = old.benchmarks.get(&id).zip(peaks.get(&id));
        let one = |&number: &u32| {
            before.and_then(|(points, peaks)| Some(peaks[points.points.place(number)?])).unwrap_or(NOTHING)
        };
        (id, benchmark_cuts.points.numbers.iter().map(one).collect())
    };
    new.benchmarks.iter().map(of).collect()
}
