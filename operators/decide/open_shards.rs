//! The shards that are being decided: how many of their fates are known, and what the test points have seen of them so far.
//!
//! ```text
//!  a sample ──────────▶ the points that are to see it ─▶ micro-batches, on any threads
//!  a fate, an end ────▶ [shard: points, fates, end] ───▶ fates at once; the end with the last fate, and in it the points' rows
//! ```
//!
//! The protocol: *the points travel in the shard's end*. Every fate of a shard passes by here, those of samples that were rejected
//! before they could be decided too, and so does its end, which says how many fates there are. The end is held back until as many have
//! passed; then nobody adds to the points any more, they become rows, the rows go with the end, and the shard is forgotten. Whoever has a
//! shard's end has its statistics, once and whole; nobody else ever sees them. In the end and not before it, since timely does not keep
//! the order of what is of one time.
//!
//! The end cannot be waited for by what it waits for: a reader sends it behind all of its shard's samples, which have their
//! credit by then. It leaves at the shard's own time, which its last fate still holds.
//!
//! Memory: the points of a shard from its first sample to its end, 40 bytes each; and for a moment their rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use trommel_core::sample::{Event, ShardEnd};

use super::known_maxima::KnownMaxima;
use super::points::Points;

/// Shards by their time.
pub(crate) struct OpenShards<T> {
    shards: BTreeMap<T, OpenShard>,
    known: Arc<KnownMaxima>,
}

#[derive(Default)]
struct OpenShard {
    /// None until it has a sample to join.
    points: Option<Arc<Points>>,
    fates: u32,
    end: Option<ShardEnd>,
}

impl<T: Ord + Clone> OpenShards<T> {
    /// Without a shard; the points of those to come begin with what is `known`.
    pub(crate) const fn new(known: Arc<KnownMaxima>) -> Self {
        Self { shards: BTreeMap::new(), known }
    }

    /// The points that are to see a sample of the shard.
    pub(crate) fn points(&mut self, time: &T, ordinal: u64) -> Arc<Points> {
        let shard = self.shards.entry(time.clone()).or_default();
        shard.points.get_or_insert_with(|| Arc::new(self.known.points(ordinal))).clone()
    }

    /// Takes note of a fate or an end, and gives what goes on: a fate itself, and the end that it completes.
    pub(crate) fn pass(&mut self, time: &T, event: Event) -> impl Iterator<Item = Event> + use<T> {
        let shard = self.shards.entry(time.clone()).or_default();
        let goes_on = match event {
            Event::Fate(fate) => {
                shard.fates += 1;
                Some(Event::Fate(fate))
            }
            // A second end is a bug, which the ledger names.
            Event::End(end) => shard.end.replace(end).map(Event::End),
        };
        let end = shard.end.take_if(|end| end.count <= shard.fates).map(|mut end| {
            if let Some(points) = &shard.points {
                end.points = Arc::new(points.rows());
            }
            Event::End(end)
        });
        if end.is_some() {
            self.shards.remove(time);
        }
        goes_on.into_iter().chain(end)
    }
}
