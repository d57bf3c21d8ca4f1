//! Similarity: embedded samples to scored ones, in bunches, off the worker.
//!
//! ```text
//!               worker                        │  pool threads
//!  Embedded ─▶ backlog ─▶ [bunch: capabilities] ┼─▶ check, join ─┐
//!  Scored   ◀── [bunch redeemed] ◀── channel ◀──┼────────────────┘  one wake a bunch
//!  rejects  ◀──┘
//! ```
//!
//! Frontier: both outputs' follow the input's, the backlog's and the open bunches' times.
//!
//! Invariants:
//! 1. Each input gives one scored sample or one reject, at its own time, in the order of completion; unless the run stops.
//! 2. A bunch is what lies there, of any times: with a thread free nothing waits for company. While this operator's
//!    share of the pool is busy, arrivals gather; the waker is the running bunch's result, or a timer where others fill the pool.
//! 3. How samples fall into bunches changes no score (see [`super::join`]).
//! 4. A vector that cannot be judged is a reject of its own; a panic makes rejects (`join_failed`) of its bunch.
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
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::core::OkErr;
use timely::dataflow::operators::generic::Operator;
use timely::order::TotalOrder;
use timely::progress::Timestamp;

use super::join::{JoinRow, Joiner, Verdict};
use super::{Embedded, Scored, ShardNames};
use trommel_core::sample::{Event, Fate, Reason, SampleInfo, Status};
use trommel_dataflow::offload::{Job, JobPanic, Pool};

/// Fewest samples of a bunch while more wait, and most of any.
const BUNCH: (usize, usize) = (32, 256);

/// After this time a pool that others fill is asked again, if no result has come before.
const RETRY: Duration = Duration::from_millis(1);

/// Scores embedded samples against all benchmarks of a joiner.
pub trait Similarity<'scope, T: Timestamp> {
    /// Scored samples, and the fates of those that could not be judged. `verdict` decides what counts as kept for the items;
    /// `names` gives a shard's stable name.
    fn similarity(
        self,
        joiner: &Arc<Joiner>,
        verdict: &Arc<dyn Verdict>,
        names: &ShardNames,
        pool: &Pool,
    ) -> (StreamVec<'scope, T, Scored>, StreamVec<'scope, T, Event>);
}

impl<'scope, T: Timestamp + TotalOrder> Similarity<'scope, T> for StreamVec<'scope, T, Embedded> {
    fn similarity(
        self,
        joiner: &Arc<Joiner>,
        verdict: &Arc<dyn Verdict>,
        names: &ShardNames,
        pool: &Pool,
    ) -> (StreamVec<'scope, T, Scored>, StreamVec<'scope, T, Event>) {
        let scope = self.scope();
        let (joiner, verdict, names, pool) = (joiner.clone(), verdict.clone(), names.clone(), pool.clone());
        let judged: StreamVec<'scope, T, Judged> =
            self.unary::<CapacityContainerBuilder<_>, _, _, _>(Pipeline, "Similarity", move |cap, info| {
                drop(cap); // else the frontier never moves
                let retry = scope.activator_for(info.address.clone());
                let wake = Arc::new(scope.worker().sync_activator_for(info.address.to_vec()));
                let stop_wake = wake.clone();
                let on_stop = pool.stop().map(|stop| {
                    stop.on_request(move || {
                        let _worker_gone = stop_wake.activate();
                    })
                });
                let (tell, told) = crossbeam_channel::unbounded::<(u64, Vec<Judged>)>(); // bounded by the bunches that are out
                let mut backlog = VecDeque::<(Rc<Capability<T>>, Embedded)>::new();
                let mut bunches = HashMap::<u64, Vec<Rc<Capability<T>>>>::new();
                let mut unsent = None::<(u64, Job)>;
                let mut next_bunch = 0u64;
                let mut retry_due = None::<Instant>;
                move |input, output| {
                    let _until_the_operator_ends = &on_stop;
                    input.for_each_stamp(|cap, data| {
                        let Some(cap) = cap.retain_least(output.output_index()) else { return };
                        let cap = Rc::new(cap);
                        backlog.extend(data.flat_map(|batch| batch.drain(..)).map(|sample| (cap.clone(), sample)));
                    });
                    for (bunch, results) in told.try_iter() {
                        let Some(caps) = bunches.remove(&bunch) else { continue };
                        for (cap, judged) in caps.iter().zip(results) {
                            output.session(&**cap).give(judged);
                        }
                    }
                    if pool.stop().is_some_and(|stop| stop.is_requested()) {
                        backlog.clear();
                        if let Some((bunch, _job)) = unsent.take() {
                            bunches.remove(&bunch);
                        }
                    }
                    loop {
                        if unsent.is_none() && !backlog.is_empty() && bunches.len() < pool.threads() {
                            let share = backlog.len().div_ceil(pool.threads() - bunches.len());
                            let size = share.clamp(BUNCH.0, BUNCH.1).min(backlog.len());
                            let (caps, samples): (Vec<_>, Vec<_>) = backlog.drain(..size).unzip();
                            let (joiner, verdict, names) = (joiner.clone(), verdict.clone(), names.clone());
                            let (tell, wake, bunch) = (tell.clone(), wake.clone(), next_bunch);
                            next_bunch += 1;
                            bunches.insert(bunch, caps);
                            let job = move || {
                                let _operator_gone = tell.send((bunch, judge(samples, &joiner, &*verdict, &names)));
                                let _worker_gone = wake.activate();
                            };
                            unsent = Some((bunch, Box::new(job)));
                        }
                        let Some((bunch, job)) = unsent.take() else { break };
                        if let Err(job) = pool.try_submit(job) {
                            unsent = Some((bunch, job));
                            let now = Instant::now();
                            if retry_due.is_none_or(|due| due <= now) {
                                retry_due = Some(now + RETRY);
                                retry.activate_after(RETRY);
                            }
                            break;
                        }
                    }
                }
            });
        judged.ok_err(|judged: Judged| judged.map(|sample| *sample))
    }
}

