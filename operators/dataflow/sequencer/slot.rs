//! What goes into a sequencer, what comes out of it, and what it waits for.

use crate::window::{GivenUp, Window};
use trommel_core::sample::SampleId;

/// One raw sample's turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot<P> {
    /// Pass over the data, from 0.
    pub pass: u32,
    /// Shard and raw index.
    pub id: SampleId,
    /// Bytes and sample, or `None`: a hole.
    pub content: Option<(u64, P)>,
}

impl<P> Slot<P> {
    /// The turn of a sample that is to be trained: `bytes` are its encoded size and its view.
    #[must_use]
    pub fn kept(pass: u32, ordinal: u64, index: u32, bytes: u64, payload: P) -> Self {
        Self { pass, id: SampleId { ordinal, index }, content: Some((bytes, payload)) }
    }

    /// The turn of a sample that was dropped or rejected.
    #[must_use]
    pub fn hole(pass: u32, ordinal: u64, index: u32) -> Self {
        Self { pass, id: SampleId { ordinal, index }, content: None }
    }
}

/// What a sequencer has ready.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
#[derive(Clone, Debug, PartialEq)]
pub enum Ready<P> {
    /// A closed window.
    Window(Window<P>),
    /// All windows of a pass have been given.
    PassEnd {
        /// Pass over the data, from 0.
        pass: u32,
        /// Samples numbered in it.
        numbered: u64,
    },
    /// The window that the order continues inside of cannot be had again: this shard ends before the samples that it had in it.
    Torn(GivenUp),
}

/// For whose sample an order waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitsFor {
    /// Pass over the data, from 0.
    pub pass: u32,
    /// The lane whose turn it is.
    pub lane: usize,
    /// Ordinal of the shard in the plan, from 0.
    pub ordinal: u64,
    /// The raw index; it may turn out to be the shard's end.
    pub index: u32,
}
