//! Credit: the bytes in flight, bounded. timely has no back-pressure, so admission is bounded instead.
//!
//! ```text
//!            budget = lanes x quantum + shared part
//!  reader 0 ─▶ [quantum 0]─┐
//!  reader 1 ─▶ [quantum 1]─┼─▶ [shared part, in the order of asking]     [outside: one oversized sample]
//!  reader 2 ─▶ [quantum 2]─┘
//! ```
//!
//! A sample takes one [`Permit`] at admission for all that it will ever hold. The permit only shrinks, and returns on
//! drop. A request is served from its lane's own quantum, else from the shared part. Requests for the shared part
//! that had to wait are served in the order of asking, so that a large one is not starved by small ones.
//!
//! A request larger than the quantum cannot rely on it. Two cases:
//! - *Nobody takes turns* ([`Turn::Any`], pruning): it waits for the shared part; if it is larger than that, it passes
//!   outside of the budget, one such sample at a time.
//! - *Lanes take turns* ([`Turn::Lane`], training): samples of the other lanes may fill the shared part and the place
//!   outside while they wait for exactly this one. So the lane whose turn it is passes outside as soon as it holds
//!   nothing else.
//!
//! What a reader's decompressor holds is its [`workspace`], claimed of the shared part for the shard's length.
//!
//! Invariants:
//! - **C1** bytes held inside, workspaces included, never exceed the budget, but while a workspace has its turn or grows. Outside stands at most one sample, or, with turns, at most one a
//!   lane (more than one only when a hole returned its permit before the order heard of it).
//! - **C2** a lane that holds nothing is admitted when it asks for no more than its quantum, at once; when it asks for
//!   more, as soon as it has the turn.
//! - **L2** after a stop every waiting request returns [`Stopped`].
//!
//! Cost: one mutex, taken once per admission and once per return.
//!
//! ```
//! use trommel_core::credit::{Credit, CreditConfig};
//! use trommel_core::stop::Stop;
//!
//! let credit = Credit::new(CreditConfig { budget_bytes: 100, lanes: 2, quantum_bytes: 20 }, Stop::new());
//! let mut permit = credit.acquire(0, 60)?; // from the shared part
//! permit.shrink_to(10);
//! assert_eq!(credit.gauge().used_bytes, 10);
//! drop(permit);
//! assert_eq!(credit.gauge().used_bytes, 0);
//! assert_eq!(credit.gauge().peak_bytes, 60);
//! # Ok::<(), trommel_core::credit::Stopped>(())
//! ```

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};

use super::records::{Record, Records};
use super::stop::Stop;
pub use super::stop::Stopped;
use super::wake::{Registration, Wakers, locked};

mod core;
pub mod workspace;
pub use self::core::Turn;
use self::core::{Core, Pocket};
use self::workspace::Workspace;

/// How the budget is divided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreditConfig {
    /// Bytes that may be in flight, quanta included.
    pub budget_bytes: u64,
    /// Reader threads of the process; at least 1.
    pub lanes: usize,
    /// Bytes set aside for each lane; cut to `budget_bytes / lanes` where the budget is smaller than all quanta.
    pub quantum_bytes: u64,
}

/// How the credit stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauge {
    /// Size of the whole budget.
    pub budget_bytes: u64,
    /// Held inside the budget now.
    pub used_bytes: u64,
    /// Most ever held inside the budget.
    pub peak_bytes: u64,
    /// Requests that wait now.
    pub waiting: usize,
    /// Samples that stand outside of the budget now.
    pub oversized: usize,
    /// Bytes that stand outside of the budget now.
    pub oversized_bytes: u64,
    /// Most samples that ever stood outside at once.
    pub peak_oversized: usize,
    /// Bytes of the budget that readers' workspaces have claimed.
    pub workspace_bytes: u64,
    /// Bytes that left the credit into a stage's reserve and are still held there.
    pub reserve_bytes: u64,
    /// Bytes of samples' records that the ledger has not written.
    pub record_bytes: u64,
    /// Permits ever granted: moves while the run moves.
    pub granted: u64,
}

