//! Who reads what: two ways of giving out leases.
//!
//! [`Dynamic`] (prune, embed) gives the plan's shards in order to whoever is free, once. [`LaneLeases`] (train) gives
//! each lane its own shards, pass after pass, and lets nobody into a later pass before the decisions needed are there.
//!
//! Both bound the shards that are read but not committed, and with them the ledger's buffers: `Dynamic` by a number,
//! `LaneLeases` by one shard a lane being read plus those on their way to the commit.
//!
//! ```
//! use trommel_dataflow::leases::Dynamic;
//! use trommel_dataflow::source::{Leases, Next};
//!
//! let leases = Dynamic::new([3, 5, 8], 2);
//! let shard = |next| match next { Next::Shard(lease) => Some(lease.ordinal), Next::Wait | Next::Done => None };
//! assert_eq!((shard(leases.next(0)), shard(leases.next(1))), (Some(3), Some(5)));
//! assert_eq!(leases.next(0), Next::Wait); // two are on their way
//! assert_eq!(leases.floor(), Some(8));
//! leases.committed(5);
//! assert_eq!(shard(leases.next(1)), Some(8));
//! assert_eq!((leases.next(0), leases.floor()), (Next::Done, None));
//! ```

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::lanes::{Lanes, Standing};
use super::redeem::Redeemed;
use super::source::{Lease, Leases, Next};
use super::window::Cursor;
use trommel_core::sample::{ORDINAL_BITS, Time, time_of};
use trommel_core::wake::{Registration, Wakers, locked};

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<u64>,
    open: HashSet<u64>,
}

/// One queue of shards for all readers.
#[derive(Debug)]
pub struct Dynamic {
    queue: Mutex<Queue>,
    max_open: usize,
    wakers: Wakers,
}

impl Dynamic {
    /// The shards `ordinals`, of which at most `max_open_shards` (at least 1) are leased and not yet committed.
    #[must_use]
    pub fn new(ordinals: impl IntoIterator<Item = u64>, max_open_shards: usize) -> Self {
        let waiting: BTreeSet<u64> = ordinals.into_iter().collect();
        let queue = Queue { waiting: waiting.into_iter().collect(), open: HashSet::new() };
        Self { queue: Mutex::new(queue), max_open: max_open_shards.max(1), wakers: Wakers::default() }
    }

    /// A shard's part is durable, or the shard was given up: its place is free.
    pub fn committed(&self, ordinal: u64) {
        if locked(&self.queue).open.remove(&ordinal) {
            self.wakers.wake_all();
        }
    }

    /// Gives nothing more: the shards that wait stay for a later run.
    pub fn drain(&self) {
        locked(&self.queue).waiting.clear();
        self.wakers.wake_all();
    }
}

impl Leases for Dynamic {
    fn next(&self, reader: usize) -> Next {
        let mut queue = locked(&self.queue);
        if queue.waiting.is_empty() {
            return Next::Done;
        }
        if queue.open.len() >= self.max_open {
            return Next::Wait;
        }
        let Some(ordinal) = queue.waiting.pop_front() else { return Next::Done };
        queue.open.insert(ordinal);
        let last = queue.waiting.is_empty();
        drop(queue);
        if last {
            self.wakers.wake_all(); // readers that wait are done
        }
        Next::Shard(Lease { pass: 0, ordinal, lane: reader, train_from: 0, replay: false })
    }

    fn floor(&self) -> Option<Time> {
        locked(&self.queue).waiting.front().map(|ordinal| time_of(0, *ordinal))
    }

    fn redeem(&self, lease: Redeemed) {
        self.committed(lease.ordinal);
    }

    fn on_change(&self, waker: Box<dyn Fn() + Send + Sync>) -> Option<Registration> {
        Some(self.wakers.add(waker))
    }
}

#[derive(Debug)]
struct Lane {
    /// Position up to which shards before the cursor were looked at.
    caught_up: u64,
    pass: u32,
    position: u64,
}

#[derive(Debug)]
struct Passes {
    lanes: Vec<Lane>,
    decided: HashSet<u64>,
    failed: HashSet<u64>,
}

/// Each lane its own shards, pass after pass. Reader `l` reads lane `l`: a run has as many readers as lanes.
///
/// In the first pass of the run a shard that the ledger has judged is replayed, any other judged. Shards of that pass
/// that lie before the cursor and are not judged yet come first, for the ledger only (`train_from` is `u32::MAX`). In
/// later passes a shard waits until its decisions are there, and is replayed.
///
/// In a growing assignment a reader waits for its lane's next shard until the assignment is closed; it is woken by the assignment, and
/// holds no credit meanwhile. Holes are not leased.
#[derive(Debug)]
pub struct LaneLeases {
    assignment: Arc<Lanes>,
    passes: u32,
    start: Cursor,
    state: Mutex<Passes>,
    wakers: Wakers,
    /// The assignment's changes are ours.
    _on_growth: Option<Registration>,
}

