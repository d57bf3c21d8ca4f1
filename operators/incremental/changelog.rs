//! What an epoch changed, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::flow::Hit;
use super::inputs::Split;
use super::peers::Round;
use super::view::{Sizes, View, status};
use super::workers::EpochOutcome;
use super::world::{Live, World};
use super::{Epoch, IncrementalError};
use trommel_core::sample::{SampleId, Status};

/// Why a sample changed sides.
#[derive(Clone, Debug, PartialEq)]
pub enum Why {
    /// It exceeds the cut of this point (its place in the new benchmark): the first of those that are new.
    Hit {
        /// Name of the benchmark.
        benchmark: Arc<str>,
        /// The point's place.
        point: u32,
        /// Cosine between the sample and the point.
        similarity: f64,
    },
    /// It no longer exceeds any cut; this point's (its place in the old benchmark) was the first of those that it did.
    NoLongerHit {
        /// Name of the benchmark.
        benchmark: Arc<str>,
        /// The point's place.
        point: u32,
        /// Cosine between the sample and the point.
        similarity: f64,
    },
    /// It was taken down.
    TakenDown,
    /// It is no longer taken down.
    Restored,
    /// The split has another kind of rule.
    Rule,
    /// Its shard was replaced.
    Replaced,
}

/// A sample that was judged before and after, and stands on the other side now.
#[derive(Clone, Debug, PartialEq)]
pub struct SideChange {
    /// Shard and raw index of the sample.
    pub sample: SampleId,
    /// Name of the split.
    pub split: Arc<str>,
    /// Where it stands now: kept or dropped.
    pub now: Status,
    /// What made it change sides.
    pub why: Why,
}

/// One epoch's changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changelog {
    /// Number of the epoch, from 1.
    pub epoch: Epoch,
    /// Shards that came.
    pub arrived: Vec<u64>,
    /// Shards that went.
    pub withdrawn: Vec<u64>,
    /// Shards with new content.
    pub replaced: Vec<u64>,
    /// Samples that changed sides, by split and sample. What came or went with its shard is not among them.
    pub sides: Vec<SideChange>,
    /// Sizes of every split, before (where it was there) and after (where it is).
    pub sizes: BTreeMap<String, (Option<Sizes>, Option<Sizes>)>,
}

/// The two states and what lies between them.
pub(super) struct Between<'a> {
    pub(super) old: (&'a World, &'a View),
    pub(super) next: (&'a World, &'a View),
    pub(super) outcome: &'a EpochOutcome,
    /// Hits of this process's shards.
    pub(super) hits: &'a [(Hit, i32)],
    pub(super) similarities: &'a [f64],
    pub(super) round: &'a Round,
}

/// A hit that came or went for good.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Turn {
    benchmark: u32,
    /// Lasting number.
    point: u32,
    came: bool,
    /// Of the similarity.
    bits: u64,
}

