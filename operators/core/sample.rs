//! What everyone imports: the sample, its fate, its place in time, and the identity of what judged it.

use std::sync::Arc;

use bytes::Bytes;
use half::f16;
use serde::{Deserialize, Serialize};

use crate::credit::Permit;
use crate::records::Record;

mod event;
mod fate;
mod identity;
mod reason;
mod time;

pub use self::event::{Event, PointRow, ShardEnd, ShardOutcome};
pub use self::fate::{Fate, Score, Status};
pub use self::identity::Identity;
pub use self::reason::{NO_CAPTION, Reason, TAKEN_DOWN};
pub use self::time::{ORDINAL_BITS, Time, is_in_part, ordinal_of, pass_of, time_of};

/// Where a sample stands: the shard's ordinal in the plan, and its number in the shard, rejects included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SampleId {
    /// Ordinal of the shard in the plan.
    pub ordinal: u64,
    /// Raw index in the shard, from 0, in the tar's own order.
    pub index: u32,
}

/// What stays with a sample's fate when its bytes are gone.
#[derive(Debug, Default, PartialEq)]
pub struct SampleInfo {
    /// Shard and index.
    pub id: SampleId,
    /// WebDataset `__key__`.
    pub key: String,
    /// `uid` from the sample's json.
    pub uid: Option<String>,
    /// `url` from the sample's json.
    pub url: Option<String>,
    /// `sha256` from the sample's json: of the downloaded bytes, not of the stored ones.
    pub sha256: Option<String>,
    /// Byte offset of the sample's first header in the decompressed tar.
    pub offset: u64,
    /// Bytes of the sample's members, headers left out.
    pub size: u64,
    /// Credit for all of this and the fate, until the ledger has written it.
    pub record: Record,
}

impl SampleInfo {
    /// Bytes of its texts.
    #[must_use]
    pub fn text_bytes(&self) -> u64 {
        let optional = [&self.uid, &self.url, &self.sha256].map(|text| text.as_ref().map_or(0, String::len));
        (self.key.len() + optional.iter().sum::<usize>()) as u64
    }
}

/// What is wanted of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Embed, join, prune; if kept and a trainer is there, train.
    Judge,
    /// Embed, join, prune for the ledger; it was trained before the cursor.
    JudgeOnly,
    /// Kept by the ledger: no embedding, no join, straight to the trainer.
    Replay,
}

/// One image-text pair on its way through the graph: the envelope that all stages share, around what the last of them has made of
/// the picture.
#[derive(Debug)]
pub struct Sample<P> {
    /// Identity and provenance.
    pub info: Arc<SampleInfo>,
    /// Pass over the data, from 0.
    pub pass: u32,
    /// What is wanted of it.
    pub work: Work,
    /// Caption; `None` when missing or empty.
    pub caption: Option<Arc<str>>,
    /// Bytes that the encoded picture had.
    pub encoded_bytes: u64,
    /// Credit for all that the sample will ever hold; a stage shrinks it to what is still held.
    pub permit: Permit,
    /// What the picture is by now: [`Encoded`], views, a vector.
    pub payload: P,
}

impl<P> Sample<P> {
    /// The envelope, and what was in it.
    pub fn open(self) -> (Sample<()>, P) {
        let Self { info, pass, work, caption, encoded_bytes, permit, payload } = self;
        (Sample { info, pass, work, caption, encoded_bytes, permit, payload: () }, payload)
    }

    /// The same sample with another payload, made of this one.
    pub fn map<Q>(self, make: impl FnOnce(P) -> Q) -> Sample<Q> {
        let (envelope, payload) = self.open();
        envelope.with(make(payload))
    }

    /// Bytes of the caption.
    #[must_use]
    pub fn caption_bytes(&self) -> u64 {
        self.caption.as_ref().map_or(0, |caption| caption.len() as u64)
    }

    /// The end of a sample that cannot be judged: its credit returns, and the ledger hears why.
    #[must_use]
    pub fn reject(self, reason: Reason) -> Event {
        Event::rejected(self.info, reason)
    }
}

impl Sample<Encoded> {
    /// A sample as it lies in its shard: of the first pass and to be judged, as long as its reader says nothing else.
    #[must_use]
    pub fn read(info: Arc<SampleInfo>, caption: Option<Arc<str>>, picture: Encoded, permit: Permit) -> Self {
        let encoded_bytes = picture.image.len() as u64;
        Self { info, pass: 0, work: Work::Judge, caption, encoded_bytes, permit, payload: picture }
    }
}

impl Sample<()> {
    /// Puts something into the envelope.
    pub fn with<P>(self, payload: P) -> Sample<P> {
        let Self { info, pass, work, caption, encoded_bytes, permit, payload: () } = self;
        Sample { info, pass, work, caption, encoded_bytes, permit, payload }
    }
}

/// A picture as it stood in its tar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Its bytes, untouched.
    pub image: Bytes,
    /// Lower-case extension, for example `jpg`.
    pub extension: String,
}

/// A picture that the embedder has seen, or whose rule does not look at it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embedded {
    /// Canonical embedding: f16\[dim\], unit norm; empty where nothing is embedded.
    pub vector: Vec<f16>,
    /// The trainer's view, u8\[size, size, 3\], where one is wanted.
    pub train: Option<Vec<u8>>,
}