impl LaneLeases {
    /// Leases over `passes` passes (`None`: without end) from the cursor on; `judged` are the shards in the ledger.
    #[must_use]
    pub fn new(
        assignment: Arc<Lanes>,
        passes: Option<u32>,
        cursor: Option<&Cursor>,
        judged: impl IntoIterator<Item = u64>,
    ) -> Self {
        let start = cursor.cloned().unwrap_or_else(|| Cursor::start_of(0, assignment.count()));
        let lane = |at: usize| Lane {
            caught_up: 0,
            pass: start.pass,
            position: start.lanes.get(at).map_or(0, |place| place.position),
        };
        let lanes = (0..assignment.count()).map(lane).collect();
        let state = Passes { lanes, decided: judged.into_iter().collect(), failed: HashSet::new() };
        let last = u32::MAX >> (ORDINAL_BITS - 32);
        let passes = assignment.passes(passes).unwrap_or(last).min(last);
        let wakers = Wakers::default();
        let woken = wakers.clone();
        let on_growth = assignment.on_change(move || woken.wake_all());
        Self { assignment, passes, start, state: Mutex::new(state), wakers, _on_growth: on_growth }
    }

    /// Leaves all lanes but `lanes` to the run's other processes.
    #[must_use]
    pub fn only(self, lanes: &Range<usize>) -> Self {
        for (at, lane) in locked(&self.state).lanes.iter_mut().enumerate() {
            if !lanes.contains(&at) {
                (lane.pass, lane.caught_up) = (self.passes, u64::MAX);
            }
        }
        self
    }

    /// A shard's decisions are durable.
    pub fn committed(&self, ordinal: u64) {
        {
            let mut state = locked(&self.state);
            state.failed.remove(&ordinal);
            state.decided.insert(ordinal);
        }
        self.wakers.wake_all();
    }

    /// A shard was given up: it has no decisions, and the next pass tries to judge it.
    pub fn failed(&self, ordinal: u64) {
        locked(&self.state).failed.insert(ordinal);
        self.wakers.wake_all();
    }
}

impl Leases for LaneLeases {
    fn next(&self, reader: usize) -> Next {
        let mut state = locked(&self.state);
        let state = &mut *state;
        let Some(lane) = state.lanes.get_mut(reader) else { return Next::Done };
        let begun = self.start.lanes.get(reader).copied().unwrap_or_default();
        while lane.caught_up < begun.position {
            let ordinal = match self.assignment.standing(self.start.pass, reader, lane.caught_up) {
                Standing::Later => return Next::Wait,
                Standing::Never => break,
                Standing::Hole(_) => None,
                Standing::Shard(ordinal) => Some(ordinal),
            };
            lane.caught_up += 1;
            if let Some(ordinal) = ordinal.filter(|ordinal| !state.decided.contains(ordinal)) {
                let pass = self.start.pass;
                return Next::Shard(Lease { pass, ordinal, lane: reader, train_from: u32::MAX, replay: false });
            }
        }
        let ordinal = loop {
            if lane.pass >= self.passes {
                return Next::Done;
            }
            match self.assignment.standing(lane.pass, reader, lane.position) {
                Standing::Shard(ordinal) => break ordinal,
                Standing::Hole(_) => lane.position += 1,
                Standing::Later => return Next::Wait,
                // An empty lane is done with all passes at once.
                Standing::Never if self.assignment.positions(reader) == 0 => lane.pass = self.passes,
                Standing::Never => (lane.pass, lane.position) = (lane.pass + 1, 0),
            }
        };
        let (pass, position) = (lane.pass, lane.position);
        let replay = state.decided.contains(&ordinal);
        if !replay && pass > self.start.pass && !state.failed.remove(&ordinal) {
            return Next::Wait;
        }
        lane.position += 1;
        let at_cursor = pass == self.start.pass && position == begun.position;
        let train_from = if at_cursor { begun.index } else { 0 };
        Next::Shard(Lease { pass, ordinal, lane: reader, train_from, replay })
    }

    fn floor(&self) -> Option<Time> {
        let state = locked(&self.state);
        let lanes = state.lanes.iter().enumerate().filter(|(_, lane)| lane.pass < self.passes);
        if self.assignment.passes(None).is_none() {
            let running = lanes.filter(|(at, _)| self.assignment.positions(*at) > 0);
            return running.map(|(_, lane)| time_of(lane.pass, 0)).min();
        }
        // Arrival order: what a lane still reads only rises, so the one endless pass is passed shard by shard.
        let next = |(at, lane): (usize, &Lane)| {
            let begun = self.start.lanes.get(at).map_or(0, |place| place.position);
            let position = if lane.caught_up < begun { lane.caught_up } else { lane.position };
            let ordinal = position.saturating_mul(self.assignment.count() as u64).saturating_add(at as u64);
            (self.assignment.standing(lane.pass, at, position) != Standing::Never).then(|| time_of(lane.pass, ordinal))
        };
        lanes.filter_map(next).min()
    }

    fn redeem(&self, Redeemed { ordinal, failed }: Redeemed) {
        if failed {
            self.failed(ordinal);
        } else {
            self.committed(ordinal);
        }
    }

