//! The credit's arithmetic, without threads: what a request gets, and what a return frees.

use std::collections::VecDeque;
use std::ops::Range;

use thiserror::Error;

use super::{CreditConfig, Gauge};

/// No room for a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoRoom {
    /// The run was asked to stop.
    #[error("stopped")]
    Stopped,
    /// The budget has no room for it beside those of other readers.
    #[error("--memory leaves {most_bytes} for all readers together, of which others hold {held_bytes}")]
    Full {
        /// What all workspaces may have together, in bytes.
        most_bytes: u64,
        /// What others hold of it, in bytes.
        held_bytes: u64,
    },
}

/// What a workspace's claim on the shared part gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    Taken,
    /// When another has returned its own.
    Later,
    /// Not in this budget, or not while those hold theirs who may wait for this one.
    Never(NoRoom),
}

/// Who may pass outside of the budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Turn {
    /// Nobody takes turns (pruning): one sample larger than the shared part, whoever it belongs to.
    #[default]
    Any,
    /// Lanes take turns and the turn is just moving on: nobody.
    Nobody,
    /// Lanes take turns: this one, once it holds nothing.
    Lane(usize),
}

/// From where a permit was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pocket {
    Own,
    Shared,
    Outside,
}

/// The state behind the credit's mutex.
#[derive(Debug)]
pub(super) struct Core {
    quantum: u64,
    own_used: Vec<u64>,
    /// Permits of the lane that hold bytes.
    live: Vec<usize>,
    shared: u64,
    shared_used: u64,
    turn: Turn,
    /// Claimed by workspaces, of `beside` first and then of the shared part.
    claimed: u64,
    /// Bytes that are there for workspaces only.
    beside: u64,
    /// Lanes of the order that are read here; `None`: all of them.
    mine: Option<Range<usize>>,
    next_ticket: u64,
    queue: VecDeque<u64>,
    gauge: Gauge,
}

impl Core {
    pub(super) fn new(config: &CreditConfig) -> Self {
        let lanes = config.lanes.max(1);
        let quantum = config.quantum_bytes.min(config.budget_bytes / lanes as u64);
        Self {
            quantum,
            own_used: vec![0; lanes],
            live: vec![0; lanes],
            shared: config.budget_bytes - quantum * lanes as u64,
            shared_used: 0,
            turn: Turn::Any,
            claimed: 0,
            beside: 0,
            mine: None,
            next_ticket: 0,
            queue: VecDeque::new(),
            gauge: Gauge { budget_bytes: config.budget_bytes, ..Gauge::default() },
        }
    }

    pub(super) fn lanes(&self) -> usize {
        self.own_used.len()
    }

    /// Serves a request, if it can be served now. `ticket` is the request's place in the queue, if it waits there.
    pub(super) fn grant(&mut self, lane: usize, bytes: u64, ticket: Option<u64>) -> Option<Pocket> {
        let pocket = self.pocket(lane, bytes, ticket)?;
        match pocket {
            Pocket::Own => self.own_used[lane] += bytes,
            Pocket::Shared => self.shared_used += bytes,
            Pocket::Outside => {
                self.gauge.oversized += 1;
                self.gauge.oversized_bytes += bytes;
                self.gauge.peak_oversized = self.gauge.peak_oversized.max(self.gauge.oversized);
            }
        }
        if pocket != Pocket::Outside {
            self.gauge.used_bytes += bytes;
            self.gauge.peak_bytes = self.gauge.peak_bytes.max(self.gauge.used_bytes);
        }
        self.gauge.granted += 1;
        if bytes > 0 {
            self.live[lane] += 1;
        }
        Some(pocket)
    }