/// The credit of one process. Clones share it.
#[derive(Clone)]
pub struct Credit {
    inner: Arc<Inner>,
    records: Option<Records>,
}

struct Inner {
    core: Mutex<Core>,
    returned: Condvar,
    waiting: AtomicUsize,
    reserve: Arc<AtomicU64>,
    hurry: Wakers,
    stop: Stop,
    on_stop: OnceLock<Registration>,
}

impl Credit {
    /// A credit from its configuration. A budget below the sum of the quanta cuts the quanta.
    #[must_use]
    pub fn new(config: CreditConfig, stop: Stop) -> Self {
        let inner = Arc::new(Inner {
            core: Mutex::new(Core::new(&config)),
            returned: Condvar::new(),
            waiting: AtomicUsize::new(0),
            reserve: Arc::new(AtomicU64::new(0)),
            hurry: Wakers::default(),
            stop: stop.clone(),
            on_stop: OnceLock::new(),
        });
        let weak = Arc::downgrade(&inner);
        let registration = stop.on_request(move || {
            if let Some(inner) = weak.upgrade() {
                let _order = locked(&inner.core); // a waiter is either before its check or inside its wait
                inner.returned.notify_all();
            }
        });
        let _first = inner.on_stop.set(registration);
        Self { inner, records: None }
    }

    /// With a bound on what is left of each lane's samples when their permits have returned; without this there is none.
    #[must_use]
    pub fn with_records(self, lane_bytes: u64) -> Self {
        let lanes = locked(&self.inner.core).lanes();
        let records = Some(Records::new(lanes, lane_bytes, self.inner.stop.clone()));
        Self { records, ..self }
    }

    /// With `beside_bytes` that workspaces may have before they claim of the shared part: memory that samples are given none of.
    #[must_use]
    pub fn with_workspaces(self, beside_bytes: u64) -> Self {
        locked(&self.inner.core).set_beside(beside_bytes);
        self
    }

    /// Takes bytes of `lane`'s records: see [`Records::acquire`]. For reader threads only.
    ///
    /// # Errors
    /// [`Stopped`] when the run stops first.
    pub fn record(&self, lane: usize, bytes: u64, beside_bytes: u64) -> Result<Record, Stopped> {
        let records = self.records.as_ref();
        records.map_or_else(|| Ok(Record::default()), |records| records.acquire(lane, bytes, beside_bytes))
    }

    /// Takes `bytes` for `lane` (taken modulo the number of lanes); blocks until they are there. For reader threads only.
    ///
    /// # Errors
    /// [`Stopped`] when the run stops first.
    pub fn acquire(&self, lane: usize, bytes: u64) -> Result<Permit, Stopped> {
        let inner = &*self.inner;
        let mut core = locked(&inner.core);
        let lane = lane % core.lanes();
        if inner.stop.is_requested() {
            return Err(Stopped);
        }
        if let Some(pocket) = core.grant(lane, bytes, None) {
            return Ok(self.permit(lane, pocket, bytes));
        }
        let ticket = core.enqueue(bytes);
        inner.waiting.fetch_add(1, Ordering::SeqCst);
        drop(core);
        inner.hurry.wake_all(); // batchers flush: what we wait for may sit with them
        core = locked(&inner.core);
        let outcome = loop {
            if inner.stop.is_requested() {
                break Err(Stopped);
            }
            if let Some(pocket) = core.grant(lane, bytes, ticket) {
                break Ok(pocket);
            }
            core = inner.returned.wait(core).unwrap_or_else(PoisonError::into_inner);
        };
        inner.waiting.fetch_sub(1, Ordering::SeqCst);
        core.dequeue(ticket);
        drop(core);
        inner.returned.notify_all(); // the next in the queue may fit now
        outcome.map(|pocket| self.permit(lane, pocket, bytes))
    }

    /// As [`acquire`](Self::acquire), but `None` instead of waiting.
    #[must_use]
    pub fn try_acquire(&self, lane: usize, bytes: u64) -> Option<Permit> {
        let mut core = locked(&self.inner.core);
        let lane = lane % core.lanes();
        let pocket = core.grant(lane, bytes, None)?;
        drop(core);
        Some(self.permit(lane, pocket, bytes))
    }

