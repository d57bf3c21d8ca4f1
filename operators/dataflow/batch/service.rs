//! The service's thread: gathers letters to batches, runs the function, answers.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError, at, never, select};

use super::{BatchConfig, Counters, Letter};
use crate::pool::{JobFault, JobPanic};
use trommel_core::credit::Credit;
use trommel_core::stop::{Never, Stop};

/// What the thread owns.
pub(super) struct Service<I, O> {
    pub(super) config: BatchConfig,
    pub(super) credit: Credit,
    pub(super) stop: Stop,
    pub(super) closed: Receiver<Never>,
    pub(super) queue: Receiver<Letter<I, O>>,
    pub(super) nudged: Receiver<()>,
    pub(super) counters: Arc<Counters>,
}

impl<I, O> Service<I, O> {
    fn panic(&self, fault: JobFault, message: String) -> JobPanic {
        JobPanic { job: self.config.name.clone(), fault, message }
    }

    fn failed(&self, panic: JobPanic) -> JobPanic {
        if self.config.fatal {
            self.stop.fail(panic.clone());
        }
        panic
    }

    pub(super) fn make<F, E: Display>(&self, make: impl FnOnce() -> Result<F, E>) -> Result<F, JobPanic> {
        let made = match catch_unwind(AssertUnwindSafe(make)) {
            Ok(Ok(function)) => return Ok(function),
            Ok(Err(error)) => self.panic(JobFault::NotMade, error.to_string()),
            Err(payload) => JobPanic { fault: JobFault::NotMade, ..JobPanic::caught(&self.config.name, &*payload) },
        };
        Err(self.failed(made))
    }

    /// Runs until the last handle is gone, or a stop.
    pub(super) fn serve<F: FnMut(Vec<I>) -> Vec<O>>(&mut self, mut function: Result<F, JobPanic>) {
        while let Some(batch) = self.gather() {
            let count = batch.len();
            let (inputs, replies): (Vec<I>, Vec<_>) = batch.into_iter().map(|l| (l.input, (l.ticket, l.post))).unzip();
            let results = match &mut function {
                Ok(function) => self.run(function, inputs),
                Err(not_made) => Err(not_made.clone()),
            };
            match results {
                Ok(results) => {
                    for ((ticket, post), result) in replies.iter().zip(results) {
                        post.leave((*ticket, Ok(result)));
                    }
                }
                Err(panic) => {
                    for (ticket, post) in &replies {
                        post.leave((*ticket, Err(panic.clone())));
                    }
                }
            }
            self.counters.items.fetch_add(count as u64, Ordering::Relaxed);
            for (_, post) in replies {
                post.bell.ring(); // rings that are not answered yet are one
            }
        }
    }

    fn run<F: FnMut(Vec<I>) -> Vec<O>>(&self, function: &mut F, inputs: Vec<I>) -> Result<Vec<O>, JobPanic> {
        let (count, start) = (inputs.len(), Instant::now());
        let results = catch_unwind(AssertUnwindSafe(|| function(inputs)));
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counters.busy_micros.fetch_add(micros, Ordering::Relaxed);
        self.counters.batches.fetch_add(1, Ordering::Relaxed);
        self.counters.full_batches.fetch_add(u64::from(count == self.config.batch), Ordering::Relaxed);
        match results {
            Ok(results) if results.len() == count => Ok(results),
            Ok(results) => {
                let message = format!("gave {} results for {count} inputs", results.len());
                Err(self.failed(self.panic(JobFault::WrongCount, message)))
            }
            Err(payload) => Err(self.failed(JobPanic::caught(&self.config.name, &*payload))),
        }
    }

    /// The next batch; `None` at the end.
    fn gather(&self) -> Option<Vec<Letter<I, O>>> {
        let full = self.config.batch.max(1);
        let mut batch = Vec::with_capacity(full);
        let mut last = Instant::now();
        while batch.len() < full {
            if self.stop.is_requested() {
                return None; // what was gathered is dropped, and its permits return
            }
            match self.queue.try_recv() {
                Ok(letter) => {
                    batch.push(letter);
                    last = Instant::now();
                    continue;
                }
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {}
            }
            let timer = if batch.is_empty() {
                never()
            } else {
                let ended = self.counters.open.load(Ordering::SeqCst) == 0;
                let patience = match (ended, self.credit.waiting()) {
                    (true, _) => 0,
                    (false, true) => self.config.hurry_ms,
                    (false, false) => self.config.idle_ms,
                };
                let due = last + Duration::from_millis(patience);
                if due <= Instant::now() && self.queue.is_empty() {
                    break;
                }
                at(due)
            };
            select! {
                recv(self.queue) -> letter => match letter {
                    Ok(letter) => {
                        batch.push(letter);
                        last = Instant::now();
                    }
                    Err(_all_handles_gone) => break,
                },
                recv(self.nudged) -> _ => {}
                recv(self.closed) -> _ => {}
                recv(timer) -> _ => {}
            }
        }
        (!batch.is_empty()).then_some(batch)
    }
}
