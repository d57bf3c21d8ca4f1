//! What readers see: one finished epoch, whole, for as long as they hold it.
//!
//! A [`View`] is never changed. The engine swaps it for the next one in one step; parts of files that only an old view refers to stay until it is dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::cuts::BenchmarkCuts;
use super::flow::Tally;
use super::inputs::{Points, ShardInput, Split};
use super::point_set::NOTHING;
use super::world::{Live, World};
use super::{Epoch, IncrementalError};
use trommel_core::sample::PointRow;
use trommel_core::sample::{SampleId, Score, Status};
use trommel_core::wake::locked;
use trommel_decide::condition::Cut;
use trommel_shard::reader::{Decisions, KnownError};

/// Sizes of a split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Samples that the split keeps.
    pub kept: u64,
    /// Samples dropped, those taken down included.
    pub dropped: u64,
    /// Samples rejected.
    pub rejected: u64,
}

/// What one benchmark does in a split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Samples with a hit: dropped by this benchmark, or kept by it where hits keep.
    pub samples: u64,
    /// Distinct points hit.
    pub points: u64,
}

/// The state after an epoch.
#[derive(Clone, Debug, Default)]
pub struct View {
    epoch: Epoch,
    world: Arc<World>,
}

impl View {
    pub(super) fn new(epoch: Epoch, world: Arc<World>) -> Self {
        Self { epoch, world }
    }

