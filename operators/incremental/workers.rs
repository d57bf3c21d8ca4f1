//! The workers that turn the dataflow: facts of an epoch go in, and when the frontier has passed it, all its consequences come out.
//!
//! ```text
//!            ┌─ command ─▶ worker 0 ─┐
//!  advance ──┼─ command ─▶ worker 1 ─┼─ answer ─▶ consolidated outcome of the epoch
//!            └─ command ─▶ ...      ─┘
//! ```
//!
//! Frontier: a worker answers for an epoch when its probe has passed it; the probe's frontier is that of all workers, in whatever process.
//!
//! Invariants:
//! 1. An outcome holds every consequence of its epoch and of no other; every process has the whole of it.
//! 2. A worker that dies says so ([`FlowEnded`]); nobody waits for it for ever, nor for a process that is gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use differential_dataflow::consolidation::consolidate;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use timely::WorkerConfig;
use timely::communication::Config as Communication;
use timely::communication::WorkerGuards;
use timely::worker::Worker;

use super::flow::{ArrangementSize, Hit, PointHits, Side, Taken, Tally, build};
use super::peers::{Alone, Peers, Round};
use super::{Epoch, IncrementalError};
use trommel_cluster::Allocators;
use trommel_core::sample::SampleId;
use trommel_core::wake::locked;

/// How often whoever waits for the dataflow asks whether the other processes are there.
const WATCH: Duration = Duration::from_millis(200);

/// A worker of the dataflow has ended before its time.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("a worker of the incremental dataflow has ended: {0}")]
pub struct FlowEnded(String);

/// Facts that become true or untrue at one epoch; a count says how often.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Hits that come (+1) or go (-1).
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
pub struct EpochOutcome {
    /// Marks that came (1) or went (-1), by sample and split.
    pub sides: Vec<(Side, isize)>,
    /// Tallies that changed, with their new counts.
    pub tallies: BTreeMap<Tally, i64>,
    /// Points, by threshold and lasting number, whose hits changed, with their new counts.
    pub points: BTreeMap<(u16, u32), i64>,
    /// What the arrangements of all workers of all processes hold now.
    pub held: ArrangementSize,
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
    held: ArrangementSize,
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
    held: ArrangementSize,
    ended: bool,
    guards: Option<WorkerGuards<()>>,
    peers: Arc<dyn Peers>,
}

