//! The sequencer: slots come in any order, closed windows leave in the one order there is. A pure state machine.
//!
//! ```text
//!  offer(slot), end(shard, count) ─▶ [slots waiting for their turn] ─▶ lanes in turn ─▶ [open window] ─▶ Ready
//! ```
//!
//! Invariants:
//! 1. What leaves is a function of the lanes, the configuration and the slots' content, not of their arrival (**O1**).
//! 2. A slot is accepted once; its number is below its shard's count (errors otherwise). Slots before the cursor that the
//!    sequencer was resumed from are passed over.
//! 3. The cursors that it gives stand at deterministic points, so that they too are the same for every arrival.
//! 4. In a growing assignment no lane is exhausted before the assignment is closed: the lane in turn is waited for, whatever the
//!    others have. So the order is that of the finished assignment, whenever its shards came. Call [`Sequencer::fill`] after
//!    the assignment has changed.
//! 5. Continued inside of a window, it gives that window again or [`Ready::Torn`]: a shard that was given up in it ends where it
//!    ended then, whatever can be had of it now. In a growing assignment, whose order nobody can repeat, it goes on without what is missing.
//!
//! Cost: a tree insertion a slot, a sort a window; holes are held as runs.
//!
//! ```
//! use std::sync::Arc;
//! use trommel_dataflow::lanes::{Lanes, OrderConfig};
//! use trommel_dataflow::sequencer::{Ready, Sequencer, Slot};
//!
//! let config = OrderConfig { lanes: 1, ..OrderConfig::default() };
//! let lanes = Arc::new(Lanes::new(1, 0, [(0, "a.tar".to_owned())]));
//! let mut order = Sequencer::<()>::new(&config, lanes, Some(1));
//! order.end(0, 0, 2)?;
//! order.offer(Slot::kept(0, 0, 1, 100, ()))?;
//! assert!(!order.fill()); // sample 0 has the turn
//! order.offer(Slot::hole(0, 0, 0))?;
//! assert!(order.fill());
//! let Some(Ready::Window(window)) = order.take() else { panic!("the pass is over: its window is closed") };
//! assert_eq!(window.samples[0].id.index, 1);
//! # Ok::<(), trommel_dataflow::sequencer::OrderError>(())
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use super::holes::Holes;
use super::irregular::{Irregular, What};
use super::lanes::{Lanes, OrderConfig, ShardPlace, Standing};
use super::window::{Cursor, GivenUp, LanePlace, Open, Payload};
use trommel_core::sample::SampleId;

mod error;
mod given_up;
mod slot;

pub use self::error::OrderError;
pub use self::slot::{Ready, Slot, WaitsFor};

#[derive(Debug)]
struct Shard<P> {
    kept: BTreeMap<u32, (u64, P)>,
    holes: Holes,
    count: Option<u32>,
    given_up: bool,
}

/// See the module's head.
#[derive(Debug)]
pub struct Sequencer<P> {
    config: OrderConfig,
    lanes: Arc<Lanes>,
    passes: Option<u32>,
    began: Cursor,
    now: Cursor,
    shards: HashMap<(u32, u64), Shard<P>>,
    /// Shards that were given up in the window that it continued inside of, and their samples until then.
    ended: HashMap<(u32, u64), u32>,
    /// Whether that window must be the same again.
    repeats: bool,
    /// Holes that were to be samples, their turn yet to come.
    skips: HashSet<(u32, SampleId)>,
    open: Open<P>,
    ready: Option<Ready<P>>,
    irregular: Vec<Irregular>,
}

impl<P: Payload> Sequencer<P> {
    /// An order from the beginning, over `passes` passes (`None`: without end).
    #[must_use]
    pub fn new(config: &OrderConfig, lanes: Arc<Lanes>, passes: Option<u32>) -> Self {
        let cursor = Cursor::start_of(0, lanes.count());
        Self::at(config, lanes, passes, cursor)
    }

