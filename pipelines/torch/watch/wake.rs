//! When to look again: where the file system tells of changes, soon after one; everywhere, after the polling time.
//!
//! Notification is a hint only: what it misses (network file systems, folders that come later) the next look finds.

use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use trommel_core::stop::Stop;

/// Changes come in flocks: after the first one it is worth to wait a little.
const FLOCK: Duration = Duration::from_millis(50);

/// Wakes a watch from elsewhere in the program.
#[derive(Clone)]
pub struct Waker(Sender<()>);

impl Waker {
    /// A waker that no watch listens to.
    #[must_use]
    pub fn unheard() -> Self {
        Self(bounded(1).0)
    }

    /// Something has happened that is worth a look.
    pub fn wake(&self) {
        // Full: somebody will look anyway.
        let _ = self.0.try_send(());
    }
}

/// What a watch sleeps on: something new, its time, or a stop.
pub struct Wake {
    events: Receiver<()>,
    waker: Waker,
    stop: Receiver<()>,
    poll: Duration,
    _watcher: Option<RecommendedWatcher>,
}

impl Wake {
    /// Wakes after a change directly in one of these places, or when the run is stopped.
    #[must_use]
    pub fn new(places: impl Iterator<Item = PathBuf>, poll: Duration, stop: &Stop) -> Self {
        let (send, events) = bounded(1);
        let (waker, noticed) = (Waker(send.clone()), Waker(send));
        let heard = move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                noticed.wake();
            }
        };
        let watcher = match notify::recommended_watcher(heard) {
            Ok(mut watcher) => {
                for place in places {
                    if let Err(error) = watcher.watch(&place, RecursiveMode::NonRecursive) {
                        tracing::info!("{}: {error}: looked at every {} s", place.display(), poll.as_secs_f64());
                    }
                }
                Some(watcher)
            }
            Err(error) => {
                tracing::info!("no notification of changed files ({error}): polling every {} s", poll.as_secs_f64());
                None
            }
        };
        Self { events, waker, stop: ending(stop), poll, _watcher: watcher }
    }

    /// Wakes it from elsewhere.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Waits for a change, at most `patience` or the polling time.
    pub fn wait(&self, patience: Duration) {
        select! {
            recv(self.events) -> _ => std::thread::sleep(FLOCK),
            recv(self.stop) -> _ => {}
            default(patience.min(self.poll)) => {}
        }
        while self.events.try_recv().is_ok() {}
    }
}

/// Ends when the run is stopped or winds down.
fn ending(stop: &Stop) -> Receiver<()> {
    let (send, receive) = bounded(1);
    let other = send.clone();
    // They live as long as the program: a watch is all of it.
    std::mem::forget(stop.on_request(move || _ = send.try_send(())));
    std::mem::forget(stop.on_wind_down(move || _ = other.try_send(())));
    receive
}
