//! Shards that cannot be had: they end early, and end there again wherever the order continues inside of their window.
//!
//! A cursor names them once they are passed, and for a window that is partly used up all that were passed in it. So a window is
//! filled again with what it had, be such a shard readable by then; what else fails while it is filled would make it another one.

use super::{OrderError, Ready, Sequencer, Shard, passed_over};
use crate::irregular::What;
use crate::window::{Cursor, GivenUp, Payload};
use trommel_core::sample::SampleId;

impl<P: Payload> Sequencer<P> {
    /// Says that no more than the samples `0..count` of a shard can be had. Where the order continued inside of it and
    /// further on, it ends there: what was used up stays used up.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub fn give_up(&mut self, pass: u32, ordinal: u64, count: u32) -> Result<(), OrderError> {
        let place = self.place(pass, ordinal)?;
        let begun = self.began.lanes[place.lane];
        let inside = (pass, place.position) == (self.began.pass, begun.position);
        self.end(pass, ordinal, if inside { count.max(begun.index) } else { count })?;
        if let Some(shard) = self.shards.get_mut(&(pass, ordinal)) {
            shard.given_up = true;
        }
        Ok(())
    }

    /// Shards given up so far, over all passes.
    #[must_use]
    pub fn given_up(&self) -> &[GivenUp] {
        &self.now.given_up
    }

    /// The window at the cursor is to be as it was, where some of it is used up.
    pub(super) fn repeat_window(&mut self, cursor: &Cursor) {
        self.repeats = cursor.offset > 0 && !self.lanes.grows();
        for &GivenUp { pass, ordinal, count } in cursor.given_up.iter().filter(|it| it.pass == cursor.pass) {
            let place = self.lanes.place(pass, ordinal);
            if place.is_none_or(|place| !passed_over(&self.began, pass, place)) {
                self.ended.insert((pass, ordinal), count);
                self.shards.insert((pass, ordinal), Shard { count: Some(count), given_up: true, ..Shard::new() });
            }
        }
    }

    /// Whether the sample's shard had ended before it, as the cursor has it.
    pub(super) fn has_ended(&self, pass: u32, id: SampleId) -> bool {
        self.ended.get(&(pass, id.ordinal)).is_some_and(|count| id.index >= *count)
    }

    /// Takes the end of a shard that ended before, as the cursor has it: with more it ends there again. False for all others.
    pub(super) fn end_again(&mut self, pass: u32, ordinal: u64, count: u32) -> bool {
        let Some(ended) = self.ended.get(&(pass, ordinal)) else { return false };
        if let Some(shard) = self.shards.get_mut(&(pass, ordinal)) {
            shard.count = Some(count.min(*ended));
        }
        true
    }

    /// The end of a shard that was given up has its turn; false where the window that is to be as it was had another.
    pub(super) fn pass_given_up(&mut self, given_up: GivenUp) -> bool {
        let GivenUp { pass, ordinal, count } = given_up;
        let known = self.now.given_up.contains(&given_up);
        if self.repeats && !known && (pass, self.now.window) == (self.began.pass, self.began.window) {
            self.ready = Some(Ready::Torn(given_up));
            return false;
        }
        self.note(What::GivenUp(ordinal, count));
        if !known {
            self.now.given_up.retain(|it| (it.pass, it.ordinal) != (pass, ordinal));
            self.now.given_up.push(given_up);
        }
        true
    }
}