    /// An order that continues at the start of the cursor's window; the caller throws its used-up samples away.
    ///
    /// # Errors
    /// [`OrderError::Cursor`] when the cursor has another number of lanes, [`OrderError::Closed`] when it stands behind
    /// the end of a growing assignment and the assignment is not closed there.
    pub fn resume(
        config: &OrderConfig,
        lanes: Arc<Lanes>,
        passes: Option<u32>,
        cursor: &Cursor,
    ) -> Result<Self, OrderError> {
        if cursor.lanes.len() != lanes.count() || cursor.turn >= lanes.count() {
            return Err(OrderError::Cursor { found: cursor.lanes.len(), lanes: lanes.count() });
        }
        if let Some(closed_at) = cursor.closed_at.filter(|_| cursor.closed_at != lanes.closed_at()) {
            return Err(OrderError::Closed { closed_at });
        }
        let mut order = Self::at(config, lanes, passes, Cursor { offset: 0, ..cursor.clone() });
        order.repeat_window(cursor);
        Ok(order)
    }

    fn at(config: &OrderConfig, lanes: Arc<Lanes>, passes: Option<u32>, cursor: Cursor) -> Self {
        let passes = lanes.passes(passes);
        let (began, now, open) = (cursor.clone(), cursor.clone(), Open::new(cursor));
        Self {
            config: config.clone(),
            lanes,
            passes,
            began,
            now,
            shards: HashMap::new(),
            ended: HashMap::new(),
            repeats: false,
            skips: HashSet::new(),
            open,
            ready: None,
            irregular: Vec::new(),
        }
    }

    /// Takes a sample's turn. Its pass and shard must be in the plan.
    ///
    /// # Errors
    /// See [`OrderError`]; the slot is dropped.
    pub fn offer(&mut self, slot: Slot<P>) -> Result<(), OrderError> {
        let (pass, SampleId { ordinal, index }) = (slot.pass, slot.id);
        let place = self.place(pass, ordinal)?;
        if self.lanes.is_hole(ordinal) || self.has_ended(pass, slot.id) {
            return Ok(()); // read before it was known, or for the ledger
        }
        if before(&self.began, pass, place, index) {
            return Ok(());
        }
        if before(&self.now, pass, place, index) {
            return Err(OrderError::Twice { pass, ordinal, index });
        }
        let shard = self.shards.entry((pass, ordinal)).or_insert_with(Shard::new);
        if let Some(count) = shard.count.filter(|count| index >= *count) {
            return Err(OrderError::BeyondEnd { pass, ordinal, index, count });
        }
        if shard.kept.contains_key(&index) || shard.holes.contains(index) {
            return Err(OrderError::Twice { pass, ordinal, index });
        }
        match slot.content {
            Some(content) => _ = shard.kept.insert(index, content),
            None => _ = shard.holes.insert(index..index + 1),
        }
        Ok(())
    }

    /// Takes the turns of neighbours that are not trained.
    ///
    /// # Errors
    /// See [`OrderError`]; some of the turns may have been taken.
    pub fn holes(&mut self, pass: u32, ordinal: u64, mut indices: Range<u32>) -> Result<(), OrderError> {
        indices.try_for_each(|index| self.offer(Slot::hole(pass, ordinal, index)))
    }

    /// Takes the turn of a sample that was kept and cannot be read any more: a hole, and one that is counted.
    ///
    /// # Errors
    /// See [`OrderError`]; the slot is dropped.
    pub fn skip(&mut self, pass: u32, id: SampleId) -> Result<(), OrderError> {
        let place = self.place(pass, id.ordinal)?;
        self.offer(Slot { pass, id, content: None })?;
        if !before(&self.began, pass, place, id.index) && !self.has_ended(pass, id) {
            self.skips.insert((pass, id));
        }
        Ok(())
    }