    fn on_change(&self, waker: Box<dyn Fn() + Send + Sync>) -> Option<Registration> {
        Some(self.wakers.add(waker))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::window::LanePlace;

    fn assignment() -> Arc<Lanes> {
        Arc::new(Lanes::new(2, 1, (0..5).map(|ordinal| (ordinal, format!("{ordinal}")))))
    }

    fn shard(next: Next) -> Lease {
        match next {
            Next::Shard(lease) => lease,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn later_passes_wait_for_their_decisions() {
        let (assignment, leases) = (assignment(), LaneLeases::new(assignment(), Some(2), None, []));
        for position in 0..3 {
            let lease = shard(leases.next(0));
            assert_eq!((Some(lease.ordinal), lease.replay), (assignment.ordinal(0, 0, position), false));
        }
        assert_eq!(leases.next(0), Next::Wait);
        assert_eq!(leases.floor(), Some(0));
        let needed = assignment.ordinal(1, 0, 0).unwrap();
        leases.committed(needed);
        let lease = shard(leases.next(0));
        assert_eq!((lease.pass, lease.ordinal, lease.replay), (1, needed, true));
        leases.failed(assignment.ordinal(1, 0, 1).unwrap());
        assert!(!shard(leases.next(0)).replay);
        (0..5).for_each(|ordinal| leases.committed(ordinal));
        shard(leases.next(0));
        assert_eq!((leases.next(0), leases.next(0), leases.next(2)), (Next::Done, Next::Done, Next::Done));
        for _ in 0..4 {
            shard(leases.next(1));
        }
        assert_eq!((leases.next(1), leases.floor()), (Next::Done, None));
    }

    #[test]
    fn a_resumed_lane_first_judges_what_the_ledger_lacks() {
        let assignment = assignment();
        let mut cursor = Cursor::start_of(0, 2);
        cursor.lanes[0] = LanePlace { position: 2, index: 7 };
        let [first, second, third] = [0, 1, 2].map(|position| assignment.ordinal(0, 0, position).unwrap());
        let leases = LaneLeases::new(assignment, Some(1), Some(&cursor), [first]);
        let lease = shard(leases.next(0));
        assert_eq!((lease.ordinal, lease.train_from, lease.replay), (second, u32::MAX, false));
        let lease = shard(leases.next(0));
        assert_eq!((lease.ordinal, lease.train_from, lease.replay), (third, 7, false));
        assert_eq!(leases.next(0), Next::Done);
    }

    #[test]
    fn readers_of_a_growing_deal_wait_for_their_next_shard() {
        let assignment = Arc::new(Lanes::growing(2));
        let leases = LaneLeases::new(assignment.clone(), None, None, []);
        let woken = Arc::new(AtomicUsize::new(0));
        let counted = woken.clone();
        let _registration = leases.on_change(Box::new(move || _ = counted.fetch_add(1, Ordering::SeqCst)));
        assert_eq!((leases.next(0), leases.next(1), leases.floor()), (Next::Wait, Next::Wait, Some(0)));
        assignment.grow(3);
        assert_eq!((shard(leases.next(0)).ordinal, leases.floor()), (0, Some(1)));
        assert_eq!((shard(leases.next(1)).ordinal, leases.floor()), (1, Some(2)));
        assert_eq!((leases.next(1), leases.next(1), leases.floor()), (Next::Wait, Next::Wait, Some(2)));
        assignment.hole(3);
        assignment.grow(6);
        assert_eq!((shard(leases.next(1)).ordinal, leases.floor()), (5, Some(2)));
        assert_eq!([2, 4].map(|_| shard(leases.next(0)).ordinal), [2, 4]);
        assert_eq!((leases.next(0), leases.next(1), leases.floor()), (Next::Wait, Next::Wait, Some(6)));
        assignment.close();
        assert_eq!((leases.next(0), leases.next(1), leases.floor()), (Next::Done, Next::Done, None));
        assert_eq!(woken.load(Ordering::SeqCst), 4);
    }

    #[test]
    fn a_lane_catches_up_while_the_assignment_is_told_again() {
        let assignment = Arc::new(Lanes::growing(2));
        let mut cursor = Cursor::start_of(0, 2);
        cursor.lanes[0] = LanePlace { position: 2, index: 7 };
        let leases = LaneLeases::new(assignment.clone(), Some(1), Some(&cursor), [0]);
        assert_eq!((leases.next(0), leases.floor()), (Next::Wait, Some(0)));
        assignment.grow(2);
        assert_eq!(leases.next(0), Next::Wait, "shard 2 lies before the cursor and has not come");
        assignment.grow(7);
        let taken = [0, 1, 2].map(|_| shard(leases.next(0))).map(|lease| (lease.ordinal, lease.train_from));
        assert_eq!(taken, [(2, u32::MAX), (4, 7), (6, 0)]);
        assert_eq!((leases.next(0), leases.floor()), (Next::Wait, Some(1)));
    }
}
