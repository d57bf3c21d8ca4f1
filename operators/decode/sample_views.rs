//! One sample's views: which are wanted, and how they are made of its picture.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::view::{EvalView, TrainView, eval_view, picture_seed, sample_seed, train_view, view_bytes};
use super::{DecodeError, Limits, held, recycle};
use trommel_core::sample::{Encoded, Event, Reason, Sample, SampleInfo, Work};
use trommel_dataflow::offload::JobPanic;

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
pub(crate) const SMALL_CHANGE_BYTES: u64 = 512;

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
