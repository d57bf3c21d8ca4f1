//! Batch: items of all workers meet in one service of the process, in full batches.
//!
//! ```text
//!  worker 0: In ─▶ split ─▶ I ──┐                              ┌─▶ O ─▶ join(Rest, O) ─▶ Out
//!                    └─ Rest stays with the ticket             │
//!  worker 1: In ─▶ split ─▶ I ──┴─▶ [queue] ─▶ F(Vec<I>) -> Vec<O>, on a thread of its own
//! ```
//!
//! The function is made on the service's own thread and never leaves it, so a model that is not `Send` can live in it. One that
//! computes elsewhere is a [`Batched`]: it has the next batch before it is done with the one before.
//! A batch is flushed when it is *full*; when *someone waits for credit* and nothing has come for `hurry_ms`; on
//! *idle*, when nothing has come for `idle_ms`; at the *end*, when no operator has input left. While a batch is on its way the
//! second and third wait: its results are what brings credit back.
//!
//! Frontier: as for `offload`: the output's follows the input's and the open tickets.
//!
//! Invariants:
//! 1. Each input gives exactly one output at its time, unless the run stops; batches hold 1 to `batch` items.
//! 2. A function that panics, gives another number of results, or could not be made answers every waiter with a
//!    [`JobPanic`]. With `fatal` the run fails first, so that no ledger takes it for a property of the sample.
//! 3. After a stop open tickets and queued items are dropped; their permits return.
//!
//! Cost: two channel passages an item, one wake an operator and batch; while a batch is on its way, a look at it every 200 us, unless the
//! function rings a bell when one is done. The queue is bounded by the items' credit.
//!
//! ```
//! use timely::dataflow::operators::{Capture, ToStream, capture::Extract};
//! use trommel_dataflow::batch::{BatchConfig, BatchOffload, BatchService};
//! use trommel_core::credit::{Credit, CreditConfig};
//! use trommel_core::stop::Stop;
//!
//! let stop = Stop::new();
//! let credit = Credit::new(CreditConfig { budget_bytes: 1, lanes: 1, quantum_bytes: 1 }, stop.clone());
//! let make = || Ok::<_, std::io::Error>(|batch: Vec<u32>| { let sum: u32 = batch.iter().sum(); vec![sum; batch.len()] });
//! let service = BatchService::spawn(BatchConfig { batch: 2, ..BatchConfig::named("sum") }, credit, stop, make);
//! assert_eq!(service.ready(), Ok(()));
//! let captured = timely::example(move |scope| {
//!     vec![("a", 1u32), ("b", 2), ("c", 4)].to_stream(scope).container::<Vec<_>>()
//!         .batch_offload("Sum", &service, |(name, x)| (x, name), |name, sum| (name, sum.unwrap_or(0)))
//!         .capture()
//! });
//! let mut sums: Vec<_> = captured.extract().into_iter().flat_map(|(_, data)| data).collect();
//! sums.sort();
//! assert_eq!(sums, [("a", 3), ("b", 3), ("c", 4)]);
//! ```

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use crossbeam_channel::{Receiver, Sender};
use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::order::TotalOrder;
use timely::progress::Timestamp;

use super::mailbox::{Mailbox, Post};
pub use super::pool::{JobFault, JobPanic};
use trommel_core::causes::Cause;
use trommel_core::credit::Credit;
use trommel_core::stop::{Never, Stop};

mod batched;
mod service;
use self::batched::AtOnce;
pub use self::batched::Batched;
use self::service::Service;

/// How a batch service gathers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchConfig {
    /// Name of the thread and in failures.
    pub name: String,
    /// Items of a full batch; at least 1.
    #[serde(default = "default_batch")]
    pub batch: usize,
    /// An incomplete batch goes when nothing has come for so many milliseconds.
    #[serde(default = "default_idle_ms")]
    pub idle_ms: u64,
    /// The same while someone waits for credit.
    #[serde(default = "default_hurry_ms")]
    pub hurry_ms: u64,
    /// Whether a failing function fails the run.
    #[serde(default = "default_fatal")]
    pub fatal: bool,
}

fn default_batch() -> usize {
    64
}

fn default_idle_ms() -> u64 {
    20
}

fn default_hurry_ms() -> u64 {
    2
}

fn default_fatal() -> bool {
    true
}

impl BatchConfig {
    /// The defaults: 64 items, 20 ms idle, 2 ms in a hurry, fatal.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            batch: default_batch(),
            idle_ms: default_idle_ms(),
            hurry_ms: default_hurry_ms(),
            fatal: default_fatal(),
        }
    }
}

