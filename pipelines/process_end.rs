//! How a process that is one of several ends where nothing can be handed back: its dataflow spans all processes, and would wait for ours
//! for ever. The program says how a process ends; no pipeline does it by itself, and one that works alone hands back an error.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use trommel_cluster::{Control, Loss};
use trommel_core::escape::escape_controls;
use trommel_core::stop::Failure;
use trommel_core::wake::locked;

use crate::error::{ErrorKind, PipelineError};

/// How long a worker whose connection broke waits for the heartbeat, which knows better who is gone, and ends this process.
const HEARTBEAT_PATIENCE: Duration = Duration::from_secs(60);

/// A process's end, and the clusters that it is in.
pub struct Ending {
    leave: fn(PipelineError) -> !,
    /// Whom a panic on one of timely's threads is told to: the hook for panics is the process's, and neither workers' nor network threads
    /// say whose they are.
    clusters: Mutex<BTreeMap<u64, Control>>,
    leaving: Mutex<()>,
}

/// A place in a cluster, given up on drop.
pub struct Entered {
    ending: Arc<Ending>,
    number: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        locked(&self.ending.clusters).remove(&self.number);
    }
}

impl fmt::Debug for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ending").finish_non_exhaustive()
    }
}

impl Ending {
    /// A process that ends by `leave`, which says why and has its exit status.
    #[must_use]
    pub fn new(leave: fn(PipelineError) -> !) -> Arc<Self> {
        Arc::new(Self { leave, clusters: Mutex::default(), leaving: Mutex::default() })
    }

    /// The process is in this cluster too.
    pub fn enter(self: &Arc<Self>, control: &Control) -> Entered {
        let mut clusters = locked(&self.clusters);
        let number = clusters.last_key_value().map_or(0, |(last, _)| last + 1);
        clusters.insert(number, control.clone());
        Entered { ending: self.clone(), number }
    }

    /// A lost process ends this one: the folder is made for being left at any instant, and nothing would come of waiting. One
    /// that ended for wrong usage takes the others with it under its own status: the same command would not do better.
    pub fn lost(&self, loss: &Loss) -> ! {
        let _said_once = self.leaving.lock();
        let line = escape_controls(&loss.to_string()).into_owned();
        let is_usage = loss.status == Some(ErrorKind::Usage.status());
        (self.leave)(if is_usage { PipelineError::usage(line) } else { PipelineError::lost(line) })
    }

    /// A failure here, which the others are told.
    pub fn failed(&self, control: &Control, failure: &Failure) -> ! {
        let error = PipelineError::from(failure.clone());
        control.say_failure(&error.line(), error.status());
        (self.leave)(error)
    }

    /// For the program's hook: a panic on one of timely's threads. Returns where the process works alone.
    pub fn panicked(&self, thread: &str, text: &str) {
        let clusters: Vec<Control> = locked(&self.clusters).values().cloned().collect();
        if clusters.is_empty() || !thread.starts_with("timely:") {
            return;
        }
        if text.starts_with("timely communication error") {
            std::thread::sleep(HEARTBEAT_PATIENCE);
            let text = escape_controls(text);
            (self.leave)(PipelineError::lost(format!("the connection to another process broke ({text})")));
        }
        let error = PipelineError::failed(format!("thread {thread}: {text}"));
        clusters.iter().for_each(|control| control.say_failure(&error.line(), error.status()));
        (self.leave)(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An end that can be looked at.
    fn leave(error: PipelineError) -> ! {
        std::panic::panic_any((error.status(), error.line()))
    }

    /// How a process ends by `end`; `None`: it goes on.
    fn end(end: impl FnOnce(&Ending)) -> Option<(u8, String)> {
        let ending = Ending::new(leave);
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| end(&ending)));
        ended.err().map(|end| *end.downcast::<(u8, String)>().expect("it left"))
    }

    #[test]
    fn a_lost_process_takes_this_one_with_it_under_the_status_that_says_what_helps() {
        let loss = |status| Loss { process: 1, address: "b:1".into(), why: "silent\u{7}".into(), status };
        let said = |loss: &Loss| escape_controls(&loss.to_string()).into_owned();
        for status in [None, Some(1), Some(3)] {
            let due = (3, format!("{}; the same command resumes", said(&loss(status))));
            assert_eq!(end(|ending| ending.lost(&loss(status))), Some(due));
        }
        assert_eq!(end(|ending| ending.lost(&loss(Some(2)))), Some((2, said(&loss(Some(2))))));
    }

    /// Its pipeline hands back an error, and another one of this process may go on.
    #[test]
    fn a_panic_ends_no_process_that_works_alone() {
        assert_eq!(end(|ending| ending.panicked("timely:0", "at the disco")), None);
    }
}
