//! The first half of an epoch: from changed inputs to the facts that the dataflow counts.
//!
//! ```text
//!  withdrawn shard ─▶ its stored matches ─▶ facts, reversed
//!  arriving shard  ─▶ one streamed pass: all points ─▶ matches, scores, maxima, facts
//!  remaining shard ─┬ benchmark gone, cut risen ─▶ its stored matches ─▶ facts
//!                   └ points new, or cut below the floor ─▶ one streamed pass for these points ─▶ matches ─▶ facts
//! ```
//!
//! This is the join of matches, cuts and presence by the delta rule, with the files in the place of the arrangement of matches: for every
//! match `(sample, point, s)` the hits under the old cuts are taken back and those under the new ones put, where they differ.
//!
//! Invariant: after it, every similarity of a live sample that reaches its point's floor is in the shard's matches, and the facts are
//! the difference between the hits of both states.

use std::collections::BTreeMap;
use std::sync::Arc;

use trommel_kernels::join::Block;

use super::IncrementalError;
use super::budget::EpochBudget;
use super::cuts::{BenchmarkCuts, Cuts};
use super::embeddings::Embeddings;
use super::flow::{Hit, Taken, Tally};
use super::inputs::ShardInput;
use super::parts::{PartStore, StoredTable};
use super::point_set::PointSet;
use super::stream::{add_hits, merged, stream};
use super::tables::{Matches, Scores};
use super::workers::Facts;
use super::world::{Live, Peaks, Shift, World};
use trommel_core::sample::{SampleId, Score};
use trommel_decide::condition::Cut;

/// What the epoch works with.
pub(super) struct DeltaJoin<'a> {
    pub(super) old: &'a World,
    pub(super) next: &'a mut World,
    pub(super) shifts: &'a BTreeMap<u32, Shift>,
    pub(super) looks: &'a [Look],
    pub(super) embeddings: &'a dyn Embeddings,
    pub(super) part_store: &'a PartStore,
    pub(super) budget: &'a mut EpochBudget,
    /// Threads of the products.
    pub(super) threads: usize,
    pub(super) facts: Facts,
    /// The similarity of every hit, beside it.
    pub(super) similarities: Vec<f64>,
    /// Maxima over the arriving shards.
    pub(super) arrived: (Peaks, BTreeMap<u8, Peaks>),
    /// Hits over a radius that scores still have to learn: (ordinal, benchmark) to (raw index, difference).
    pub(super) hit_changes: BTreeMap<(u64, u32), Vec<(u32, i32)>>,
}

