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
//! 3. A picture is decoded once, however many views are wanted; only wanted views are made: [`Work::Replay`] has no
//!    evaluation view, [`Work::JudgeOnly`] no training view.
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

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use timely::dataflow::StreamVec;
use timely::dataflow::operators::OkErr;
use timely::order::TotalOrder;
use timely::progress::Timestamp;

use super::card::CardDecoder;
use super::card::operator::decode_on_card;
use super::view::{EvalView, TrainView, eval_view, picture_seed, sample_seed, train_view, view_bytes};
use super::{DecodeError, Limits, held, recycle};
use trommel_core::sample::{Encoded, Event, Reason, Sample, SampleInfo, Work};
use trommel_dataflow::offload::{JobPanic, Offload, Pool};

/// What is decoded into what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecodeConfig {
    /// What is refused.
    pub limits: Limits,
    /// The embedder's view, if there is an embedder.
    pub eval: Option<EvalView>,
    /// The trainer's view, if there is a trainer.
    pub train: Option<TrainView>,
}

/// Bytes counted for a sample's strings and structs.
const SMALL_CHANGE_BYTES: u64 = 512;

impl DecodeConfig {
    /// Bytes of views that a sample with this work holds after decoding: what the reader adds to its encoded bytes.
    #[must_use]
    pub fn view_bytes(&self, work: Work) -> u64 {
        let (eval, train) = self.wanted(work);
        eval.map_or(0, |view| view_bytes(view.size))
            + train.map_or(0, |view| view_bytes(view.size))
            + SMALL_CHANGE_BYTES
    }

    /// Bytes that decoding takes at most beside the samples' permits, with `threads` threads.
    #[must_use]
    pub fn scratch_bytes(&self, threads: usize) -> u64 {
        super::scratch_bytes(&self.limits, threads, &[self.view_bytes(Work::Judge)])
    }

    pub(crate) fn wanted(&self, work: Work) -> (Option<&EvalView>, Option<&TrainView>) {
        match work {
            Work::Judge => (self.eval.as_ref(), self.train.as_ref()),
            Work::JudgeOnly => (self.eval.as_ref(), None),
            Work::Replay => (None, self.train.as_ref()),
        }
    }
}

/// A picture's views.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Views {
    /// The embedder's, u8\[size, size, 3\], where it is wanted.
    pub embed: Option<Vec<u8>>,
    /// The trainer's, u8\[size, size, 3\], where it is wanted.
    pub train: Option<Vec<u8>>,
}

impl Views {
    fn bytes(&self) -> u64 {
        [&self.embed, &self.train].into_iter().flatten().map(|view| view.len() as u64).sum()
    }
}

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

/// A job that panicked.
pub(crate) fn rejected(info: Arc<SampleInfo>, panic: JobPanic) -> Result<Sample<Views>, Event> {
    Err(Event::rejected(info, Reason::new("image_decode", panic)))
}

/// Decodes one sample on the calling thread.
pub(crate) fn decode_sample(sample: Sample<Encoded>, config: &DecodeConfig) -> Result<Sample<Views>, Event> {
    let (sample, Encoded { image, .. }) = sample.open();
    match views(&image, config, Of::sample(&sample)) {
        Ok(views) => {
            drop(image);
            Ok(seen(sample, views))
        }
        Err(error) => Err(sample.reject(Reason::new(error.code(), error))),
    }
}

/// A sample whose encoded picture is gone.
pub(crate) fn seen(mut sample: Sample<()>, views: Views) -> Sample<Views> {
    sample.permit.shrink_to(views.bytes() + sample.caption_bytes() + SMALL_CHANGE_BYTES);
    sample.with(views)
}

/// What a sample's views follow beside its pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Of<'a> {
    pub work: Work,
    pub key: &'a str,
    pub pass: u32,
    /// Bytes of its picture as it stood in its shard.
    pub encoded_bytes: u64,
}

impl<'a> Of<'a> {
    pub fn sample<P>(sample: &'a Sample<P>) -> Self {
        let Sample { info, pass, work, encoded_bytes, .. } = sample;
        Self { work: *work, key: &info.key, pass: *pass, encoded_bytes: *encoded_bytes }
    }

    /// The number that stands for it in the chance of its crops.
    pub fn seed(&self, view: &TrainView) -> u64 {
        if view.labelled { picture_seed(self.key, self.encoded_bytes) } else { sample_seed(self.key) }
    }
}

pub(crate) fn views(image: &[u8], config: &DecodeConfig, of: Of<'_>) -> Result<Views, DecodeError> {
    // The picture's part of the allowance is held as long as the picture.
    let (picture, _share) = held(image, &config.limits)?;
    let (embed, train) = config.wanted(of.work);
    let too_odd = |error: trommel_kernels::resize::ResizeError| DecodeError::Corrupt {
        kind: "picture",
        detail: error.to_string(),
    };
    let embed = embed.map(|view| eval_view(&picture, view)).transpose().map_err(too_odd)?;
    let train = train.map(|view| train_view(&picture, view, of.seed(view), of.pass)).transpose().map_err(too_odd)?;
    recycle(picture);
    Ok(Views { embed, train })
}

#[cfg(test)]
mod tests;