impl Drop for Flow {
    fn drop(&mut self) {
        let ended = self.ended || self.peers.check().is_err();
        self.commands.clear();
        let guards = self.guards.take();
        if ended {
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
        let communication = if workers == 1 { Communication::Thread } else { Communication::Process(workers) };
        Self::across(communication.try_build().map_err(FlowEnded)?, Arc::new(Alone))
    }

    /// Starts this process's workers of a dataflow that all `peers` turn together: one a builder, the same number in each
    /// process. All must do so, and drop it: dropping waits for the others, unless one is lost.
    ///
    /// # Errors
    /// If the threads cannot be made.
    pub fn across((builders, others): Allocators, peers: Arc<dyn Peers>) -> Result<Self, FlowEnded> {
        let first = peers.rank() * builders.len();
        let (commands, inboxes): (Vec<_>, Vec<_>) = builders.iter().map(|_| unbounded()).unzip();
        let inboxes: Mutex<Vec<Option<Receiver<Command>>>> = Mutex::new(inboxes.into_iter().map(Some).collect());
        let (out, answers) = unbounded();
        let run = move |worker: &mut Worker| {
            let own = worker.index().checked_sub(first);
            let inbox = own.and_then(|own| locked(&inboxes).get_mut(own).and_then(Option::take));
            if let Some(inbox) = inbox {
                turn(worker, &inbox, &Notice(out.clone()));
            }
        };
        let guards =
            timely::execute::execute_from(builders, others, WorkerConfig::default(), run).map_err(FlowEnded)?;
        Ok(Self {
            commands,
            answers,
            epoch: 0,
            held: ArrangementSize::default(),
            ended: false,
            guards: Some(guards),
            peers,
        })
    }

    /// The last finished epoch; 0 at the start.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What the arrangements of this process hold since the last epoch.
    #[must_use]
    pub const fn held(&self) -> ArrangementSize {
        self.held
    }

    /// Lets the facts of all processes take effect at the next epoch, and waits until the frontier has passed it.
    ///
    /// # Errors
    /// If a worker has ended, or a process is gone; the flow is of no use then.
    pub fn advance(&mut self, facts: &Facts) -> Result<EpochOutcome, IncrementalError> {
        if self.ended {
            return Err(FlowEnded("see the first message".into()).into());
        }
        let advanced = self.turned(facts).and_then(|own| self.gathered(own));
        self.ended = advanced.is_err();
        advanced
    }

    /// What this process's facts and workers make of the next epoch.
    fn turned(&mut self, facts: &Facts) -> Result<EpochOutcome, IncrementalError> {
        let (epoch, workers) = (self.epoch + 1, self.commands.len());
        for (at, command) in self.commands.iter().enumerate() {
            let facts = Facts {
                hits: facts.hits.iter().skip(at).step_by(workers).copied().collect(),
                taken: facts.taken.iter().skip(at).step_by(workers).copied().collect(),
                samples: facts.samples.iter().skip(at).step_by(workers).copied().collect(),
            };
            command.send(Command { epoch, facts }).map_err(|_| FlowEnded("it takes no more work".into()))?;
        }
        let mut all = Answer::default();
        for _ in 0..workers {
            let answer = self.answer()?;
            all.sides.extend(answer.sides);
            all.tallies.extend(answer.tallies);
            all.points.extend(answer.points);
            all.held.add(answer.held);
        }
        (self.epoch, self.held) = (epoch, all.held);
        consolidate(&mut all.sides);
        Ok(EpochOutcome { sides: all.sides, tallies: latest(all.tallies), points: latest(all.points), held: all.held })
    }

    /// Waits for one worker.
    fn answer(&self) -> Result<Answer, IncrementalError> {
        let alone = self.peers.ranks() == 1;
        loop {
            let answer = if alone {
                self.answers.recv().map_err(RecvTimeoutError::from)
            } else {
                self.answers.recv_timeout(WATCH)
            };
            match answer {
                Ok(Some(answer)) => return Ok(answer),
                Err(RecvTimeoutError::Timeout) => self.peers.check()?,
                Ok(None) | Err(RecvTimeoutError::Disconnected) => return Err(FlowEnded("it panicked".into()).into()),
            }
        }
    }

    /// The outcome of all processes: every sample, tally and point is some one worker's.
    fn gathered(&self, own: EpochOutcome) -> Result<EpochOutcome, IncrementalError> {
        let round = Round { peers: self.peers.clone(), name: format!("time {}", self.epoch) };
        let (mut all, others) = round.share("outcome", Ok(own), OutcomePart::of)?;
        let mut sides = std::mem::take(&mut all.sides);
        let more = !others.is_empty();
        for part in others {
            let side = |(ordinal, index, split, keeps, diff)| {
                (Side { sample: SampleId { ordinal, index }, split, keeps }, diff)
            };
            sides.extend(part.sides.into_iter().map(side));
            all.tallies.extend(part.tallies);
            all.points.extend(part.points);
            all.held.add(part.held);
        }
        if more {
            consolidate(&mut sides);
        }
        Ok(EpochOutcome { sides, ..all })
    }
}

/// One process's part of an outcome, as the others are told it.
#[derive(Serialize, Deserialize)]
struct OutcomePart {
    /// Ordinal, index, split, whether hits keep, difference.
    sides: Vec<(u64, u32, u8, bool, isize)>,
    tallies: Vec<(Tally, i64)>,
    points: Vec<((u16, u32), i64)>,
    held: ArrangementSize,
}

impl OutcomePart {
    fn of(outcome: &EpochOutcome) -> Self {
        let side =
            |(side, diff): &(Side, isize)| (side.sample.ordinal, side.sample.index, side.split, side.keeps, *diff);
        Self {
            sides: outcome.sides.iter().map(side).collect(),
            tallies: outcome.tallies.iter().map(|(&tally, &count)| (tally, count)).collect(),
            points: outcome.points.iter().map(|(&point, &count)| (point, count)).collect(),
            held: outcome.held,
        }
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
