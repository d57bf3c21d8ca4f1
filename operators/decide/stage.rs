//! Decide: embedded samples to kept ones and the fate of every one, in micro-batches, off the worker.
//!
//! ```text
//!                worker                               │  pool threads
//!  Embedded ─▶ [its shard's points] ─▶ backlog ───────┼─▶ check, join, verdict ─┐
//!  kept     ◀── [micro-batch redeemed] ◀── mailbox ◀──┼─────────────────────────┘  one wake for all that has come
//!                  │ fates
//!  events ─────────┴▶ [open shards] ─▶ events: fates of all samples; with a shard's last one its end, and in it what its points saw
//! ```
//!
//! Frontier: both outputs' follow the inputs', the backlog's and the open micro-batches' times (see `trommel_dataflow::offload`).
//!
//! Invariants:
//! 1. Each input gives one fate, at its own time, in the order of completion, unless the run stops. A kept one goes on to the trainer too,
//!    unless it is judged for the ledger only ([`Work::JudgeOnly`]).
//! 2. A micro-batch is what lies there, of any times: with a thread free nothing waits for company, unless a device joins and has a
//!    micro-batch already. While this operator's share of the pool is busy, arrivals gather.
//! 3. How samples fall into micro-batches changes no score and no verdict (see [`super::join`]).
//! 4. A vector that cannot be judged is a reject of its own; a panic makes rejects (`join_failed`) of its micro-batch.
//! 5. All events of a shard pass by here, on the worker that reads it: see `open_shards.rs` for what its end waits for, and brings.
//! 6. A dropped sample's permit returns at once; a kept one's shrinks to its view and caption.
//! 7. A kept sample without caption bears the remark `no_caption`.
//!
//! Cost: see [`Joiner::call_bytes`] for the memory of a pool's thread.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use timely::dataflow::StreamVec;
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::vec::Map;
use timely::order::TotalOrder;
use timely::progress::Timestamp;
use trommel_core::sample::{Embedded, Event, Fate, Reason, Sample, SampleInfo, Work};
use trommel_dataflow::offload::{JobPanic, Offload, Pool};
use trommel_dataflow::part::PartInTwo;
use trommel_dataflow::timed::FlatMapTimed;

use super::ShardNames;
use super::join::{JoinRow, Joined, Joiner, Verdict};
use super::known_maxima::KnownMaxima;
use super::open_shards::OpenShards;
use super::points::Points;

/// What is left of a kept sample's picture: the trainer's view, u8\[size, size, 3\], where one is wanted.
pub type TrainView = Option<Vec<u8>>;

/// Who joins: a joiner on the threads of a pool.
#[derive(Clone, Copy)]
pub struct Joins<'a> {
    /// Scores vectors.
    pub joiner: &'a Arc<Joiner>,
    /// The threads that the joiner runs on.
    pub pool: &'a Pool,
    /// What is durable of the points' maxima, where the ledger is to hear what they saw.
    pub points: Option<&'a Arc<KnownMaxima>>,
}

/// Decides what goes on.
pub trait Decide<'scope, T: Timestamp> {
    /// Kept samples, and all events: those that came, and every sample's fate, which `verdict` decides from names and scores. Where
    /// nobody joins there are no scores. `names` gives a shard's stable name.
    fn decide(
        self,
        events: StreamVec<'scope, T, Event>,
        joins: Option<Joins<'_>>,
        verdict: &Arc<dyn Verdict>,
        names: &ShardNames,
    ) -> (StreamVec<'scope, T, Sample<TrainView>>, StreamVec<'scope, T, Event>);
}

impl<'scope, T: Timestamp + TotalOrder> Decide<'scope, T> for StreamVec<'scope, T, Sample<Embedded>> {
    fn decide(
        self,
        events: StreamVec<'scope, T, Event>,
        joins: Option<Joins<'_>>,
        verdict: &Arc<dyn Verdict>,
        names: &ShardNames,
    ) -> (StreamVec<'scope, T, Sample<TrainView>>, StreamVec<'scope, T, Event>) {
        let Some(joins) = joins else {
            let (verdict, names) = (verdict.clone(), names.clone());
            let (kept, fates) = part(self.map(move |sample| {
                let keeps = verdict.keeps(&names(sample.info.id.ordinal), &sample.info.key, sample.info.id, &[]);
                Ok((sample, Joined { scores: Vec::new(), keeps }))
            }));
            return (kept, fates.concat(events));
        };
        // Where nobody asks for points, events pass as they come.
        let open = joins.points.map(|known| Rc::new(RefCell::new(OpenShards::<T>::new(known.clone()))));
        let seen_by = open.clone();
        let waiting = self.flat_map_timed("Points", move |time: &T, sample: Sample<Embedded>| {
            let points = seen_by.as_ref().map(|open| open.borrow_mut().points(time, sample.info.id.ordinal));
            Some((sample, points))
        });
        let (kept, fates) = part(join(waiting, joins, verdict, names));
        let events = fates.concat(events);
        let Some(open) = open else { return (kept, events) };
        (kept, events.flat_map_timed("OpenShards", move |time: &T, event| open.borrow_mut().pass(time, event)))
    }
}

