//! Shards leased by process 0 to whoever is free, in whatever process.
//!
//! ```text
//!  readers of process i ─▶ ClusterLeases ── Lease ─▶ LeaseServer (process 0) ◀─ ClusterLeases ◀─ readers of process 0
//!                              ▲  Grant, NoMore ──┘
//! ```
//!
//! A process asks only when one of its readers wants a shard, and never for more shards than readers wait: a slow process
//! takes fewer. Nothing is written down: a lease dies with its run, and the next run leases what the manifests lack.
//!
//! Invariants:
//! 1. Each shard is leased once, in the order of the plan.
//! 2. A process's floor never falls, and no later lease of this process lies below it: grants come in order, a grant
//!    that no reader has taken yet holds the floor, and `NoMore` comes behind the last grant.
//! 3. At most `max_open_shards` shards of a process are leased, or asked for, and not yet committed.
//! 4. A reader that was told to wait is woken by whatever may change that.
//! 5. Nobody gets a lease once process 0 has drained; a process that drains before ends by itself. Leases tell nobody of it: whoever winds the run down
//!    tells all processes ([`Message::Drain`]), and each drains its own.
//!
//! One server and one client a process at a time: the messages bear no name.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::{Arc, Mutex, Weak};

use super::control::Control;
use super::message::Message;
use trommel_core::sample::{Time, time_of};
use trommel_core::wake::{Registration, Wakers, locked};
use trommel_dataflow::redeem::Redeemed;
use trommel_dataflow::source::{Lease, Leases, Next};

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<u64>,
    /// Leased and not committed, by process.
    open: Vec<HashSet<u64>>,
}

/// Process 0's queue of shards.
pub struct LeaseServer {
    queue: Mutex<Queue>,
    control: Control,
    wakers: Wakers,
}

impl LeaseServer {
    /// Serves the shards `wanted` to all processes.
    pub fn new(wanted: impl IntoIterator<Item = u64>, control: &Control) -> Arc<Self> {
        let wanted: BTreeSet<u64> = wanted.into_iter().collect();
        let open = vec![HashSet::new(); control.processes()];
        let queue = Queue { waiting: wanted.into_iter().collect(), open };
        let server = Arc::new(Self { queue: Mutex::new(queue), control: control.clone(), wakers: Wakers::default() });
        if server.waiting_shards() == 0 {
            control.broadcast(Message::NoMore);
        }
        let served = Arc::downgrade(&server);
        control.on_message(move |from, message| served.upgrade().is_some_and(|server| server.answer(from, message)));
        server
    }

    fn answer(&self, from: usize, message: &Message) -> bool {
        match message {
            Message::Lease => self.grant(from),
            Message::Committed { ordinal, .. } => self.committed(from, *ordinal),
            _ => return false,
        }
        true
    }

    /// Answers under the lock, so that grants leave in order and `NoMore` behind them.
    fn grant(&self, to: usize) {
        let mut queue = locked(&self.queue);
        let Some((ordinal, floor)) = queue.lease(to) else {
            return self.control.send(to, Message::NoMore);
        };
        self.control.send(to, Message::Grant { ordinal, floor: floor.unwrap_or(ordinal + 1) });
        self.after(queue.waiting.is_empty());
        drop(queue);
        self.wakers.wake_all();
    }

    /// A lease for process 0 itself. After the last one, wake.
    fn take(&self) -> Option<u64> {
        let mut queue = locked(&self.queue);
        let leased = queue.lease(self.control.process()).map(|(ordinal, _)| ordinal);
        self.after(leased.is_some() && queue.waiting.is_empty());
        leased
    }

    /// With the last shard nobody need ask again. Called under the lock.
    fn after(&self, last: bool) {
        if last {
            self.control.broadcast(Message::NoMore);
        }
    }

    fn committed(&self, process: usize, ordinal: u64) {
        locked(&self.queue).open[process].remove(&ordinal);
    }

    /// Nobody gets another lease.
    pub fn drain(&self) {
        locked(&self.queue).waiting.clear();
        self.wakers.wake_all();
    }

    /// Shards that nobody has leased.
    #[must_use]
    pub fn waiting_shards(&self) -> usize {
        locked(&self.queue).waiting.len()
    }

    /// Shards that each process has leased and not committed, by process.
    #[must_use]
    pub fn open_shards(&self) -> Vec<usize> {
        locked(&self.queue).open.iter().map(HashSet::len).collect()
    }

    fn floor(&self) -> Option<u64> {
        locked(&self.queue).waiting.front().copied()
    }
}

impl Queue {
    /// The next shard, and the one after it.
    fn lease(&mut self, to: usize) -> Option<(u64, Option<u64>)> {
        let ordinal = self.waiting.pop_front()?;
        self.open[to].insert(ordinal);
        Some((ordinal, self.waiting.front().copied()))
    }
}

#[derive(Debug, Default)]
struct Local {
    open: HashSet<u64>,
    /// Granted and not yet taken by a reader, in order.
    granted: VecDeque<u64>,
    /// Readers that were told to wait for a grant.
    readers: BTreeSet<usize>,
    asked: usize,
    floor: u64,
    no_more: bool,
    drained: bool,
}

