//! Offload: work that takes long leaves the worker as a ticket and comes back when it is done.
//!
//! ```text
//!            worker                    │   pool threads
//!  In ─▶ [ticket: capability, tag] ────┼─▶ queue ─▶ work(In) ─┐
//!  Out ◀─[ticket redeemed] ◀── mailbox ┼──────────────────────┘   one wake for all that has come
//! ```
//!
//! Frontier: the output's follows the input's and the open tickets: a time passes when no message of it is left at the
//! input and none of its tickets is out.
//!
//! Invariants:
//! 1. Each input gives exactly one output at the same time, in the order of completion; unless the run stops.
//! 2. A panic in `work` gives `on_panic(tag, JobPanic)` as that output; what the input held (its permit) is dropped. A batch fails as a whole.
//! 3. The worker never blocks: a full pool leaves jobs in the backlog, retried when a result comes and by a timer.
//! 4. After a stop nothing new is submitted, the backlog is dropped, running jobs end and their results still go on.
//!
//! Cost: one box and two channel passages an input, or a batch of them; the capability is shared by the tickets of a message.
//!
//! ```
//! use timely::dataflow::operators::{Capture, ToStream, capture::Extract};
//! use trommel_dataflow::offload::Offload;
//! use trommel_dataflow::pool::Pool;
//!
//! let captured = timely::example(|scope| {
//!     let pool = Pool::new("halves", 2);
//!     vec![2u64, 3, 4].to_stream(scope).container::<Vec<_>>()
//!         .offload("Halve", &pool, |x| *x,
//!             |x: u64| { assert!(x % 2 == 0, "odd"); format!("{}", x / 2) },
//!             |x, panic| format!("{x} {}", panic.message))
//!         .capture()
//! });
//! let mut halves: Vec<String> = captured.extract().into_iter().flat_map(|(_, data)| data).collect();
//! halves.sort();
//! assert_eq!(halves, ["1", "2", "3 panicked: odd"]);
//! ```

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::order::TotalOrder;
use timely::progress::Timestamp;

pub use super::pool::{Job, JobFault, JobPanic, Pool, PoolGauge};

use super::mailbox::Mailbox;

/// After this time a full pool is asked again, if no result has come before.
const RETRY: Duration = Duration::from_millis(1);

/// Runs a function of each item on a pool.
pub trait Offload<'scope, T: Timestamp, In: Send + 'static>: Sized {
    /// Runs `work` on `pool` for each item. `tag` takes from the item what is needed to say whose job it was; it stays
    /// on the worker, and `on_panic` makes the output from it when the job panicked.
    fn offload<Tag, Out, G, F, H>(
        self,
        name: &str,
        pool: &Pool,
        tag: G,
        work: F,
        on_panic: H,
    ) -> StreamVec<'scope, T, Out>
    where
        Tag: 'static,
        Out: Send + 'static,
        G: Fn(&In) -> Tag + 'static,
        F: Fn(In) -> Out + Send + Sync + 'static,
        H: Fn(Tag, JobPanic) -> Out + 'static,
    {
        let each = move |batch: Vec<In>| -> Vec<Out> { batch.into_iter().map(&work).collect() };
        self.offload_batches(name, pool, |_, _| 1, tag, each, on_panic)
    }

    /// The same with a `work` that takes several items at once, of any times, and gives as many results in their order.
    /// `size(waiting, out)` says how many of the items that wait go to the pool together while `out` batches are there already;
    /// 0: none before one of these has come back.
    fn offload_batches<Tag, Out, S, G, F, H>(
        self,
        name: &str,
        pool: &Pool,
        size: S,
        tag: G,
        work: F,
        on_panic: H,
    ) -> StreamVec<'scope, T, Out>
    where
        Tag: 'static,
        Out: Send + 'static,
        S: Fn(usize, usize) -> usize + 'static,
        G: Fn(&In) -> Tag + 'static,
        F: Fn(Vec<In>) -> Vec<Out> + Send + Sync + 'static,
        H: Fn(Tag, JobPanic) -> Out + 'static;
}

