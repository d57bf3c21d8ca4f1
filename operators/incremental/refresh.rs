//! The second half of an epoch: maxima that the changes touched are found anew, before anybody sees the epoch.
//!
//! ```text
//!  decisions ─┬ a peak's sample is gone, or no longer kept ─▶ best stored match, or the pool's peak ─┐ left over
//!             ├ samples newly kept ────────────────────────────────────────────────────────────────┤
//!  radii ─────┴ a score's best point is spent, radii fell ─────────────────────────────────────────┴─▶ one streamed pass ─▶ parts, peaks
//! ```
//!
//! Why it is exact:
//! 1. A peak that stands on a live (kept) sample stays right under everything but new samples and newly kept ones, and those are offered.
//! 2. All similarities from the floor up are stored: if any stored match of a point is live (kept), the largest is the peak. If the pool's peak
//!    is kept, it is the kept peak.
//! 3. A score whose best point is not spent is at least all points that stay as they were; fresh and fallen ones are offered. If its best point
//!    is spent (gone, radius risen), the sample is scored anew.
//!
//! With several processes each works on its own shards, and what they found is put together: offering is associative and commutative.
//!
//! Cost: the vectors of shards that hold such a sample, or of all where a radius fell or a peak is left over; products for the points touched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use trommel_kernels::join::Block;

use super::IncrementalError;
use super::answers::{PeakBits, offer_kept, offer_rows, peak_rows};
use super::cuts::Cuts;
use super::delta_joined::learn;
use super::embeddings::Embeddings;
use super::parts::PartStore;
use super::peers::Round;
use super::point_set::{Chunk, PointSet};
use super::record::ShardRecord;
use super::stream::{add_hits, merge_peaks, stream, take_better};
use super::tables::Scores;
use super::workers::EpochOutcome;
use super::world::{Peaks, Shift, World};
use trommel_core::sample::{SampleId, Score};

/// A split as masks see it: bit, and whether hits keep.
pub(super) type Polarity = (u8, bool);

/// What the pass works with.
pub(super) struct Refresh<'a> {
    pub(super) old: &'a World,
    pub(super) next: &'a mut World,
    pub(super) shifts: &'a BTreeMap<u32, Shift>,
    pub(super) outcome: &'a EpochOutcome,
    pub(super) arrived: (Peaks, BTreeMap<u8, Peaks>),
    pub(super) hit_changes: BTreeMap<(u64, u32), Vec<(u32, i32)>>,
    pub(super) embeddings: &'a dyn Embeddings,
    pub(super) part_store: &'a PartStore,
    pub(super) round: &'a Round,
    /// Threads of the products.
    pub(super) threads: usize,
}

/// One process's part, as the others are told.
#[derive(Serialize, Deserialize)]
struct RefreshPart {
    read: u64,
    shards: Vec<(u64, ShardRecord)>,
    pool: PeakBits,
    kept: BTreeMap<u8, PeakBits>,
}

/// What one shard needs.
#[derive(Default)]
struct Need {
    /// Scores to change, by benchmark.
    scores: BTreeMap<u32, Scores>,
    /// Samples to score anew, by benchmark.
    anew: BTreeMap<u32, BTreeSet<u32>>,
    /// Samples that are newly kept in some split.
    kept: BTreeSet<u32>,
}

