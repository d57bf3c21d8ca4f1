//! The stages of the simulated graph: a reader, tracked samples, a ledger that ticks off fates.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::scenario::{Dice, Fate, Fault, Holed, Scenario, jitter};
use crate::lanes::Lanes;
use crate::source::{Lease, Outlet, ReadShard};
use trommel_core::credit::workspace::{NoRoom, OWN_BYTES};
use trommel_core::credit::{Permit, Stopped};
use trommel_core::records::Record;
use trommel_core::sample::{SampleId, Time, Work, time_of};
use trommel_core::stop::Stop;
use trommel_core::wake::locked;

/// Largest record, and what a shard's first one has beside it.
const MOST_RECORD_BYTES: u64 = 7;
const BESIDE_BYTES: u64 = 2;

/// What a lane may hold of records: a row group, one record more, and two shards' parts.
pub const fn lane_record_bytes(group_bytes: u64) -> u64 {
    group_bytes + MOST_RECORD_BYTES + 2 * BESIDE_BYTES
}

/// Bytes held by samples, counted by the test itself.
#[derive(Debug, Default)]
pub struct Held {
    pub now: AtomicI64,
    pub peak: AtomicI64,
}

#[derive(Debug)]
pub struct Tracked {
    held: Arc<Held>,
    bytes: i64,
}

impl Tracked {
    fn new(held: &Arc<Held>, bytes: u64) -> Self {
        let bytes = bytes as i64;
        let now = held.now.fetch_add(bytes, Ordering::SeqCst) + bytes;
        held.peak.fetch_max(now, Ordering::SeqCst);
        Self { held: held.clone(), bytes }
    }