impl<'scope, T, In> Offload<'scope, T, In> for StreamVec<'scope, T, In>
where
    T: Timestamp + TotalOrder,
    In: Send + 'static,
{
    fn offload_batches<Tag, Out, S, G, F, H>(
        self,
        name: &str,
        pool: &Pool,
        size: S,
        tag: G,
        work: F,
        on_panic: H,
    ) -> StreamVec<'scope, T, Out>
    where
        Tag: 'static,
        Out: Send + 'static,
        S: Fn(usize, usize) -> usize + 'static,
        G: Fn(&In) -> Tag + 'static,
        F: Fn(Vec<In>) -> Vec<Out> + Send + Sync + 'static,
        H: Fn(Tag, JobPanic) -> Out + 'static,
    {
        let scope = self.scope();
        let (pool, work, stage) = (pool.clone(), Arc::new(work), Arc::<str>::from(name));
        self.unary::<CapacityContainerBuilder<_>, _, _, _>(Pipeline, name, move |cap, info| {
            drop(cap); // else the frontier never moves
            let retry = scope.activator_for(info.address.clone());
            let (post, mailbox) = Mailbox::<(u64, Result<Vec<Out>, JobPanic>)>::new(
                scope.worker().sync_activator_for(info.address.to_vec()),
            );
            // A stop must reach a backlog that waits for a full pool.
            let bell = post.bell.clone();
            let _on_stop = pool.stop().map(|stop| stop.on_request(move || bell.ring()));
            let mut next_ticket = 0u64;
            let mut tickets = HashMap::<u64, Vec<(Rc<Capability<T>>, Tag)>>::new();
            let mut backlog = VecDeque::<((Rc<Capability<T>>, Tag), In)>::new();
            let mut unsent = None::<(u64, Job)>;
            let mut retry_due: Option<Instant> = None;
            move |input, output| {
                let _on_stop = &_on_stop;
                input.for_each_stamp(|cap, data| {
                    let Some(cap) = cap.retain_least(output.output_index()) else { return };
                    let cap = Rc::new(cap);
                    backlog
                        .extend(data.flat_map(|batch| batch.drain(..)).map(|item| ((cap.clone(), tag(&item)), item)));
                });
                for (ticket, results) in mailbox.open() {
                    let Some(batch) = tickets.remove(&ticket) else { continue };
                    match results {
                        Ok(results) => {
                            for ((cap, _), result) in batch.into_iter().zip(results) {
                                output.session(&*cap).give(result);
                            }
                        }
                        Err(panic) => {
                            for (cap, tag) in batch {
                                output.session(&*cap).give(on_panic(tag, panic.clone()));
                            }
                        }
                    }
                }
                if pool.stop().is_some_and(|stop| stop.is_requested()) {
                    backlog.clear();
                    if let Some((ticket, _job)) = unsent.take() {
                        tickets.remove(&ticket);
                    }
                }
                loop {
                    if unsent.is_none() && !backlog.is_empty() {
                        let most = size(backlog.len(), tickets.len()).min(backlog.len());
                        let (batch, items): (Vec<_>, Vec<In>) = backlog.drain(..most).unzip();
                        if !batch.is_empty() {
                            let (work, post, stage, ticket) = (work.clone(), post.clone(), stage.clone(), next_ticket);
                            next_ticket += 1;
                            tickets.insert(ticket, batch);
                            let job = move || post.send((ticket, results_of(&stage, &*work, items)));
                            unsent = Some((ticket, Box::new(job)));
                        }
                    }
                    let Some((ticket, job)) = unsent.take() else { break };
                    if let Err(job) = pool.try_submit(job) {
                        unsent = Some((ticket, job));
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
}

/// Runs a batch: a result for each of its items, or why there are none.
fn results_of<In, Out>(stage: &str, work: impl Fn(Vec<In>) -> Vec<Out>, items: Vec<In>) -> Result<Vec<Out>, JobPanic> {
    let count = items.len();
    let results = catch_unwind(AssertUnwindSafe(|| work(items)));
    let results = results.map_err(|payload| JobPanic::caught(stage, &*payload))?;
    if results.len() == count { Ok(results) } else { Err(JobPanic::miscounted(stage, results.len(), count)) }
}

#[cfg(test)]
mod tests {
    use timely::dataflow::operators::capture::Extract;
    use timely::dataflow::operators::{Capture, ToStream};

    use super::*;

    #[test]
    fn a_batch_that_fails_fails_for_each_of_its_items_and_no_other() {
        let captured = timely::example(|scope| {
            let work = |batch: Vec<u64>| -> Vec<String> {
                assert!(!batch.contains(&7), "seven");
                let missing = usize::from(batch.contains(&13));
                batch.iter().skip(missing).map(|x| format!("{x} of {}", batch.len())).collect()
            };
            let size = |waiting: usize, out: usize| if out == 0 { waiting.min(4) } else { 0 };
            let failed = |x: u64, panic: JobPanic| format!("{x} {:?}", panic.fault);
            let numbers = (0..18u64).to_stream(scope).container::<Vec<_>>();
            numbers.offload_batches("Batches", &Pool::new("batches", 2), size, |x| *x, work, failed).capture()
        });
        let told: Vec<String> = captured.extract().into_iter().flat_map(|(_, data)| data).collect();
        // One batch is out at a time, and what waits is more than a batch holds: they are what they are.
        let batch_of = |x: u64| match x / 4 {
            1 => "Panicked",
            3 => "WrongCount",
            4 => "of 2",
            _ => "of 4",
        };
        let mut expected: Vec<String> = (0..18).map(|x| format!("{x} {}", batch_of(x))).collect();
        expected.sort(); // as `extract` does
        assert_eq!(told, expected);
    }
}
