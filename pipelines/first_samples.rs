//! The first samples of a run: if none of them can be judged, the run is given up before anything is committed.
//!
//! ```text
//!  fates, ends ─▶ First (all processes tell each other) ─▶ sound: the committer begins
//!                                                       └▶ meaningless: the run fails, wrong usage
//! ```
//!
//! # Invariants
//! 1. *First* is by the plan (in training by the order in which lanes are read), never by arrival: the verdict is a function of the
//!    data, whatever the number of processes and workers.
//! 2. While it is open nothing is committed, so that the same command ends the same way again. What is committed already, by an
//!    earlier run, is what the run was found sound by.
//! 3. It cannot wait for what waits for it: a shard that is known to hold rejects only gives its lease back at once, and the
//!    committer writes rows and parts meanwhile, so that records return; only manifest lines are held back.
//!
//! A shard whose bytes cannot be had makes the run sound: nothing is known of it. A slice judges what it alone has of the plan's
//! beginning.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use trommel_cluster::{Control, Message};
use trommel_core::sample::{Event, Reason, ShardEnd, ShardOutcome, Status};
use trommel_core::stop::Stop;
use trommel_core::wake::{Registration, locked};

/// Samples after which a run without a single judged one is given up.
const FIRST: u32 = 512;

/// What processes tell each other, by its kind.
const KIND: &str = "first samples";

/// None of the first samples could be judged.
#[derive(Clone, Debug, thiserror::Error)]
#[error("all of the first {samples} samples were rejected ({reason}){}", question(image_key))]
pub struct Meaningless {
    samples: u32,
    reason: Reason,
    image_key: String,
}

/// What the user may have meant otherwise, where there are pictures.
fn question(image_key: &str) -> String {
    if image_key.is_empty() { String::new() } else { format!("; is --image-key `{image_key}` right?") }
}

/// Shards in the order in which they count.
pub struct Order {
    /// Their ordinals.
    pub shards: Vec<u64>,
    /// Whether these are all of the run.
    pub whole: bool,
}

impl Order {
    /// Nothing counts: the run is sound.
    pub const fn none() -> Self {
        Self { shards: Vec::new(), whole: false }
    }
}

/// What is known of a shard's own first samples.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Seen {
    ordinal: u64,
    rejected: u32,
    judged: u32,
    /// The first judged sample among those that came.
    first_judged: Option<u32>,
    /// The reason of the first reject among those that came.
    reason: Option<(u32, Reason)>,
    samples: Option<u32>,
    unavailable: bool,
}

impl Seen {
    /// Events that came; of two states of one shard the larger is the later.
    fn came(&self) -> u32 {
        self.rejected + self.judged + u32::from(self.samples.is_some())
    }

    /// Whether all of its first samples have come.
    fn is_known(&self) -> bool {
        let all = self.samples.map_or(FIRST, |samples| samples.min(FIRST));
        self.rejected + self.judged >= all
    }
}

#[derive(Clone, Debug)]
enum Verdict {
    Sound,
    Meaningless(Meaningless),
}

struct State {
    order: Order,
    at: usize,
    /// Rejects in the shards before `at`.
    before: u32,
    seen: HashMap<u64, Seen>,
    reason: Option<Reason>,
    verdict: Option<Verdict>,
    /// No more can come.
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    /// Nothing is counted any more.
    is_decided: AtomicBool,
    control: Option<Control>,
    passed: Box<dyn Fn(u64) + Send + Sync>,
    image_key: String,
    stop: Stop,
}

/// Judges a run's first samples. Clones are the same.
#[derive(Clone)]
pub struct First {
    shared: Arc<Shared>,
    _closing: Arc<[Registration; 2]>,
}

