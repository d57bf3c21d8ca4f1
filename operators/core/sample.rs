//! What everyone imports: the sample, its fate, its place in time, and the identity of what judged it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use half::f16;
use serde::{Deserialize, Serialize};

use crate::credit::Permit;
use crate::notices::Notices;
use crate::records::Record;

/// Logical time of the graph: `pass << 40 | ordinal of the shard in the plan`.
pub type Time = u64;

/// Bits of a [`Time`] that hold the shard's ordinal.
pub const ORDINAL_BITS: u32 = 40;

/// The time of shard `ordinal` in pass `pass`.
#[must_use]
pub const fn time_of(pass: u32, ordinal: u64) -> Time {
    ((pass as u64) << ORDINAL_BITS) | ordinal
}

/// The pass of a time.
#[must_use]
pub const fn pass_of(time: Time) -> u32 {
    (time >> ORDINAL_BITS) as u32
}

/// The shard's ordinal in the plan.
#[must_use]
pub const fn ordinal_of(time: Time) -> u64 {
    time & ((1 << ORDINAL_BITS) - 1)
}

/// Whether a shard belongs to one of several parts of the work, by its ordinal alone: a process of a cluster, a task of an array.
#[must_use]
pub const fn is_in_part(ordinal: u64, part: u64, parts: u64) -> bool {
    ordinal % parts == part
}

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

/// Longest [`Reason::detail`].
const MAX_DETAIL_BYTES: usize = 512;

/// Why a sample was rejected, or a remark on a kept one: a stable code and a text for people.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reason {
    /// Stable, countable, `snake_case`: `image_decode`, `no_image`, `too_many_pixels`, `no_caption`, ...
    pub code: String,
    /// What exactly was seen; may be empty.
    pub detail: String,
}

impl Reason {
    /// A reason from its code and detail, which an input may make long: what is above 512 bytes is cut.
    #[must_use]
    pub fn new(code: &str, detail: impl fmt::Display) -> Self {
        let mut detail = detail.to_string();
        if detail.len() > MAX_DETAIL_BYTES {
            detail.truncate(detail.floor_char_boundary(MAX_DETAIL_BYTES - '…'.len_utf8()));
            detail.push('…');
            detail.shrink_to_fit();
        }
        Self { code: code.into(), detail }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detail.is_empty() { f.write_str(&self.code) } else { write!(f, "{}: {}", self.code, self.detail) }
    }
}

/// Reason of a dropped sample that a takedown list names: no split may bring it back.
pub const TAKEN_DOWN: &str = "taken_down";
/// Remark on a sample without a caption: it is judged like others, and not trained on.
pub const NO_CAPTION: &str = "no_caption";

/// What became of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Passed the rule.
    Kept,
    /// Fell to the rule.
    Dropped,
    /// Could not be judged.
    Rejected,
}

impl Status {
    /// The ledger's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Dropped => "dropped",
            Self::Rejected => "rejected",
        }
    }
}

/// One sample against one benchmark. All cosines are canonical: products of f16 summed exactly, as f64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Largest cosine to any test point; `None` in decision-only mode.
    pub max_similarity: Option<f64>,
    /// Index of that point (lowest on ties).
    pub nearest: Option<u32>,
    /// `max_i(s_i - r_i)`; `None` without radii.
    pub margin: Option<f64>,
    /// The point whose radius is exceeded most (lowest index on ties); `None` without radii.
    pub exceeds: Option<u32>,
    /// Number of points with `s_i > r_i`; `None` without radii.
    pub hits: Option<u32>,
}

/// The fate of one sample: a row of the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct Fate {
    /// Identity and provenance.
    pub info: Arc<SampleInfo>,
    /// Kept, dropped or rejected.
    pub status: Status,
    /// Why rejected, or a remark such as `no_caption`.
    pub reason: Option<Reason>,
    /// One score a benchmark, in the configuration's order; empty for rejects.
    pub scores: Vec<Score>,
    /// Canonical embedding, f16\[dim\]; `None` for rejects and rules that need no embedding.
    pub embedding: Option<Vec<f16>>,
}

impl Fate {
    /// What a ledger says, or is to say, of a sample; a reject has no scores.
    #[must_use]
    pub fn recorded(info: Arc<SampleInfo>, status: Status, reason: Option<Reason>, scores: Vec<Score>) -> Self {
        let scores = if status == Status::Rejected { Vec::new() } else { scores };
        Self { info, status, reason, scores, embedding: None }
    }

    /// Of a sample that could not be judged.
    #[must_use]
    pub fn rejected(info: Arc<SampleInfo>, reason: Reason) -> Self {
        Self::recorded(info, Status::Rejected, Some(reason), Vec::new())
    }

