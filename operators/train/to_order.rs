//! To order: what was kept, and the holes between, on their way into the trainer's order. Ids and counts go to every
//! process, pictures to the first worker of their own.
//!
//! ```text
//!  kept     ─▶ with its picture here, without elsewhere              ─┐
//!              (without caption: a hole)                              │
//!  Event    ─▶ dropped and rejected: a hole; the shard's end         ├─▶ Turn ─ to every process ─▶ its OrderService
//!  Replayed ─▶ dropped and rejected by the ledger: a hole; the end  ─┘
//!              kept, and not to be read any more: skipped
//! ```
//!
//! Every process runs the whole order over all lanes, so all know every batch without asking anyone. What is a sample with
//! its permit where it was read is a rank's number everywhere else.
//!
//! Frontiers: a sink, it holds nothing back.
//!
//! Invariants:
//! 1. Every raw sample of a pass gives one turn: kept ones as kept, all others as holes; turns before the cursor are
//!    the order's to pass over.
//! 2. A turn that leaves its process loses its picture: `Here` is nothing on the network.
//! 3. A turn comes to each process once, to its first worker. A failing order has stopped the run.
//!
//! Cost: about 40 bytes a raw sample and process on the network, of a replay less: neighbouring holes are one turn.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use timely::dataflow::StreamVec;
use timely::dataflow::operators::Concatenate;
use timely::dataflow::operators::vec::Map;

use trommel_core::credit::Permit;
use trommel_core::sample::{Event, Sample, SampleId, ShardEnd, ShardOutcome, Status, Time, pass_of};
use trommel_core::stop::Stop;
use trommel_core::wake::locked;
use trommel_dataflow::everywhere::Everywhere;
use trommel_dataflow::order::{OrderError, OrderService, Slot, WindowBytes};
use trommel_dataflow::timed::FlatMapTimed;
use trommel_decide::stage::TrainView;
use trommel_shard::reader::Replayed;

/// What the trainer gets of a sample.
#[derive(Debug)]
pub struct TrainSample {
    /// Shard and raw index.
    pub id: SampleId,
    /// u8\[size, size, 3\].
    pub view: Vec<u8>,
    /// The caption; never empty.
    pub caption: Arc<str>,
}

/// A sample as the order of a process sees it.
#[derive(Debug)]
pub enum Seat {
    /// This process has it.
    Here(TrainSample),
    /// It is with this rank.
    There(usize),
}

/// What every process hears of a turn.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Turn {
    Kept {
        pass: u32,
        id: SampleId,
        bytes: u64,
        rank: usize,
        #[serde(skip)]
        here: Here,
    },
    /// Neighbours, from `id` on.
    Holes {
        pass: u32,
        id: SampleId,
        count: u32,
    },
    Skipped {
        pass: u32,
        id: SampleId,
        why: String,
    },
    End {
        pass: u32,
        ordinal: u64,
        count: u32,
        missing: Option<Missing>,
    },
}

/// A kept sample with its credit, where it was read: a copy of it, and what comes over the network, is empty.
#[derive(Debug, Default)]
struct Here(Option<(Permit, TrainSample)>);

impl Clone for Here {
    fn clone(&self) -> Self {
        Self(None)
    }
}

/// Why a shard did not come whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Missing {
    /// It may come the next time.
    Unavailable(String),
    /// What is there now is not what was judged.
    Changed(String),
}

/// A shard that is not the one whose decisions the ledger has.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ShardChanged(String);

/// The workers of a process are to hand values to each other as they are.
#[derive(Clone, Debug, thiserror::Error)]
#[error("sample {}:{} lost its picture between the workers of its own process", .0.ordinal, .0.index)]
struct Serialised(SampleId);

impl Turn {
    fn end(pass: u32, end: ShardEnd) -> Self {
        let missing = match end.outcome {
            ShardOutcome::Unavailable(why) => Some(Missing::Unavailable(why)),
            ShardOutcome::Changed(why) => Some(Missing::Changed(why)),
            ShardOutcome::Complete(_) | ShardOutcome::Rejected(_) => None,
        };
        Self::End { pass, ordinal: end.ordinal, count: end.count, missing }
    }
}

type Key = (u32, SampleId);

/// Bytes of a caption that are kept for the trainer, which reads its first tokens.
pub const MAX_CAPTION_BYTES: usize = 16 << 10;

/// A caption's beginning: what a window or a batch holds of it. Blanks before it are no part of it, however many there are.
fn begins(caption: Arc<str>) -> Arc<str> {
    if caption.len() <= MAX_CAPTION_BYTES {
        return caption;
    }
    let caption = caption.trim_start();
    Arc::from(&caption[..caption.floor_char_boundary(MAX_CAPTION_BYTES)])
}

/// The order of a training run as one of its processes holds it, and what it had to leave out. Clones are the same.
#[derive(Clone, Debug)]
pub struct TrainOrder {
    service: OrderService<Seat>,
    rank: usize,
    skip_failed: bool,
    counts: WindowBytes,
    failed: Arc<Mutex<BTreeMap<u64, String>>>,
    /// The first sample that was skipped, and why.
    skipped: Arc<Mutex<Option<(Key, String)>>>,
    stop: Stop,
}

