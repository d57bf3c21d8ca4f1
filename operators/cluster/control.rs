//! Heartbeats and small messages between processes, and who is lost.
//!
//! ```text
//!  send ─▶ outbox ─▶ writer thread ═══ connection ═══▶ reader thread ─┬▶ inbox ─▶ handlers (one thread)
//!  beat thread ─▶ ┘   (one a process)                  (one a process)├▶ barriers, counters
//!                                                                     └▶ suspicions ─▶ decider ─▶ on_loss
//! ```
//!
//! Invariants:
//! 1. Messages from one process to another keep their order, and each is offered to the handlers until one takes it.
//! 2. A beat is at most one frame behind: it overtakes all that waits, and slow handlers delay neither beats nor the
//!    hearing of them.
//! 3. A process that ends without goodbye, or is silent for the stated time, is one loss: `on_loss` is called once, on a
//!    thread of our own, with the same process in all processes that can hear each other.
//! 4. Nothing here ends the program: `on_loss` does.

mod hear;
mod losses;
mod outbox;
mod state;

use std::net::TcpStream;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::OnLoss;
use super::error::{ClusterError, Loss};
use super::message::{Counters, Frame, MAX_FRAME_BYTES, Message, pieces};
use state::{Event, Letter, Other, Said, Shared, State};
use trommel_core::wake::locked;

/// How long a goodbye waits for the others.
const GOODBYE: Duration = Duration::from_secs(5);

/// The connections to all other processes. Clones are the same connections.
#[derive(Clone)]
pub struct Control {
    state: Arc<State>,
}

/// How another process stands, or this one.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// Number of the process in the run, from 0.
    pub process: usize,
    /// Where it listens.
    pub address: String,
    /// Its counters at its last beat.
    pub counters: Counters,
    /// How long ago something was heard of it; `None` before the first word. Zero for this process.
    pub since_heard: Option<Duration>,
    /// It has said goodbye.
    pub ended: bool,
}

/// What the connections need to know.
pub(super) struct Setting {
    pub(super) process: usize,
    pub(super) addresses: Vec<String>,
    pub(super) silence: Duration,
    pub(super) start_timeout: Duration,
}

impl Control {
    /// Starts the threads over the connections, one to each other process.
    pub(super) fn start(
        setting: Setting,
        streams: Vec<Option<TcpStream>>,
        on_loss: OnLoss,
    ) -> Result<Self, ClusterError> {
        let Setting { process, addresses, silence, start_timeout } = setting;
        let all = streams.len();
        let (inbox, letters) = crossbeam_channel::unbounded();
        let (events, happened) = crossbeam_channel::unbounded();
        let (open, closed) = crossbeam_channel::bounded(0);
        let other = |stream: TcpStream| Other {
            stream,
            outbox: outbox::Outbox::default(),
            heard: Mutex::default(),
            held_up: AtomicBool::new(false),
            counters: Mutex::default(),
            attached: Mutex::default(),
        };
        let state = Arc::new(State {
            process,
            silence,
            start_timeout,
            begun: Instant::now(),
            addresses,
            others: streams.into_iter().map(|stream| stream.map(other)).collect(),
            shared: Mutex::new(Shared { goodbyes: vec![false; all], gone: vec![false; all], ..Shared::default() }),
            changed: Condvar::new(),
            make_counters: Mutex::default(),
            inbox,
            events,
            open: Mutex::new(Some(open)),
            closed,
            mute: AtomicBool::new(false),
        });
        let control = Self { state };
        control.spawn("cluster-handle", move |state| hear::dispatch(state, &letters))?;
        control.spawn("cluster-losses", move |state| losses::decide(state, &happened, &on_loss))?;
        for (process, _) in control.state.others() {
            let with = move |state: &Arc<State>, run: &dyn Fn(&Other)| {
                state.others[process].as_ref().into_iter().for_each(run);
            };
            control.spawn(&format!("cluster-write-{process}"), move |state| {
                with(state, &|other| other.outbox.write(&other.stream));
            })?;
            control.spawn(&format!("cluster-read-{process}"), move |state| {
                with(state, &|other| hear::read(state, process, other));
            })?;
        }
        control.spawn("cluster-beat", |state| losses::beat(state))?;
        Ok(control)
    }