    /// Of a sample that is passed over without being judged.
    #[must_use]
    pub fn dropped(info: Arc<SampleInfo>) -> Self {
        Self::recorded(info, Status::Dropped, None, Vec::new())
    }

    /// Of a sample that was judged, with its scores and its canonical embedding (empty where there is none). A kept one without a
    /// caption bears the remark [`NO_CAPTION`].
    #[must_use]
    pub fn decided<P>(sample: &Sample<P>, keeps: bool, scores: Vec<Score>, vector: Vec<f16>) -> Self {
        let status = if keeps { Status::Kept } else { Status::Dropped };
        let reason = (keeps && sample.caption.is_none()).then(|| Reason::new(NO_CAPTION, ""));
        let embedding = (!vector.is_empty()).then_some(vector);
        Self { embedding, ..Self::recorded(sample.info.clone(), status, reason, scores) }
    }
}

impl From<Fate> for Event {
    fn from(fate: Fate) -> Self {
        Self::Fate(Arc::new(fate))
    }
}

impl Event {
    /// The fate of a sample that could not be judged.
    #[must_use]
    pub fn rejected(info: Arc<SampleInfo>, reason: Reason) -> Self {
        Fate::rejected(info, reason).into()
    }

    /// The fate of a sample that nobody looked at, since a split does not keep it.
    #[must_use]
    pub fn dropped(info: Arc<SampleInfo>) -> Self {
        Fate::dropped(info).into()
    }
}

/// How a shard's reading ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardOutcome {
    /// Read to its end. The text remarks on oddities (a cut-off tail, a missing end mark, no sample at all).
    Complete(Option<String>),
    /// All of its bytes came, and no sample could be read from them: it is lost, and says why.
    Rejected(Reason),
    /// Bytes could not be had, after retries: the shard stays unfinished.
    Unavailable(String),
    /// It is not the shard that the ledger judged: decisions by index would be another's. Only a replay can tell.
    Changed(String),
}

/// The source's last word on a shard.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardEnd {
    /// Ordinal of the shard in the plan.
    pub ordinal: u64,
    /// Samples numbered in it, the source's own rejects included: fates 0..count arrive, then the shard is done.
    pub count: u32,
    /// Bytes read from the store.
    pub bytes: u64,
    /// Complete, rejected or unavailable.
    pub outcome: ShardOutcome,
    /// What was lost of it, or passed over in it.
    pub notices: Notices,
    /// What the test points saw of its samples, by benchmark and point. The stage that decides adds it, when it has decided the last of
    /// them; empty before, and where nothing is joined.
    pub points: Arc<Vec<PointRow>>,
}

impl ShardEnd {
    /// The end of a shard in which nothing was found, yet.
    #[must_use]
    pub fn new(ordinal: u64) -> Self {
        let (outcome, notices, points) = (ShardOutcome::Complete(None), Notices::default(), Arc::default());
        Self { ordinal, count: 0, bytes: 0, outcome, notices, points }
    }
}

/// One test point against the samples of one shard, or of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PointRow {
    /// The benchmark, by its place in the configuration.
    pub benchmark: u16,
    /// The point, by its index in the benchmark.
    pub point: u32,
    /// Largest similarity of any sample; `None` in decision-only mode.
    pub max_similarity: Option<f64>,
    /// The sample that has it (the smaller shard and index on ties).
    pub sample: Option<SampleId>,
    /// Samples over the point's radius; 0 without radii.
    pub hits: u64,
    /// Largest similarity of any kept sample; `None` where none was kept, and in decision-only mode.
    pub kept_max: Option<f64>,
    /// The sample that has it.
    pub kept_sample: Option<SampleId>,
}

/// What flows to the ledger (and, as holes, to the trainer's order).
#[derive(Clone, Debug)]
pub enum Event {
    /// A sample's fate.
    Fate(Arc<Fate>),
    /// Nothing follows of this shard but what is still on its way.
    End(ShardEnd),
}

/// Who made an embedding: equal or refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// open_clip's name of the architecture, or `torchscript`, or the name given by `--assume-model`.
    pub architecture: String,
    /// Lower-case hex sha256 over the weights: names, shapes and f32 values in name order; `seed:N` for random ones.
    pub weights: String,
    /// Size, resize mode, interpolation, mean, std: one line.
    pub preprocessing: String,
    /// Decoder and resizer with versions: `libjpeg-turbo + image 0.25.8 + tiff 0.10.3 + trommel-resize 1`.
    pub decoder: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} weights {} ({}; {})", self.architecture, self.weights, self.preprocessing, self.decoder)
    }
}
