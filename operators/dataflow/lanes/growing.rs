//! An assignment whose shards come while it is used: what a watch trains on.
//!
//! Shard `ordinal` stands in lane `ordinal % lanes` at position `ordinal / lanes`, in pass 0: in order of arrival, so
//! that nothing which comes later moves what was assigned. Until [`Lanes::close`] the assignment is open: no lane is exhausted.
//!
//! Invariants:
//! 1. What a place holds goes from [`Standing::Later`] to a shard or a hole, or to [`Standing::Never`]; a shard may
//!    still become a hole. Nothing goes back.
//! 2. Every question is answered under one lock, so no answer mixes two states.
//! 3. Wakers are called after the change and outside of the lock.

use std::collections::HashSet;
use std::sync::Mutex;

use super::{Lanes, ShardPlace, Standing};
use trommel_core::wake::{Registration, Wakers, locked};

#[derive(Debug, Default)]
struct Grown {
    shards: u64,
    holes: HashSet<u64>,
    closed: bool,
}

/// What a growing assignment knows now.
#[derive(Debug, Default)]
pub(super) struct Growing {
    state: Mutex<Grown>,
    wakers: Wakers,
}

impl Growing {
    pub(super) fn shards(&self) -> u64 {
        locked(&self.state).shards
    }

    pub(super) fn is_open(&self) -> bool {
        !locked(&self.state).closed
    }

    pub(super) fn is_empty(&self) -> bool {
        let state = locked(&self.state);
        state.closed && state.shards == 0
    }

    pub(super) fn closed_at(&self) -> Option<u64> {
        let state = locked(&self.state);
        state.closed.then_some(state.shards)
    }

    pub(super) fn is_hole(&self, ordinal: u64) -> bool {
        locked(&self.state).holes.contains(&ordinal)
    }

    pub(super) fn standing(&self, lanes: usize, pass: u32, lane: usize, position: u64) -> Standing {
        let ordinal = position.checked_mul(lanes as u64).and_then(|first| first.checked_add(lane as u64));
        let Some(ordinal) = ordinal.filter(|_| pass == 0 && lane < lanes) else { return Standing::Never };
        let state = locked(&self.state);
        match (ordinal < state.shards, state.closed) {
            (true, _) if state.holes.contains(&ordinal) => Standing::Hole(ordinal),
            (true, _) => Standing::Shard(ordinal),
            (false, false) => Standing::Later,
            (false, true) => Standing::Never,
        }
    }

    pub(super) fn place(&self, lanes: usize, pass: u32, ordinal: u64) -> Option<ShardPlace> {
        let lanes = lanes as u64;
        let lane = usize::try_from(ordinal % lanes).ok()?;
        (pass == 0 && ordinal < self.shards()).then_some(ShardPlace { lane, position: ordinal / lanes })
    }

    fn change(&self, change: impl FnOnce(&mut Grown) -> bool) -> bool {
        let changed = change(&mut locked(&self.state));
        if changed {
            self.wakers.wake_all();
        }
        changed
    }
}

impl Lanes {
    /// An assignment to `lanes` (at least 1) lanes that has no shards yet and is open. There is only pass 0.
    ///
    /// ```
    /// use trommel_dataflow::lanes::{Lanes, Standing};
    ///
    /// let lanes = Lanes::growing(2);
    /// lanes.grow(3);
    /// lanes.hole(1);
    /// let first = [0, 1].map(|lane| lanes.standing(0, lane, 0));
    /// assert_eq!(first, [Standing::Shard(0), Standing::Hole(1)]);
    /// assert_eq!(lanes.standing(0, 1, 1), Standing::Later);
    /// lanes.close();
    /// assert_eq!(lanes.standing(0, 1, 1), Standing::Never);
    /// ```
    #[must_use]
    pub fn growing(lanes: usize) -> Self {
        Self::of(lanes, super::ShardList::Growing(Growing::default()))
    }

    /// Assigns the shards up to `shards`: all ordinals `0..shards` are there now. Returns whether that is news: less
    /// than before, a closed assignment and a fixed one stay as they are.
    pub fn grow(&self, shards: u64) -> bool {
        let grown = |state: &mut Grown| {
            let more = !state.closed && shards > state.shards;
            if more {
                state.shards = shards;
            }
            more
        };
        self.as_growing().is_some_and(|growing| growing.change(grown))
    }

