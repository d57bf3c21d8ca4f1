//! What flows to the ledger: fates, and the end of each shard with what its points saw.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::fate::Fate;
use super::reason::Reason;
use super::{SampleId, SampleInfo};
use crate::notices::Notices;

/// What flows to the ledger (and, as holes, to the trainer's order).
#[derive(Clone, Debug)]
pub enum Event {
    /// A sample's fate.
    Fate(Arc<Fate>),
    /// Nothing follows of this shard but what is still on its way.
    End(ShardEnd),
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
    /// It is not the shard that the ledger judged or the split names, or the list cannot tell two of its samples apart: decisions would be others'. Only who reads by ledger, split or list can tell.
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