    /// Samples skipped so far, over all passes.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.now.skipped
    }

    /// Says that a shard holds the samples `0..count`.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub fn end(&mut self, pass: u32, ordinal: u64, count: u32) -> Result<(), OrderError> {
        let place = self.place(pass, ordinal)?;
        if self.lanes.is_hole(ordinal) {
            return Ok(());
        }
        if passed_over(&self.began, pass, place) {
            return Ok(());
        }
        if self.end_again(pass, ordinal, count) {
            return Ok(());
        }
        if passed_over(&self.now, pass, place) {
            return Err(OrderError::EndedTwice { pass, ordinal });
        }
        let at_head = pass == self.now.pass && place.position == self.now.lanes[place.lane].position;
        let taken = if at_head { self.now.lanes[place.lane].index } else { 0 };
        let shard = self.shards.entry((pass, ordinal)).or_insert_with(Shard::new);
        if shard.count.is_some() {
            return Err(OrderError::EndedTwice { pass, ordinal });
        }
        let last = shard.kept.last_key_value().map(|(index, _)| *index).max(shard.holes.last());
        let last = last.or_else(|| taken.checked_sub(1)).filter(|last| *last >= count);
        if let Some(index) = last {
            return Err(OrderError::BeyondEnd { pass, ordinal, index, count });
        }
        shard.count = Some(count);
        Ok(())
    }

    /// What was irregular since the last call, in the order of turns.
    pub fn take_irregular(&mut self) -> Vec<Irregular> {
        std::mem::take(&mut self.irregular)
    }

    fn note(&mut self, what: What) {
        self.irregular.push(Irregular { pass: self.now.pass, window: self.now.window, what });
    }

    /// Goes on as far as it can; true when something is ready, and then it stands still until that is taken.
    pub fn fill(&mut self) -> bool {
        while self.ready.is_none() && self.step() {}
        self.ready.is_some()
    }

    /// The next sample whose turn has come, if there is one.
    pub fn take(&mut self) -> Option<Ready<P>> {
        self.ready.take()
    }

    /// Whether the last pass is over and everything taken.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.ready.is_none() && self.over()
    }

    /// For whom it waits, when [`fill`](Self::fill) went as far as it could.
    #[must_use]
    pub fn waits_for(&self) -> Option<WaitsFor> {
        if self.over() || self.ready.is_some() {
            return None;
        }
        let lane = self.now.turn;
        let LanePlace { position, index } = self.now.lanes[lane];
        let ordinal = self.lanes.ordinal(self.now.pass, lane, position)?;
        Some(WaitsFor { pass: self.now.pass, lane, ordinal, index })
    }

    /// The lane whose next shard has to come yet, when [`fill`](Self::fill) went as far as it could.
    #[must_use]
    pub fn waits_for_growth(&self) -> Option<usize> {
        let waits = !self.over() && self.ready.is_none();
        let standing = || self.lanes.standing(self.now.pass, self.now.turn, self.now.lanes[self.now.turn].position);
        (waits && standing() == Standing::Later).then_some(self.now.turn)
    }

    /// Slots that wait for their turn.
    #[must_use]
    pub fn waiting_slots(&self) -> usize {
        self.shards.values().map(|shard| shard.kept.len() + shard.holes.len()).sum()
    }

    /// Drops everything that waits and gives nothing more.
    pub fn close(&mut self) {
        self.shards.clear();
        self.skips.clear();
        self.open.samples.clear();
        self.ready = None;
        self.passes = Some(0);
    }

    fn over(&self) -> bool {
        self.lanes.is_empty() || self.passes.is_some_and(|passes| self.now.pass >= passes)
    }

    fn place(&self, pass: u32, ordinal: u64) -> Result<ShardPlace, OrderError> {
        let known = self.passes.is_none_or(|passes| pass < passes);
        let place = known.then(|| self.lanes.place(pass, ordinal)).flatten();
        place.ok_or(OrderError::UnknownShard { pass, ordinal })
    }

    /// One turn, or one step over an end; false when it must wait.
    fn step(&mut self) -> bool {
        if self.over() {
            return false;
        }
        let (count, pass) = (self.lanes.count(), self.now.pass);
        let standing = |lane: usize| self.lanes.standing(pass, lane, self.now.lanes[lane].position);
        let round = (0..count).map(|skip| (self.now.turn + skip) % count).map(|lane| (lane, standing(lane)));
        let found = round.into_iter().find(|(_, standing)| *standing != Standing::Never);
        if found.is_none_or(|(lane, _)| lane != self.now.turn) {
            self.now.closed_at = self.lanes.closed_at(); // a lane's end was passed
        }
        let Some((lane, standing)) = found else {
            self.end_pass();
            return true;
        };
        self.now.turn = lane;
        let LanePlace { position, index } = self.now.lanes[lane];
        let ordinal = match standing {
            Standing::Shard(ordinal) => ordinal,
            Standing::Later | Standing::Never => return false,
            Standing::Hole(ordinal) => {
                self.shards.remove(&(pass, ordinal));
                self.now.lanes[lane] = LanePlace { position: position + 1, index: 0 };
                return true;
            }
        };
        let Some(shard) = self.shards.get_mut(&(self.now.pass, ordinal)) else { return false };
        if shard.count.is_some_and(|count| index >= count) {
            if shard.given_up && !self.pass_given_up(GivenUp { pass, ordinal, count: index }) {
                return true;
            }
            self.shards.remove(&(pass, ordinal));
            self.now.lanes[lane] = LanePlace { position: position + 1, index: 0 };
            return true; // the turn stays with the lane: a shard without samples takes none
        }
        let kept = shard.kept.get(&index);
        if let Some((bytes, _)) = kept {
            let above = self.open.bytes.checked_add(*bytes).is_none_or(|sum| sum > self.config.window_bytes);
            if above && !self.open.samples.is_empty() {
                self.note(What::Closed(self.open.samples.len() as u64));
                self.close_window();
                return true; // the sample keeps its turn, for the next window
            }
        }
        let content = shard.kept.remove(&index);
        if content.is_none() && !shard.holes.take(index) {
            return false;
        }
        self.now.lanes[lane].index = index + 1;
        self.now.turns += 1;
        self.now.turn = (lane + 1) % count;
        if let Some((bytes, mut payload)) = content {
            payload.enter_window();
            self.open.bytes += bytes;
            self.open.samples.push((SampleId { ordinal, index }, payload));
            if self.open.samples.len() >= self.config.window_samples {
                self.close_window();
            }
        } else if self.skips.remove(&(pass, SampleId { ordinal, index })) {
            self.now.skipped += 1;
            self.note(What::Skipped(ordinal, index));
        }
        true
    }

    fn close_window(&mut self) {
        self.now.window += 1;
        self.now.first_number += self.open.samples.len() as u64;
        self.open.start.closed_at = self.now.closed_at; // its samples are those of the closed assignment
        let open = std::mem::replace(&mut self.open, Open::new(self.now.clone()));
        self.ready = Some(Ready::Window(open.close(self.config.seed, self.now.clone())));
    }

    fn end_pass(&mut self) {
        if !self.open.samples.is_empty() {
            self.close_window(); // and come again
            return;
        }
        let (pass, numbered) = (self.now.pass, self.now.first_number);
        let given_up = std::mem::take(&mut self.now.given_up);
        self.now = Cursor { skipped: self.now.skipped, given_up, ..Cursor::start_of(pass + 1, self.lanes.count()) };
        self.open = Open::new(self.now.clone());
        self.ready = Some(Ready::PassEnd { pass, numbered });
    }
}

impl<P> Shard<P> {
    fn new() -> Self {
        Self { kept: BTreeMap::new(), holes: Holes::default(), count: None, given_up: false }
    }
}

/// Whether a sample lies before a cursor's lanes.
fn before(cursor: &Cursor, pass: u32, place: ShardPlace, index: u32) -> bool {
    let at = cursor.lanes[place.lane];
    (pass, place.position, index) < (cursor.pass, at.position, at.index)
}

/// Whether a whole shard lies before a cursor's lanes.
fn passed_over(cursor: &Cursor, pass: u32, place: ShardPlace) -> bool {
    (pass, place.position) < (cursor.pass, cursor.lanes[place.lane].position)
}
