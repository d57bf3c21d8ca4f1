//! The workers that turn the dataflow: facts of an epoch go in, and when the frontier has passed it, all its consequences come out.
//!
//! ```text
//!            ┌─ command ─▶ worker 0 ─┐
//!  advance ──┼─ command ─▶ worker 1 ─┼─ answer ─▶ consolidated outcome of the epoch
//!            └─ command ─▶ ...      ─┘
//! ```
//!
//! Frontier: a worker answers for an epoch when its probe has passed it; the probe's frontier is that of all workers.
//!
//! Invariants:
//! 1. An outcome holds every consequence of its epoch and of no other.
//! 2. A worker that dies says so ([`FlowEnded`]); nobody waits for it for ever.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crossbeam_channel::{Receiver, Sender, unbounded};
use differential_dataflow::consolidation::consolidate;
use thiserror::Error;
use timely::WorkerConfig;
use timely::communication::Config as Communication;
use timely::communication::WorkerGuards;
use timely::worker::Worker;

use super::Epoch;
use super::flow::{Held, Hit, PointHits, Side, Taken, Tally, build};
use crate::dataflow::wake::locked;

/// A worker of the dataflow has ended before its time.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("a worker of the incremental dataflow has ended: {0}")]
pub struct FlowEnded(String);

/// Facts that become true or untrue at one epoch; a count says how often.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Hits.
    pub hits: Vec<(Hit, i32)>,
    /// Takedowns of judged samples.
    pub taken: Vec<(Taken, i32)>,
    /// Judged and rejected samples.
    pub samples: Vec<(Tally, i64)>,
}

impl Facts {
    /// The opposite facts.
    #[must_use]
    pub fn reversed(mut self) -> Self {
        self.hits.iter_mut().for_each(|(_, diff)| *diff = -*diff);
        self.taken.iter_mut().for_each(|(_, diff)| *diff = -*diff);
        self.samples.iter_mut().for_each(|(_, diff)| *diff = -*diff);
        self
    }
}

/// All consequences of one epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Marks that came (1) or went (-1), by sample and split.
    pub sides: Vec<(Side, isize)>,
    /// Tallies that changed, with their new counts.
    pub tallies: BTreeMap<Tally, i64>,
    /// Points, by screen and lasting number, whose hits changed, with their new counts.
    pub points: BTreeMap<(u16, u32), i64>,
    /// What the arrangements of all workers hold now.
    pub held: Held,
}

struct Command {
    epoch: Epoch,
    facts: Facts,
}

#[derive(Default)]
struct Answer {
    sides: Vec<(Side, isize)>,
    tallies: Vec<((Tally, i64), isize)>,
    points: Vec<(PointHits, isize)>,
    held: Held,
}

/// Says so when its thread panics.
struct Notice(Sender<Option<Answer>>);

impl Drop for Notice {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.0.send(None);
        }
    }
}

/// The running dataflow.
pub struct Flow {
    commands: Vec<Sender<Command>>,
    answers: Receiver<Option<Answer>>,
    epoch: Epoch,
    held: Held,
    ended: bool,
    guards: Option<WorkerGuards<()>>,
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.commands.clear();
        let guards = self.guards.take();
        if self.ended {
            // The others wait for one that is gone: joining them would wait with them.
            std::mem::forget(guards);
        }
    }
}

impl Flow {
    /// Starts `workers` threads. The first epoch is 1.
    ///
    /// # Errors
    /// If the threads cannot be made.
    pub fn start(workers: usize) -> Result<Self, FlowEnded> {
        let workers = workers.max(1);
        let (commands, inboxes): (Vec<_>, Vec<_>) = (0..workers).map(|_| unbounded()).unzip();
        let inboxes: Mutex<Vec<Option<Receiver<Command>>>> = Mutex::new(inboxes.into_iter().map(Some).collect());
        let (out, answers) = unbounded();
        let communication = if workers == 1 { Communication::Thread } else { Communication::Process(workers) };
        let (builders, others) = communication.try_build().map_err(FlowEnded)?;
        let run = move |worker: &mut Worker| {
            let inbox = locked(&inboxes)[worker.index()].take();
            if let Some(inbox) = inbox {
                turn(worker, &inbox, &Notice(out.clone()));
            }
        };
        let guards =
            timely::execute::execute_from(builders, others, WorkerConfig::default(), run).map_err(FlowEnded)?;
        Ok(Self { commands, answers, epoch: 0, held: Held::default(), ended: false, guards: Some(guards) })
    }

