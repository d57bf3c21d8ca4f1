//! The dataflow: facts about ids in, decisions and counts out, one epoch at a time.
//!
//! ```text
//!  hits (sample, threshold, point) ±1 ─┬─▶ marks: (sample, threshold | split) ─ threshold ─┬─▶ sides      (sample, split) ±1
//!  takedowns (sample, splits)   ±1 ─┘      count in the diff                         └─▶ tallies ─┐
//!  hits ─▶ points: (threshold, point) ─┬─ count ─▶ hits of every point                                │
//!            count in the diff      └─ threshold ─▶ tallies: distinct points hit ─────────────────┤
//!  samples (judged | rejected) ±n ─▶ tallies ────────────────────────────────────────── count ◀───┘─▶ sizes
//! ```
//!
//! Frontiers: time is the epoch of changes, a `u64`; every output's frontier is the inputs'. When it has passed an epoch, what
//! came out at that epoch is all of it.
//!
//! Invariants:
//! 1. Arranged is one row a (sample, threshold), one a (sample, split), one a (threshold, point), and the tallies. Neither vectors nor
//!    matches: a match passes through as a hit and leaves a count in a diff.
//! 2. A sample's marks live on one worker: `Mark` hashes by its sample alone.
//! 3. Each operator lets its trace compact up to its frontier; the counting readers beside them do the same, so that no old time is kept.
//!
//! Cost: an epoch costs its facts, times the logarithm of what is arranged. Memory: see [`super::budget`].

use std::cell::RefCell;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use differential_dataflow::VecCollection;
use differential_dataflow::input::{Input, InputSession};
use differential_dataflow::operators::arrange::TraceAgent;
use differential_dataflow::operators::{CountTotal, ThresholdTotal};
use differential_dataflow::trace::TraceReader;
use differential_dataflow::trace::implementations::KeySpine;
use serde::{Deserialize, Serialize};
use timely::dataflow::Scope;
use timely::dataflow::operators::probe::Handle as Probe;
use timely::dataflow::operators::vec::Map;
use timely::progress::Antichain;

use super::Epoch;
use trommel_core::sample::SampleId;

/// A similarity above a cut. Splits are given as bits: those in which a hit drops the sample, and those in which it keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Hit {
    /// Shard and raw index of the sample.
    pub sample: SampleId,
    /// The threshold whose cut it exceeds.
    pub threshold: u16,
    /// The test point, by its lasting number.
    pub point: u32,
    /// Splits in which it drops.
    pub drops: u32,
    /// Splits in which it keeps.
    pub keeps: u32,
}

/// A sample that was taken down, in all splits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Taken {
    /// Shard and raw index of the sample.
    pub sample: SampleId,
    /// Splits in which a hit drops.
    pub drops: u32,
    /// Splits in which a hit keeps.
    pub keeps: u32,
}

/// What is counted over the whole pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Tally {
    /// Samples that are judged.
    Judged,
    /// Samples that were rejected.
    Rejected,
    /// Judged samples that are taken down.
    Taken,
    /// Samples with a hit on a threshold.
    Samples(u16),
    /// Points with a hit on a threshold.
    Points(u16),
    /// Samples marked in a split, by its bit: dropped ones where a hit drops, kept ones where a hit keeps.
    Marked(u8, bool),
}

/// A sample's mark in a split: dropped where hits drop, kept where hits keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Side {
    /// Shard and raw index of the sample.
    pub sample: SampleId,
    /// The split's bit.
    pub split: u8,
    /// Whether hits keep in this split.
    pub keeps: bool,
}

/// Key of the arranged marks, packed: 40 bits of ordinal, 32 of index, 24 of tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Mark {
    low: u32,
    index: u32,
    /// Highest 8 bits of the ordinal, 2 bits of kind, 22 of number.
    high_and_tag: u32,
}

const KIND_SHIFT: u32 = 22;
const THRESHOLD: u32 = 0;
const DROPS: u32 = 1;
const KEEPS: u32 = 2;

impl Mark {
    fn new(sample: SampleId, kind: u32, number: u32) -> Self {
        let high = ((sample.ordinal >> 32) as u32 & 0xff) << 24;
        Self { low: sample.ordinal as u32, index: sample.index, high_and_tag: high | kind << KIND_SHIFT | number }
    }

