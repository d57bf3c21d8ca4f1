//! Prune: scored samples to kept ones, and the fate of every one.
//!
//! ```text
//!            ┌─▶ Kept   to the trainer
//!  Scored ──▶│
//!            └─▶ Event  to the ledger, kept ones too
//! ```
//!
//! Frontier: both outputs' are the input's; nothing is held back.
//!
//! Invariants:
//! 1. Every judged sample gives one fate, at its own time. A kept one gives a [`Kept`] too, unless it is judged for the ledger only
//!    ([`Work::JudgeOnly`]).
//! 2. The verdict is a function of names and scores: the same that filled the items.
//! 3. A dropped sample's permit returns at once; a kept one's shrinks to its view and caption.
//! 4. A kept sample without caption bears the remark `no_caption`.
//! 5. A replayed sample ([`Work::Replay`]) was judged before: it passes to [`Kept`] and gives no fate.

use std::sync::Arc;

use timely::dataflow::StreamVec;
use timely::dataflow::operators::core::OkErr;
use timely::dataflow::operators::vec::Map;
use timely::progress::Timestamp;

use crate::join::Verdict;
use crate::{Scored, ShardNames};
use trommel_core::credit::Permit;
use trommel_core::sample::{Event, Fate, Reason, SampleInfo, Status, Work};

/// A sample on its way to the trainer.
#[derive(Debug)]
pub struct Kept {
    /// Identity and provenance.
    pub info: Arc<SampleInfo>,
    /// Pass over the data, from 0.
    pub pass: u32,
    /// Caption; `None` when missing or empty: a hole for the trainer.
    pub caption: Option<Arc<str>>,
    /// The trainer's view, u8\[size, size, 3\], where one is wanted.
    pub train: Option<Vec<u8>>,
    /// Bytes of the encoded picture and caption as they stood in the tar.
    pub encoded_bytes: u64,
    /// Credit for the view and the caption.
    pub permit: Permit,
}

/// Decides what goes on.
pub trait Prune<'scope, T: Timestamp> {
    /// Kept samples, and every sample's fate. `names` gives a shard's stable name.
    fn prune(
        self,
        verdict: &Arc<dyn Verdict>,
        names: &ShardNames,
    ) -> (StreamVec<'scope, T, Kept>, StreamVec<'scope, T, Event>);
}

impl<'scope, T: Timestamp> Prune<'scope, T> for StreamVec<'scope, T, Scored> {
    fn prune(
        self,
        verdict: &Arc<dyn Verdict>,
        names: &ShardNames,
    ) -> (StreamVec<'scope, T, Kept>, StreamVec<'scope, T, Event>) {
        let (verdict, names) = (verdict.clone(), names.clone());
        self.flat_map(move |sample| {
            let (kept, event) = decide(sample, &*verdict, &names);
            kept.map(Ok).into_iter().chain(event.map(Err))
        })
        .ok_err(|outcome: Result<Kept, Event>| outcome)
    }
}

/// What becomes of one sample.
fn decide(sample: Scored, verdict: &dyn Verdict, names: &ShardNames) -> (Option<Kept>, Option<Event>) {
    let Scored { info, pass, work, caption, vector, train, encoded_bytes, mut permit, scores } = sample;
    let replayed = work == Work::Replay;
    let keeps = replayed || verdict.keeps(&names(info.id.ordinal), &info.key, info.id, &scores);
    let event = (!replayed).then(|| {
        let status = if keeps { Status::Kept } else { Status::Dropped };
        let reason = (keeps && caption.is_none()).then(|| Reason::new("no_caption", ""));
        let embedding = (!vector.is_empty()).then_some(vector);
        Event::Fate(Arc::new(Fate { info: info.clone(), status, reason, scores, embedding }))
    });
    let kept = (keeps && work != Work::JudgeOnly).then(|| {
        let held = train.as_ref().map_or(0, Vec::len) + caption.as_ref().map_or(0, |caption| caption.len());
        permit.shrink_to(held as u64);
        Kept { info, pass, caption, train, encoded_bytes, permit }
    });
    (kept, event)
}