/// A scored sample or a reject's fate; boxed, as most are the large one and all pass through a channel.
type Judged = Result<Box<Scored>, Event>;

/// The results of a bunch, in its order.
fn judge(samples: Vec<Embedded>, joiner: &Joiner, verdict: &dyn Verdict, names: &ShardNames) -> Vec<Judged> {
    let mut reasons: Vec<Option<Reason>> = samples.iter().map(|s| joiner.check(&s.vector).err()).collect();
    let sound: Vec<usize> = (0..samples.len()).filter(|&at| reasons[at].is_none()).collect();
    let joined = catch_unwind(AssertUnwindSafe(|| {
        let shards: Vec<Arc<str>> = sound.iter().map(|&at| names(samples[at].info.id.ordinal)).collect();
        let row = |(&at, shard)| {
            let Embedded { info, vector, .. } = &samples[at];
            JoinRow { vector, id: info.id, shard, key: &info.key }
        };
        let rows: Vec<JoinRow<'_>> = sound.iter().zip(shards.iter().map(|shard| &**shard)).map(row).collect();
        joiner.join(&rows, verdict).map_err(|error| error.to_string())
    }));
    let joined = joined.unwrap_or_else(|payload| Err(JobPanic::caught("similarity", &*payload).to_string()));
    let mut scores = match joined {
        Ok(scores) => scores.into_iter(),
        Err(failure) => {
            tracing::error!(samples = sound.len(), failure, "a bunch could not be joined");
            sound.iter().for_each(|&at| reasons[at] = Some(Reason::new("join_failed", &failure)));
            Vec::new().into_iter()
        }
    };
    let result = |(sample, reason): (Embedded, Option<Reason>)| match (reason, &mut scores) {
        (Some(reason), _) => Err(rejected(sample.info, reason)),
        (None, scores) => match scores.next() {
            Some(scores) => Ok(Box::new(sample.with_scores(scores))),
            None => Err(rejected(sample.info, Reason::new("join_failed", "no score came back"))),
        },
    };
    samples.into_iter().zip(reasons).map(result).collect()
}

/// The fate of a sample that could not be judged.
fn rejected(info: Arc<SampleInfo>, reason: Reason) -> Event {
    let fate = Fate { info, status: Status::Rejected, reason: Some(reason), scores: Vec::new(), embedding: None };
    Event::Fate(Arc::new(fate))
}