/// How a batch service stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchGauge {
    /// Items that wait.
    pub queued: usize,
    /// Items answered.
    pub items: u64,
    /// Batches that the function was called with.
    pub batches: u64,
    /// Of them, full ones.
    pub full_batches: u64,
    /// Time that the function was busy, in microseconds; one that computes two batches at a time and has one is half busy.
    pub busy_micros: u64,
}

#[derive(Default)]
struct Counters {
    items: AtomicU64,
    batches: AtomicU64,
    full_batches: AtomicU64,
    busy_micros: AtomicU64,
    /// Operators that still may send.
    open: AtomicUsize,
}

struct Letter<I, O> {
    input: I,
    ticket: u64,
    post: Post<(u64, Result<O, JobPanic>)>,
}

struct Inner<I, O> {
    name: String,
    items: Sender<Letter<I, O>>,
    nudge: Sender<()>,
    counters: Arc<Counters>,
    stop: Stop,
    made: Arc<OnceLock<Result<(), JobPanic>>>,
    making: Receiver<Never>,
}

/// A function on its own thread that is fed by the operators of all workers. Clones are the same service; the thread
/// ends when the last one is dropped, or at a stop.
pub struct BatchService<I, O> {
    inner: Arc<Inner<I, O>>,
}

impl<I, O> Clone for BatchService<I, O> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<I: Send + 'static, O: Send + 'static> BatchService<I, O> {
    /// Starts the service: `make` runs on its thread and gives the function from a batch to as many results.
    #[must_use]
    pub fn spawn<M, F, E>(config: BatchConfig, credit: Credit, stop: Stop, make: M) -> Self
    where
        M: FnOnce() -> Result<F, E> + Send + 'static,
        F: FnMut(Vec<I>) -> Vec<O> + 'static,
        E: Into<Cause>,
    {
        Self::spawn_batched(config, credit, stop, || make().map(AtOnce::new))
    }

    /// The same of a function that has several batches on their way.
    #[must_use]
    pub fn spawn_batched<M, B, E>(config: BatchConfig, credit: Credit, stop: Stop, make: M) -> Self
    where
        M: FnOnce() -> Result<B, E> + Send + 'static,
        B: Batched<I, O> + 'static,
        E: Into<Cause>,
    {
        let (items, queue) = crossbeam_channel::unbounded();
        let (nudge, nudged) = crossbeam_channel::bounded(1);
        let (still_making, making) = crossbeam_channel::bounded::<Never>(0);
        let (counters, made) = (Arc::new(Counters::default()), Arc::new(OnceLock::new()));
        let inner = Inner {
            name: config.name.clone(),
            items,
            nudge: nudge.clone(),
            counters: counters.clone(),
            stop: stop.clone(),
            made: made.clone(),
            making,
        };
        let (name, failing, unmade) = (config.name.clone(), stop.clone(), made.clone());
        let serve = move || {
            let bell = nudge.clone();
            let _hurry = credit.on_waiting(move || nudge.try_send(()).unwrap_or_default());
            let service = Service { config, credit, closed: stop.channel(), stop, queue, nudged, bell, counters };
            let function = service.make(make);
            let _set_once = made.set(function.as_ref().map(|_| ()).map_err(Clone::clone));
            drop(still_making);
            service.serve(function);
        };
        if let Err(error) = thread::Builder::new().name(name.clone()).spawn(serve) {
            // Nobody would ever answer.
            let failure = JobPanic::without_thread(&name, &error);
            let _set_once = unmade.set(Err(failure.clone()));
            failing.fail(failure);
        }
        Self { inner: Arc::new(inner) }
    }

    /// Blocks until the function is made. Not for workers.
    ///
    /// # Errors
    /// Why it could not be made.
    pub fn ready(&self) -> Result<(), JobPanic> {
        let _closed = self.inner.making.recv();
        let gone = || JobPanic {
            job: self.inner.name.clone(),
            fault: JobFault::Stopped,
            message: "its thread is gone".into(),
        };
        self.inner.made.get().cloned().unwrap_or_else(|| Err(gone()))
    }

    /// The service's name, as gauges and messages show it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its counts at this moment.
    #[must_use]
    pub fn gauge(&self) -> BatchGauge {
        self.inner.gauge()
    }

    /// A gauge that does not keep the service alive.
    pub fn weak_gauge(&self) -> impl Fn() -> Option<BatchGauge> + Send + 'static {
        let inner = Arc::downgrade(&self.inner);
        move || inner.upgrade().map(|inner| inner.gauge())
    }
}