impl First {
    /// `image_key` is asked about where nothing can be judged; empty where nothing is a picture. `passed` hears of every shard that is known to hold rejects only, while the verdict is open.
    pub fn new(
        order: Order,
        image_key: &str,
        control: Option<&Control>,
        stop: &Stop,
        passed: impl Fn(u64) + Send + Sync + 'static,
    ) -> Self {
        let verdict = order.shards.is_empty().then_some(Verdict::Sound);
        let is_decided = AtomicBool::new(verdict.is_some());
        let state = State { order, at: 0, before: 0, seen: HashMap::new(), reason: None, verdict, closed: false };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            is_decided,
            control: control.cloned(),
            passed: Box::new(passed),
            image_key: image_key.to_owned(),
            stop: stop.clone(),
        });
        if let Some(control) = control {
            let told = Arc::downgrade(&shared);
            control.on_message(move |_, message| {
                let (Message::Text { kind, text }, Some(shared)) = (message, told.upgrade()) else { return false };
                let seen = if kind == KIND { serde_json::from_str::<Seen>(text).ok() } else { None };
                let is_mine = seen.is_some();
                if let Some(seen) = seen {
                    shared.with(|state| {
                        let known = state.seen.entry(seen.ordinal).or_default();
                        if seen.came() >= known.came() {
                            *known = seen;
                        }
                    });
                }
                is_mine
            });
        }
        let (stopped, winding) = (Arc::downgrade(&shared), Arc::downgrade(&shared));
        let close = move |shared: &std::sync::Weak<Shared>| {
            if let Some(shared) = shared.upgrade() {
                locked(&shared.state).closed = true;
            }
        };
        let closing = [stop.on_request(move || close(&stopped)), stop.on_wind_down(move || close(&winding))];
        Self { shared, _closing: Arc::new(closing) }
    }

    /// Takes note of a fate or an end.
    pub fn see(&self, event: &Event) {
        let shared = &self.shared;
        if shared.is_decided.load(Ordering::Acquire) {
            return;
        }
        let ordinal = match event {
            Event::Fate(fate) if fate.info.id.index < FIRST => fate.info.id.ordinal,
            Event::Fate(_) | Event::Points(_) => return,
            Event::End(end) => end.ordinal,
        };
        let mut tell = None;
        shared.with(|state| {
            let seen = state.seen.entry(ordinal).or_insert_with(|| Seen { ordinal, ..Seen::default() });
            let (was_judged, was_known) = (seen.first_judged, seen.is_known());
            match event {
                Event::Fate(fate) if fate.status == Status::Rejected => {
                    seen.rejected += 1;
                    let index = fate.info.id.index;
                    if let Some(reason) = &fate.reason
                        && seen.reason.as_ref().is_none_or(|(first, _)| index < *first)
                    {
                        seen.reason = Some((index, reason.clone()));
                    }
                }
                Event::Fate(fate) => {
                    let index = fate.info.id.index;
                    seen.judged += 1;
                    seen.first_judged = Some(seen.first_judged.map_or(index, |first| first.min(index)));
                }
                Event::Points(_) => {}
                Event::End(ShardEnd { count, outcome, .. }) => {
                    seen.samples = Some(*count);
                    seen.unavailable = matches!(outcome, ShardOutcome::Unavailable(_));
                }
            }
            // Also a judged sample that stands before the first one told: the verdict may hang on it, and who has it says no more.
            let news = seen.unavailable || was_judged != seen.first_judged || was_known != seen.is_known();
            tell = news.then(|| seen.clone());
        });
        if let (Some(control), Some(seen)) = (&shared.control, tell) {
            let text = serde_json::to_string(&seen).unwrap_or_default();
            control.broadcast(Message::Text { kind: KIND.into(), text });
        }
    }

    /// Whether shards may be committed; `None` while the verdict is open. Where it can not come any more, they may not.
    pub fn may_commit(&self) -> Option<bool> {
        let state = locked(&self.shared.state);
        match state.verdict {
            Some(Verdict::Sound) => Some(true),
            Some(Verdict::Meaningless(_)) => Some(false),
            None => state.closed.then_some(false),
        }
    }
}

impl Shared {
    /// Changes what is known, and draws the conclusions.
    fn with(&self, change: impl FnOnce(&mut State)) {
        let mut state = locked(&self.state);
        if state.verdict.is_some() {
            return;
        }
        change(&mut state);
        let mut passed = Vec::new();
        let verdict = state.conclude(&self.image_key, &mut passed);
        state.verdict.clone_from(&verdict);
        drop(state);
        if verdict.is_some() {
            self.is_decided.store(true, Ordering::Release);
        }
        passed.into_iter().for_each(|ordinal| (self.passed)(ordinal));
        if let Some(Verdict::Meaningless(why)) = verdict {
            self.stop.refuse(why);
        }
    }
}

impl State {
    fn conclude(&mut self, image_key: &str, passed: &mut Vec<u64>) -> Option<Verdict> {
        let meaningless = |samples, reason: Option<Reason>| {
            let reason = reason.unwrap_or_else(|| Reason::new("rejected", ""));
            Some(Verdict::Meaningless(Meaningless { samples, reason, image_key: image_key.to_owned() }))
        };
        loop {
            let Some(&ordinal) = self.order.shards.get(self.at) else {
                let all_rejected = self.order.whole && self.before > 0;
                return if all_rejected { meaningless(self.before, self.reason.take()) } else { Some(Verdict::Sound) };
            };
            let seen = self.seen.get(&ordinal)?;
            let left = FIRST - self.before;
            if seen.unavailable || seen.first_judged.is_some_and(|index| index < left) {
                return Some(Verdict::Sound);
            }
            if !seen.is_known() {
                return None;
            }
            if self.reason.is_none() {
                self.reason = seen.reason.as_ref().map(|(_, reason)| reason.clone());
            }
            if seen.first_judged.is_some() || seen.rejected >= left {
                return meaningless(FIRST, self.reason.take());
            }
            self.before += seen.rejected;
            self.at += 1;
            passed.push(ordinal);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
