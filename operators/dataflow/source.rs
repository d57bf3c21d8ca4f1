//! Source: reader threads read leased shards, the operator gives what they send the right time.
//!
//! ```text
//!   worker                                          reader threads (may block)
//!  Leases ─▶ lease ─▶ capability of the shard ──────▶ ReadShard::read(lease, outlet)
//!  output ◀── items at time_of(pass, ordinal) ◀── bounded channel ──┘    └─ admit ─▶ Credit
//! ```
//!
//! Frontier: the operator holds a *floor* capability at a lower bound of all leases to come, and one for each shard
//! from its lease until `read` has returned and all its items were given. So a time passes only after the last item
//! of its shard (**T2**).
//!
//! Invariants:
//! 1. Leases are taken on the worker, so the shard's capability exists before the floor moves on.
//! 2. A reader works on one shard at a time and its items keep their order.
//! 3. A worker never blocks; a reader blocks in `admit`, `send` and in its store, and the first two end at a stop.
//! 4. A reader that panics, or a lease earlier than the floor, fails the run: see [`Stop::failure`].
//! 5. After a stop all capabilities are dropped and all items in the channels with them; readers end.
//!
//! Cost: one thread a reader, one channel passage an item, one wake for all that has come.
//!
//! ```
//! use std::sync::Arc;
//! use timely::dataflow::operators::{Capture, capture::Extract, vec::Map};
//! use trommel_core::credit::{Credit, CreditConfig, Permit, Stopped};
//! use trommel_dataflow::leases::Dynamic;
//! use trommel_dataflow::source::{Lease, Outlet, ReadShard, source};
//! use trommel_core::stop::Stop;
//!
//! struct Countdown;
//! impl ReadShard for Countdown {
//!     type Item = (u64, Permit);
//!     fn read(&self, lease: &Lease, out: &mut Outlet<Self::Item>) -> Result<(), Stopped> {
//!         for left in (0..lease.ordinal).rev() {
//!             let permit = out.admit(10)?;
//!             out.send((left, permit))?;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let captured = timely::example(|scope| {
//!     let stop = Stop::new();
//!     let credit = Credit::new(CreditConfig { budget_bytes: 20, lanes: 1, quantum_bytes: 20 }, stop.clone());
//!     let leases = Arc::new(Dynamic::new(0..4, 4));
//!     source(scope, "Countdown", leases, Arc::new(Countdown), 0..1, credit, stop)
//!         .map(|(left, _permit)| left)
//!         .capture()
//! });
//! let counted: Vec<(u64, Vec<u64>)> = captured.extract();
//! assert_eq!(counted, [(1, vec![0]), (2, vec![0, 1]), (3, vec![0, 1, 2])]); // `extract` sorts
//! ```

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use thiserror::Error;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilderSession;
use timely::dataflow::operators::generic::operator::source as raw_source;
use timely::dataflow::{Scope, StreamVec};

pub use self::lease::{Lease, Leases, Next, Redeemed};
use self::outlet::Letter;
pub use self::outlet::{Collected, Outlet};
use super::mailbox::Bell;
use super::pool::{JobFault, JobPanic};
use trommel_core::credit::{Credit, Stopped};
use trommel_core::sample::{Time, time_of};
use trommel_core::stop::Stop;

mod lease;
mod outlet;

/// Items of one reader that wait for the worker.
const QUEUED_PER_READER: usize = 64;
/// Items of one reader that the worker takes in one go.
const TAKEN_AT_ONCE: usize = 256;
/// When leases have no wakers: a reader that must wait asks again after this time.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// Reads shards, on reader threads.
pub trait ReadShard: Send + Sync {
    /// What it makes of a shard.
    type Item: Send + 'static;

    /// Reads the leased shard to its end. Failures of the shard are items; it may block.
    ///
    /// # Errors
    /// [`Stopped`], passed on from the outlet.
    fn read(&self, lease: &Lease, out: &mut Outlet<Self::Item>) -> Result<(), Stopped>;
}

/// A lease that came later than its time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{source_name}: shard {ordinal} of pass {pass} was leased after the floor had passed it")]
pub struct LateLease {
    /// Name of the source operator.
    pub source_name: String,
    /// The lease's pass.
    pub pass: u32,
    /// The lease's shard.
    pub ordinal: u64,
}

/// One reader thread, seen from the worker.
struct Reader<I> {
    id: usize,
    /// `None`: it was told that there is nothing more.
    orders: Option<Sender<Lease>>,
    letters: Receiver<Letter<I>>,
    /// The capability of the shard being read.
    reading: Option<Capability<Time>>,
}

