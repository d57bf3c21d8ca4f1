//! Windows: kept samples in the global order, gathered, permuted and numbered.
//!
//! A window closes when it holds `window_samples` samples, or when its next sample would lift its bytes above
//! `window_bytes` (a sample above that is a window of its own), or at the end of the pass. Inside, samples are sorted by
//! `hash("window", seed, pass, window, position in the window)`, ties by position, and numbered on from the window before.

use serde::{Deserialize, Serialize};

use trommel_core::hash::Hash64;
use trommel_core::sample::SampleId;

/// Where one lane stands: the next sample it delivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanePlace {
    /// Position of the shard in the lane.
    pub position: u64,
    /// Raw index in that shard.
    pub index: u32,
}

/// A shard that could not be had: a pass goes on without its samples from `count` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenUp {
    /// Pass over the data, from 0.
    pub pass: u32,
    /// Ordinal of the shard in the plan, from 0.
    pub ordinal: u64,
    /// Its first samples, which the pass has had.
    pub count: u32,
}

/// Where an order continues: goes into a checkpoint.
///
/// `lanes`, `turn` and `first_number` are as they were at the start of the window; `offset` of its samples are used up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Pass over the data, from 0.
    pub pass: u32,
    /// Number of the window in the pass, from 0.
    pub window: u64,
    /// Samples of that window that are used up.
    pub offset: u64,
    /// Number in the pass of that window's first sample.
    pub first_number: u64,
    /// The lane whose turn it was.
    pub turn: usize,
    /// Where each lane stood.
    pub lanes: Vec<LanePlace>,
    /// Raw samples of the pass that had their turn, holes included. 0 in cursors from before it was kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub turns: u64,
    /// Samples of finished passes that were in no batch.
    #[serde(default)]
    pub left_over: u64,
    /// Kept samples up to that window, over all passes, that could not be read again when their turn came.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped: u64,
    /// Shards that were given up, over all passes: up to the window's start, or to its end where some of it is used up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given_up: Vec<GivenUp>,
    /// The number of shards with which a growing assignment was closed, once the order relies on it: it passed a lane's end.
    /// From there on more shards would have given another order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Cursor {
    /// The beginning of pass `pass`.
    #[must_use]
    pub fn start_of(pass: u32, lanes: usize) -> Self {
        Self { pass, lanes: vec![LanePlace::default(); lanes], ..Self::default() }
    }
}

/// What a window holds of a sample.
pub trait Payload {
    /// Called when the sample enters its window: its credit moves to the window's reserve.
    fn enter_window(&mut self) {}
}

impl Payload for () {}

/// A sample in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbered<P> {
    /// Number in the pass.
    pub number: u64,
    /// Shard and raw index of the sample.
    pub id: SampleId,
    /// What travels with the number: the sample itself.
    pub payload: P,
}

/// A closed window, its samples in their final order.
#[derive(Clone, Debug, PartialEq)]
pub struct Window<P> {
    /// Where it began, nothing of it used up.
    pub start: Cursor,
    /// Where the next one begins.
    pub next: Cursor,
    /// The samples, by number.
    pub samples: Vec<Numbered<P>>,
}

impl<P> Window<P> {
    /// Raw samples of the pass that had their turn before sample `offset` of this window. Inside, where samples are
    /// permuted, their turns are spread evenly.
    pub(super) fn turns_before(&self, offset: u64) -> u64 {
        let samples = self.next.first_number.saturating_sub(self.start.first_number).max(1);
        let turns = u128::from(self.next.turns.saturating_sub(self.start.turns));
        let before = turns * u128::from(offset) / u128::from(samples);
        self.start.turns + u64::try_from(before).unwrap_or(u64::MAX)
    }
}

/// The window that is filling.
#[derive(Debug)]
pub(super) struct Open<P> {
    pub(super) start: Cursor,
    pub(super) samples: Vec<(SampleId, P)>,
    pub(super) bytes: u64,
}

impl<P> Open<P> {
    pub(super) fn new(start: Cursor) -> Self {
        Self { start, samples: Vec::new(), bytes: 0 }
    }

    /// Permutes and numbers; `next` is where the lanes stand now.
    pub(super) fn close(self, seed: u64, next: Cursor) -> Window<P> {
        let prefix = Hash64::new("window").word(seed).word(u64::from(self.start.pass)).word(self.start.window);
        let hashed = self.samples.into_iter().zip(0u64..);
        let mut samples: Vec<_> = hashed.map(|(sample, at)| (prefix.word(at).finish(), at, sample)).collect();
        samples.sort_unstable_by_key(|(hash, at, _)| (*hash, *at));
        let samples = samples.into_iter().zip(self.start.first_number..);
        let samples = samples.map(|((_, _, (id, payload)), number)| Numbered { number, id, payload });
        Window { samples: samples.collect(), start: self.start, next }
    }
}