    fn spawn(&self, name: &str, run: impl FnOnce(&Arc<State>) + Send + 'static) -> Result<(), ClusterError> {
        let state = self.state.clone();
        let spawned = thread::Builder::new().name(name.into()).spawn(move || run(&state));
        spawned.map(drop).map_err(|cause| {
            self.state.close();
            ClusterError::System { what: "a thread for the cluster", cause }
        })
    }

    /// Which process this is.
    #[must_use]
    pub fn process(&self) -> usize {
        self.state.process
    }

    /// How many there are.
    #[must_use]
    pub fn processes(&self) -> usize {
        self.state.others.len()
    }

    /// Sends a message, also to this process itself. Messages from one process to another keep their order.
    ///
    /// It is queued, not yet written, when this returns; it blocks only while thousands wait, and a process that takes
    /// none for the stated silence is lost. What is sent to a process that has ended is dropped. A message above
    /// `MAX_FRAME_BYTES` is a loss of this process: it cannot do what was asked.
    pub fn send(&self, to: usize, message: Message) {
        if to == self.process() {
            let _closed = self.state.inbox.send(Letter::From(to, message));
        } else {
            self.post([to], &Frame::Message(message));
        }
    }

    /// Sends a message to all others.
    pub fn broadcast(&self, message: Message) {
        self.post(0..self.processes(), &Frame::Message(message));
    }

    fn post(&self, to: impl IntoIterator<Item = usize>, frame: &Frame) {
        let state = &self.state;
        let suspect = |loss: Loss| {
            let _decider_gone = state.events.send(Event::Suspected(loss));
        };
        let bytes = match frame.encode() {
            Ok(bytes) => bytes,
            Err(length) => {
                let why = format!("it would send a message of {length} bytes (at most {MAX_FRAME_BYTES})");
                return suspect(state.loss(self.process(), why));
            }
        };
        for process in to {
            let Some(other) = state.others.get(process).and_then(Option::as_ref) else { continue };
            if !other.outbox.queue(bytes.clone(), state.silence) {
                suspect(state.loss(process, "it takes no messages"));
            }
        }
    }

    /// Adds a handler: called with the sender and the message, on one thread for all handlers; `true` means that it
    /// took the message. Messages that nobody takes are kept, and offered in order to handlers that come later.
    ///
    /// A handler should be short: while it runs, no other message is handled (beats and losses are).
    pub fn on_message(&self, handler: impl Fn(usize, &Message) -> bool + Send + Sync + 'static) {
        let _closed = self.state.inbox.send(Letter::Handler(Arc::new(handler)));
    }