impl TrainOrder {
    /// Feeds `service`, the order of rank `rank`. A shard whose bytes cannot be had stops the run, or is a hole for its
    /// pass where `skip_failed`. `counts` is what its windows count of a sample.
    #[must_use]
    pub fn new(service: OrderService<Seat>, rank: usize, skip_failed: bool, counts: WindowBytes, stop: &Stop) -> Self {
        let (failed, skipped) = (Arc::default(), Arc::default());
        Self { service, rank, skip_failed, counts, failed, skipped, stop: stop.clone() }
    }

    /// The order that it feeds.
    #[must_use]
    pub const fn service(&self) -> &OrderService<Seat> {
        &self.service
    }

    /// Shards whose bytes could not be had, and why.
    #[must_use]
    pub fn failed(&self) -> BTreeMap<u64, String> {
        locked(&self.failed).clone()
    }

    /// The first sample, by its place, that this process heard to be skipped, and why.
    #[must_use]
    pub fn first_skipped(&self) -> Option<(SampleId, String)> {
        locked(&self.skipped).clone().map(|((_, id), why)| (id, why))
    }

    fn note_skipped(&self, key: Key, why: String) {
        let mut first = locked(&self.skipped);
        if first.as_ref().is_none_or(|(known, _)| key < *known) {
            *first = Some((key, why));
        }
    }

    fn turn_of(&self, kept: Sample<TrainView>) -> Turn {
        let Sample { info, pass, caption, encoded_bytes, mut permit, payload, .. } = kept;
        let id = info.id;
        let (Some(caption), Some(view)) = (caption, payload) else { return Turn::Holes { pass, id, count: 1 } };
        let caption = begins(caption);
        permit.shrink_to((view.len() + caption.len()) as u64);
        let bytes = match self.counts {
            WindowBytes::EncodedAndView => encoded_bytes + view.len() as u64,
            WindowBytes::Held => (view.len() + caption.len()) as u64,
        };
        Turn::Kept { pass, id, bytes, rank: self.rank, here: Here(Some((permit, TrainSample { id, view, caption }))) }
    }

    /// An error has stopped the run.
    fn take(&self, turn: Turn) -> Result<(), OrderError> {
        match turn {
            Turn::Holes { pass, id, count } => {
                self.service.holes(pass, id.ordinal, id.index..id.index.saturating_add(count))
            }
            Turn::Skipped { pass, id, why } => {
                self.note_skipped((pass, id), why);
                self.service.skip(pass, id)
            }
            Turn::Kept { pass, id, bytes, rank, here: Here(here) } => {
                let content = match here {
                    Some((permit, sample)) => (permit, Seat::Here(sample)),
                    None if rank == self.rank => {
                        self.stop.fail(Serialised(id));
                        return Ok(());
                    }
                    None => (Permit::free(), Seat::There(rank)),
                };
                self.service.offer(Slot::kept(pass, id.ordinal, id.index, bytes, content))
            }
            // Where such a shard may not be left out it stays open, so that nothing behind it is trained.
            Turn::End { missing: Some(Missing::Changed(why)), .. } if !self.skip_failed => {
                self.stop.refuse(ShardChanged(why));
                Ok(())
            }
            Turn::End { pass, ordinal, count, missing: Some(Missing::Unavailable(why) | Missing::Changed(why)) } => {
                locked(&self.failed).insert(ordinal, why);
                if !self.skip_failed {
                    self.stop.request();
                    return Ok(());
                }
                self.service.give_up(pass, ordinal, count)
            }
            Turn::End { pass, ordinal, count, missing: None } => self.service.end(pass, ordinal, count),
        }
    }
}

/// Puts the turns of all processes into the order of each.
///
/// `workers` is the number of workers of a process; all processes call it on all workers.
pub fn to_order<'scope>(
    kept: StreamVec<'scope, Time, Sample<TrainView>>,
    replayed: StreamVec<'scope, Time, Replayed>,
    events: StreamVec<'scope, Time, Event>,
    order: &TrainOrder,
    workers: usize,
) {
    let scope = kept.scope();
    let turn_of = order.clone();
    let kept = kept.map(move |kept| turn_of.turn_of(kept));
    let replayed = replayed.map(|replayed| match replayed {
        Replayed::Holes { pass, id, count } => Turn::Holes { pass, id, count },
        Replayed::Skipped { pass, id, why } => Turn::Skipped { pass, id, why },
        Replayed::End { pass, end } => Turn::end(pass, end),
    });
    let events = events.flat_map_timed("FatesToTurns", |time: &Time, event| match event {
        Event::Fate(fate) if fate.status == Status::Kept => None,
        Event::Fate(fate) => Some(Turn::Holes { pass: pass_of(*time), id: fate.info.id, count: 1 }),
        Event::End(end) => Some(Turn::end(pass_of(*time), end)),
    });
    let order = order.clone();
    scope.concatenate([kept, replayed, events]).everywhere("TurnsToOrder", workers, move |turn| {
        let _has_stopped_the_run = order.take(turn);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_caption_all_is_kept_that_a_tokenizer_can_read() {
        let text = |bytes: usize| Arc::<str>::from("a".repeat(bytes));
        assert_eq!([16_384, 16_385].map(|bytes| begins(text(bytes)).len()), [16_384, 16_384]);
        assert_eq!(begins(Arc::from(format!("{}é", "a".repeat(16_383)))).len(), 16_383, "no half letter");
        assert_eq!(&*begins(Arc::from(format!("{}a dog", " ".repeat(16_384)))), "a dog");
    }
}
