//! What a watch does next: from what is seen and what is, to what is to be done. It is pure: no file, no process, and time is a value.
//!
//! ```text
//!  Turn ─▶ Look, Train, Rest         Inputs ─▶ Apply
//!  Sources ─▶ Note, Hear, Share      Applied ─▶ TakeEffect, Again
//!  Orders ─▶ Judge, Check            Refused ─▶ Apply less, KeepOld
//!  Files ─▶ Note                     Trainer ─▶ StopTrainer, StartTrainer, FeedTrainer, Linger
//!  Read ─▶ ReadInputs, Compare,      Rest ─▶ Wait, End
//!          Decide
//!  Benchmarks ─▶ Embed
//! ```
//!
//! On the left of each arrow is what is [`Seen`], on the right are [`Action`]s in their order. An action that sees something, such as a
//! look at the prefixes, is followed by what is planned for that, before the next one of its own plan: [`Executor::pursue`]. So a turn is one
//! walk: look, judge what is new, read the inputs, make the epoch, feed the trainer, rest.
//!
//! Nothing is remembered from plan to plan: what was interrupted is found again by the same comparison, whatever was done of it.
//!
//! Invariants:
//! 1. Equal worlds give equal plans. So processes that see the same act alike, and come to the same meetings.
//! 2. What is complete is judged in the turn in which it is seen (a live trainer reads it instead), and shown in that turn's epoch. One that
//!    could not be read rests alone until it is tried again.
//! 3. What is judged, shown or in force is not judged, shown or changed again.
//! 4. A world in which nothing changes is planned to wait.
//!
//! Cost: a walk over the arrivals for each turn; a copy of them in a turn in which something arrived, came back or went.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::inputs::ShardInput;

mod arrived;
mod desired;
mod epoch;
mod state;

pub use self::arrived::{Arrival, Arrived, Event, Feed, Found, Look};
pub use self::desired::{Desired, changes};
pub use self::epoch::{Attempt, Refusal, Step};
pub use self::state::{Asked, Failure, FileStamps, Manner, NamedBenchmark, Standing, State, Trainer};

/// A wait that is to end when a live trainer is idle is no longer than this.
const IDLE_LOOK: Duration = Duration::from_millis(100);

/// No wait is shorter than this, however short shards settle.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);