    fn pocket(&self, lane: usize, bytes: u64, ticket: Option<u64>) -> Option<Pocket> {
        let fits = |used: u64, of: u64| used.checked_add(bytes).is_some_and(|sum| sum <= of);
        if fits(self.own_used[lane], self.quantum) {
            return Some(Pocket::Own);
        }
        let next_in_queue = self.queue.front().is_none_or(|first| Some(*first) == ticket);
        if next_in_queue && fits(self.shared_used, self.room()) {
            return Some(Pocket::Shared);
        }
        let passes_outside = match self.turn {
            Turn::Any => bytes > self.quantum && bytes > self.room() && self.gauge.oversized == 0,
            Turn::Nobody => false,
            Turn::Lane(turn) => bytes > self.quantum && turn == lane && self.live[lane] == 0,
        };
        passes_outside.then_some(Pocket::Outside)
    }

    /// What workspaces leave of the shared part.
    fn room(&self) -> u64 {
        self.shared - self.claimed.saturating_sub(self.beside)
    }

    pub(super) fn set_beside(&mut self, bytes: u64) {
        self.beside = bytes;
    }

    /// What all workspaces together may have.
    fn claimable(&self) -> u64 {
        self.shared.saturating_add(self.beside)
    }

    /// Claims `bytes` for a workspace that holds `held` already. Such a one never waits for another's: that may wait for this one's, or it waits
    /// for nobody but itself.
    pub(super) fn claim(&mut self, bytes: u64, held: u64) -> Claim {
        if bytes <= self.claimable() - self.claimed {
            self.claimed += bytes;
            self.gauge.workspace_bytes = self.claimed;
            return Claim::Taken;
        }
        let may_wait = held == 0 && bytes <= self.claimable() && self.turn == Turn::Any;
        if may_wait { Claim::Later } else { Claim::Never(self.full(held)) }
    }

    /// No room, as a workspace that holds `held` sees it.
    pub(super) fn full(&self, held: u64) -> NoRoom {
        NoRoom::Full { most_bytes: self.claimable(), held_bytes: self.claimed - held }
    }

    pub(super) fn unclaim(&mut self, bytes: u64) {
        self.claimed -= bytes;
        self.gauge.workspace_bytes = self.claimed;
    }

    /// Whether a claim of `lane` is there: the samples have gone that stood in it, or they wait for this lane.
    pub(super) fn is_clear(&self, lane: usize) -> bool {
        self.shared_used <= self.room() || (self.turn == Turn::Lane(lane) && self.live[lane] == 0)
    }

    /// A place in the queue for the shared part, for requests that can ever be served from it.
    pub(super) fn enqueue(&mut self, bytes: u64) -> Option<u64> {
        (bytes <= self.shared).then(|| {
            let ticket = self.next_ticket;
            self.next_ticket += 1;
            self.queue.push_back(ticket);
            ticket
        })
    }

    pub(super) fn dequeue(&mut self, ticket: Option<u64>) {
        if let Some(at) = self.queue.iter().position(|waiting| Some(*waiting) == ticket) {
            self.queue.remove(at);
        }
    }

    /// Returns `bytes` of a permit that holds `left` from now on.
    pub(super) fn give_back(&mut self, lane: usize, pocket: Pocket, bytes: u64, left: u64) {
        match pocket {
            Pocket::Own => self.own_used[lane] -= bytes,
            Pocket::Shared => self.shared_used -= bytes,
            Pocket::Outside => {
                self.gauge.oversized_bytes -= bytes;
                if left == 0 {
                    self.gauge.oversized -= 1;
                }
            }
        }
        if pocket != Pocket::Outside {
            self.gauge.used_bytes -= bytes;
        }
        if left == 0 {
            self.live[lane] -= 1;
        }
    }

    pub(super) fn reads(&mut self, lanes: Range<usize>) {
        self.mine = Some(lanes);
    }

    pub(super) fn set_turn(&mut self, turn: Turn) -> bool {
        let turn = match turn {
            Turn::Lane(lane) if self.mine.as_ref().is_some_and(|mine| !mine.contains(&lane)) => Turn::Nobody,
            Turn::Lane(lane) => Turn::Lane(lane % self.lanes()),
            Turn::Any | Turn::Nobody => turn,
        };
        std::mem::replace(&mut self.turn, turn) != turn
    }

    pub(super) fn gauge(&self) -> Gauge {
        self.gauge
    }
}