impl Refresh<'_> {
    /// Refreshes all, and shares it; gives the vectors read in all processes. All parts' names are durable then.
    ///
    /// # Errors
    /// Files that cannot be read or written, here or in another process.
    pub(super) fn run(mut self) -> Result<u64, IncrementalError> {
        let splits: Vec<Polarity> = self.next.inputs.splits.values().map(|split| (split.bit, split.keeps)).collect();
        let stay: Vec<u64> = (self.next.shards.iter())
            .filter(|(ordinal, live)| {
                self.old.shards.get(ordinal).is_some_and(|old| Arc::ptr_eq(&old.input, &live.input))
            })
            .map(|(&ordinal, _)| ordinal)
            .collect();
        let left = self.stale(&splits, &stay)?;
        let point_sets: BTreeMap<u32, PointSet> = (left.into_iter())
            .filter_map(|(id, places)| {
                let points = &self.next.cuts.benchmarks[&id].points;
                PointSet::of(points, places.into_iter().collect()).map(|point_set| (id, point_set))
            })
            .collect();
        let mut newly = BTreeMap::<u64, BTreeSet<u32>>::new();
        for (side, diff) in &self.outcome.sides {
            if splits.contains(&(side.split, side.keeps)) && (*diff > 0) == side.keeps {
                newly.entry(side.sample.ordinal).or_default().insert(side.sample.index);
            }
        }
        let any_newly = !newly.is_empty();
        let several = self.round.peers.ranks() > 1;
        let settled = if several { self.next.shards.clone() } else { BTreeMap::new() };
        let worked =
            self.work(&splits, &stay, &point_sets, newly).and_then(|read| self.part_store.sync().map(|()| read));
        let (next, round) = (&mut *self.next, self.round);
        let tell = |&read: &u64| RefreshPart {
            read,
            shards: (settled.iter().filter(|(ordinal, _)| round.owns(**ordinal)))
                .filter(|(ordinal, before)| !Arc::ptr_eq(before, &next.shards[ordinal]))
                .filter_map(|(&ordinal, before)| {
                    Some((ordinal, ShardRecord::news(Some(before), &next.shards[&ordinal])?))
                })
                .collect(),
            pool: peak_rows(&next.pool, |id| point_sets.contains_key(&id)),
            kept: (next.kept.iter())
                .map(|(&bit, peaks)| (bit, peak_rows(peaks, |id| any_newly || point_sets.contains_key(&id))))
                .collect(),
        };
        let (mut read, others) = round.share("maxima", worked, tell)?;
        for part in others {
            read += part.read;
            learn(next, part.shards, self.part_store)?;
            offer_rows(&mut next.pool, part.pool);
            offer_kept(&mut next.kept, part.kept);
        }
        merge_peaks(&mut next.pool, &self.arrived.0);
        for (bit, peaks) in &self.arrived.1 {
            if let Some(kept) = next.kept.get_mut(bit) {
                merge_peaks(kept, peaks);
            }
        }
        Ok(read)
    }

    /// Refreshes the scores of this process's shards, and offers their samples; gives the vectors read.
    fn work(
        &mut self,
        splits: &[Polarity],
        stay: &[u64],
        point_sets: &BTreeMap<u32, PointSet>,
        mut newly: BTreeMap<u64, BTreeSet<u32>>,
    ) -> Result<u64, IncrementalError> {
        let fallen: BTreeMap<u32, PointSet> = (self.shifts.iter())
            .filter_map(|(&id, shift)| Some((id, PointSet::of(&shift.new.as_ref()?.points, shift.fallen.clone())?)))
            .collect();
        let whole = self.next.point_sets.clone();
        let mut read = 0;
        for &ordinal in stay.iter().filter(|ordinal| self.round.owns(**ordinal)) {
            let mut need = self.need(ordinal, newly.remove(&ordinal).unwrap_or_default())?;
            let touched = !need.kept.is_empty() || need.anew.values().any(|rows| !rows.is_empty());
            if touched || !point_sets.is_empty() || !fallen.is_empty() {
                read += self.pass(ordinal, &mut need, point_sets, &fallen, &whole, splits)?;
            }
            if !need.scores.is_empty() {
                let mut live = (*self.next.shards[&ordinal]).clone();
                for (id, scores) in need.scores {
                    live.scores.insert(id, self.part_store.put(ordinal, id, scores)?);
                }
                self.next.shards.insert(ordinal, Arc::new(live));
            }
        }
        Ok(read)
    }

    /// What a shard that stays needs.
    fn need(&mut self, ordinal: u64, kept: BTreeSet<u32>) -> Result<Need, IncrementalError> {
        let mut need = Need { kept, ..Need::default() };
        let live = self.next.shards[&ordinal].clone();
        for (&id, shift) in self.shifts.iter().filter(|(_, shift)| shift.new.is_some() && shift.old.is_some()) {
            let changes = self.hit_changes.remove(&(ordinal, id)).unwrap_or_default();
            if changes.is_empty() && shift.spent.is_empty() && shift.fallen.is_empty() {
                continue;
            }
            let Some(part) = live.scores.get(&id) else { continue };
            let mut scores = (*part.load()?).clone();
            add_hits(&mut scores, &changes);
            let spent = |number: Option<u32>| number.is_some_and(|number| shift.spent.contains(&number));
            let anew: BTreeSet<u32> = (scores.rows.iter())
                .filter(|(_, score)| spent(score.nearest) && self.is_gone(id, score.nearest) || spent(score.exceeds))
                .map(|row| row.0)
                .collect();
            if !anew.is_empty() || !changes.is_empty() || !shift.fallen.is_empty() {
                need.scores.insert(id, scores);
                need.anew.insert(id, anew);
            }
        }
        Ok(need)
    }

    /// Whether a point is no longer there.
    fn is_gone(&self, id: u32, number: Option<u32>) -> bool {
        let cuts: &Cuts = &self.next.cuts;
        number.is_some_and(|number| cuts.benchmarks[&id].points.place(number).is_none())
    }

    /// One streamed pass over a shard.
    fn pass(
        &mut self,
        ordinal: u64,
        need: &mut Need,
        point_sets: &BTreeMap<u32, PointSet>,
        fallen: &BTreeMap<u32, PointSet>,
        whole: &BTreeMap<u32, Arc<PointSet>>,
        splits: &[Polarity],
    ) -> Result<u64, IncrementalError> {
        let live = self.next.shards[&ordinal].clone();
        let points = whole.values().map(|point_set| point_set.places.len()).max().unwrap_or(0);
        let dim =
            self.next.cuts.benchmarks.values().next().map_or(0, |benchmark_cuts| benchmark_cuts.points.benchmark.dim);
        let (mut block, mut read) = (Block::default(), 0);
        let (mut anew, mut newly) = (BTreeMap::<u32, Chunk>::new(), Chunk::new(dim));
        let Self { next, embeddings, threads, .. } = self;
        let threads = *threads;
        let World { pool, kept, .. } = &mut **next;
        // Gathered chunks are up to half as long again.
        stream(*embeddings, (ordinal, &live.input), (dim, points + points / 2), |chunk| {
            read += chunk.ids.len() as u64;
            for (id, point_set) in fallen {
                let Some(scores) = need.scores.get_mut(id) else { continue };
                point_set.fill(&mut block, chunk, threads);
                for (sample, other) in chunk.ids.iter().zip(point_set.scores(&block, chunk, threads)) {
                    change(scores, sample.index, |held| take_better(held, &Score { hits: None, ..other }));
                }
            }
            for (id, rows) in &need.anew {
                let waiting = anew.entry(*id).or_insert_with(|| Chunk::new(dim));
                let (Some(some), Some(scores)) = (gathered(waiting, chunk, rows), need.scores.get_mut(id)) else {
                    continue;
                };
                whole[id].fill(&mut block, &some, threads);
                for (sample, fresh) in some.ids.iter().zip(whole[id].scores(&block, &some, threads)) {
                    change(scores, sample.index, |held| *held = Score { hits: held.hits, ..fresh });
                }
            }
            let mut raise = |point_set: &PointSet, block: &Block, chunk: &Chunk, with_pool: bool| {
                if let Some(peaks) = pool.get_mut(&point_set.id).filter(|_| with_pool) {
                    point_set.raise(block, chunk, |_| true, peaks, threads);
                }
                for &(bit, keeps) in splits {
                    let Some(peaks) = kept.get_mut(&bit).and_then(|peaks| peaks.get_mut(&point_set.id)) else {
                        continue;
                    };
                    let takes = |sample: SampleId| World::keeps(&live, bit, keeps, sample.index);
                    point_set.raise(block, chunk, takes, peaks, threads);
                }
            };
            if let Some(some) = gathered(&mut newly, chunk, &need.kept) {
                for point_set in whole.values() {
                    point_set.fill(&mut block, &some, threads);
                    raise(point_set, &block, &some, false);
                }
            }
            for point_set in point_sets.values() {
                point_set.fill(&mut block, chunk, threads);
                raise(point_set, &block, chunk, true);
            }
            Ok(())
        })?;
        Ok(read)
    }
}

fn change(scores: &mut Scores, index: u32, with: impl FnOnce(&mut Score)) {
    if let Ok(at) = scores.rows.binary_search_by_key(&index, |row| row.0) {
        with(&mut scores.rows[at].1);
    }
}

/// The wanted rows so far, when they are half a chunk or the last of them is there: getting all points ready for few
/// rows costs more than their products.
fn gathered(waiting: &mut Chunk, chunk: &Chunk, wanted: &BTreeSet<u32>) -> Option<Chunk> {
    let rows: Vec<usize> = (0..chunk.ids.len()).filter(|&row| wanted.contains(&chunk.ids[row].index)).collect();
    waiting.take_rows(chunk, &rows);
    let is_last = waiting.ids.last().map(|sample| sample.index) == wanted.last().copied();
    let full = !waiting.ids.is_empty() && (is_last || 2 * waiting.ids.len() >= chunk.ids.len());
    full.then(|| std::mem::replace(waiting, Chunk::new(chunk.dim)))
}
