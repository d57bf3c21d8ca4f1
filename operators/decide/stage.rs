//! Decide: embedded samples to kept ones and the fate of every one, in micro-batches, off the worker.
//!
//! ```text
//!                worker                               │  pool threads
//!  Embedded ─▶ backlog ─▶ [micro-batch: capabilities] ┼─▶ check, join, verdict ─┐
//!  kept     ◀── [micro-batch redeemed] ◀── channel ◀──┼─────────────────────────┘  one wake a micro-batch
//!                  │ fates
//!  events ─────────┴▶ [open shards] ─▶ events: fates of all samples; with a shard's last one its end, and in it what its points saw
//! ```
//!
//! Frontier: both outputs' follow the inputs', the backlog's and the open micro-batches' times.
//!
//! Invariants:
//! 1. Each input gives one fate, at its own time, in the order of completion, unless the run stops. A kept one goes on to the trainer too,
//!    unless it is judged for the ledger only ([`Work::JudgeOnly`]).
//! 2. A micro-batch is what lies there, of any times: with a thread free nothing waits for company. While this operator's
//!    share of the pool is busy, arrivals gather; the waker is the running micro-batch's result, or a timer where others fill the pool.
//! 3. How samples fall into micro-batches changes no score and no verdict (see [`super::join`]).
//! 4. A vector that cannot be judged is a reject of its own; a panic makes rejects (`join_failed`) of its micro-batch.
//! 5. All events of a shard pass by here, on the worker that reads it: see `open_shards.rs` for what its end waits for, and brings.
//! 6. A dropped sample's permit returns at once; a kept one's shrinks to its view and caption.
//! 7. A kept sample without caption bears the remark `no_caption`.
//!
//! Cost: see [`Joiner::call_bytes`] for the memory of a pool's thread.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Capability, Concat};
use timely::order::TotalOrder;
use timely::progress::Timestamp;
use trommel_core::sample::{Embedded, Event, Fate, Reason, Sample, Work};
use trommel_dataflow::offload::{Job, JobPanic, Pool};
use trommel_dataflow::part::PartInTwo;

use super::ShardNames;
use super::join::{JoinRow, Joined, Joiner, Verdict};
use super::known_maxima::KnownMaxima;
use super::open_shards::OpenShards;
use super::points::Points;

/// After this time a pool that others fill is asked again, if no result has come before.
const RETRY: Duration = Duration::from_millis(1);

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
        let split = |output: Output| output.map(|sample| *sample);
        if let Some(joins) = joins {
            return join(self, events, joins, verdict, names).part(split);
        }
        let (verdict, names) = (verdict.clone(), names.clone());
        let outputs = self.flat_map(move |sample| {
            let keeps = verdict.keeps(&names(sample.info.id.ordinal), &sample.info.key, sample.info.id, &[]);
            let (kept, fate) = decided(sample, Joined { scores: Vec::new(), keeps });
            kept.map(Ok).into_iter().chain([Err(fate)])
        });
        let (kept, fates) = outputs.part(split);
        (kept, fates.concat(events))
    }
}

/// A kept sample or an event; boxed, as most are the large one and all pass through a channel.
type Output = Result<Box<Sample<TrainView>>, Event>;
type Outputs = CapacityContainerBuilder<Vec<Output>>;