    /// An empty workspace for the reader of `lane`.
    #[must_use]
    pub fn workspace(&self, lane: usize) -> Workspace {
        Workspace::new(self, lane)
    }

    fn permit(&self, lane: usize, pocket: Pocket, bytes: u64) -> Permit {
        Permit { credit: Some(self.inner.clone()), lane, pocket, bytes }
    }

    /// Whether someone waits: batchers flush.
    #[must_use]
    pub fn waiting(&self) -> bool {
        self.inner.waiting.load(Ordering::SeqCst) > 0
    }

    /// Calls `waker`, on the reader's thread, each time someone starts to wait.
    pub fn on_waiting(&self, waker: impl Fn() + Send + Sync + 'static) -> Registration {
        self.inner.hurry.add(waker)
    }

    /// Of the order's lanes this process reads `lanes` only, as many as the configuration says: the turn of another is
    /// nobody's here. Without it the lanes are those of the configuration, from 0.
    pub fn reads(&self, lanes: Range<usize>) {
        locked(&self.inner.core).reads(lanes);
    }

    /// Says whose turn it is: see the module's head. Called by the order.
    pub fn set_turn(&self, turn: Turn) {
        let changed = locked(&self.inner.core).set_turn(turn);
        if changed && self.waiting() {
            self.inner.returned.notify_all();
        }
    }

    /// How the credit stands.
    #[must_use]
    pub fn gauge(&self) -> Gauge {
        let core = locked(&self.inner.core);
        Gauge {
            waiting: self.inner.waiting.load(Ordering::SeqCst),
            reserve_bytes: self.inner.reserve.load(Ordering::SeqCst),
            record_bytes: self.records.as_ref().map_or(0, Records::held_bytes),
            ..core.gauge()
        }
    }
}

impl fmt::Debug for Credit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.gauge().fmt(f)
    }
}

impl Inner {
    fn give_back(&self, lane: usize, pocket: Pocket, bytes: u64, left: u64) {
        locked(&self.core).give_back(lane, pocket, bytes, left);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.returned.notify_all();
        }
    }
}

/// Bytes held by one sample; returned on drop.
pub struct Permit {
    credit: Option<Arc<Inner>>,
    lane: usize,
    pocket: Pocket,
    bytes: u64,
}

impl Permit {
    /// A permit of 0 bytes, of no credit: for tests and paths without a budget.
    #[must_use]
    pub fn free() -> Self {
        Self { credit: None, lane: 0, pocket: Pocket::Own, bytes: 0 }
    }

    /// Number of bytes that it holds now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns all above `bytes`. A permit never grows: a larger number changes nothing.
    pub fn shrink_to(&mut self, bytes: u64) {
        if bytes < self.bytes {
            let returned = self.bytes - bytes;
            self.bytes = bytes;
            if let Some(credit) = &self.credit {
                credit.give_back(self.lane, self.pocket, returned, bytes);
            }
        }
    }

    /// Leaves the credit, whose bytes return at once; they count against a stage's own reserve from here on.
    #[must_use]
    pub fn into_reserve(self) -> Reserve {
        let counter = self.credit.as_ref().map(|credit| credit.reserve.clone());
        if let Some(counter) = &counter {
            counter.fetch_add(self.bytes, Ordering::SeqCst);
        }
        Reserve { counter, bytes: self.bytes } // `self` drops here
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("bytes", &self.bytes).field("lane", &self.lane).finish_non_exhaustive()
    }
}

/// Bytes that have left the credit and stand in a window or a batch; counted until dropped.
pub struct Reserve {
    counter: Option<Arc<AtomicU64>>,
    bytes: u64,
}

impl Reserve {
    /// Number of bytes that it holds now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        if let Some(counter) = &self.counter {
            counter.fetch_sub(self.bytes, Ordering::SeqCst);
        }
    }
}

impl fmt::Debug for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserve").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
