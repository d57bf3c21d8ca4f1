//! What an order knows: the sequencer, the window in use, the batch at hand.

use std::collections::VecDeque;

use super::Held;
use crate::sequencer::{OrderError, Sequencer};
use crate::window::{Cursor, GivenUp, Numbered, Window};

/// A window in use, and the rest of its samples.
pub(super) type InUse<P> = (Window<Held<P>>, VecDeque<Numbered<Held<P>>>);

pub(super) struct State<P> {
    pub(super) sequencer: Sequencer<Held<P>>,
    /// The window in use, and the rest of its samples.
    pub(super) using: Option<InUse<P>>,
    /// Samples at the front of the first window that were used up before the cursor.
    pub(super) skip: u64,
    pub(super) partial: Vec<Numbered<Held<P>>>,
    /// Raw samples that had their turn before the first one of `partial`.
    pub(super) turns_before: u64,
    /// Where the next sample stands.
    pub(super) cursor: Cursor,
    pub(super) left_over: u64,
    /// Samples skipped up to the end of the window in use.
    pub(super) skipped: u64,
    /// The shard for which the window that it continued inside of cannot be had again.
    pub(super) torn: Option<GivenUp>,
    pub(super) offered: u64,
    pub(super) given: u64,
    pub(super) closed: bool,
}

impl<P> State<P> {
    /// Moves the next sample of the window in use to the batch; false when there is none.
    pub(super) fn using_next(&mut self) -> bool {
        let Some((window, rest)) = &mut self.using else { return false };
        if let Some(sample) = rest.pop_front() {
            if self.partial.is_empty() {
                self.turns_before = window.turns_before(self.cursor.offset);
            }
            self.partial.push(sample);
        }
        if rest.is_empty() {
            self.cursor = window.next.clone();
            self.using = None;
        } else {
            self.cursor.offset += 1;
        }
        true
    }

    pub(super) fn use_window(&mut self, mut window: Window<Held<P>>) {
        self.skipped = window.next.skipped;
        let samples = std::mem::take(&mut window.samples);
        let skip = std::mem::take(&mut self.skip);
        let rest: VecDeque<_> = samples.into_iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)).collect();
        // What was given up inside of it belongs to its samples, be the cursor taken before the last of them.
        let inside = || Cursor { offset: skip, given_up: window.next.given_up.clone(), ..window.start.clone() };
        self.cursor = if rest.is_empty() { window.next.clone() } else { inside() };
        self.using = (!rest.is_empty()).then_some((window, rest));
    }

    pub(super) fn end_pass(&mut self, pass: u32, numbered: u64, batch: usize) -> Result<(), OrderError> {
        if numbered < batch as u64 {
            return Err(OrderError::NoFullBatch { pass, kept: numbered, batch });
        }
        self.left_over += self.partial.len() as u64;
        self.partial.clear();
        self.skipped = self.sequencer.skipped();
        let (skipped, given_up) = (self.skipped, self.sequencer.given_up().to_vec());
        self.cursor = Cursor { skipped, given_up, ..Cursor::start_of(pass + 1, self.cursor.lanes.len()) };
        Ok(())
    }
}
