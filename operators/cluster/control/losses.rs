//! Who is lost: seen by silence or by an ended connection, decided once, named alike by all.
//!
//! ```text
//!  process 1                         process 0                    process 3
//!  sees that 2 is gone ── Suspect ─▶ decides ─────── Lost(2) ────▶ on_loss(2)
//!  on_loss(2) ◀────── Lost(2) ───────┘ on_loss(2)
//! ```
//!
//! Process 0 decides; the others wait a second for its word, and decide themselves where it does not come or process 0
//! itself is lost. Whoever decides tells everybody before it ends, for its own end would look like a loss.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, select};

use super::state::{Event, State};
use crate::OnLoss;
use crate::error::Loss;
use crate::message::Frame;
use trommel_core::wake::locked;

/// How long process 0 may take to decide.
const DECISION: Duration = Duration::from_secs(1);
/// How long telling the others may take.
pub(super) const TELLING: Duration = Duration::from_millis(500);

/// Decides once; ends then, or when this process has said goodbye.
pub(super) fn decide(state: &State, events: &Receiver<Event>, on_loss: &OnLoss) {
    loop {
        let loss = select! {
            recv(events) -> event => match event {
                Ok(Event::Decided(loss)) => loss,
                Ok(Event::Suspected(loss)) => agreed(state, events, loss),
                Err(_) => return,
            },
            recv(state.closed) -> _ => return,
        };
        if locked(&state.shared).leaving {
            continue;
        }
        state.shout(&Frame::Lost(loss.clone()), Some(loss.process), TELLING);
        let mut shared = locked(&state.shared);
        if shared.leaving {
            continue;
        }
        shared.loss = Some(loss.clone());
        drop(shared);
        state.changed.notify_all();
        if let Some(other) = state.others.get(loss.process).and_then(Option::as_ref) {
            for stream in locked(&other.attached).drain(..) {
                let _gone = stream.shutdown(std::net::Shutdown::Both);
            }
        }
        return on_loss(&loss);
    }
}

/// What process 0 makes of a suspicion.
fn agreed(state: &State, events: &Receiver<Event>, suspected: Loss) -> Loss {
    let final_word = |loss: &Loss| state.process == 0 || loss.process == 0;
    if final_word(&suspected) {
        return suspected;
    }
    if let (Some(Some(coordinator)), Ok(bytes)) = (state.others.first(), Frame::Suspect(suspected.clone()).encode()) {
        coordinator.outbox.urgent(bytes);
    }
    let deadline = Instant::now() + DECISION;
    loop {
        match events.recv_deadline(deadline) {
            Ok(Event::Decided(loss)) => return loss,
            Ok(Event::Suspected(loss)) if final_word(&loss) => return loss,
            Ok(Event::Suspected(_)) => {}
            Err(_) => return suspected,
        }
    }
}

/// Beats, and watches the beats of the others, until this process has said goodbye.
pub(super) fn beat(state: &State) {
    let (tick, every) = ((state.silence / 20).max(Duration::from_millis(2)), state.silence / 5);
    let (mut looked, mut next_beat) = (Instant::now(), Instant::now());
    loop {
        let now = Instant::now();
        if now.duration_since(looked) > state.silence / 2 {
            // This process itself was stopped: what the others said meanwhile lies unread.
            for (_, other) in state.others() {
                let mut heard = locked(&other.heard);
                *heard = heard.map(|_| now);
            }
        }
        looked = now;
        if now >= next_beat {
            next_beat = now + every;
            if let (Ok(bytes), false) = (Frame::Beat(state.own_counters()).encode(), state.mute.load(Ordering::SeqCst))
            {
                state.others().for_each(|(_, other)| other.outbox.beat(bytes.clone()));
            }
        }
        silent(state, now);
        if !matches!(state.closed.recv_timeout(tick), Err(RecvTimeoutError::Timeout)) {
            return;
        }
    }
}

fn silent(state: &State, now: Instant) {
    for (process, other) in state.others() {
        let heard = *locked(&other.heard);
        let (since, patience) = match heard {
            Some(heard) => (heard, state.silence),
            None => (state.begun, state.start_timeout.max(state.silence)), // it may still be meeting others; a start ends with a barrier
        };
        let silent = now.saturating_duration_since(since);
        if silent < patience || other.held_up.load(Ordering::SeqCst) {
            continue;
        }
        let shared = locked(&state.shared);
        if shared.gone[process] || shared.leaving || shared.loss.is_some() {
            continue;
        }
        drop(shared);
        let why = format!("silent for {:.3} s", patience.as_secs_f64());
        let why = why.replace(".000 s", " s");
        if let Ok(()) = state.events.send(Event::Suspected(state.loss(process, why))) {
            *locked(&other.heard) = Some(now); // said once in a while is enough
        }
    }
}
