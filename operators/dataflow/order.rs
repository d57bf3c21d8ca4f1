//! Order: the sequencer as a service of the process. Workers offer, the trainer's thread takes batches.
//!
//! ```text
//!  worker 0 ─ offer, end ─┐                                    ┌─ samples in use (one window)
//!  worker 1 ─ offer, end ─┴─▶ [Sequencer: one open window] ────┴─▶ next_batch(B) ─▶ trainer
//!                                   └─ whose turn it is ─▶ Credit
//! ```
//!
//! Frontiers: none. The order is no operator; it hears of a shard's end from its `ShardEnd`.
//!
//! Invariants:
//! 1. **O1**, **O2**, **O3** of the design: the batches are a function of plan, configuration and decisions; each kept
//!    sample is in one batch of its pass or counted as left over; a resumed order gives the batches that would have come.
//! 2. `offer` and `end` never block for longer than a window's sort. `next_batch` blocks its own thread; it wakes on an
//!    offer, on an end, and on a stop.
//! 3. At most two windows are held: one that fills, one in use. A sample that enters a window leaves the credit.
//! 4. The lane in turn is told to the credit, and the turn is taken back while it moves on. So a credit whose samples
//!    nobody orders must not be given to an order.
//! 5. With a growing assignment the order waits for the lane in turn until its next shard comes or the assignment is closed, even
//!    while other lanes have samples: skipping it would make the order depend on when shards come. The assignment's changes
//!    wake the order.
//! 6. After a stop all waiting slots are dropped and `next_batch` gives `None`.
//!
//! ```
//! use std::sync::Arc;
//! use trommel_core::credit::{Credit, CreditConfig, Permit};
//! use trommel_dataflow::lanes::{Lanes, OrderConfig};
//! use trommel_dataflow::order::{OrderService, Slot};
//! use trommel_core::stop::Stop;
//!
//! let (config, stop) = (OrderConfig { lanes: 2, ..OrderConfig::default() }, Stop::new());
//! let credit = Credit::new(CreditConfig { budget_bytes: 100, lanes: 2, quantum_bytes: 10 }, stop.clone());
//! let lanes = Arc::new(Lanes::new(2, 0, [(0, "a".to_owned()), (1, "b".to_owned())]));
//! let order = OrderService::new(&config, lanes, Some(1), None, credit, stop)?;
//! for ordinal in 0..2 {
//!     for index in 0..3 {
//!         order.offer(Slot::kept(0, ordinal, index, 5, (Permit::free(), format!("{ordinal}/{index}"))))?;
//!     }
//!     order.end(0, ordinal, 3)?;
//! }
//! let batch = order.next_batch(4).expect("6 samples hold one batch of 4");
//! assert_eq!((batch.pass, batch.first_number, batch.samples.len()), (0, 0, 4));
//! assert_eq!(order.has_another(4), Some(false));
//! assert!(order.next_batch(4).is_none());
//! assert_eq!(order.left_over(), 2);
//! # Ok::<(), trommel_dataflow::order::OrderError>(())
//! ```

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use super::irregular::Irregular;
pub use super::lanes::{Lanes, OrderConfig, ShardPlace, WindowBytes};
pub use super::sequencer::{OrderError, Ready, Sequencer, Slot, WaitsFor};
pub use super::window::{Cursor, GivenUp, LanePlace, Numbered, Payload, Window};
use trommel_core::credit::{Credit, Permit, Turn};
use trommel_core::sample::SampleId;
use trommel_core::stop::Stop;
use trommel_core::wake::{Registration, locked};

mod held;
mod state;

pub use self::held::Held;
use self::state::State;

/// One batch of the trainer.
#[derive(Debug)]
pub struct Batch<P> {
    /// Pass over the data, from 0.
    pub pass: u32,
    /// Number in the pass of its first sample.
    pub first_number: u64,
    /// Raw samples of the pass that had their turn before its first sample, holes included: how far the pass is gone.
    pub turns_before: u64,
    /// The samples, by number.
    pub samples: Vec<Numbered<Held<P>>>,
    /// Where the order continues once this batch is trained.
    pub cursor_after: Cursor,
}

/// How an order stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrderGauge {
    /// Slots that wait for their turn.
    pub waiting_slots: usize,
    /// Slots ever offered.
    pub offered: u64,
    /// Samples ever given in batches.
    pub given: u64,
    /// For whom it waits.
    pub waits_for: Option<WaitsFor>,
    /// The lane whose next shard has to come yet.
    pub waits_for_growth: Option<usize>,
}

struct Inner<P> {
    state: Mutex<State<P>>,
    changed: Condvar,
    credit: Credit,
    stop: Stop,
    on_stop: OnceLock<Registration>,
    on_growth: OnceLock<Registration>,
}

/// The order of one process. Clones are the same order.
pub struct OrderService<P> {
    inner: Arc<Inner<P>>,
}