    /// Makes a shard of a growing assignment, assigned or still to come, an empty one for good: it is not leased any more, and
    /// what was read of it and has not had its turn is dropped. Returns whether that is news.
    ///
    /// Marked before its first sample has had its turn, the shard counts as if it had been empty all along. Marked
    /// later, it ends where it stands; a window that is rebuilt by resuming then lacks the samples it had given.
    pub fn hole(&self, ordinal: u64) -> bool {
        self.as_growing().is_some_and(|growing| growing.change(|state| state.holes.insert(ordinal)))
    }

    /// Says that no more shards will come to a growing assignment: its pass ends as any other. Returns whether that is news.
    pub fn close(&self) -> bool {
        let closed = |state: &mut Grown| !std::mem::replace(&mut state.closed, true);
        self.as_growing().is_some_and(|growing| growing.change(closed))
    }

    /// Whether shards may still come.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.as_growing().is_some_and(Growing::is_open)
    }

    /// The number of shards with which a growing assignment was closed.
    #[must_use]
    pub fn closed_at(&self) -> Option<u64> {
        self.as_growing().and_then(Growing::closed_at)
    }

    /// Whether a shard was made a hole.
    #[must_use]
    pub fn is_hole(&self, ordinal: u64) -> bool {
        self.as_growing().is_some_and(|growing| growing.is_hole(ordinal))
    }

    /// Calls `waker` after every growth, hole and closing. `None`: a fixed assignment never changes.
    pub fn on_change(&self, waker: impl Fn() + Send + Sync + 'static) -> Option<Registration> {
        self.as_growing().map(|growing| growing.wakers.add(waker))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn what_comes_later_moves_nothing() {
        let lanes = Lanes::growing(3);
        let mut assigned: Vec<(u64, ShardPlace)> = Vec::new();
        for shards in [0, 1, 2, 5, 5, 3, 11] {
            lanes.grow(shards);
            for (ordinal, place) in &assigned {
                assert_eq!(lanes.place(0, *ordinal), Some(*place));
                assert_eq!(lanes.standing(0, place.lane, place.position), Standing::Shard(*ordinal));
            }
            assigned = (0..lanes.shards() as u64).filter_map(|at| Some((at, lanes.place(0, at)?))).collect();
        }
        assert_eq!((assigned.len(), lanes.shards()), (11, 11));
        assert_eq!([0, 1, 2, 3].map(|lane| lanes.positions(lane)), [4, 4, 3, 0]);
        assert_eq!((lanes.place(0, 11), lanes.place(1, 0)), (None, None));
        assert_eq!((lanes.standing(1, 0, 0), lanes.standing(0, 3, 0)), (Standing::Never, Standing::Never));
        assert_eq!(lanes.standing(0, 0, u64::MAX), Standing::Never);
    }

    #[test]
    fn it_is_open_until_closed_and_tells_of_news_only() {
        let (lanes, calls) = (Lanes::growing(2), Arc::new(AtomicUsize::new(0)));
        let counted = calls.clone();
        let _registration = lanes.on_change(move || _ = counted.fetch_add(1, Ordering::SeqCst));
        assert_eq!((lanes.is_open(), lanes.is_empty(), lanes.closed_at()), (true, false, None));
        assert!(lanes.grow(2) && !lanes.grow(2) && !lanes.grow(1));
        assert!(lanes.hole(5) && !lanes.hole(5));
        assert_eq!(lanes.standing(0, 1, 2), Standing::Later, "a hole still has to come");
        assert!(lanes.close() && !lanes.close() && !lanes.grow(9));
        assert_eq!(calls.load(Ordering::SeqCst), 3);
        assert_eq!((lanes.is_open(), lanes.is_empty(), lanes.closed_at()), (false, false, Some(2)));
        let none = Lanes::growing(2);
        assert!(none.close() && none.is_empty());
    }

    #[test]
    fn a_fixed_assignment_does_not_grow() {
        let lanes = Lanes::new(1, 0, [(0, "a".to_owned())]);
        assert!(!lanes.grow(2) && !lanes.hole(0) && !lanes.close() && !lanes.is_open());
        assert!(lanes.on_change(|| ()).is_none());
        assert_eq!((lanes.standing(0, 0, 0), lanes.standing(0, 0, 1)), (Standing::Shard(0), Standing::Never));
    }
}