    /// All processes call it with the same name; gives everyone's value, of any length, by process. A name may be used
    /// again; one thread of a process at a time waits at a name. Waits without limit while the others beat.
    ///
    /// # Errors
    /// When a process is lost, or has ended.
    pub fn barrier(&self, name: &str, value: &str) -> Result<Vec<String>, ClusterError> {
        let (state, all, own) = (&self.state, self.processes(), self.process());
        for (piece, more) in pieces(value) {
            self.post(0..all, &Frame::Barrier { name: name.into(), value: piece.into(), more });
        }
        let mut shared = locked(&state.shared);
        let said = shared.said.entry(name.to_owned()).or_insert_with(|| vec![Said::default(); all]);
        said[own].hear(value, false);
        loop {
            let said = shared.said.get_mut(name).map_or(&mut [][..], Vec::as_mut_slice);
            let missing = said.iter().position(|said| said.values.is_empty());
            let Some(missing) = missing else {
                let given = said.iter_mut().filter_map(|said| said.values.pop_front()).collect();
                if said.iter().all(Said::is_nothing) {
                    shared.said.remove(name);
                }
                return Ok(given);
            };
            if let Some(loss) = &shared.loss {
                return Err(ClusterError::Lost(loss.clone()));
            }
            if shared.leaving || shared.goodbyes[missing] {
                let process = if shared.leaving { own } else { missing };
                let address = state.addresses[process].clone();
                return Err(ClusterError::Left { process, address, wanted: format!("\"{name}\"") });
            }
            shared = state.changed.wait(shared).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What this process shows to the others with every beat, several times in the stated silence. Must not block: the
    /// beat waits for it.
    pub fn set_counters(&self, make: impl Fn() -> Counters + Send + Sync + 'static) {
        *locked(&self.state.make_counters) = Some(Arc::new(make));
    }

    /// How all processes stand, by process, this one included.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        let state = &self.state;
        let (goodbyes, leaving) = {
            let shared = locked(&state.shared);
            (shared.goodbyes.clone(), shared.leaving)
        };
        let peer = |process: usize| {
            let (counters, since_heard) = match &state.others[process] {
                Some(other) => {
                    let heard = *locked(&other.heard);
                    (locked(&other.counters).clone(), heard.map(|heard| heard.elapsed()))
                }
                None => (state.own_counters(), Some(Duration::ZERO)),
            };
            let ended = goodbyes[process] || (leaving && process == state.process);
            Peer { process, address: state.addresses[process].clone(), counters, since_heard, ended }
        };
        (0..self.processes()).map(peer).collect()
    }

    /// The process that was lost, once that is decided.
    #[must_use]
    pub fn loss(&self) -> Option<Loss> {
        locked(&self.state.shared).loss.clone()
    }

    /// Tells the others why this process is about to end; they report the loss as `failed: LINE`. Waits, half a second
    /// at most, until it is written. From here on no loss is reported by this process.
    pub fn say_failure(&self, line: &str, status: u8) {
        if !self.leave() {
            let line: String = line.chars().take(4096).collect();
            self.state.shout(&Frame::Failed { line, status }, None, losses::TELLING);
        }
    }

    /// The normal end: waits, a few seconds at most, until all have said so, then closes. From here on no loss is
    /// reported by this process, and the others take its end for no loss.
    pub fn goodbye(&self) {
        let (state, deadline) = (&self.state, Instant::now() + GOODBYE);
        if !self.leave() {
            self.post(0..self.processes(), &Frame::Goodbye);
        }
        state.others().for_each(|(_, other)| other.outbox.flush(deadline));
        let waiting = |shared: &mut Shared| {
            let ended = |(process, _)| shared.goodbyes[process] || shared.gone[process];
            shared.loss.is_none() && !state.others().all(ended)
        };
        let patience = deadline.saturating_duration_since(Instant::now());
        drop(state.changed.wait_timeout_while(locked(&state.shared), patience, waiting));
        state.close();
    }

    /// Whether this process was leaving before; it is now.
    fn leave(&self) -> bool {
        let mut shared = locked(&self.state.shared);
        let before = std::mem::replace(&mut shared.leaving, true);
        drop(shared);
        self.state.changed.notify_all();
        before
    }

    /// Connections that end when process `process` is lost.
    pub(super) fn attach(&self, process: usize, stream: TcpStream) {
        if let Some(Some(other)) = self.state.others.get(process) {
            locked(&other.attached).push(stream);
        }
    }

    pub(super) fn address(&self, process: usize) -> String {
        self.state.addresses.get(process).cloned().unwrap_or_default()
    }

    /// Says nothing more, as a stopped process.
    #[cfg(test)]
    pub(super) fn mute(&self) {
        self.state.mute.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    /// Ends all connections without a word, as a killed process.
    #[cfg(test)]
    pub(super) fn cut(&self) {
        locked(&self.state.shared).leaving = true; // the dead report nothing
        self.state.close();
    }
}
