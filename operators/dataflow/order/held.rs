//! A sample on its way through an order, with what it holds of the memory.

use crate::window::Payload;
use trommel_core::credit::{Permit, Reserve};

/// A sample, and the bytes that it holds: of the credit while it waits for its turn, from its window on of a reserve outside of it, until it is
/// dropped.
#[derive(Debug)]
pub struct Held<P> {
    /// The sample that waits.
    pub sample: P,
    pub(super) permit: Option<Permit>,
    pub(super) reserve: Option<Reserve>,
}

impl<P> Held<P> {
    /// A sample that holds nothing here.
    #[must_use]
    pub const fn free(sample: P) -> Self {
        Self { sample, permit: None, reserve: None }
    }

    /// The sample, and what it held.
    pub fn open(self) -> (P, Held<()>) {
        let Self { sample, permit, reserve } = self;
        (sample, Held { sample: (), permit, reserve })
    }
}

impl Held<()> {
    /// Another sample, or the same as something else, in its place.
    pub fn with<P>(self, sample: P) -> Held<P> {
        let Self { permit, reserve, .. } = self;
        Held { sample, permit, reserve }
    }
}

impl<P> Payload for Held<P> {
    fn enter_window(&mut self) {
        self.reserve = self.permit.take().map(Permit::into_reserve);
    }
}
