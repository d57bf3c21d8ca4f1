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
//! 2. A panic in `work` gives `on_panic(tag, JobPanic)` as that output; what the input held (its permit) is dropped.
//! 3. The worker never blocks: a full pool leaves jobs in the backlog, retried when a result comes and by a timer.
//! 4. After a stop nothing new is submitted, the backlog is dropped, running jobs end and their results still go on.
//!
//! Cost: one box and two channel passages an input; the capability is shared by the tickets of a message.
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
pub trait Offload<'scope, T: Timestamp, In> {
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
        H: Fn(Tag, JobPanic) -> Out + 'static;
}

impl<'scope, T, In> Offload<'scope, T, In> for StreamVec<'scope, T, In>
where
    T: Timestamp + TotalOrder,
    In: Send + 'static,
{
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
        let scope = self.scope();
        let (pool, work, stage) = (pool.clone(), Arc::new(work), Arc::<str>::from(name));
        self.unary::<CapacityContainerBuilder<_>, _, _, _>(Pipeline, name, move |cap, info| {
            drop(cap); // else the frontier never moves
            let retry = scope.activator_for(info.address.clone());
            let (post, mailbox) = Mailbox::new(scope.worker().sync_activator_for(info.address.to_vec()));
            // A stop must reach a backlog that waits for a full pool.
            let bell = post.bell.clone();
            let _on_stop = pool.stop().map(|stop| stop.on_request(move || bell.ring()));
            let mut next_ticket = 0u64;
            let mut tickets = HashMap::<u64, (Capability<T>, Tag)>::new();
            let mut backlog = VecDeque::<(u64, Job)>::new();
            let mut retry_due: Option<Instant> = None;
            move |input, output| {
                let _on_stop = &_on_stop;
                input.for_each_stamp(|cap, data| {
                    let Some(cap) = cap.retain_least(output.output_index()) else { return };
                    for item in data.flat_map(|batch| batch.drain(..)) {
                        let ticket = next_ticket;
                        next_ticket += 1;
                        tickets.insert(ticket, (cap.clone(), tag(&item)));
                        let (work, post, stage) = (work.clone(), post.clone(), stage.clone());
                        let job = move || {
                            let result = catch_unwind(AssertUnwindSafe(|| work(item)));
                            post.send((ticket, result.map_err(|payload| JobPanic::caught(&stage, &*payload))));
                        };
                        backlog.push_back((ticket, Box::new(job)));
                    }
                });
                for (ticket, result) in mailbox.open() {
                    let Some((cap, tag)) = tickets.remove(&ticket) else { continue };
                    output.session(&cap).give(result.unwrap_or_else(|panic| on_panic(tag, panic)));
                }
                if pool.stop().is_some_and(|stop| stop.is_requested()) {
                    for (ticket, _job) in backlog.drain(..) {
                        tickets.remove(&ticket);
                    }
                }
                while let Some((ticket, job)) = backlog.pop_front() {
                    if let Err(job) = pool.try_submit(job) {
                        backlog.push_front((ticket, job));
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
