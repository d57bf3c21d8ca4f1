//! What the threads of the control connections share.

use std::collections::{HashMap, VecDeque};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::outbox::Outbox;
use crate::error::Loss;
use crate::message::{Counters, Frame, Message};
use trommel_core::stop::Never;
use trommel_core::wake::locked;

/// A handler of messages.
pub(super) type Handler = Arc<dyn Fn(usize, &Message) -> bool + Send + Sync>;

/// For the thread that runs the handlers.
pub(super) enum Letter {
    From(usize, Message),
    Handler(Handler),
}

/// For the thread that decides about losses.
pub(super) enum Event {
    /// Seen here, or told by another process.
    Suspected(Loss),
    /// Decided by another process.
    Decided(Loss),
}

/// Another process.
pub(super) struct Other {
    pub(super) stream: TcpStream,
    pub(super) outbox: Outbox,
    pub(super) heard: Mutex<Option<Instant>>,
    /// Its frames wait because the handlers here are slow: its silence means nothing.
    pub(super) held_up: AtomicBool,
    pub(super) counters: Mutex<Counters>,
    /// Other connections to it, which end when it is lost.
    pub(super) attached: Mutex<Vec<TcpStream>>,
}

/// What one process has said at a barrier, in turn.
#[derive(Clone, Default)]
pub(super) struct Said {
    pub(super) values: VecDeque<String>,
    /// Pieces of the next one.
    begun: String,
}

impl Said {
    pub(super) fn hear(&mut self, piece: &str, more: bool) {
        self.begun.push_str(piece);
        if !more {
            self.values.push_back(std::mem::take(&mut self.begun));
        }
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.values.is_empty() && self.begun.is_empty()
    }
}

/// What is waited for.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) loss: Option<Loss>,
    /// This process ends: what the others do now is no loss.
    pub(super) leaving: bool,
    pub(super) goodbyes: Vec<bool>,
    pub(super) gone: Vec<bool>,
    /// What was said at barriers, by barrier and process.
    pub(super) said: HashMap<String, Vec<Said>>,
}

pub(super) struct State {
    pub(super) process: usize,
    pub(super) silence: Duration,
    pub(super) start_timeout: Duration,
    pub(super) begun: Instant,
    pub(super) addresses: Vec<String>,
    pub(super) others: Vec<Option<Other>>,
    pub(super) shared: Mutex<Shared>,
    pub(super) changed: Condvar,
    pub(super) make_counters: Mutex<Option<Arc<dyn Fn() -> Counters + Send + Sync>>>,
    pub(super) inbox: Sender<Letter>,
    pub(super) events: Sender<Event>,
    /// Closes when this process has said goodbye.
    pub(super) open: Mutex<Option<Sender<Never>>>,
    pub(super) closed: Receiver<Never>,
    /// Tests make a process silent.
    pub(super) mute: AtomicBool,
}

impl State {
    pub(super) fn others(&self) -> impl Iterator<Item = (usize, &Other)> {
        self.others.iter().enumerate().filter_map(|(process, other)| other.as_ref().map(|other| (process, other)))
    }

    pub(super) fn loss(&self, process: usize, why: impl Into<String>) -> Loss {
        Loss { process, address: self.addresses[process].clone(), why: why.into(), status: None }
    }

    /// Puts an urgent frame into all outboxes and waits, for `patience` at most, until those of all but `without` have
    /// written it.
    pub(super) fn shout(&self, frame: &Frame, without: Option<usize>, patience: Duration) {
        let Ok(bytes) = frame.encode() else { return };
        self.others().for_each(|(_, other)| other.outbox.urgent(bytes.clone()));
        let deadline = Instant::now() + patience;
        for (_, other) in self.others().filter(|(process, _)| Some(*process) != without) {
            other.outbox.flush(deadline);
        }
    }

    /// Counters of this process, without those that are no numbers.
    pub(super) fn own_counters(&self) -> Counters {
        let make = locked(&self.make_counters).clone();
        let mut counters = make.map(|make| make()).unwrap_or_default();
        counters.0.retain(|_, value| value.is_finite());
        counters
    }

    /// Ends all connections and threads.
    pub(super) fn close(&self) {
        drop(locked(&self.open).take());
        for (_, other) in self.others() {
            other.outbox.close();
            let _gone = other.stream.shutdown(Shutdown::Both);
        }
        self.changed.notify_all();
    }
}
