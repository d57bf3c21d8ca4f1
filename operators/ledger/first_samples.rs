//! The first samples of a run: if none of them can be judged, the run is given up before anything is committed.
//!
//! ```text
//!  events ─▶ [counts: a shard's first samples] ─┬─▶ events, as they came
//!            on every worker                    └─▶ Seen ─▶ worker 0 of all: [verdict] ─▶ Word, to every worker
//!                                                                 │ meaningless             ├─▶ sound: the committer begins
//!                                                                 ▼                         └─▶ a shard of rejects: its lease
//!                                                       the run fails, wrong usage
//! ```
//!
//! Frontiers: all outputs follow the input's; nothing is held.
//!
//! # Invariants
//! 1. *First* is by the plan (in training by the order in which lanes are read), never by arrival: the verdict is a function of the
//!    data, whatever the number of processes and workers. One operator draws it, for all of them.
//! 2. While it is open nothing is committed, so that the same command ends the same way again. What is committed already, by an
//!    earlier run, is what the run was found sound by.
//! 3. It cannot wait for what waits for it: a shard that is known to hold rejects only gives its lease back at once, and the
//!    committer writes rows and parts meanwhile, so that records return; only manifest lines are held back.
//! 4. Counts go on when the verdict is drawn, and are not listened to any more: nothing runs back in the graph.
//!
//! A shard whose bytes cannot be had makes the run sound: nothing is known of it. A slice judges what it alone has of the plan's
//! beginning.
//!
//! Cost: of each shard two or three messages, and a few words on its worker until it has ended.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use timely::dataflow::StreamVec;
use timely::dataflow::operators::Exchange;
use timely::dataflow::operators::vec::{Broadcast, Map};
use trommel_core::sample::{Event, Reason, ShardEnd, ShardOutcome, Status, Time};
use trommel_core::stop::Stop;
use trommel_dataflow::redeem::Redeemed;
use trommel_dataflow::tap::Tap;

use super::committer::CommitHandle;

/// Samples after which a run without a single judged one is given up.
const FIRST: u32 = 512;

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
#[derive(Clone, Debug)]
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

/// What is judged of a run: the same in all of its processes.
#[derive(Clone, Debug)]
pub struct First {
    order: Arc<Order>,
    /// What is asked about where nothing can be judged; empty where nothing is a picture.
    image_key: Arc<str>,
    stop: Stop,
}

impl First {
    /// Judges the shards of `order`. `image_key` is asked about where nothing can be judged; empty where nothing is a picture.
    #[must_use]
    pub fn new(order: Order, image_key: &str, stop: &Stop) -> Self {
        Self { order: Arc::new(order), image_key: image_key.into(), stop: stop.clone() }
    }

    /// Whether there is nothing to judge: the run is sound from the beginning, and nobody says so.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.order.shards.is_empty()
    }
}

/// Judges a run's first samples.
pub trait FirstSamples<'scope> {
    /// The events as they come, and while the verdict is open, the leases of shards that are known to hold rejects only: for leases
    /// that wait for a free place, not for decisions. When the run is found sound, the committer hears of it.
    fn first_samples(
        self,
        first: &First,
        committer: &CommitHandle,
    ) -> (StreamVec<'scope, Time, Event>, StreamVec<'scope, Time, Redeemed>);
}

impl<'scope> FirstSamples<'scope> for StreamVec<'scope, Time, Event> {
    fn first_samples(
        self,
        first: &First,
        committer: &CommitHandle,
    ) -> (StreamVec<'scope, Time, Event>, StreamVec<'scope, Time, Redeemed>) {
        let (events, words) = words(self, first);
        let committer = committer.clone();
        let passed = words.flat_map(move |word| match word {
            Word::Passed(ordinal) => Some(Redeemed { ordinal, failed: false }),
            Word::Sound => {
                committer.sound();
                None
            }
        });
        (events, passed)
    }
}

/// What every worker hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Word {
    /// The shard holds rejects only, and the verdict is open.
    Passed(u64),
    Sound,
}

/// The events, and what is said of them.
fn words<'scope>(
    events: StreamVec<'scope, Time, Event>,
    first: &First,
) -> (StreamVec<'scope, Time, Event>, StreamVec<'scope, Time, Word>) {
    let (mut counts, is_settled) = (SeenShards::default(), first.is_settled());
    let (events, seen) = events.tap(move |event| if is_settled { None } else { counts.see(event) });
    let (first, mut state) = (first.clone(), State::new(&first.order));
    let words = seen.exchange(|_: &Seen| 0).flat_map(move |seen| {
        let (mut words, verdict) = state.hear(seen, &first.image_key);
        match verdict {
            Some(Verdict::Sound) => words.push(Word::Sound),
            Some(Verdict::Meaningless(why)) => first.stop.refuse(why),
            None => {}
        }
        words
    });
    (events, words.broadcast())
}

/// What a worker knows of its shards' first samples, until they have ended.
#[derive(Default)]
struct SeenShards(HashMap<u64, Seen>);

impl SeenShards {
    /// Takes note of a fate or an end, and says what is new of its shard.
    fn see(&mut self, event: &Event) -> Option<Seen> {
        let ordinal = match event {
            Event::Fate(fate) if fate.info.id.index < FIRST => fate.info.id.ordinal,
            Event::Fate(_) => return None,
            Event::End(end) => end.ordinal,
        };
        let seen = self.0.entry(ordinal).or_insert_with(|| Seen { ordinal, ..Seen::default() });
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
            Event::End(ShardEnd { count, outcome, .. }) => {
                seen.samples = Some(*count);
                seen.unavailable = matches!(outcome, ShardOutcome::Unavailable(_));
            }
        }
        // Also a judged sample that stands before the first one told: the verdict may hang on it, and who has it says no more.
        let news = seen.unavailable || was_judged != seen.first_judged || was_known != seen.is_known();
        let news = news.then(|| seen.clone());
        if seen.samples.is_some() && seen.is_known() {
            self.0.remove(&ordinal);
        }
        news
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

#[derive(Debug)]
enum Verdict {
    Sound,
    Meaningless(Meaningless),
}

/// How far the order is known.
struct State {
    order: Arc<Order>,
    at: usize,
    /// Rejects in the shards before `at`.
    before: u32,
    seen: HashMap<u64, Seen>,
    reason: Option<Reason>,
    /// A verdict is drawn once.
    is_drawn: bool,
}

impl State {
    fn new(order: &Arc<Order>) -> Self {
        let is_drawn = order.shards.is_empty();
        Self { order: order.clone(), at: 0, before: 0, seen: HashMap::new(), reason: None, is_drawn }
    }

    /// Takes in what is new of a shard, and draws the conclusions: shards that hold rejects only, and the verdict.
    fn hear(&mut self, seen: Seen, image_key: &str) -> (Vec<Word>, Option<Verdict>) {
        let mut passed = Vec::new();
        if self.is_drawn {
            return (passed, None);
        }
        let known = self.seen.entry(seen.ordinal).or_default();
        if seen.came() >= known.came() {
            *known = seen;
        }
        let verdict = self.conclude(image_key, &mut passed);
        if verdict.is_some() {
            self.is_drawn = true;
            self.seen.clear();
        }
        (passed, verdict)
    }

    fn conclude(&mut self, image_key: &str, passed: &mut Vec<Word>) -> Option<Verdict> {
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
            passed.push(Word::Passed(ordinal));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