/// What is seen, in the order of a turn.
pub enum Seen<'a> {
    /// What any process was told when a turn begins.
    Turn(Asked),
    /// The prefixes at a time; `None` in a process that does not look.
    Sources(Option<&'a Look>, Instant),
    /// Shards that are to be judged, as the process that looks says for all.
    Orders(&'a [u64]),
    /// The files of [`State::fresh`] shards that can be seen, now that they are read.
    Files(&'a BTreeMap<u64, Found>),
    /// What any process was told while shards were read.
    Read(Asked),
    /// Benchmarks as the user names them now.
    Benchmarks(&'a [NamedBenchmark]),
    /// What is wanted, shards that are to go, and shards that are to come with what the pool has of them.
    Inputs(&'a Desired, &'a [u64], &'a BTreeMap<u64, ShardInput>),
    /// An epoch was made and is shown.
    Applied(&'a Attempt),
    /// An epoch could not be made; nothing has changed.
    Refused(&'a Attempt, &'a Refusal),
    /// The live trainer, as each process sees it.
    Trainer(&'a [Standing]),
    /// The end of a turn.
    Rest {
        /// Whether something was left for another epoch.
        is_more: bool,
        /// Whether the live trainer has something to do.
        trains: bool,
    },
}

/// Something to do. Those that say "meets" are done by all processes together.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Look at the prefixes, where this process does.
    Look,
    /// Append to the list of arrivals; durable before anything else is done.
    Note(Vec<Event>),
    /// Hear what the live trainer has read. Meets.
    Hear,
    /// Say for all which shards are to be judged. Meets.
    Share(Vec<u64>),
    /// Read, decode and embed these shards into the pool, each process its own. Meets.
    Judge(Vec<u64>),
    /// Ask whether anybody was told to stop meanwhile. Meets.
    Check,
    /// Read benchmarks, rules and takedowns. Meets.
    ReadInputs,
    /// Embed pictures of these benchmarks.
    Embed(Vec<NamedBenchmark>),
    /// Look whether the files of [`State::fresh`] shards are still what they were when they were taken in.
    Compare,
    /// Compare what is wanted and live with what is shown. Meets.
    Decide,
    /// Make an epoch and show it. Meets.
    Apply(Attempt),
    /// What is wanted is in force.
    TakeEffect,
    /// What is wanted cannot be: say why; what was in force before stays.
    KeepOld(String),
    /// Begin the next turn without a wait.
    Again,
    /// See how the live trainer stands. Meets.
    Train,
    /// Stop the live trainer after its running step; for good, if it has done its steps. Meets.
    StopTrainer {
        /// Whether it is not started again.
        for_good: bool,
    },
    /// Start the live trainer where its checkpoint stands. Meets.
    StartTrainer,
    /// Tell the live trainer what has come and what is not to be read any more. Meets.
    FeedTrainer,
    /// Ask whether the live trainer has something to do. Meets.
    Linger,
    /// See whether the turn left something.
    Rest,
    /// Wait for a change, or so long.
    Wait(Duration),
    /// End the watch: nothing is left to do, or it was told to stop.
    End,
}

/// Carries out what is planned.
pub trait Executor {
    /// What ends a watch.
    type Error;

    /// What is, as a plan needs it.
    fn state(&self) -> State<'_>;

    /// Does something; what is seen on the way is pursued before it returns.
    ///
    /// # Errors
    /// What ends the watch.
    fn carry_out(&mut self, action: Action) -> Result<(), Self::Error>;

    /// Does what is planned for what is seen.
    ///
    /// # Errors
    /// What ends the watch.
    fn pursue(&mut self, seen: &Seen<'_>) -> Result<(), Self::Error> {
        let actions = plan(seen, &self.state());
        actions.into_iter().try_for_each(|action| self.carry_out(action))
    }
}

/// What is to be done, in this order.
#[must_use]
pub fn plan(seen: &Seen<'_>, state: &State<'_>) -> Vec<Action> {
    match *seen {
        Seen::Turn(Asked::Nothing) if state.trainer == Trainer::Absent => vec![Action::Look, Action::Rest],
        Seen::Turn(Asked::Nothing) => vec![Action::Look, Action::Train, Action::Rest],
        Seen::Turn(_) => vec![Action::End],
        Seen::Sources(look, now) => of_sources(look, now, state),
        Seen::Orders([]) => vec![Action::Check],
        Seen::Orders(wanted) => vec![Action::Judge(wanted.to_vec()), Action::Check],
        Seen::Files(found) => of_files(found, state),
        Seen::Read(Asked::Stop) => Vec::new(),
        // A watch may have been killed before it saw that a file changed, and a live trainer have read one that is superseded by now.
        Seen::Read(_) => vec![Action::ReadInputs, Action::Compare, Action::Decide],
        // Pictures are embedded when they are new or have changed, not in every turn.
        Seen::Benchmarks(named) if named == state.embedded => Vec::new(),
        Seen::Benchmarks(named) => vec![Action::Embed(named.to_vec())],
        Seen::Inputs(desired, gone, new) => epoch::wanted(desired, gone, new, state),
        Seen::Applied(attempt) => epoch::applied(attempt, state),
        Seen::Refused(attempt, refusal) => epoch::refused(attempt, refusal),
        Seen::Trainer(standing) => of_trainer(standing, state),
        Seen::Rest { is_more: true, .. } => Vec::new(),
        Seen::Rest { trains: false, .. } if state.manner.once => vec![Action::End],
        Seen::Rest { .. } if state.manner.once => vec![Action::Wait(IDLE_LOOK)],
        // Until the next shard may have settled.
        Seen::Rest { .. } => vec![Action::Wait(state.manner.poll.min(state.manner.settle.max(SHORTEST_WAIT)))],
    }
}

/// Files that went and came back, shards that are complete and new, or have another content than they had; and what is to be judged then.
fn of_sources(look: Option<&Look>, now: Instant, state: &State<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut judge = Vec::new();
    if let Some(look) = look {
        let events = events(look, state);
        let mut arrived = Cow::Borrowed(state.arrived);
        events.iter().cloned().for_each(|event| arrived.to_mut().take(event));
        if !events.is_empty() {
            actions.push(Action::Note(events));
        }
        // A live trainer reads what has come.
        if state.trainer == Trainer::Absent {
            judge = state.unread_of(&arrived, now);
        }
    }
    if state.trainer == Trainer::Runs {
        actions.push(Action::Hear);
    }
    actions.push(Action::Share(judge));
    actions
}

/// What a look has to say about shards; those that are gone and back come first.
fn events(look: &Look, state: &State<'_>) -> Vec<Event> {
    let mut events = Vec::new();
    let there = look.by_name();
    let (away, here): (Vec<&Arrival>, Vec<&Arrival>) =
        state.arrived.latest().partition(|it| state.arrived.is_gone(it.ordinal));
    if look.troubles.is_empty() && state.manner.withdraws_missing {
        let is_gone = |it: &&&Arrival| !there.contains_key(it.name.as_str());
        events.extend(here.iter().filter(is_gone).map(|it| Event::Gone(it.ordinal)));
    }
    // What is seen is there, whether what is not seen is withdrawn or not: a start that withdraws may be followed by one that does not.
    let is_back = |it: &&&Arrival| there.get(it.name.as_str()).is_some_and(|found| found.same(&it.found));
    events.extend(away.iter().filter(is_back).map(|it| Event::Back(it.ordinal)));
    // What was torn is read again even if its file is what it was: a store may show an old version for a moment.
    let is_known = |it: &Arrival, found: &Found| it.found.same(found) && !state.arrived.is_torn(it.ordinal);
    let is_new = |(name, found): &&(String, Found)| {
        look.complete.contains(name) && !state.arrived.latest_of(name).is_some_and(|it| is_known(it, found))
    };
    events.extend(state.arrived.numbered(look.shards.iter().filter(is_new).cloned().collect()));
    events
}

/// Shards whose file is not what it was when it was taken in were read while they changed.
fn of_files(found: &BTreeMap<u64, Found>, state: &State<'_>) -> Vec<Action> {
    let has_changed = |it: &&Arrival| found.get(&it.ordinal).is_some_and(|found| !found.same(&it.found));
    let torn: Vec<Event> = state.fresh().filter(has_changed).map(|it| Event::Torn(it.ordinal)).collect();
    if torn.is_empty() { Vec::new() } else { vec![Action::Note(torn)] }
}

/// What one process has to do, all do.
fn of_trainer(standing: &[Standing], state: &State<'_>) -> Vec<Action> {
    let stop = |for_good| Action::StopTrainer { for_good };
    if standing.iter().any(|it| it.stops) {
        return Vec::new();
    }
    if state.trainer != Trainer::Runs {
        return vec![Action::StartTrainer, Action::Linger];
    }
    if standing.iter().any(|it| it.has_ended) {
        return vec![stop(true), Action::Linger];
    }
    if standing.iter().any(|it| !it.can_follow) {
        return vec![stop(false), Action::StartTrainer, Action::Linger];
    }
    vec![Action::FeedTrainer, Action::Linger]
}
