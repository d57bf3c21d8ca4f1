//! Records: what is left of a sample when its bytes are gone, its names and its fate, bounded until the ledger has written it.
//!
//! ```text
//!  reader of lane l ─ acquire ─▶ [limit of lane l] ◀─ drop ─ the ledger wrote the row, or the run forgot it
//! ```
//!
//! A lane's records are its own: no lane waits for another's. Who waits holds more than the limit less one record; if the
//! limit is a row group and one record more, then a whole group is among them, and it is written as soon as the fates of
//! samples arrive that have their credit already. So a shard of any length can finish (`docs/design/time-and-order.md`).
//!
//! Invariants: a lane holds at most its limit, or one record alone. After a stop everyone who waits is told.
//!
//! ```
//! use trommel_core::records::Records;
//! use trommel_core::stop::Stop;
//!
//! let records = Records::new(2, 100, Stop::new());
//! let first = records.acquire(0, 70, 10)?;
//! assert_eq!(records.acquire(1, 80, 0)?.bytes(), 80); // another lane's, and gone again
//! assert_eq!(records.held_bytes(), 80);
//! drop(first);
//! assert_eq!(records.acquire(0, 500, 0)?.bytes(), 500); // alone
//! # Ok::<(), trommel_core::credit::Stopped>(())
//! ```

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use super::stop::{Stop, Stopped};
use super::wake::{Registration, locked};

/// The records of one process, lane by lane. Clones are the same.
#[derive(Clone)]
pub struct Records {
    inner: Arc<Inner>,
}

struct Inner {
    lanes: Vec<Lane>,
    limit_bytes: u64,
    stop: Stop,
    on_stop: OnceLock<Registration>,
}

#[derive(Default)]
struct Lane {
    held: Mutex<u64>,
    returned: Condvar,
}

impl Records {
    /// For `lanes` (at least 1) lanes, each of which may hold `limit_bytes`.
    #[must_use]
    pub fn new(lanes: usize, limit_bytes: u64, stop: Stop) -> Self {
        let lanes = std::iter::repeat_with(Lane::default).take(lanes.max(1)).collect();
        let inner = Arc::new(Inner { lanes, limit_bytes, stop: stop.clone(), on_stop: OnceLock::new() });
        let weak = Arc::downgrade(&inner);
        let registration = stop.on_request(move || {
            for lane in weak.upgrade().iter().flat_map(|inner| &inner.lanes) {
                let _order = locked(&lane.held); // a waiter is either before its check or inside its wait
                lane.returned.notify_all();
            }
        });
        let _first = inner.on_stop.set(registration);
        Self { inner }
    }

    /// Takes `bytes` for a record of `lane` (taken modulo the number of lanes), and `beside_bytes` for what comes with it but
    /// is no part of a row group; blocks until they are there. For reader threads only.
    ///
    /// # Errors
    /// [`Stopped`] when the run stops first.
    pub fn acquire(&self, lane: usize, bytes: u64, beside_bytes: u64) -> Result<Record, Stopped> {
        let at = lane % self.inner.lanes.len();
        let lane = &self.inner.lanes[at];
        let asked = bytes.saturating_add(beside_bytes);
        let mut held = locked(&lane.held);
        while *held > 0 && held.saturating_add(asked) > self.inner.limit_bytes {
            if self.inner.stop.is_requested() {
                return Err(Stopped);
            }
            held = lane.returned.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        *held = held.saturating_add(asked);
        Ok(Record { of: Some((self.inner.clone(), at)), bytes, beside_bytes })
    }

    /// Bytes held, over all lanes.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.inner.lanes.iter().map(|lane| *locked(&lane.held)).sum()
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("held_bytes", &self.held_bytes()).finish_non_exhaustive()
    }
}

/// The bytes that one sample's record takes; returned on drop. The default is 0 bytes of nobody.
#[derive(Default)]
pub struct Record {
    of: Option<(Arc<Inner>, usize)>,
    bytes: u64,
    beside_bytes: u64,
}

impl Record {
    /// Bytes held, but for those beside it.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some((inner, lane)) = &self.of {
            let lane = &inner.lanes[*lane];
            let mut held = locked(&lane.held);
            *held = held.saturating_sub(self.bytes.saturating_add(self.beside_bytes));
            drop(held);
            lane.returned.notify_all();
        }
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// Who pays for a record says nothing about the sample.
impl PartialEq for Record {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_lane_waits_for_its_own_records_only() {
        let records = Records::new(2, 100, Stop::new());
        let first = records.acquire(0, 70, 0).unwrap();
        let other = records.acquire(1, 60, 40).unwrap();
        let waiter = {
            let records = records.clone();
            thread::spawn(move || records.acquire(0, 70, 0).unwrap().bytes())
        };
        drop(first);
        assert_eq!(waiter.join().unwrap(), 70);
        assert_eq!(records.held_bytes(), 100);
        drop(other);
        assert_eq!(records.held_bytes(), 0);
    }

    #[test]
    fn a_stop_wakes_the_waiting() {
        let stop = Stop::new();
        let records = Records::new(1, 10, stop.clone());
        let _held = records.acquire(0, 10, 0).unwrap();
        let waiter = thread::spawn({
            let records = records.clone();
            move || records.acquire(0, 0, 1).map(drop)
        });
        stop.request();
        assert_eq!(waiter.join().unwrap(), Err(Stopped));
    }
}