fn join<'scope, T: Timestamp + TotalOrder>(
    embedded: StreamVec<'scope, T, Sample<Embedded>>,
    events: StreamVec<'scope, T, Event>,
    joins: Joins<'_>,
    verdict: &Arc<dyn Verdict>,
    names: &ShardNames,
) -> StreamVec<'scope, T, Output> {
    let scope = embedded.scope();
    let (joiner, pool, known) = (joins.joiner.clone(), joins.pool.clone(), joins.points.cloned());
    let (verdict, names) = (verdict.clone(), names.clone());
    embedded.binary::<_, Outputs, _, _, _, _>(events, Pipeline, Pipeline, "Decide", move |cap, info| {
        drop(cap); // else the frontier never moves
        let retry = scope.activator_for(info.address.clone());
        let wake = Arc::new(scope.worker().sync_activator_for(info.address.to_vec()));
        let stop_wake = wake.clone();
        let on_stop = pool.stop().map(|stop| {
            stop.on_request(move || {
                let _worker_gone = stop_wake.activate();
            })
        });
        let (tell, told) = crossbeam_channel::unbounded::<(u64, Vec<Judged>)>(); // bounded by the micro-batches that are out
        let mut backlog = VecDeque::<(Rc<Capability<T>>, Waiting)>::new();
        let mut micro_batches = HashMap::<u64, Vec<Rc<Capability<T>>>>::new();
        let mut unsent = None::<(u64, Job)>;
        let mut next = 0u64;
        let mut retry_due = None::<Instant>;
        // Where nobody asks for points, events pass as they come.
        let mut open = known.map(OpenShards::<T>::new);
        move |input, events, output| {
            let _until_the_operator_ends = &on_stop;
            input.for_each_stamp(|cap, data| {
                let Some(cap) = cap.retain_least(output.output_index()) else { return };
                let cap = Rc::new(cap);
                for sample in data.flat_map(|batch| batch.drain(..)) {
                    let points = |open: &mut OpenShards<T>| open.points(cap.time(), sample.info.id.ordinal);
                    let points = open.as_mut().map(points);
                    backlog.push_back((cap.clone(), (sample, points)));
                }
            });
            events.for_each_stamp(|cap, data| {
                let Some(cap) = cap.retain_least(output.output_index()) else { return };
                let mut session = output.session(&cap);
                for event in data.flat_map(|batch| batch.drain(..)) {
                    passed(&mut open, cap.time(), event, |event| session.give(Err(event)));
                }
            });
            for (id, results) in told.try_iter() {
                let Some(caps) = micro_batches.remove(&id) else { continue };
                for (cap, (sample, joined)) in caps.iter().zip(results) {
                    let mut session = output.session(&**cap);
                    let (kept, fate) = match joined {
                        Ok(joined) => decided(sample, joined),
                        Err(reason) => (None, sample.reject(reason)),
                    };
                    kept.into_iter().for_each(|kept| session.give(Ok(kept)));
                    passed(&mut open, cap.time(), fate, |event| session.give(Err(event)));
                }
            }
            if pool.stop().is_some_and(|stop| stop.is_requested()) {
                backlog.clear();
                open.iter_mut().for_each(OpenShards::clear);
                if let Some((id, _job)) = unsent.take() {
                    micro_batches.remove(&id);
                }
            }
            loop {
                if unsent.is_none() && !backlog.is_empty() && micro_batches.len() < pool.threads() {
                    let share = backlog.len().div_ceil(pool.threads() - micro_batches.len());
                    let (worth, most) = joiner.micro_batch();
                    let size = share.clamp(worth, most).min(backlog.len());
                    let (caps, samples): (Vec<_>, Vec<_>) = backlog.drain(..size).unzip();
                    let (joiner, verdict, names) = (joiner.clone(), verdict.clone(), names.clone());
                    let (tell, wake, id) = (tell.clone(), wake.clone(), next);
                    next += 1;
                    micro_batches.insert(id, caps);
                    let job = move || {
                        let _operator_gone = tell.send((id, judge(samples, &joiner, &*verdict, &names)));
                        let _worker_gone = wake.activate();
                    };
                    unsent = Some((id, Box::new(job)));
                }
                let Some((id, job)) = unsent.take() else { break };
                if let Err(job) = pool.try_submit(job) {
                    unsent = Some((id, job));
                    let now = Instant::now();
                    if retry_due.is_none_or(|due| due <= now) {
                        retry_due = Some(now + RETRY);
                        retry.activate_after(RETRY);
                    }
                    break;
                }
            }
        }
    })
}

/// A sample that waits to be joined, and the points that will see it.
type Waiting = (Sample<Embedded>, Option<Arc<Points>>);
/// A sample with what the join says of it, or why it cannot be judged.
type Judged = (Sample<Embedded>, Result<Joined, Reason>);

/// Gives what goes on when an event has come to be known.
fn passed<T: Timestamp>(open: &mut Option<OpenShards<T>>, time: &T, event: Event, mut give: impl FnMut(Event)) {
    match open {
        Some(open) => open.pass(time, event).for_each(give),
        None => give(event),
    }
}

/// What the join says of a micro-batch, in its order.
fn judge(samples: Vec<Waiting>, joiner: &Joiner, verdict: &dyn Verdict, names: &ShardNames) -> Vec<Judged> {
    let checked: Vec<Option<Reason>> = samples.iter().map(|(it, _)| joiner.check(&it.payload.vector).err()).collect();
    let sound: Vec<&Waiting> =
        samples.iter().zip(&checked).filter(|(_, reason)| reason.is_none()).map(|(sample, _)| sample).collect();
    let joined = catch_unwind(AssertUnwindSafe(|| {
        let shards: Vec<Arc<str>> = sound.iter().map(|(sample, _)| names(sample.info.id.ordinal)).collect();
        let row = |(waiting, shard)| {
            let (sample, points): &Waiting = waiting;
            let (vector, id, key) = (&sample.payload.vector[..], sample.info.id, &sample.info.key[..]);
            JoinRow { vector, id, shard, key, points: points.as_deref() }
        };
        let rows: Vec<JoinRow<'_>> = sound.iter().copied().zip(shards.iter().map(|shard| &**shard)).map(row).collect();
        joiner.join(&rows, verdict).map_err(|error| error.to_string())
    }));
    let joined = joined.unwrap_or_else(|payload| Err(JobPanic::caught("similarity", &*payload).to_string()));
    let (mut joined, failure) = match joined {
        Ok(joined) => (joined.into_iter(), None),
        Err(failure) => {
            tracing::error!(samples = sound.len(), failure, "a micro-batch could not be joined");
            (Vec::new().into_iter(), Some(failure))
        }
    };
    let failed = || Reason::new("join_failed", failure.as_deref().unwrap_or("no score came back"));
    let of = |((sample, _), reason): (Waiting, Option<Reason>)| match reason {
        Some(reason) => (sample, Err(reason)),
        None => (sample, joined.next().ok_or_else(failed)),
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