impl<I: Send + 'static> Reader<I> {
    fn start(
        name: &str,
        id: usize,
        reader: Arc<dyn ReadShard<Item = I>>,
        credit: &Credit,
        stop: &Stop,
        bell: &Arc<Bell>,
    ) -> Self {
        let (orders, leases) = crossbeam_channel::bounded::<Lease>(1);
        let (sender, letters) = crossbeam_channel::bounded(QUEUED_PER_READER);
        let thread_name = format!("{name}-{id}");
        let mut out = Outlet {
            lane: id,
            credit: credit.clone(),
            letters: sender,
            bell: Some(bell.clone()),
            stop: stop.clone(),
            closed: stop.channel(),
        };
        let job = thread_name.clone();
        let read_all = move || {
            for lease in leases {
                out.lane = lease.lane;
                let end = match catch_unwind(AssertUnwindSafe(|| reader.read(&lease, &mut out))) {
                    Ok(Ok(())) => None,
                    Ok(Err(Stopped)) => {
                        let message = format!("gave up shard {} though nobody stopped it", lease.ordinal);
                        Some(JobPanic { job: job.clone(), fault: JobFault::Stopped, message })
                    }
                    Err(payload) => {
                        let caught = JobPanic::caught(&job, &*payload);
                        let message = format!("shard {}: {}", lease.ordinal, caught.message);
                        Some(JobPanic { message, ..caught })
                    }
                };
                if out.put(Letter::End(end)).is_err() {
                    break;
                }
            }
        };
        if let Err(error) = thread::Builder::new().name(thread_name.clone()).spawn(read_all) {
            stop.fail(JobPanic::without_thread(&thread_name, &error));
        }
        Self { id, orders: Some(orders), letters, reading: None }
    }
}

/// The operator's state.
struct Source<I> {
    name: String,
    leases: Arc<dyn Leases>,
    readers: Vec<Reader<I>>,
    floor: Option<Capability<Time>>,
    stop: Stop,
}

type Output<'a, I> = OutputBuilderSession<'a, Time, CapacityContainerBuilder<Vec<I>>>;

impl<I: Send + 'static> Source<I> {
    /// Gives what has come and leases what is free. Returns whether letters were left lying, and whether a reader waits.
    fn step(&mut self, output: &mut Output<'_, I>) -> (bool, bool) {
        let (mut more, mut waits) = (false, false);
        for at in 0..self.readers.len() {
            more |= self.receive(at, output);
            waits |= self.lease(at);
        }
        if self.stop.is_requested() {
            self.floor = None;
            self.readers.clear(); // drops capabilities, orders and letters: readers end
            return (false, false);
        }
        match self.leases.floor() {
            Some(floor) if self.readers.iter().any(|reader| reader.orders.is_some()) => {
                if let Some(capability) = self.floor.as_mut().filter(|capability| *capability.time() < floor) {
                    capability.downgrade(&floor);
                }
            }
            _ => self.floor = None,
        }
        (more, waits)
    }

    fn receive(&mut self, at: usize, output: &mut Output<'_, I>) -> bool {
        let reader = &mut self.readers[at];
        let Some(capability) = &reader.reading else { return false };
        let mut ended = None;
        let mut session = output.session(capability);
        for letter in reader.letters.try_iter().take(TAKEN_AT_ONCE) {
            match letter {
                Letter::Item(item) => session.give(item),
                Letter::End(end) => {
                    ended = Some(end);
                    break;
                }
            }
        }
        drop(session);
        let Some(end) = ended else { return !reader.letters.is_empty() };
        reader.reading = None;
        if let Some(failure) = end {
            self.stop.fail(failure);
        }
        false
    }

    fn lease(&mut self, at: usize) -> bool {
        let reader = &mut self.readers[at];
        if reader.reading.is_some() || self.stop.is_requested() {
            return false;
        }
        let Some(orders) = &reader.orders else { return false };
        match self.leases.next(reader.id) {
            Next::Wait => return true,
            Next::Done => reader.orders = None,
            Next::Shard(lease) => {
                let time = time_of(lease.pass, lease.ordinal);
                reader.reading = self.floor.as_ref().and_then(|floor| floor.try_delayed(&time));
                if reader.reading.is_none() {
                    let (pass, ordinal) = (lease.pass, lease.ordinal);
                    self.stop.fail(LateLease { source_name: self.name.clone(), pass, ordinal });
                } else {
                    let _reader_gone = orders.try_send(lease); // room for one, and it has none
                }
            }
        }
        false
    }
}

/// Reads leased shards with the readers `readers` (numbers in the whole run, of which this worker has these).
pub fn source<'scope, I: Send + 'static>(
    scope: Scope<'scope, Time>,
    name: &str,
    leases: Arc<dyn Leases>,
    reader: Arc<dyn ReadShard<Item = I>>,
    readers: Range<usize>,
    credit: Credit,
    stop: Stop,
) -> StreamVec<'scope, Time, I> {
    raw_source::<_, CapacityContainerBuilder<Vec<I>>, _, _>(scope, name, |capability, info| {
        let again = scope.activator_for(info.address.clone());
        let bell = Bell::new(scope.worker().sync_activator_for(info.address.to_vec()));
        let ring = |bell: &Arc<Bell>| {
            let bell = bell.clone();
            move || bell.ring()
        };
        let _on_stop = stop.on_request(ring(&bell));
        let on_change = leases.on_change(Box::new(ring(&bell)));
        let start = |id| Reader::start(name, id, reader.clone(), &credit, &stop, &bell);
        let readers = readers.map(start).collect();
        let mut source = Source { name: name.to_owned(), leases, readers, floor: Some(capability), stop };
        move |output| {
            let _on_stop = &_on_stop;
            bell.answer();
            let (more, waits) = source.step(output);
            if more {
                again.activate();
            } else if waits && on_change.is_none() {
                again.activate_after(ASK_AGAIN);
            }
        }
    })
}