    /// The epoch for which all of this is complete.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Ordinals of the live shards.
    pub fn shards(&self) -> impl Iterator<Item = u64> + '_ {
        self.world.shards.keys().copied()
    }

    /// A live shard as it came.
    #[must_use]
    pub fn shard(&self, ordinal: u64) -> Option<&ShardInput> {
        self.world.shards.get(&ordinal).map(|live| &*live.input)
    }

    /// The benchmarks, in their order.
    pub fn points(&self) -> impl Iterator<Item = &Points> + '_ {
        self.world.inputs.benchmarks.iter().map(|points| &**points)
    }

    /// By live shard, a name for all that its statuses and scores in a split depend on: equal stamps, equal rows.
    /// There are none in a split that is not there.
    ///
    /// Statuses are hashed sample by sample, so those of a shard that `known` has a stamp of are taken from it, unless the shard is among
    /// `turned`: those with a sample that has changed sides since.
    #[must_use]
    pub fn stamps<'a>(
        &self,
        split: &str,
        known: impl Fn(u64) -> Option<&'a str>,
        turned: &BTreeSet<u64>,
    ) -> BTreeMap<u64, String> {
        let Some(rule) = self.world.inputs.splits.get(split).map(|split| split.rule.to_string()) else {
            return BTreeMap::new();
        };
        let mut all = Sha256::new();
        all.update(rule.as_bytes());
        for points in &self.world.inputs.benchmarks {
            all.update([0]);
            all.update(points.benchmark.name.as_bytes());
            // Scores name points by lasting numbers, rows by places.
            points.numbers.iter().for_each(|number| all.update(number.to_le_bytes()));
        }
        let hex = |hash: Sha256| format!("{:x}", hash.finalize());
        let of_statuses = |ordinal: u64| {
            let bytes: Vec<u8> = self.statuses(ordinal, split)?.into_iter().map(|status| status as u8).collect();
            Some(hex(Sha256::new_with_prefix(bytes)))
        };
        let of = |(&ordinal, live): (&u64, &Arc<Live>)| {
            let mut scores = all.clone();
            scores.update((live.taken.len() as u64).to_le_bytes());
            live.taken.iter().for_each(|index| scores.update(index.to_le_bytes()));
            for points in &self.world.inputs.benchmarks {
                scores.update(live.scores.get(&points.id)?.record().crc32c.to_le_bytes());
            }
            let before = known(ordinal).filter(|_| !turned.contains(&ordinal)).and_then(|stamp| stamp.split_once(':'));
            let statuses = before.map_or_else(|| of_statuses(ordinal), |(statuses, _)| Some(statuses.to_owned()))?;
            Some((ordinal, format!("{statuses}:{}", hex(scores))))
        };
        self.world.shards.iter().filter_map(of).collect()
    }

    /// Names of the benchmarks, in their order.
    pub fn benchmarks(&self) -> impl Iterator<Item = &str> + '_ {
        self.world.inputs.benchmarks.iter().map(|points| points.benchmark.name.as_str())
    }

    /// The splits, by name.
    #[must_use]
    pub fn splits(&self) -> &BTreeMap<String, Split> {
        &self.world.inputs.splits
    }

    fn tally(&self, tally: Tally) -> u64 {
        self.world.tallies.get(&tally).map_or(0, |&count| count.max(0).unsigned_abs())
    }

    /// Judged samples that are taken down.
    #[must_use]
    pub fn taken_down(&self) -> u64 {
        self.tally(Tally::Taken)
    }

    /// Raw indices of a live shard's judged samples that are taken down, ascending.
    #[must_use]
    pub fn taken_down_of(&self, ordinal: u64) -> Arc<Vec<u32>> {
        self.world.shards.get(&ordinal).map(|live| Arc::clone(&live.taken)).unwrap_or_default()
    }

    /// Sizes of a split; `None` if there is none of that name.
    #[must_use]
    pub fn sizes(&self, split: &str) -> Option<Sizes> {
        let split = self.world.inputs.splits.get(split)?;
        let (judged, marked) = (self.tally(Tally::Judged), self.tally(Tally::Marked(split.bit, split.keeps)));
        let kept = if split.keeps { marked } else { judged - marked };
        Some(Sizes { kept, dropped: judged - kept, rejected: self.tally(Tally::Rejected) })
    }

    fn benchmark_cuts(&self, benchmark: &str) -> Option<&Arc<BenchmarkCuts>> {
        self.world.cuts.benchmarks.values().find(|benchmark_cuts| benchmark_cuts.points.benchmark.name == benchmark)
    }

    /// What a benchmark does in a split; `None` if the split does not look at it.
    #[must_use]
    pub fn reach(&self, benchmark: &str, split: &str) -> Option<Reach> {
        let bit = 1u32 << self.world.inputs.splits.get(split)?.bit;
        let thresholds = &self.benchmark_cuts(benchmark)?.thresholds;
        let threshold = thresholds.iter().find(|threshold| (threshold.drops | threshold.keeps) & bit != 0)?;
        Some(Reach {
            samples: self.tally(Tally::Samples(threshold.id)),
            points: self.tally(Tally::Points(threshold.id)),
        })
    }

    /// Samples over a radius of the benchmark, and points whose radius is exceeded, whatever the splits; `None` without radii.
    #[must_use]
    pub fn over_radius(&self, benchmark: &str) -> Option<Reach> {
        let threshold = self.benchmark_cuts(benchmark)?.radius_threshold()?;
        Some(Reach {
            samples: self.tally(Tally::Samples(threshold.id)),
            points: self.tally(Tally::Points(threshold.id)),
        })
    }

    /// What became of a sample in a split; `None` if it is not there.
    #[must_use]
    pub fn status(&self, sample: SampleId, split: &str) -> Option<Status> {
        let split = self.world.inputs.splits.get(split)?;
        let live = self.world.shards.get(&sample.ordinal).filter(|live| sample.index < live.input.count)?;
        Some(status(live, split, sample.index))
    }

    /// What became of a shard's samples in a split, by raw index.
    #[must_use]
    pub fn statuses(&self, ordinal: u64, split: &str) -> Option<Vec<Status>> {
        let (live, split) = (self.world.shards.get(&ordinal)?, self.world.inputs.splits.get(split)?);
        Some((0..live.input.count).map(|index| status(live, split, index)).collect())
    }

    /// Scores of a shard's judged samples against a benchmark, by raw index; points by their places.
    ///
    /// # Errors
    /// A part that cannot be read.
    pub fn scores(&self, ordinal: u64, benchmark: &str) -> Result<Option<Vec<(u32, Score)>>, IncrementalError> {
        let found = self.benchmark_cuts(benchmark).zip(self.world.shards.get(&ordinal));
        let Some((benchmark_cuts, live)) = found else { return Ok(None) };
        let Some(part) = live.scores.get(&benchmark_cuts.points.id) else { return Ok(None) };
        let mut rows = part.load()?.rows.clone();
        let place =
            |number: Option<u32>| number.and_then(|number| benchmark_cuts.points.place(number)).map(|at| at as u32);
        for (_, score) in &mut rows {
            (score.nearest, score.exceeds) = (place(score.nearest), place(score.exceeds));
        }
        Ok(Some(rows))
    }

    /// What a benchmark's points have seen: of the pool, and of the samples kept in a split. One row a point.
    #[must_use]
    pub fn items(&self, benchmark: &str, split: &str) -> Option<Vec<PointRow>> {
        let bit = self.world.inputs.splits.get(split)?.bit;
        let at = self.world.inputs.benchmarks.iter().position(|points| points.benchmark.name == benchmark)?;
        let points = &self.world.inputs.benchmarks[at];
        let threshold = self.world.cuts.ids.get(&(points.id, Cut::RADIUS));
        let hits = threshold.and_then(|threshold| self.world.hits.get(threshold));
        let (pool, kept) = (self.world.pool.get(&points.id)?, self.world.kept.get(&bit)?.get(&points.id)?);
        let row = |place: usize| {
            let [pool, kept] = [pool[place], kept[place]].map(|peak| (peak != NOTHING).then_some(peak));
            let count = hits.and_then(|hits| hits.get(&points.numbers[place]));
            PointRow {
                benchmark: at as u16,
                point: place as u32,
                max_similarity: pool.map(|peak| peak.0),
                sample: pool.map(|peak| peak.1),
                hits: count.map_or(0, |&count| count.max(0).unsigned_abs()),
                kept_max: kept.map(|peak| peak.0),
                kept_sample: kept.map(|peak| peak.1),
            }
        };
        Some((0..points.numbers.len()).map(row).collect())
    }
}