    pub fn shrink_to(&mut self, bytes: u64) {
        self.held.now.fetch_sub(self.bytes - bytes as i64, Ordering::SeqCst);
        self.bytes = bytes as i64;
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.held.now.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

/// Fields drop in order: the tracked bytes before the permit, so that the test never counts more than the credit.
#[derive(Debug)]
pub struct Sample {
    pub tracked: Tracked,
    pub pass: u32,
    pub id: SampleId,
    pub work: Work,
    pub permit: Permit,
    pub record: Arc<Record>,
}

#[derive(Clone, Debug)]
pub struct Tag {
    pub pass: u32,
    pub id: SampleId,
    pub work: Work,
    pub record: Arc<Record>,
}

/// What reaches the sink.
#[derive(Debug)]
pub enum Arrival {
    Kept(Sample),
    /// Dropped or rejected.
    Gone(Tag, bool),
    End {
        pass: u32,
        ordinal: u64,
        count: u32,
        replay: bool,
    },
}

/// What the whole attempt shares.
pub struct World {
    pub scenario: Scenario,
    pub assignment: Arc<Lanes>,
    pub stop: Stop,
    pub held: Arc<Held>,
    pub fault: Option<Fault>,
    /// Decisions committed before this attempt.
    pub decided: HashSet<u64>,
    pub ledger: Mutex<Ledger>,
    pub errors: Mutex<Vec<String>>,
    pub ticks: AtomicU64,
    pub stop_at: Option<u64>,
    pub beats: AtomicU64,
    pub workers: Mutex<HashSet<thread::ThreadId>>,
    pub dice: Mutex<Dice>,
}

impl World {
    /// Counts an event; at the scenario's moment the run is stopped. Also delays.
    pub fn tick(&self) {
        let tick = self.ticks.fetch_add(1, Ordering::SeqCst);
        if self.stop_at == Some(tick) {
            self.stop.request();
        }
        let mut dice = Dice(locked(&self.dice).next());
        jitter(&mut dice, self.scenario.calm);
    }

    pub fn error(&self, error: String) {
        locked(&self.errors).push(error);
        self.stop.request();
    }

    /// Long work must not happen on a worker, and workers must go on beside it.
    pub fn off_worker(&self) {
        if locked(&self.workers).contains(&thread::current().id()) {
            self.error("work on a worker thread".into());
        }
        if self.scenario.beats {
            let seen = self.beats.load(Ordering::SeqCst);
            while self.beats.load(Ordering::SeqCst) < seen + 2 && !self.stop.is_requested() {
                thread::yield_now();
            }
        }
    }
}

/// Fates ticked off, shard by shard.
#[derive(Debug, Default)]
pub struct Ledger {
    pub open: BTreeMap<u64, (HashMap<u32, bool>, Option<u32>)>,
    pub committed: BTreeMap<u64, Vec<bool>>,
    /// Times leased for judging, for the frontier's cross-check.
    pub leased: BTreeSet<Time>,
    pub rows: BTreeMap<u64, Rows>,
}

/// Records of an open shard: those that came out of turn, and the row group that fills.
#[derive(Debug, Default)]
pub struct Rows {
    next: u32,
    early: BTreeMap<u32, Arc<Record>>,
    group: Vec<Arc<Record>>,
}

impl Rows {
    /// Writes whole row groups, and nothing before they are whole.
    fn add(&mut self, index: u32, record: Arc<Record>, group_bytes: u64) {
        self.early.insert(index, record);
        while let Some(record) = self.early.remove(&self.next) {
            self.next += 1;
            self.group.push(record);
            if self.group.iter().map(|record| record.bytes()).sum::<u64>() >= group_bytes {
                self.group.clear();
            }
        }
    }
}

impl Ledger {
    /// Ticks off; true when the shard is complete now.
    pub fn fate(&mut self, id: SampleId, kept: bool, record: Arc<Record>, group_bytes: u64) -> Result<bool, String> {
        self.rows.entry(id.ordinal).or_default().add(id.index, record, group_bytes);
        if self.committed.contains_key(&id.ordinal) {
            return Err(format!("a fate after the commit: {id:?}"));
        }
        let (fates, count) = self.open.entry(id.ordinal).or_default();
        if fates.insert(id.index, kept).is_some() {
            return Err(format!("two fates: {id:?}"));
        }
        if count.is_some_and(|count| id.index >= count) {
            return Err(format!("a fate beyond the end: {id:?}"));
        }
        Ok(self.complete(id.ordinal))
    }

    pub fn end(&mut self, ordinal: u64, count: u32) -> Result<bool, String> {
        let (_, known) = self.open.entry(ordinal).or_default();
        if known.replace(count).is_some() || self.committed.contains_key(&ordinal) {
            return Err(format!("shard {ordinal} ended twice"));
        }
        Ok(self.complete(ordinal))
    }

    fn complete(&mut self, ordinal: u64) -> bool {
        let Some((fates, Some(count))) = self.open.get(&ordinal) else { return false };
        if fates.len() != *count as usize {
            return false;
        }
        let row = (0..*count).map(|index| fates[&index]).collect();
        self.open.remove(&ordinal);
        self.rows.remove(&ordinal);
        self.committed.insert(ordinal, row);
        true
    }
}

/// Reads simulated shards.
pub struct Reader(pub Arc<World>);

impl ReadShard for Reader {
    type Item = Result<Sample, Arrival>;

    fn read(&self, lease: &Lease, out: &mut Outlet<Self::Item>) -> Result<(), Stopped> {
        let world = &self.0;
        world.off_worker();
        let shard = &world.scenario.shards[lease.ordinal as usize];
        if lease.replay != world.decided.contains(&lease.ordinal) && lease.pass == 0 {
            world.error(format!("{lease:?} in the first pass"));
        }
        match world.scenario.holes[lease.ordinal as usize] {
            Holed::No => {}
            Holed::Ahead => world.error(format!("{lease:?} of a hole")),
            Holed::WhileRead => _ = world.assignment.hole(lease.ordinal),
        }
        if !lease.replay {
            locked(&world.ledger).leased.insert(time_of(lease.pass, lease.ordinal));
        }
        let mut workspace = out.workspace();
        let held = world.scenario.workspaces[lease.ordinal as usize];
        match workspace.open(OWN_BYTES + held) {
            Ok(()) => {}
            Err(NoRoom::Stopped) => return Err(Stopped),
            Err(full) => world.error(format!("{lease:?}: {full}")),
        }
        let _decompressor = Tracked::new(&world.held, held);
        for (index, made) in (0u32..).zip(shard) {
            world.tick();
            if world.fault == Some(Fault::ReaderPanics(lease.ordinal)) && index as usize == shard.len() / 2 {
                panic!("planned");
            }
            let (pass, id) = (lease.pass, SampleId { ordinal: lease.ordinal, index });
            let trained_before = index < lease.train_from;
            let work = match (lease.replay, trained_before) {
                (true, true) => continue,
                (true, false) => Work::Replay,
                (false, true) => Work::JudgeOnly,
                (false, false) => Work::Judge,
            };
            let beside_bytes = if index == 0 { BESIDE_BYTES } else { 0 };
            let record_bytes = made.bytes % MOST_RECORD_BYTES + 1;
            if made.fate == Fate::RejectedByReader || (lease.replay && made.fate != Fate::Kept) {
                // A replay's holes leave nothing behind.
                let record = if lease.replay { Record::default() } else { out.record(record_bytes, beside_bytes)? };
                let record = Arc::new(record);
                out.send(Err(Arrival::Gone(Tag { pass, id, work, record }, false)))?;
                continue;
            }
            let permit = out.admit(made.bytes)?;
            let tracked = Tracked::new(&world.held, permit.bytes());
            let record = Arc::new(out.record(record_bytes, beside_bytes)?);
            out.send(Ok(Sample { tracked, pass, id, work, permit, record }))?;
        }
        let (pass, ordinal, count) = (lease.pass, lease.ordinal, shard.len() as u32);
        out.send(Err(Arrival::End { pass, ordinal, count, replay: lease.replay }))
    }
}
