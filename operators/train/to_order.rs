//! To order: what was kept, and the holes between, on their way into the trainer's order.
//!
//! ```text
//!  Kept     ─▶ a turn with its view and caption (without caption: a hole)  ─┐
//!  Event    ─▶ dropped and rejected: a hole; the shard's end                ├─▶ OrderService
//!  Replayed ─▶ dropped and rejected by the ledger: a hole; the shard's end ─┘
//! ```
//!
//! Frontiers: sinks, they hold nothing back. Invariants: every raw sample of a pass gives one turn: kept ones through `Kept`, all
//! others as holes; turns before the cursor are the order's to pass over. A failing order has stopped the run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::dataflow::order::{OrderError, OrderService, Slot};
use crate::dataflow::stop::Stop;
use crate::prune::operator::Kept;
use crate::sample::{Event, SampleId, ShardEnd, ShardOutcome, Status, Time, pass_of};
use crate::shard::reader::Replayed;

/// What the trainer gets of a sample.
#[derive(Debug)]
pub struct TrainSample {
    /// Shard and raw index.
    pub id: SampleId,
    /// u8\[size, size, 3\].
    pub view: Vec<u8>,
    /// Never empty.
    pub caption: Arc<str>,
}

/// The order of a training run, and what it had to leave out.
#[derive(Clone, Debug)]
pub struct TrainOrder {
    /// The order.
    pub service: OrderService<TrainSample>,
    /// Whether a shard whose bytes cannot be had is a hole for its pass; otherwise it stops the run.
    pub skip_failed: bool,
    /// Shards whose bytes could not be had, and why.
    pub failed: Arc<Mutex<BTreeMap<u64, String>>>,
    /// Stopped when a shard fails that may not be skipped.
    pub stop: Stop,
}

impl TrainOrder {
    /// A shard's end. One whose bytes could not be had is left open, so that nothing behind it is trained, and stops the
    /// run, unless it may be skipped.
    fn close(&self, pass: u32, end: ShardEnd) -> Result<(), OrderError> {
        if let ShardOutcome::Unavailable(why) = end.outcome {
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).insert(end.ordinal, why);
            if !self.skip_failed {
                self.stop.request();
                return Ok(());
            }
        }
        self.service.end(pass, end.ordinal, end.count)
    }
}

/// Puts the turns of a stream into an order.
pub trait ToOrder {
    /// Offers every turn of the stream.
    fn to_order(self, order: &TrainOrder);
}

impl ToOrder for StreamVec<'_, Time, Kept> {
    fn to_order(self, order: &TrainOrder) {
        let order = order.clone();
        sink(self, "KeptToOrder", move |_, kept: Kept| {
            let Kept { info, pass, caption, train, encoded_bytes, permit } = kept;
            let SampleId { ordinal, index } = info.id;
            let slot = match (caption, train) {
                (Some(caption), Some(view)) => {
                    let bytes = encoded_bytes + view.len() as u64;
                    Slot::kept(pass, ordinal, index, bytes, (permit, TrainSample { id: info.id, view, caption }))
                }
                _ => Slot::hole(pass, ordinal, index),
            };
            let _has_stopped_the_run = order.service.offer(slot);
        });
    }
}

impl ToOrder for StreamVec<'_, Time, Event> {
    fn to_order(self, order: &TrainOrder) {
        let order = order.clone();
        sink(self, "HolesToOrder", move |time, event: Event| {
            let _has_stopped_the_run = match event {
                Event::Fate(fate) if fate.status == Status::Kept => Ok(()),
                Event::Fate(fate) => {
                    order.service.offer(Slot::hole(pass_of(*time), fate.info.id.ordinal, fate.info.id.index))
                }
                Event::End(end) => order.close(pass_of(*time), end),
            };
        });
    }
}

impl ToOrder for StreamVec<'_, Time, Replayed> {
    fn to_order(self, order: &TrainOrder) {
        let order = order.clone();
        sink(self, "ReplayedToOrder", move |_, replayed: Replayed| {
            let _has_stopped_the_run = match replayed {
                Replayed::Hole { pass, id } => order.service.offer(Slot::hole(pass, id.ordinal, id.index)),
                Replayed::End { pass, end } => order.close(pass, end),
            };
        });
    }
}

fn sink<D: 'static>(stream: StreamVec<'_, Time, D>, name: &str, mut each: impl FnMut(&Time, D) + 'static) {
    stream.sink(Pipeline, name, move |(input, _frontier)| {
        input.for_each(|cap, data| {
            let time = cap.least().copied().unwrap_or_default();
            for item in data.drain(..) {
                each(&time, item);
            }
        });
    });
}
