//! The service's thread: gathers letters to batches, runs the function, answers.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, at, never, select};

use super::{BatchConfig, Batched, Counters, Letter};
use crate::mailbox::Post;
use crate::pool::{JobFault, JobPanic};
use trommel_core::causes::{Cause, Causes};
use trommel_core::credit::Credit;
use trommel_core::stop::{Never, Stop};

/// How often a batch on its way is looked at. A card's own way of waiting keeps a core busy that decoding could use.
const LOOK: Duration = Duration::from_micros(200);

/// Whom to answer.
type Reply<O> = (u64, Post<(u64, Result<O, JobPanic>)>);

/// The function, and whom its batches are for, oldest first.
struct Flight<O, B> {
    function: Result<B, JobPanic>,
    flying: VecDeque<Vec<Reply<O>>>,
    /// Whether it says itself when a batch is done.
    rings: bool,
    /// Batches that it computes at the same time.
    width: usize,
    /// When it was last counted how busy it is.
    counted: Instant,
}

/// What the thread owns.
pub(super) struct Service<I, O> {
    pub(super) config: BatchConfig,
    pub(super) credit: Credit,
    pub(super) stop: Stop,
    pub(super) closed: Receiver<Never>,
    pub(super) queue: Receiver<Letter<I, O>>,
    pub(super) nudged: Receiver<()>,
    /// What rings there.
    pub(super) bell: Sender<()>,
    pub(super) counters: Arc<Counters>,
}

impl<I, O> Service<I, O> {
    fn failed(&self, panic: JobPanic) -> JobPanic {
        if self.config.fatal {
            self.stop.fail(panic.clone());
        }
        panic
    }

    pub(super) fn make<F, E: Into<Cause>>(&self, make: impl FnOnce() -> Result<F, E>) -> Result<F, JobPanic> {
        let made = match catch_unwind(AssertUnwindSafe(make)) {
            Ok(Ok(function)) => return Ok(function),
            Ok(Err(error)) => {
                let message = Causes(&*error.into()).to_string();
                JobPanic { job: self.config.name.clone(), fault: JobFault::NotMade, message }
            }
            Err(payload) => JobPanic { fault: JobFault::NotMade, ..JobPanic::caught(&self.config.name, &*payload) },
        };
        Err(self.failed(made))
    }

    /// Runs until the last handle is gone and everybody has an answer, or a stop.
    pub(super) fn serve<B: Batched<I, O>>(&self, function: Result<B, JobPanic>) {
        let width = function.as_ref().map_or(1, |function| function.width().max(1));
        let mut flight = Flight { function, flying: VecDeque::new(), rings: false, width, counted: Instant::now() };
        let bell = self.bell.clone();
        let ring = move || bell.try_send(()).unwrap_or_default();
        flight.rings = flight.function.as_mut().is_ok_and(|function| function.rings(Box::new(ring)));
        while let Some(batch) = self.gather(&mut flight) {
            self.submit(&mut flight, batch);
        }
        // An operator whose input has ended holds no handle, and waits for these.
        while !flight.flying.is_empty() && !self.stop.is_requested() {
            self.collect(&mut flight);
        }
    }

    /// Counts the time since the last such call, as far as it was used: a function of two batches that computes one is half busy.
    fn count_busy<B>(&self, flight: &mut Flight<O, B>) {
        let now = Instant::now();
        let used = flight.flying.len().min(flight.width) as u128;
        let micros = now.duration_since(flight.counted).as_micros() * used / flight.width as u128;
        self.counters.busy_micros.fetch_add(u64::try_from(micros).unwrap_or(u64::MAX), Ordering::Relaxed);
        flight.counted = now;
    }

    fn submit<B: Batched<I, O>>(&self, flight: &mut Flight<O, B>, batch: Vec<Letter<I, O>>) {
        self.count_busy(flight);
        let (inputs, replies): (Vec<I>, Vec<_>) = batch.into_iter().map(|l| (l.input, (l.ticket, l.post))).unzip();
        let function = match &mut flight.function {
            Ok(function) => function,
            Err(not_made) => return self.answer(&replies, Err(not_made.clone())),
        };
        self.counters.batches.fetch_add(1, Ordering::Relaxed);
        self.counters.full_batches.fetch_add(u64::from(replies.len() == self.config.batch), Ordering::Relaxed);
        match catch_unwind(AssertUnwindSafe(|| function.submit(inputs))) {
            Ok(()) => flight.flying.push_back(replies),
            Err(payload) => self.answer(&replies, Err(self.failed(JobPanic::caught(&self.config.name, &*payload)))),
        }
    }