/// One process's leases.
pub struct ClusterLeases {
    local: Mutex<Local>,
    server: Option<Arc<LeaseServer>>,
    control: Control,
    max_open: usize,
    wakers: Wakers,
    _served: Option<Registration>,
}

impl ClusterLeases {
    /// Leases of this process; process 0 gives its server. At most `max_open_shards` (at least 1) are leased by this
    /// process and not yet committed.
    pub fn new(control: &Control, server: Option<Arc<LeaseServer>>, max_open_shards: usize) -> Arc<Self> {
        let remote = server.is_none();
        let wakers = Wakers::default();
        let served = server.as_ref().map(|server| {
            let wakers = wakers.clone();
            server.wakers.add(move || wakers.wake_all())
        });
        let leases = Arc::new(Self {
            local: Mutex::default(),
            server,
            control: control.clone(),
            max_open: max_open_shards.max(1),
            wakers,
            _served: served,
        });
        if remote {
            let told: Weak<Self> = Arc::downgrade(&leases);
            control.on_message(move |from, message| {
                from == 0 && told.upgrade().is_some_and(|leases| leases.hear(message))
            });
        }
        leases
    }

    /// What process 0 says.
    fn hear(&self, message: &Message) -> bool {
        let mut local = locked(&self.local);
        match message {
            Message::Grant { ordinal, floor } => {
                local.asked = local.asked.saturating_sub(1);
                local.floor = local.floor.max(*floor);
                if !local.drained {
                    local.granted.push_back(*ordinal);
                }
            }
            Message::NoMore => local.no_more = true,
            _ => return false,
        }
        drop(local);
        self.wakers.wake_all();
        true
    }

    /// A shard's part is durable: its place is free.
    pub fn committed(&self, ordinal: u64) {
        self.done(ordinal, false);
    }

    /// A shard was given up: its place is free.
    pub fn failed(&self, ordinal: u64) {
        self.done(ordinal, true);
    }

    fn done(&self, ordinal: u64, failed: bool) {
        if !locked(&self.local).open.remove(&ordinal) {
            return;
        }
        match &self.server {
            Some(server) => server.committed(self.control.process(), ordinal),
            None => self.control.send(0, Message::Committed { ordinal, failed }),
        }
        self.wakers.wake_all();
    }

    /// This process gets no other lease, and where it is process 0 nobody does; shards that are being read are finished.
    pub fn drain(&self) {
        locked(&self.local).drain();
        if let Some(server) = &self.server {
            server.drain();
        }
        self.wakers.wake_all();
    }

    /// Shards that are leased and not yet committed.
    #[must_use]
    pub fn open_shards(&self) -> usize {
        locked(&self.local).open.len()
    }

    /// Process 0's own leases come straight from the server.
    fn next_here(&self, server: &LeaseServer) -> Option<u64> {
        let mut local = locked(&self.local);
        if local.drained || local.open.len() >= self.max_open {
            return None;
        }
        let leased = server.take();
        local.open.extend(leased);
        leased
    }

    /// The others take what was granted, or ask.
    fn next_there(&self, reader: usize) -> Option<u64> {
        let mut local = locked(&self.local);
        if let Some(ordinal) = local.granted.pop_front() {
            local.readers.remove(&reader);
            local.open.insert(ordinal);
            return Some(ordinal);
        }
        if !local.no_more {
            local.readers.insert(reader);
            while local.asked < local.readers.len() && local.open.len() + local.asked < self.max_open {
                local.asked += 1;
                self.control.send(0, Message::Lease);
            }
        }
        None
    }

    fn is_done(&self) -> bool {
        let local = locked(&self.local);
        match &self.server {
            Some(server) => local.drained || server.waiting_shards() == 0,
            None => local.no_more && local.granted.is_empty(),
        }
    }
}

impl Local {
    fn drain(&mut self) {
        (self.drained, self.no_more) = (true, true);
        self.granted.clear();
    }
}

impl Leases for ClusterLeases {
    fn next(&self, reader: usize) -> Next {
        let leased = match &self.server {
            Some(server) => self.next_here(server),
            None => self.next_there(reader),
        };
        let done = self.is_done();
        match leased {
            Some(ordinal) => {
                if done {
                    self.wakers.wake_all(); // readers that wait are done
                }
                Next::Shard(Lease { pass: 0, ordinal, lane: reader, train_from: 0, replay: false })
            }
            None if done => Next::Done,
            None => Next::Wait,
        }
    }

    fn floor(&self) -> Option<Time> {
        let local = locked(&self.local);
        let bound = match (&self.server, local.granted.front()) {
            (Some(server), _) => server.floor().filter(|_| !local.drained),
            (None, Some(granted)) => Some(*granted),
            (None, None) => (!local.no_more).then_some(local.floor),
        };
        bound.map(|ordinal| time_of(0, ordinal))
    }

    fn redeem(&self, lease: Redeemed) {
        self.done(lease.ordinal, lease.failed);
    }

    fn on_change(&self, waker: Box<dyn Fn() + Send + Sync>) -> Option<Registration> {
        Some(self.wakers.add(waker))
    }
}

#[cfg(test)]
mod tests;
