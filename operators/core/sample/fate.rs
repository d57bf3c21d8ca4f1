//! What became of a sample: a row of the ledger.

use std::sync::Arc;

use half::f16;
use serde::{Deserialize, Serialize};

use super::reason::{NO_CAPTION, Reason};
use super::{Sample, SampleInfo};

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