    fn sample(self) -> SampleId {
        let high = u64::from(self.high_and_tag >> 24) << 32;
        SampleId { ordinal: high | u64::from(self.low), index: self.index }
    }

    fn kind(self) -> u32 {
        self.high_and_tag >> KIND_SHIFT & 3
    }

    fn number(self) -> u32 {
        self.high_and_tag & ((1 << KIND_SHIFT) - 1)
    }
}

impl Hash for Mark {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.low, self.index, self.high_and_tag >> 24).hash(state);
    }
}

/// Hits, and times taken down: the diff of a mark.
type Weight = (i32, i32);

/// The bits that are set, from the lowest.
fn bits(mask: u32) -> impl Iterator<Item = u32> {
    (0..32).filter(move |bit| mask >> bit & 1 == 1)
}

fn marks_of(sample: SampleId, drops: u32, keeps: u32) -> impl Iterator<Item = Mark> {
    let of = move |kind, mask| bits(mask).map(move |bit| Mark::new(sample, kind, bit));
    of(DROPS, drops).chain(of(KEEPS, keeps))
}

/// Whether the mark stands: 1 or 0.
fn stands(mark: Mark, &(hits, taken): &Weight) -> isize {
    let stands = match mark.kind() {
        THRESHOLD => hits > 0,
        DROPS => hits > 0 || taken > 0,
        _ => hits > 0 && taken == 0,
    };
    isize::from(stands)
}

/// Rows and bytes that the arrangements of one worker hold, by their own counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrangementSize {
    /// Rows: one a key and time.
    pub rows: u64,
    /// Bytes of keys, offsets, times and diffs.
    pub bytes: u64,
    /// Batches of the arrangements.
    pub batches: u64,
}

impl ArrangementSize {
    /// Adds what another worker holds.
    pub(super) fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.batches += other.batches;
    }

    fn count<K, R>(&mut self, trace: &TraceAgent<KeySpine<K, Epoch, R>>)
    where
        K: Ord + Clone + 'static,
        R: differential_dataflow::difference::Semigroup + Ord + Clone + 'static,
    {
        trace.map_spans(|span| {
            let Some(batch) = &span.inner else { return };
            let storage = &batch.storage;
            let offsets = storage.upds.offs.smol.len() * 4 + storage.upds.offs.chonk.len() * 8;
            let times = storage.upds.times.len() * size_of::<Epoch>() + storage.upds.diffs.len() * size_of::<R>();
            self.rows += batch.updates as u64;
            self.bytes += (storage.keys.len() * size_of::<K>() + offsets + times) as u64;
            self.batches += 1;
        });
    }
}

/// A threshold and the lasting number of a point, with their hits.
pub(super) type PointHits = ((u16, u32), i64);

/// What came out and was not yet taken.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) sides: Vec<(Side, Epoch, isize)>,
    pub(super) tallies: Vec<((Tally, i64), Epoch, isize)>,
    pub(super) points: Vec<(PointHits, Epoch, isize)>,
}

/// The handles of one worker.
pub(super) struct Handles {
    pub(super) hits: InputSession<Epoch, Hit, i32>,
    pub(super) taken: InputSession<Epoch, Taken, i32>,
    pub(super) samples: InputSession<Epoch, Tally, i64>,
    pub(super) probe: Probe<Epoch>,
    pub(super) outbox: Rc<RefCell<Outbox>>,
    marks: TraceAgent<KeySpine<Mark, Epoch, Weight>>,
    points: TraceAgent<KeySpine<(u16, u32), Epoch, i64>>,
    tallies: TraceAgent<KeySpine<Tally, Epoch, i64>>,
}

impl Handles {
    /// Moves all inputs to `epoch`.
    pub(super) fn advance_to(&mut self, epoch: Epoch) {
        self.hits.advance_to(epoch);
        self.taken.advance_to(epoch);
        self.samples.advance_to(epoch);
        self.hits.flush();
        self.taken.flush();
        self.samples.flush();
    }

