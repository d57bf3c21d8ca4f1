//! What readers send, as three streams.
//!
//! ```text
//! admitted ─┬─▶ samples    to decode
//!           ├─▶ events     rejects and shard ends, to the ledger
//!           └─▶ replayed   holes and ends of replayed shards, to the order
//! ```
//!
//! Nothing is held: every frontier is the input's.

use timely::dataflow::StreamVec;
use timely::dataflow::operators::OkErr;
use timely::progress::Timestamp;

use super::reader::{Admitted, Replayed};
use crate::sample::{Event, Sample};

/// Splits what readers send.
pub trait ReadSamples<'scope, T: Timestamp> {
    /// Samples for the decoder, events for the ledger, holes and ends of replayed shards for the order.
    fn split_admitted(
        self,
    ) -> (StreamVec<'scope, T, Sample>, StreamVec<'scope, T, Event>, StreamVec<'scope, T, Replayed>);
}

impl<'scope, T: Timestamp> ReadSamples<'scope, T> for StreamVec<'scope, T, Admitted> {
    fn split_admitted(
        self,
    ) -> (StreamVec<'scope, T, Sample>, StreamVec<'scope, T, Event>, StreamVec<'scope, T, Replayed>) {
        let (samples, others): (_, StreamVec<'scope, T, Result<Event, Replayed>>) = self.ok_err(|item| match item {
            Admitted::Sample(sample) => Ok(sample),
            Admitted::Event(event) => Err(Ok(event)),
            Admitted::Replayed(replayed) => Err(Err(replayed)),
        });
        let (events, replayed) = others.ok_err(|other: Result<Event, Replayed>| other);
        (samples, events, replayed)
    }
}