/// A sample that waits to be joined, and the points that will see it.
type Waiting = (Sample<Embedded>, Option<Arc<Points>>);
/// A sample with what the join says of it, or its fate where it cannot be judged.
type Judged = Result<(Sample<Embedded>, Joined), Event>;
/// A kept sample or an event; boxed, as most are the large one.
type Output = Result<Box<Sample<TrainView>>, Event>;

/// What the join says of each sample, in micro-batches on the pool.
fn join<'scope, T: Timestamp + TotalOrder>(
    waiting: StreamVec<'scope, T, Waiting>,
    joins: Joins<'_>,
    verdict: &Arc<dyn Verdict>,
    names: &ShardNames,
) -> StreamVec<'scope, T, Judged> {
    let (joiner, threads) = (joins.joiner.clone(), joins.pool.threads());
    let size = move |waiting: usize, out: usize| joiner.call_rows(waiting, out, threads);
    let (joiner, verdict, names) = (joins.joiner.clone(), verdict.clone(), names.clone());
    let work = move |samples| judge(samples, &joiner, &*verdict, &names);
    let info = |(sample, _): &Waiting| sample.info.clone();
    let failed = |info: Arc<SampleInfo>, panic: JobPanic| Err(Event::rejected(info, Reason::new("join_failed", panic)));
    waiting.offload_batches("similarity", joins.pool, size, info, work, failed)
}

/// Kept samples, and the fates of all.
fn part<'scope, T: Timestamp>(
    judged: StreamVec<'scope, T, Judged>,
) -> (StreamVec<'scope, T, Sample<TrainView>>, StreamVec<'scope, T, Event>) {
    let outputs = judged.flat_map(|judged| {
        let (kept, fate) = match judged {
            Ok((sample, joined)) => decided(sample, joined),
            Err(fate) => (None, fate),
        };
        kept.map(Ok).into_iter().chain([Err(fate)])
    });
    outputs.part(|output: Output| output.map(|sample| *sample))
}

/// What the join says of a micro-batch, in its order.
fn judge(samples: Vec<Waiting>, joiner: &Joiner, verdict: &dyn Verdict, names: &ShardNames) -> Vec<Judged> {
    let checked: Vec<Option<Reason>> = samples.iter().map(|(it, _)| joiner.check(&it.payload.vector).err()).collect();
    let sound: Vec<&Waiting> =
        samples.iter().zip(&checked).filter(|(_, reason)| reason.is_none()).map(|(sample, _)| sample).collect();
    let shards: Vec<Arc<str>> = sound.iter().map(|(sample, _)| names(sample.info.id.ordinal)).collect();
    let row = |(waiting, shard)| {
        let (sample, points): &Waiting = waiting;
        let (vector, id, key) = (&sample.payload.vector[..], sample.info.id, &sample.info.key[..]);
        JoinRow { vector, id, shard, key, points: points.as_deref() }
    };
    let rows: Vec<JoinRow<'_>> = sound.iter().copied().zip(shards.iter().map(|shard| &**shard)).map(row).collect();
    let (mut joined, failure) = match joiner.join(&rows, verdict) {
        Ok(joined) => (joined.into_iter(), None),
        Err(failure) => {
            tracing::error!(samples = sound.len(), %failure, "a micro-batch could not be joined");
            (Vec::new().into_iter(), Some(failure.to_string()))
        }
    };
    let failed = || Reason::new("join_failed", failure.as_deref().unwrap_or("no score came back"));
    let of = |((sample, _), reason): (Waiting, Option<Reason>)| match reason {
        Some(reason) => Err(sample.reject(reason)),
        None => match joined.next() {
            Some(joined) => Ok((sample, joined)),
            None => Err(sample.reject(failed())),
        },
    };
    samples.into_iter().zip(checked).map(of).collect()
}

/// What becomes of one sample: itself where it goes on, and its fate.
fn decided(sample: Sample<Embedded>, joined: Joined) -> (Option<Box<Sample<TrainView>>>, Event) {
    let Joined { scores, keeps } = joined;
    let (mut sample, Embedded { vector, train }) = sample.open();
    let goes_on = keeps && sample.work != Work::JudgeOnly;
    let fate = Fate::decided(&sample, keeps, scores, vector).into();
    let kept = goes_on.then(|| {
        sample.permit.shrink_to(train.as_ref().map_or(0, |view| view.len() as u64) + sample.caption_bytes());
        Box::new(sample.with(train))
    });
    (kept, fate)
}