/// What became of a raw index.
pub(super) fn status(live: &Live, split: &Split, index: u32) -> Status {
    if !live.input.is_judged(index) {
        Status::Rejected
    } else if World::keeps(live, split.bit, split.keeps, index) {
        Status::Kept
    } else {
        Status::Dropped
    }
}

/// A split of one view as decisions for the reader of shards: a trainer that holds it sees one epoch from beginning to end.
#[derive(Clone, Debug)]
pub struct SplitDecisions {
    view: Arc<View>,
    split: String,
}

impl SplitDecisions {
    /// The decisions of a split; `None` if the view has none of that name.
    #[must_use]
    pub fn new(view: Arc<View>, split: &str) -> Option<Self> {
        view.splits().contains_key(split).then(|| Self { view, split: split.into() })
    }
}

impl Decisions for SplitDecisions {
    fn shard(&self, ordinal: u64) -> Result<Option<Arc<Vec<Status>>>, KnownError> {
        Ok(self.view.statuses(ordinal, &self.split).map(Arc::new))
    }
}

/// Where readers get the newest view. Clones see the same.
#[derive(Clone, Debug, Default)]
pub struct Views(Arc<Mutex<Arc<View>>>);

impl Views {
    /// The newest finished epoch.
    #[must_use]
    pub fn latest(&self) -> Arc<View> {
        locked(&self.0).clone()
    }

    pub(super) fn publish(&self, view: View) {
        let next = Arc::new(view);
        let before = std::mem::replace(&mut *locked(&self.0), next);
        // Outside of the lock: dropping the last holder of a part removes its file.
        drop(before);
    }
}
