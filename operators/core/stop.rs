//! The end of a run, asked for by a person, by the finished trainer, or by a failure; it wakes every wait at once.
//!
//! A person's first wish is softer: [`Stop::wind_down`] begins nothing new and finishes what was begun.
//!
//! Invariants: a request is never taken back; the first failure is the one that is reported; after a request no wait
//! of this folder lasts longer than the job that is running.
//!
//! ```
//! use trommel_core::stop::Stop;
//!
//! let stop = Stop::new();
//! let waiting = { let stop = stop.clone(); std::thread::spawn(move || stop.wait()) };
//! stop.fail(std::io::Error::other("the model file is gone"));
//! waiting.join().expect("woken at once");
//! assert_eq!(stop.failure().expect("recorded").to_string(), "the model file is gone");
//! ```

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender};

use super::causes::Causes;
use super::wake::{Registration, Wakers, locked};

/// What ended a run, and whose fault it is.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What happened, as whoever failed reports it.
    pub error: Arc<dyn Error + Send + Sync>,
    /// It is the input's or the usage's: the same command would end the same way (status 2, not 1).
    pub is_input: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// The run was asked to stop while something waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped")]
pub struct Stopped;

/// Never made: channels of it only ever close.
#[derive(Debug)]
pub enum Never {}

/// A request to stop, shared by everything of a run. Clones are the same request.
#[derive(Clone)]
pub struct Stop {
    inner: Arc<Inner>,
}

struct Inner {
    requested: AtomicBool,
    failure: Mutex<Option<Failure>>,
    open: Mutex<Option<Sender<Never>>>,
    closed: Receiver<Never>,
    wakers: Wakers,
    winding_down: AtomicBool,
    wind_down_wakers: Wakers,
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

impl Stop {
    /// A run that goes on.
    #[must_use]
    pub fn new() -> Self {
        let (open, closed) = crossbeam_channel::bounded(0);
        let inner = Inner {
            requested: AtomicBool::new(false),
            failure: Mutex::new(None),
            open: Mutex::new(Some(open)),
            closed,
            wakers: Wakers::default(),
            winding_down: AtomicBool::new(false),
            wind_down_wakers: Wakers::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Asks everything to stop and wakes every wait. Safe to call often, from any thread, not from a signal handler.
    /// Do not hold a lock of this folder while calling.
    pub fn request(&self) {
        if !self.inner.requested.swap(true, Ordering::SeqCst) {
            drop(locked(&self.inner.open).take());
            self.inner.wakers.wake_all();
        }
    }

    /// Asks everything to stop because of `failure`; the first one is kept.
    pub fn fail(&self, failure: impl Error + Send + Sync + 'static) {
        self.end(Failure { error: Arc::new(failure), is_input: false });
    }

    /// Asks everything to stop because the input, or what was asked for, makes the run meaningless; the first failure is kept.
    pub fn refuse(&self, failure: impl Error + Send + Sync + 'static) {
        self.end(Failure { error: Arc::new(failure), is_input: true });
    }

    fn end(&self, failure: Failure) {
        {
            let mut kept = locked(&self.inner.failure);
            if kept.is_none() {
                // The command says it when all have stopped; a log shows what they were stopped by meanwhile.
                tracing::debug!(failure = %Causes(&failure), "the run cannot go on");
                *kept = Some(failure);
            }
        }
        self.request();
    }

    /// Asks to begin nothing new and to finish what was begun. What that means is up to who listens with
    /// [`on_wind_down`](Self::on_wind_down).
    pub fn wind_down(&self) {
        if !self.inner.winding_down.swap(true, Ordering::SeqCst) {
            self.inner.wind_down_wakers.wake_all();
        }
    }

    /// Whether the run was asked to wind down.
    #[must_use]
    pub fn is_winding_down(&self) -> bool {
        self.inner.winding_down.load(Ordering::SeqCst)
    }

    /// Calls `waker` when the run is asked to wind down, or at once where it has been.
    pub fn on_wind_down(&self, waker: impl Fn() + Send + Sync + 'static) -> Registration {
        listen(&self.inner.wind_down_wakers, waker, || self.is_winding_down())
    }

    /// Whether a stop was asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.inner.requested.load(Ordering::SeqCst)
    }

    /// Whether anybody asked for an end: at once, or once what was begun is finished.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.is_requested() || self.is_winding_down()
    }

    /// What made the run fail, if anything did.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        locked(&self.inner.failure).clone()
    }

    /// Blocks until a stop is asked for.
    pub fn wait(&self) {
        let _closed = self.inner.closed.recv();
    }

    /// A channel that never carries anything and closes on request: for `select!`.
    #[must_use]
    pub fn channel(&self) -> Receiver<Never> {
        self.inner.closed.clone()
    }

    /// Whoever stops this run stops `part` too, as long as the registrations live. What stops `part` alone does not stop this run.
    pub fn hand_on(&self, part: &Self) -> [Registration; 2] {
        let (request, wind_down) = (part.clone(), part.clone());
        [self.on_request(move || request.request()), self.on_wind_down(move || wind_down.wind_down())]
    }

    /// Calls `waker` on request, or at once where the request has been made.
    pub fn on_request(&self, waker: impl Fn() + Send + Sync + 'static) -> Registration {
        listen(&self.inner.wakers, waker, || self.is_requested())
    }
}

fn listen(
    wakers: &Wakers,
    waker: impl Fn() + Send + Sync + 'static,
    has_happened: impl FnOnce() -> bool,
) -> Registration {
    let waker = Arc::new(waker);
    let registered = waker.clone();
    let registration = wakers.add(move || registered());
    if has_happened() {
        waker();
    }
    registration
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stop").field("requested", &self.is_requested()).field("failure", &self.failure()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Stop;

    #[test]
    fn a_part_is_stopped_with_the_whole_and_not_the_other_way_round() {
        let (whole, first, second) = (Stop::new(), Stop::new(), Stop::new());
        let registrations = [whole.hand_on(&first), whole.hand_on(&second)];
        first.wind_down();
        first.request();
        assert!(!whole.is_ending() && !second.is_requested());
        whole.wind_down();
        assert!(second.is_winding_down() && !second.is_requested() && second.is_ending());
        whole.request();
        assert!(second.is_requested());
        drop(registrations);
        let late = Stop::new();
        let _registrations = whole.hand_on(&late);
        assert!(late.is_winding_down() && late.is_requested());
    }
}