    /// The last finished epoch; 0 at the start.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What the arrangements hold since the last epoch.
    #[must_use]
    pub const fn held(&self) -> Held {
        self.held
    }

    /// Lets the facts take effect at the next epoch, and waits until the frontier has passed it.
    ///
    /// # Errors
    /// If a worker has ended; the flow is of no use then.
    pub fn advance(&mut self, facts: &Facts) -> Result<Outcome, FlowEnded> {
        let ended = |what: &str| FlowEnded(what.into());
        if self.ended {
            return Err(ended("see the first message"));
        }
        let (epoch, workers) = (self.epoch + 1, self.commands.len());
        for (at, command) in self.commands.iter().enumerate() {
            let facts = Facts {
                hits: facts.hits.iter().skip(at).step_by(workers).copied().collect(),
                taken: facts.taken.iter().skip(at).step_by(workers).copied().collect(),
                samples: facts.samples.iter().skip(at).step_by(workers).copied().collect(),
            };
            if command.send(Command { epoch, facts }).is_err() {
                self.ended = true;
                return Err(ended("it takes no more work"));
            }
        }
        let mut all = Answer::default();
        for _ in 0..workers {
            let Ok(Some(answer)) = self.answers.recv() else {
                self.ended = true;
                return Err(ended("it panicked"));
            };
            all.sides.extend(answer.sides);
            all.tallies.extend(answer.tallies);
            all.points.extend(answer.points);
            all.held.rows += answer.held.rows;
            all.held.bytes += answer.held.bytes;
            all.held.batches += answer.held.batches;
        }
        (self.epoch, self.held) = (epoch, all.held);
        consolidate(&mut all.sides);
        Ok(Outcome { sides: all.sides, tallies: latest(all.tallies), points: latest(all.points), held: all.held })
    }
}

/// The new counts of what changed; 0 where a count went away.
fn latest<K: Ord + Clone>(mut updates: Vec<((K, i64), isize)>) -> BTreeMap<K, i64> {
    consolidate(&mut updates);
    let mut counts = BTreeMap::new();
    for ((key, count), diff) in updates {
        if diff > 0 {
            counts.insert(key, count);
        } else {
            counts.entry(key).or_insert(0);
        }
    }
    counts
}

/// One worker's life.
fn turn(worker: &mut Worker, inbox: &Receiver<Command>, notice: &Notice) {
    let mut handles = worker.dataflow(build);
    handles.advance_to(1);
    while let Ok(Command { epoch, facts }) = inbox.recv() {
        facts.hits.into_iter().for_each(|(hit, diff)| handles.hits.update(hit, diff));
        facts.taken.into_iter().for_each(|(taken, diff)| handles.taken.update(taken, diff));
        facts.samples.into_iter().for_each(|(tally, diff)| handles.samples.update(tally, diff));
        handles.advance_to(epoch + 1);
        worker.step_or_park_while(None, || handles.probe.less_than(&(epoch + 1)));
        let held = handles.compact(epoch + 1);
        let out = std::mem::take(&mut *handles.outbox.borrow_mut());
        let answer = Answer {
            sides: out.sides.into_iter().map(|(side, _, diff)| (side, diff)).collect(),
            tallies: out.tallies.into_iter().map(|(tally, _, diff)| (tally, diff)).collect(),
            points: out.points.into_iter().map(|(point, _, diff)| (point, diff)).collect(),
            held,
        };
        if notice.0.send(Some(answer)).is_err() {
            return;
        }
    }
}