impl<I, O> Inner<I, O> {
    fn gauge(&self) -> BatchGauge {
        let counters = &self.counters;
        BatchGauge {
            queued: self.items.len(),
            items: counters.items.load(Ordering::Relaxed),
            batches: counters.batches.load(Ordering::Relaxed),
            full_batches: counters.full_batches.load(Ordering::Relaxed),
            busy_micros: counters.busy_micros.load(Ordering::Relaxed),
        }
    }
}

impl<I, O> fmt::Debug for BatchService<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchService").field("name", &self.inner.name).finish_non_exhaustive()
    }
}

/// Sends each item through a batch service.
pub trait BatchOffload<'scope, T: Timestamp, In> {
    /// `split` parts an item into what the service needs and what stays on the worker; `join` puts the result, or why
    /// there is none, together with what stayed.
    fn batch_offload<I, O, Rest, Out, S, J>(
        self,
        name: &str,
        service: &BatchService<I, O>,
        split: S,
        join: J,
    ) -> StreamVec<'scope, T, Out>
    where
        I: Send + 'static,
        O: Send + 'static,
        Rest: 'static,
        Out: 'static,
        S: Fn(In) -> (I, Rest) + 'static,
        J: Fn(Rest, Result<O, JobPanic>) -> Out + 'static;
}

impl<'scope, T, In> BatchOffload<'scope, T, In> for StreamVec<'scope, T, In>
where
    T: Timestamp + TotalOrder,
    In: 'static,
{
    fn batch_offload<I, O, Rest, Out, S, J>(
        self,
        name: &str,
        service: &BatchService<I, O>,
        split: S,
        join: J,
    ) -> StreamVec<'scope, T, Out>
    where
        I: Send + 'static,
        O: Send + 'static,
        Rest: 'static,
        Out: 'static,
        S: Fn(In) -> (I, Rest) + 'static,
        J: Fn(Rest, Result<O, JobPanic>) -> Out + 'static,
    {
        let scope = self.scope();
        let service = service.clone();
        self.unary_frontier::<CapacityContainerBuilder<_>, _, _, _>(Pipeline, name, move |cap, info| {
            drop(cap); // else the frontier never moves
            let (post, mailbox) = Mailbox::new(scope.worker().sync_activator_for(info.address.to_vec()));
            let bell = post.bell.clone();
            let _on_stop = service.inner.stop.on_request(move || bell.ring());
            let mut sender = Some(Sending::new(service.inner.clone()));
            let mut next_ticket = 0u64;
            let mut tickets = HashMap::<u64, (Capability<T>, Rest)>::new();
            let stop = service.inner.stop.clone();
            drop(service);
            move |(input, frontier), output| {
                let _on_stop = &_on_stop;
                let stopped = stop.is_requested();
                input.for_each_stamp(|cap, data| {
                    let Some(cap) = cap.retain_least(output.output_index()) else { return };
                    for item in data.flat_map(|batch| batch.drain(..)) {
                        let Some(sender) = sender.as_ref().filter(|_| !stopped) else { continue };
                        let (input, rest) = split(item);
                        let ticket = next_ticket;
                        next_ticket += 1;
                        tickets.insert(ticket, (cap.clone(), rest));
                        sender.send(Letter { input, ticket, post: post.clone() });
                    }
                });
                for (ticket, result) in mailbox.open() {
                    // An error of a run that fails is the run's, not the sample's.
                    if result.is_err() && stop.is_requested() {
                        continue;
                    }
                    let Some((cap, rest)) = tickets.remove(&ticket) else { continue };
                    output.session(&cap).give(join(rest, result));
                }
                if stop.is_requested() {
                    tickets.clear();
                    sender = None;
                } else if frontier.is_empty() {
                    sender = None; // no input can come any more: incomplete batches need not wait for it
                }
            }
        })
    }
}

/// An operator that may still send: the service knows how many there are.
struct Sending<I, O> {
    service: Arc<Inner<I, O>>,
}

impl<I, O> Sending<I, O> {
    fn new(service: Arc<Inner<I, O>>) -> Self {
        service.counters.open.fetch_add(1, Ordering::SeqCst);
        Self { service }
    }

    fn send(&self, letter: Letter<I, O>) {
        let _stopped = self.service.items.send(letter);
    }
}

impl<I, O> Drop for Sending<I, O> {
    fn drop(&mut self) {
        if self.service.counters.open.fetch_sub(1, Ordering::SeqCst) == 1 {
            let _already_nudged = self.service.nudge.try_send(());
        }
    }
}

#[cfg(test)]
mod tests;