impl Between<'_> {
    /// Writes the changes down.
    ///
    /// # Errors
    /// A process that is gone.
    pub(super) fn changelog(&self, epoch: Epoch) -> Result<Changelog, IncrementalError> {
        let (old, next) = (self.old.0, self.next.0);
        let mut log = Changelog { epoch, ..Changelog::default() };
        for (&ordinal, live) in &next.shards {
            match old.shards.get(&ordinal) {
                None => log.arrived.push(ordinal),
                Some(before) if !Arc::ptr_eq(&before.input, &live.input) => log.replaced.push(ordinal),
                Some(_) => {}
            }
        }
        log.withdrawn.extend(old.shards.keys().filter(|ordinal| !next.shards.contains_key(ordinal)));
        for name in old.inputs.splits.keys().chain(next.inputs.splits.keys()) {
            log.sizes.insert(name.clone(), (self.old.1.sizes(name), self.next.1.sizes(name)));
        }
        let mut found = Vec::new();
        for (name, after) in &next.inputs.splits {
            let Some(before) = old.inputs.splits.get(name) else { continue };
            let at = found.len();
            if before.bit == after.bit {
                let of_split = self.outcome.sides.iter().filter(|(side, _)| side.split == after.bit);
                let samples: BTreeSet<SampleId> = of_split.map(|(side, _)| side.sample).collect();
                found.extend(samples.into_iter().filter_map(|sample| self.crossed(sample, before, after)));
            } else {
                for (&ordinal, live) in &next.shards {
                    let samples = (0..live.input.count).map(|index| SampleId { ordinal, index });
                    found.extend(samples.filter_map(|sample| self.crossed(sample, before, after)));
                }
            }
            let name: Arc<str> = name.as_str().into();
            log.sides.extend(found.drain(at..).map(|(sample, now)| SideChange {
                sample,
                split: name.clone(),
                now,
                why: Why::Rule,
            }));
        }
        self.reasons(&mut log)?;
        Ok(log)
    }

    fn live(&self, sample: SampleId) -> Option<(&Live, &Live)> {
        let before = self.old.0.shards.get(&sample.ordinal)?;
        let after = self.next.0.shards.get(&sample.ordinal)?;
        Some((before, after))
    }

    /// The new side of a sample that was judged before and after and changed sides.
    fn crossed(&self, sample: SampleId, before: &Split, after: &Split) -> Option<(SampleId, Status)> {
        let (was, is) = self.live(sample)?;
        let (was, is) = (status(was, before, sample.index), status(is, after, sample.index));
        (was != is && was != Status::Rejected && is != Status::Rejected).then_some((sample, is))
    }

    /// Finds the reasons of the changes of sides.
    fn reasons(&self, log: &mut Changelog) -> Result<(), IncrementalError> {
        let mut by_hits = Vec::new();
        for (at, change) in log.sides.iter_mut().enumerate() {
            let (old, next) = (self.old.0, self.next.0);
            let (before, after) = (&old.inputs.splits[&*change.split], &next.inputs.splits[&*change.split]);
            let Some((was, is)) = self.live(change.sample) else { continue };
            let taken = |live: &Live| live.taken.binary_search(&change.sample.index).is_ok();
            change.why = if !Arc::ptr_eq(&was.input, &is.input) {
                Why::Replaced
            } else if taken(is) && !taken(was) {
                Why::TakenDown
            } else if taken(was) && !taken(is) {
                Why::Restored
            } else {
                if before.bit == after.bit {
                    by_hits.push((at, after.bit));
                }
                Why::Rule
            };
        }
        if by_hits.is_empty() {
            return Ok(());
        }
        // The hits of a sample are known to its shard's owner.
        let turns = self.turns(log, &by_hits);
        let (turns, others) = self.round.share("reasons", Ok(turns), Clone::clone)?;
        for (at, turn) in others.into_iter().fold(turns, |all, more| [all, more].concat()) {
            if let Some((change, why)) = log.sides.get_mut(at).zip(self.why(turn)) {
                change.why = why;
            }
        }
        Ok(())
    }

    /// The hits that explain some of the changes of sides, as far as this process has them.
    fn turns(&self, log: &Changelog, by_hits: &[(usize, u8)]) -> Vec<(usize, Turn)> {
        let changed: BTreeSet<SampleId> = by_hits.iter().map(|(at, _)| log.sides[*at].sample).collect();
        let mut touched = BTreeMap::<SampleId, Vec<usize>>::new();
        for (at, (hit, _)) in self.hits.iter().enumerate().filter(|(_, (hit, _))| changed.contains(&hit.sample)) {
            touched.entry(hit.sample).or_default().push(at);
        }
        let turn = |&(at, bit): &(usize, u8)| Some((at, self.turn(touched.get(&log.sides[at].sample)?, bit)?));
        by_hits.iter().filter_map(turn).collect()
    }

    /// The first point whose hit came or went for good.
    fn turn(&self, hits: &[usize], bit: u8) -> Option<Turn> {
        let mut net = BTreeMap::<(u32, u32), (i32, f64)>::new();
        for &at in hits {
            let (hit, diff) = self.hits[at];
            if (hit.drops | hit.keeps) >> bit & 1 == 1 {
                let entry =
                    net.entry((self.benchmark_of(hit.threshold)?, hit.point)).or_insert((0, self.similarities[at]));
                entry.0 += diff;
            }
        }
        let ((benchmark, point), (sign, similarity)) = net.into_iter().find(|(_, (sign, _))| *sign != 0)?;
        Some(Turn { benchmark, point, came: sign > 0, bits: similarity.to_bits() })
    }

    /// A hit as a reason, with the point's place.
    fn why(&self, turn: Turn) -> Option<Why> {
        let world = if turn.came { self.next.0 } else { self.old.0 };
        let points = &world.cuts.benchmarks.get(&turn.benchmark)?.points;
        let benchmark: Arc<str> = points.benchmark.name.as_str().into();
        let (point, similarity) = (points.place(turn.point)? as u32, f64::from_bits(turn.bits));
        Some(if turn.came {
            Why::Hit { benchmark, point, similarity }
        } else {
            Why::NoLongerHit { benchmark, point, similarity }
        })
    }

    fn benchmark_of(&self, threshold: u16) -> Option<u32> {
        let ids = self.next.0.cuts.ids.iter().chain(&self.old.0.cuts.ids);
        ids.into_iter().find(|(_, id)| **id == threshold).map(|((benchmark, _), _)| *benchmark)
    }
}