impl<P> Clone for OrderService<P> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<P: Send + 'static> OrderService<P> {
    /// An order over `passes` passes (`None`: without end), from the beginning or from a checkpoint's cursor.
    ///
    /// # Errors
    /// [`OrderError::Cursor`] when the cursor belongs to another number of lanes, [`OrderError::Closed`] when it stands
    /// behind the end of a growing assignment that is not closed there.
    pub fn new(
        config: &OrderConfig,
        lanes: Arc<Lanes>,
        passes: Option<u32>,
        cursor: Option<&Cursor>,
        credit: Credit,
        stop: Stop,
    ) -> Result<Self, OrderError> {
        let cursor = cursor.cloned().unwrap_or_else(|| Cursor::start_of(0, lanes.count()));
        let sequencer = Sequencer::resume(config, lanes.clone(), passes, &cursor)?;
        let (skip, left_over, skipped) = (cursor.offset, cursor.left_over, cursor.skipped);
        let state = State {
            sequencer,
            using: None,
            skip,
            partial: Vec::new(),
            turns_before: 0,
            cursor,
            left_over,
            skipped,
            torn: None,
            offered: 0,
            given: 0,
            closed: false,
        };
        let inner = Arc::new(Inner {
            state: Mutex::new(state),
            changed: Condvar::new(),
            credit,
            stop: stop.clone(),
            on_stop: OnceLock::new(),
            on_growth: OnceLock::new(),
        });
        inner.tell_turn(&locked(&inner.state));
        let weak = Arc::downgrade(&inner);
        let registration = stop.on_request(move || {
            if let Some(inner) = weak.upgrade() {
                inner.close();
            }
        });
        let _first = inner.on_stop.set(registration);
        let weak = Arc::downgrade(&inner);
        let on_growth = lanes.on_change(move || {
            if let Some(inner) = weak.upgrade() {
                inner.assignment_changed();
            }
        });
        if let Some(registration) = on_growth {
            let _first = inner.on_growth.set(registration);
            inner.assignment_changed(); // what came before the registration
        }
        Ok(Self { inner })
    }

    /// Takes a sample's turn: with its permit and the sample if it is to be trained, else a hole. Dropped after a stop.
    ///
    /// # Errors
    /// See [`OrderError`]; it has also failed the run.
    pub fn offer(&self, slot: Slot<(Permit, P)>) -> Result<(), OrderError> {
        let content =
            slot.content.map(|(bytes, (permit, sample))| (bytes, Held { sample, permit: Some(permit), reserve: None }));
        let slot = Slot { pass: slot.pass, id: slot.id, content };
        self.change(|state| {
            state.offered += 1;
            state.sequencer.offer(slot)
        })
    }

    /// Takes the turn of a sample that was kept and cannot be read any more. Dropped after a stop.
    ///
    /// # Errors
    /// See [`OrderError`]; it has also failed the run.
    pub fn skip(&self, pass: u32, id: SampleId) -> Result<(), OrderError> {
        self.change(|state| {
            state.offered += 1;
            state.sequencer.skip(pass, id)
        })
    }

    /// Takes the turns of neighbours that are not trained.
    ///
    /// # Errors
    /// See [`OrderError`]; it has also failed the run.
    pub fn holes(&self, pass: u32, ordinal: u64, indices: Range<u32>) -> Result<(), OrderError> {
        self.change(|state| {
            state.offered += indices.len() as u64;
            state.sequencer.holes(pass, ordinal, indices)
        })
    }

    /// Says that a shard holds the samples `0..count`.
    ///
    /// # Errors
    /// See [`OrderError`]; it has also failed the run.
    pub fn end(&self, pass: u32, ordinal: u64, count: u32) -> Result<(), OrderError> {
        self.change(|state| state.sequencer.end(pass, ordinal, count))
    }

    /// Says that no more than the samples `0..count` of a shard can be had, though the order may have been further.
    ///
    /// # Errors
    /// See [`OrderError`]; it has also failed the run.
    pub fn give_up(&self, pass: u32, ordinal: u64, count: u32) -> Result<(), OrderError> {
        self.change(|state| state.sequencer.give_up(pass, ordinal, count))
    }

    fn change(&self, change: impl FnOnce(&mut State<P>) -> Result<(), OrderError>) -> Result<(), OrderError> {
        let inner = &*self.inner;
        let mut state = locked(&inner.state);
        if state.closed {
            return Ok(());
        }
        let changed = change(&mut state);
        let ready = inner.fill(&mut state);
        drop(state);
        if ready {
            inner.changed.notify_all();
        }
        changed.inspect_err(|error| inner.stop.refuse(error.clone()))
    }

    /// The next `batch` (at least 1) samples of a pass; `None` at the end of the last pass, and after a stop. Blocks:
    /// for the trainer's thread only. A pass that fills no batch at all fails the run.
    pub fn next_batch(&self, batch: usize) -> Option<Batch<P>> {
        let mut state = loop {
            // Otherwise this pass is over, and the next one's batch is wanted.
            if let (state, true) = self.gather(batch)? {
                break state;
            }
        };
        let (samples, turns_before) = (std::mem::take(&mut state.partial), state.turns_before);
        state.given += samples.len() as u64;
        let cursor_after = Cursor { left_over: state.left_over, ..state.cursor.clone() };
        drop(state);
        let first_number = samples.first().map_or(0, |sample| sample.number);
        Some(Batch { pass: cursor_after.pass, first_number, turns_before, samples, cursor_after })
    }

    /// Whether the pass of the batch that was given last has another one: as soon as it is known. `None` after a stop. Blocks.
    pub fn has_another(&self, batch: usize) -> Option<bool> {
        self.gather(batch).map(|(_, another)| another)
    }

    /// Gathers a batch's samples; false where the pass is over without them.
    fn gather(&self, batch: usize) -> Option<(MutexGuard<'_, State<P>>, bool)> {
        let (inner, batch) = (&*self.inner, batch.max(1));
        let mut state = locked(&inner.state);
        while state.partial.len() < batch {
            if state.closed {
                return None;
            }
            if state.using_next() {
                continue;
            }
            inner.fill(&mut state);
            match state.sequencer.take() {
                Some(Ready::Window(window)) => {
                    state.use_window(window);
                    inner.fill(&mut state); // the next one fills while this one is used
                }
                Some(Ready::PassEnd { pass, numbered }) => {
                    if let Err(error) = state.end_pass(pass, numbered, batch) {
                        drop(state);
                        inner.stop.refuse(error);
                        return None;
                    }
                    return Some((state, false));
                }
                Some(Ready::Torn(shard)) => {
                    state.torn = Some(shard);
                    drop(state);
                    inner.stop.request();
                    return None;
                }
                None if state.sequencer.finished() => return None,
                None => state = inner.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
        Some((state, true))
    }

    /// Whether the last pass is over and its batches are given; never after a stop.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let state = locked(&self.inner.state);
        !state.closed && state.using.is_none() && state.sequencer.finished()
    }

    /// Kept samples of finished passes that were in no batch.
    #[must_use]
    pub fn left_over(&self) -> u64 {
        locked(&self.inner.state).left_over
    }

    /// Kept samples that could not be read again when their turn came, over all passes, up to the end of the window that the
    /// last batch came from (or of the pass, if it is over). The same however often the run was resumed.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        locked(&self.inner.state).skipped
    }

    /// Shards that were given up, over all passes, up to where [`skipped`](Self::skipped) counts.
    #[must_use]
    pub fn given_up(&self) -> Vec<GivenUp> {
        locked(&self.inner.state).cursor.given_up.clone()
    }

    /// The shard for which this order has stopped the run: what it gives now ends before the samples that it had in the window
    /// that the order continued inside of.
    #[must_use]
    pub fn torn(&self) -> Option<GivenUp> {
        locked(&self.inner.state).torn
    }

    /// What was irregular since the last call, up to the batch that was given last at least.
    pub fn take_irregular(&self) -> Vec<Irregular> {
        locked(&self.inner.state).sequencer.take_irregular()
    }

    /// Drops all that waits and gives no batch any more: the trainer has had enough.
    pub fn close(&self) {
        self.inner.close();
    }

    /// Its counts at this moment.
    #[must_use]
    pub fn gauge(&self) -> OrderGauge {
        self.inner.gauge()
    }

    /// A gauge that does not keep the order alive.
    pub fn weak_gauge(&self) -> impl Fn() -> Option<OrderGauge> + Send + 'static {
        let inner = Arc::downgrade(&self.inner);
        move || inner.upgrade().map(|inner| inner.gauge())
    }
}

