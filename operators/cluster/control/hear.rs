//! What is heard of the others: a reader thread a process, and one thread for all handlers.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError, select_biased};

use super::state::{Event, Handler, Letter, Other, Said, State};
use crate::error::Loss;
use crate::message::{Frame, Frames, Message};
use trommel_core::wake::locked;

/// Messages that wait for the handlers, or for a handler to come; readers wait while there are more.
const INBOX: usize = 1 << 16;

/// Reads what process `process` says, to the end of its connection.
pub(super) fn read(state: &Arc<State>, process: usize, other: &Other) {
    let Ok(stream) = other.stream.try_clone() else {
        return ended(state, process, "its connection could not be shared".into());
    };
    let mut frames = Frames::new(stream, || *locked(&other.heard) = Some(Instant::now()));
    let why = loop {
        match frames.next() {
            Ok(Some(frame)) => take(state, process, other, frame),
            Ok(None) => break "its connection ended".into(),
            Err(error) => break describe(&error),
        }
    };
    ended(state, process, why);
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "its connection ended".into(),
        io::ErrorKind::TimedOut => "its connection timed out".into(),
        _ => error.to_string(),
    }
}

fn take(state: &State, process: usize, other: &Other, frame: Frame) {
    match frame {
        Frame::Beat(counters) => *locked(&other.counters) = counters,
        Frame::Message(message) => {
            while state.inbox.len() >= INBOX {
                other.held_up.store(true, Ordering::SeqCst);
                if !matches!(state.closed.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout)) {
                    return;
                }
            }
            if other.held_up.swap(false, Ordering::SeqCst) {
                *locked(&other.heard) = Some(Instant::now());
            }
            let _closed = state.inbox.send(Letter::From(process, message));
        }
        Frame::Barrier { name, value, more } => {
            let all = state.others.len();
            let mut shared = locked(&state.shared);
            let said = shared.said.entry(name).or_insert_with(|| vec![Said::default(); all]);
            said[process].hear(&value, more);
            drop(shared);
            state.changed.notify_all();
        }
        Frame::Failed { line, status } => {
            let loss = Loss { status: Some(status), ..state.loss(process, format!("failed: {line}")) };
            let _decider_gone = state.events.send(Event::Suspected(loss));
        }
        Frame::Suspect(loss) if loss.process < state.others.len() => {
            let _decider_gone = state.events.send(Event::Suspected(loss));
        }
        Frame::Lost(loss) => {
            let _decider_gone = state.events.send(Event::Decided(loss));
        }
        Frame::Goodbye => {
            locked(&state.shared).goodbyes[process] = true;
            state.changed.notify_all();
        }
        Frame::Table(_) | Frame::Suspect(_) => {}
    }
}

/// A connection is at its end: a loss, unless the process has said goodbye or this one is leaving.
fn ended(state: &State, process: usize, why: String) {
    let mut shared = locked(&state.shared);
    shared.gone[process] = true;
    let expected = shared.goodbyes[process] || shared.leaving;
    drop(shared);
    state.changed.notify_all();
    if let Some(other) = &state.others[process] {
        other.outbox.close();
    }
    if !expected {
        let _decider_gone = state.events.send(Event::Suspected(state.loss(process, why)));
    }
}

/// Runs the handlers until this process has said goodbye.
pub(super) fn dispatch(state: &State, inbox: &Receiver<Letter>) {
    let (mut handlers, mut kept) = (Vec::<Handler>::new(), VecDeque::<(usize, Message)>::new());
    loop {
        let letter = select_biased! {
            recv(inbox) -> letter => letter,
            recv(state.closed) -> _ => Err(RecvError),
        };
        match letter {
            Err(_) => return,
            Ok(Letter::Handler(handler)) => {
                kept.retain(|(from, message)| !handler(*from, message));
                handlers.push(handler);
            }
            Ok(Letter::From(from, message)) => {
                if handlers.iter().any(|handler| handler(from, &message)) {
                    continue;
                }
                if kept.len() >= INBOX {
                    let why = format!("nobody takes its messages; {INBOX} are kept");
                    let _decider_gone = state.events.send(Event::Suspected(state.loss(from, why)));
                    return;
                }
                kept.push_back((from, message));
            }
        }
    }
}
