//! The operator: samples in, square views out, broken pictures on their own stream.
//!
//! ```text
//!  Encoded ─▶ offload to the pool: decode, views ─┬─▶ Views
//!                                                 └─▶ Event (rejected: why)
//! ```
//!
//! Frontier: both outputs follow the input's and the jobs in flight, as in [`trommel_dataflow::offload`].
//!
//! Invariants:
//! 1. Each sample gives exactly one item, on one of the two outputs, at its own time, in the order of completion.
//! 2. The permit shrinks to what is still held when the encoded picture is gone; a rejected sample returns all of it.
//! 3. A picture is decoded once, however many views are wanted; only wanted views are made: [`Replay`](trommel_core::sample::Work::Replay)
//!    has no evaluation view, [`JudgeOnly`](trommel_core::sample::Work::JudgeOnly) no training view.
//!
//! Cost: a decode and a resize for each view; the scratch is bounded by [`DecodeConfig::scratch_bytes`].
//!
//! ```
//! use std::sync::Arc;
//! use timely::dataflow::operators::{Capture, ToStream, capture::Extract, vec::Map};
//! use trommel_core::credit::Permit;
//! use trommel_dataflow::offload::Pool;
//! use trommel_decode::operator::{Decode, DecodeConfig};
//! use trommel_core::sample::{Encoded, Event, Sample, SampleId, SampleInfo, Status, Work};
//!
//! let rejects = timely::example(|scope| {
//!     let id = SampleId { ordinal: 0, index: 0 };
//!     let info = Arc::new(SampleInfo { id, key: "cat".into(), size: 3, ..SampleInfo::default() });
//!     let payload = Encoded { image: b"no!".as_slice().into(), extension: "jpg".into() };
//!     let sample = Sample { info, pass: 0, work: Work::Judge, caption: None, encoded_bytes: 3, permit: Permit::free(), payload };
//!     let pool = Pool::new("decode", 1);
//!     let (_decoded, rejects) = Some(sample).to_stream(scope).container::<Vec<_>>().decode(&DecodeConfig::default(), &pool);
//!     rejects.map(|event| matches!(event, Event::Fate(fate) if fate.status == Status::Rejected)).capture()
//! });
//! assert_eq!(rejects.extract(), [(0, vec![true])]);
//! ```

use timely::dataflow::StreamVec;
use timely::dataflow::operators::OkErr;
use timely::order::TotalOrder;
use timely::progress::Timestamp;

use super::card::CardDecoder;
use super::card::operator::decode_on_card;
pub use super::sample_views::{DecodeConfig, Views};
use super::sample_views::{decode_sample, rejected};
use trommel_core::sample::{Encoded, Event, Sample};
use trommel_dataflow::offload::{Offload, Pool};

/// Decodes samples.
pub trait Decode<'scope, T: Timestamp> {
    /// Decodes each picture on `pool`: the views that `config` and the sample's work ask for, and the rejects' fates.
    fn decode(
        self,
        config: &DecodeConfig,
        pool: &Pool,
    ) -> (StreamVec<'scope, T, Sample<Views>>, StreamVec<'scope, T, Event>);

    /// The same with a `card`, where there is one, for the pictures that it takes.
    fn decode_on(
        self,
        config: &DecodeConfig,
        pool: &Pool,
        card: Option<&CardDecoder>,
    ) -> (StreamVec<'scope, T, Sample<Views>>, StreamVec<'scope, T, Event>);
}

impl<'scope, T: Timestamp + TotalOrder> Decode<'scope, T> for StreamVec<'scope, T, Sample<Encoded>> {
    fn decode(
        self,
        config: &DecodeConfig,
        pool: &Pool,
    ) -> (StreamVec<'scope, T, Sample<Views>>, StreamVec<'scope, T, Event>) {
        let config = config.clone();
        let work = move |sample| decode_sample(sample, &config);
        let info = |sample: &Sample<Encoded>| sample.info.clone();
        self.offload("Decode", pool, info, work, rejected).ok_err(|result| result)
    }

    fn decode_on(
        self,
        config: &DecodeConfig,
        pool: &Pool,
        card: Option<&CardDecoder>,
    ) -> (StreamVec<'scope, T, Sample<Views>>, StreamVec<'scope, T, Event>) {
        match card {
            Some(card) => decode_on_card(self, config, pool, card),
            None => self.decode(config, pool),
        }
    }
}

#[cfg(test)]
mod tests;