impl DeltaJoin<'_> {
    pub(super) fn hit(&mut self, hit: Hit, s: f64, diff: i32) -> Result<(), IncrementalError> {
        self.budget.spend_hit()?;
        self.facts.hits.push((hit, diff));
        self.similarities.push(s);
        Ok(())
    }

    pub(super) fn present(&mut self, input: &ShardInput, diff: i64) {
        self.facts.samples.push((Tally::Judged, diff * input.judged() as i64));
        self.facts.samples.push((Tally::Rejected, diff * input.rejected.len() as i64));
    }

    pub(super) fn taken(
        &mut self,
        ordinal: u64,
        taken: &[u32],
        cuts: (u32, u32),
        diff: i32,
    ) -> Result<(), IncrementalError> {
        for &index in taken {
            self.budget.spend_hit()?;
            let sample = SampleId { ordinal, index };
            self.facts.taken.push((Taken { sample, drops: cuts.0, keeps: cuts.1 }, diff));
        }
        Ok(())
    }

    /// Takes back all that a shard said.
    pub(super) fn withdraw(&mut self, ordinal: u64, live: &Live) -> Result<(), IncrementalError> {
        let cuts: &Cuts = &self.old.cuts;
        for (id, part) in &live.matches {
            let benchmark_cuts = &cuts.benchmarks[id];
            for (number, index, s) in part.load()?.by_point() {
                let Some(place) = benchmark_cuts.points.place(number) else { continue };
                for hit in benchmark_cuts.hits(SampleId { ordinal, index }, place, s) {
                    self.hit(hit, s, -1)?;
                }
            }
        }
        self.taken(ordinal, &live.taken, (cuts.drops, cuts.keeps), -1)?;
        self.present(&live.input, -1);
        Ok(())
    }

    /// Judged samples of a shard that are taken down, those by key first found where `keys` says so.
    pub(super) fn takedowns(&self, ordinal: u64, input: &ShardInput, by_key: &[u32]) -> Vec<u32> {
        let first = SampleId { ordinal, index: 0 };
        let last = SampleId { ordinal, index: u32::MAX };
        let by_id = self.next.inputs.taken.range(first..=last).map(|sample| sample.index);
        let mut all: Vec<u32> = by_id.chain(by_key.iter().copied()).filter(|&index| input.is_judged(index)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    pub(super) fn by_key(&self, ordinal: u64, input: &ShardInput) -> Result<Vec<u32>, IncrementalError> {
        let keys = &self.next.inputs.taken_keys;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.embeddings.find(ordinal, input.generation, keys)
    }

    /// Takes the changed cuts to a shard that stays.
    pub(super) fn remain(&mut self, ordinal: u64, live: &Arc<Live>) -> Result<(), IncrementalError> {
        let mut next = (**live).clone();
        let retaken = self.retake(ordinal, live, &mut next)?;
        if !retaken && self.shifts.is_empty() {
            self.next.shards.insert(ordinal, live.clone());
            return Ok(());
        }
        let mut found = self.look(ordinal, live)?;
        for (&id, shift) in self.shifts {
            let Found { matches: found, scores: fresh } = found.remove(&id).unwrap_or_default();
            let before = live.matches.get(&id).map(|part| part.load()).transpose()?.unwrap_or_default();
            let changes = self.compare(ordinal, id, shift, &before, &found)?;
            match &shift.new {
                None => {
                    next.matches.remove(&id);
                    next.scores.remove(&id);
                    continue;
                }
                Some(new) => self.rewrite(ordinal, new, shift, (&before, found), &mut next)?,
            }
            if shift.fresh.is_empty() {
                if !changes.is_empty() {
                    self.hit_changes.insert((ordinal, id), changes);
                }
            } else {
                let old = live.scores.get(&id).map(|part: &Arc<StoredTable<Scores>>| part.load()).transpose()?;
                let mut scores = merged(old.as_deref(), fresh);
                add_hits(&mut scores, &changes);
                next.scores.insert(id, self.part_store.put(ordinal, id, scores)?);
            }
        }
        self.next.shards.insert(ordinal, Arc::new(next));
        Ok(())
    }

    /// Takedowns of a shard that stays; says whether any differ.
    fn retake(&mut self, ordinal: u64, live: &Live, next: &mut Live) -> Result<bool, IncrementalError> {
        let (old, new) = (&self.old.inputs, &self.next.inputs);
        let masks = |cuts: &Cuts| (cuts.drops, cuts.keeps);
        let (before, after) = (masks(&self.old.cuts), masks(&self.next.cuts));
        let same_lists = Arc::ptr_eq(&old.taken, &new.taken) && Arc::ptr_eq(&old.taken_keys, &new.taken_keys);
        if same_lists && before == after {
            return Ok(false);
        }
        if !Arc::ptr_eq(&old.taken_keys, &new.taken_keys) {
            next.taken_by_key = Arc::new(self.by_key(ordinal, &live.input)?);
        }
        next.taken = Arc::new(self.takedowns(ordinal, &live.input, &next.taken_by_key));
        let only = |a: &[u32], b: &[u32]| -> Vec<u32> {
            a.iter().copied().filter(|index| before != after || b.binary_search(index).is_err()).collect()
        };
        let (gone, come) = (only(&live.taken, &next.taken), only(&next.taken, &live.taken));
        self.taken(ordinal, &gone, before, -1)?;
        self.taken(ordinal, &come, after, 1)?;
        Ok(next.taken != live.taken || next.taken_by_key != live.taken_by_key)
    }

    /// One pass over a shard's vectors for the points that its matches do not cover.
    fn look(&mut self, ordinal: u64, live: &Live) -> Result<BTreeMap<u32, Found>, IncrementalError> {
        let mut all = BTreeMap::<u32, Found>::new();
        let Some(first) = self.looks.first() else { return Ok(all) };
        let dim = self.next.cuts.benchmarks[&first.point_set.id].points.benchmark.dim;
        let points = self.looks.iter().map(|look| look.point_set.places.len()).max().unwrap_or(0);
        let mut block = Block::default();
        stream(self.embeddings, (ordinal, &live.input), (dim, points), |chunk| {
            for Look { point_set, floors, fresh } in self.looks {
                let found = all.entry(point_set.id).or_default();
                point_set.fill(&mut block, chunk, self.threads);
                let most = self.budget.room_for_matches();
                for (number, row, s) in point_set.matches(&block, chunk, floors, (self.threads, most)) {
                    self.budget.spend_match()?;
                    found.matches.push((number, chunk.ids[row].index, s));
                }
                if *fresh {
                    for (id, mut score) in chunk.ids.iter().zip(point_set.scores(&block, chunk, self.threads)) {
                        score.hits = score.hits.map(|_| 0); // counted from the matches
                        found.scores.push((id.index, score));
                    }
                    if let Some(pool) = self.next.pool.get_mut(&point_set.id) {
                        point_set.raise(&block, chunk, |_| true, pool, self.threads);
                    }
                }
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// Facts where old and new hits differ; gives what the radius threshold's count of hits changes by.
    fn compare(
        &mut self,
        ordinal: u64,
        id: u32,
        shift: &Shift,
        before: &Matches,
        found: &[(u32, u32, f64)],
    ) -> Result<Vec<(u32, i32)>, IncrementalError> {
        let over_radius = (self.next.cuts.ids.get(&(id, Cut::RADIUS))).or(self.old.cuts.ids.get(&(id, Cut::RADIUS)));
        let over_radius = over_radius.copied();
        let mut changes = Vec::new();
        let mut note = |hit: &Hit, diff| {
            if Some(hit.threshold) == over_radius {
                changes.push((hit.sample.index, diff));
            }
        };
        let again = |number: u32| {
            shift
                .new
                .as_ref()
                .and_then(|new| new.points.place(number))
                .filter(|place| shift.low.binary_search(place).is_err())
        };
        let mut places = (None, None, None, false);
        for (number, index, s) in before.by_point() {
            if places.0 != Some(number) {
                let old = shift.old.as_ref().and_then(|old| old.points.place(number));
                places = (Some(number), old, again(number), same_cuts(shift, old, again(number)));
            }
            if places.3 {
                continue;
            }
            let sample = SampleId { ordinal, index };
            let hits = |benchmark_cuts: &Option<Arc<BenchmarkCuts>>, place: Option<usize>| -> Vec<Hit> {
                benchmark_cuts
                    .as_ref()
                    .zip(place)
                    .map_or(Vec::new(), |(benchmark_cuts, place)| benchmark_cuts.hits(sample, place, s).collect())
            };
            let (old, new) = (hits(&shift.old, places.1), hits(&shift.new, places.2));
            for hit in old.iter().filter(|hit| !new.contains(hit)) {
                note(hit, -1);
                self.hit(*hit, s, -1)?;
            }
            for hit in new.iter().filter(|hit| !old.contains(hit)) {
                note(hit, 1);
                self.hit(*hit, s, 1)?;
            }
        }
        for &(number, index, s) in found {
            let Some((new, place)) = shift.new.as_ref().and_then(|new| Some((new, new.points.place(number)?))) else {
                continue;
            };
            for hit in new.hits(SampleId { ordinal, index }, place, s) {
                note(&hit, 1);
                self.hit(hit, s, 1)?;
            }
        }
        Ok(changes)
    }

    /// Writes the matches anew where points went or were looked for.
    fn rewrite(
        &mut self,
        ordinal: u64,
        new: &BenchmarkCuts,
        shift: &Shift,
        (before, found): (&Matches, Vec<(u32, u32, f64)>),
        next: &mut Live,
    ) -> Result<(), IncrementalError> {
        let stays =
            |number: u32| new.points.place(number).is_some_and(|place| shift.low.binary_search(&place).is_err());
        let id = new.points.id;
        let rows: Vec<_> = before.by_point().filter(|row| stays(row.0)).collect();
        let same = rows.len() == before.points.len() && found.is_empty() && next.matches.contains_key(&id);
        if !same {
            let matches = Matches::of(rows.into_iter().chain(found).collect());
            next.matches.insert(id, self.part_store.put(ordinal, id, matches)?);
        }
        Ok(())
    }
}

/// Points that the stored matches do not cover, to be looked for in every shard that stays.
pub(super) struct Look {
    point_set: PointSet,
    /// In the order of the point set.
    floors: Vec<f64>,
    /// New points: scores and maxima are wanted too.
    fresh: bool,
}

/// What must be looked for, under the new floors.
pub(super) fn looks(shifts: &BTreeMap<u32, Shift>, floors: &BTreeMap<u32, Vec<f64>>) -> Vec<Look> {
    let mut looks = Vec::new();
    for (id, shift) in shifts {
        let Some(new) = &shift.new else { continue };
        for (places, fresh) in [(&shift.fresh, true), (&shift.low, false)] {
            let floors = places.iter().map(|&place| floors[id][place]).collect();
            looks.extend(PointSet::of(&new.points, places.clone()).map(|point_set| Look { point_set, floors, fresh }));
        }
    }
    looks
}

/// What a pass over one shard found for one benchmark.
#[derive(Default)]
struct Found {
    matches: Vec<(u32, u32, f64)>,
    /// Scores over the fresh points, without hits.
    scores: Vec<(u32, Score)>,
}

/// Whether a point's cuts, and what they mean, are as they were.
fn same_cuts(shift: &Shift, was: Option<usize>, is: Option<usize>) -> bool {
    let (Some(old), Some(new)) = (&shift.old, &shift.new) else { return false };
    let (Some(was), Some(is)) = (was, is) else { return false };
    let mut are_same =
        new.thresholds.iter().map(|threshold| old.cut(threshold, was).to_bits() == new.cut(threshold, is).to_bits());
    old.thresholds == new.thresholds && are_same.all(|same| same)
}