impl<P: Send + 'static> Inner<P> {
    fn gauge(&self) -> OrderGauge {
        let state = locked(&self.state);
        OrderGauge {
            waiting_slots: state.sequencer.waiting_slots(),
            offered: state.offered,
            given: state.given,
            waits_for: state.sequencer.waits_for(),
            waits_for_growth: state.sequencer.waits_for_growth(),
        }
    }

    /// Lets the sequencer go on, and keeps the credit's turn with it.
    fn fill(&self, state: &mut State<P>) -> bool {
        self.credit.set_turn(Turn::Nobody);
        let ready = state.sequencer.fill();
        self.tell_turn(state);
        ready
    }

    /// The lane in turn may have got its shard, or its end; holes give way.
    fn assignment_changed(&self) {
        let mut state = locked(&self.state);
        if !state.closed {
            self.fill(&mut state);
            drop(state);
            self.changed.notify_all();
        }
    }

    fn tell_turn(&self, state: &State<P>) {
        let turn = match state.sequencer.waits_for() {
            Some(waits) => Turn::Lane(waits.lane),
            None if state.closed || state.sequencer.finished() => Turn::Any, // nobody waits for anybody any more
            None => Turn::Nobody,
        };
        self.credit.set_turn(turn);
    }

    fn close(&self) {
        let mut state = locked(&self.state);
        state.closed = true;
        state.sequencer.close();
        state.using = None;
        state.partial.clear();
        self.tell_turn(&state);
        drop(state);
        self.changed.notify_all();
    }
}

impl<P> fmt::Debug for OrderService<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrderService").finish_non_exhaustive()
    }
}