    /// Waits for the oldest batch, and answers.
    fn collect<B: Batched<I, O>>(&self, flight: &mut Flight<O, B>) {
        let Flight { function: Ok(function), flying, .. } = flight else { return };
        if flying.is_empty() {
            return;
        }
        let results = catch_unwind(AssertUnwindSafe(|| function.collect()));
        self.count_busy(flight);
        let replies = flight.flying.pop_front().unwrap_or_default();
        let results = match results {
            Ok(results) if results.len() == replies.len() => Ok(results),
            Ok(results) => Err(self.failed(JobPanic::miscounted(&self.config.name, results.len(), replies.len()))),
            Err(payload) => Err(self.failed(JobPanic::caught(&self.config.name, &*payload))),
        };
        self.answer(&replies, results);
    }

    fn answer(&self, replies: &[Reply<O>], results: Result<Vec<O>, JobPanic>) {
        match results {
            Ok(results) => {
                for ((ticket, post), result) in replies.iter().zip(results) {
                    post.leave((*ticket, Ok(result)));
                }
            }
            Err(panic) => {
                for (ticket, post) in replies {
                    post.leave((*ticket, Err(panic.clone())));
                }
            }
        }
        self.counters.items.fetch_add(replies.len() as u64, Ordering::Relaxed);
        for (_, post) in replies {
            post.bell.ring(); // rings that are not answered yet are one
        }
    }

    /// The next batch, when there is room for it among those on their way; what is done meanwhile is answered. `None` at the end.
    fn gather<B: Batched<I, O>>(&self, flight: &mut Flight<O, B>) -> Option<Vec<Letter<I, O>>> {
        let (full, nothing) = (self.config.batch.max(1), never());
        let (mut batch, mut last, mut all_came) = (Vec::with_capacity(full), Instant::now(), false);
        loop {
            if self.stop.is_requested() {
                return None; // what was gathered is dropped, and its permits return
            }
            while flight.oldest_is_done() {
                self.collect(flight);
                last = Instant::now();
            }
            let (computes, has_room) = (!flight.flying.is_empty(), flight.has_room());
            if has_room && (all_came || batch.len() == full) {
                break;
            }
            let takes = !all_came && batch.len() < full;
            if takes {
                match self.queue.try_recv() {
                    Ok(letter) => {
                        batch.push(letter);
                        last = Instant::now();
                        continue;
                    }
                    Err(TryRecvError::Disconnected) => {
                        all_came = true;
                        continue;
                    }
                    Err(TryRecvError::Empty) => {}
                }
            }
            let ended = self.counters.open.load(Ordering::SeqCst) == 0;
            // What is on its way brings credit back, and with it the rest of a batch: nothing goes incomplete meanwhile.
            let timer = if computes && !(ended && has_room && !batch.is_empty()) {
                if flight.rings { never() } else { at(Instant::now() + LOOK) }
            } else if batch.is_empty() {
                never()
            } else {
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
                recv(if takes { &self.queue } else { &nothing }) -> letter => match letter {
                    Ok(letter) => {
                        batch.push(letter);
                        last = Instant::now();
                    }
                    Err(_all_handles_gone) => all_came = true,
                },
                recv(self.nudged) -> _ => {}
                recv(self.closed) -> _ => {}
                recv(timer) -> _ => {}
            }
        }
        (!batch.is_empty()).then_some(batch)
    }
}

impl<O, B> Flight<O, B> {
    fn has_room<I>(&self) -> bool
    where
        B: Batched<I, O>,
    {
        let depth = self.function.as_ref().map_or(1, |function| function.depth().max(1));
        self.flying.len() < depth
    }

    /// A function that panics when it is asked is asked again by `collect`, where that has an answer.
    fn oldest_is_done<I>(&mut self) -> bool
    where
        B: Batched<I, O>,
    {
        let Ok(function) = &mut self.function else { return false };
        !self.flying.is_empty() && catch_unwind(AssertUnwindSafe(|| function.is_done())).unwrap_or(true)
    }
}