    /// Lets old times be compacted, and counts what is held.
    pub(super) fn compact(&mut self, epoch: Epoch) -> ArrangementSize {
        fn forget(trace: &mut impl TraceReader<Time = Epoch>, epoch: Epoch) {
            let frontier = Antichain::from_elem(epoch);
            trace.set_logical_compaction(frontier.borrow());
            trace.set_physical_compaction(frontier.borrow());
        }
        forget(&mut self.marks, epoch);
        forget(&mut self.points, epoch);
        forget(&mut self.tallies, epoch);
        let mut held = ArrangementSize::default();
        held.count(&self.marks);
        held.count(&self.points);
        held.count(&self.tallies);
        held
    }
}

/// Builds the dataflow in a scope whose time is the epoch.
pub(super) fn build(scope: Scope<'_, Epoch>) -> Handles {
    let (hits_in, hits) = scope.new_collection::<Hit, i32>();
    let (taken_in, taken) = scope.new_collection::<Taken, i32>();
    let (samples_in, samples) = scope.new_collection::<Tally, i64>();
    let (probe, outbox) = (Probe::new(), Rc::new(RefCell::new(Outbox::default())));

    let hit_marks = hits.clone().inner.flat_map(|(hit, epoch, diff)| {
        let threshold = Mark::new(hit.sample, THRESHOLD, u32::from(hit.threshold));
        let marks = std::iter::once(threshold).chain(marks_of(hit.sample, hit.drops, hit.keeps));
        marks.map(move |mark| (mark, epoch, (diff, 0)))
    });
    let taken_marks = taken.clone().inner.flat_map(|(taken, epoch, diff)| {
        marks_of(taken.sample, taken.drops, taken.keeps).map(move |mark| (mark, epoch, (0, diff)))
    });
    let marks = VecCollection::<_, Mark, Weight>::new(hit_marks)
        .concat(VecCollection::new(taken_marks))
        .arrange_by_self_named("Arrange: marks");
    let standing = marks.clone().threshold_total::<isize, _>(|mark, weight| stands(*mark, weight));

    let sink = outbox.clone();
    let sides = standing.clone().flat_map(|mark| {
        let side = Side { sample: mark.sample(), split: mark.number() as u8, keeps: mark.kind() == KEEPS };
        (mark.kind() != THRESHOLD).then_some(side)
    });
    sides.inspect(move |update| sink.borrow_mut().sides.push(*update)).probe_with(&probe);

    let of_samples = standing.inner.map(|(mark, epoch, diff)| {
        let tally = match mark.kind() {
            THRESHOLD => Tally::Samples(mark.number() as u16),
            kind => Tally::Marked(mark.number() as u8, kind == KEEPS),
        };
        (tally, epoch, diff as i64)
    });
    let points = VecCollection::<_, (u16, u32), i64>::new(
        hits.inner.map(|(hit, epoch, diff)| ((hit.threshold, hit.point), epoch, i64::from(diff))),
    )
    .arrange_by_self_named("Arrange: points");
    let of_points = points.clone().threshold_total::<isize, _>(|_, hits| isize::from(*hits > 0));
    let of_points = of_points.inner.map(|((threshold, _), epoch, diff)| (Tally::Points(threshold), epoch, diff as i64));
    let of_taken = taken.inner.map(|(_, epoch, diff)| (Tally::Taken, epoch, i64::from(diff)));
    let sink = outbox.clone();
    let counts: VecCollection<'_, _, PointHits, isize> = points.clone().count_total();
    counts.inspect(move |update| sink.borrow_mut().points.push(*update)).probe_with(&probe);

    let tallies = VecCollection::<_, Tally, i64>::new(of_samples)
        .concat(VecCollection::new(of_points))
        .concat(VecCollection::new(of_taken))
        .concat(samples)
        .arrange_by_self_named("Arrange: tallies");
    let sink = outbox.clone();
    let counts: VecCollection<'_, _, (Tally, i64), isize> = tallies.clone().count_total();
    counts.inspect(move |update| sink.borrow_mut().tallies.push(*update)).probe_with(&probe);

    Handles {
        hits: hits_in,
        taken: taken_in,
        samples: samples_in,
        probe,
        outbox,
        marks: marks.trace,
        points: points.trace,
        tallies: tallies.trace,
    }
}
