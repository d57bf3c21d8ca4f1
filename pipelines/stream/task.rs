//! The reading of one shard: each sample is asked for, and goes on to the sink where it is kept.

use std::ops::ControlFlow;

use trommel_core::notices::Notices;
use trommel_core::sample::ShardOutcome;
use trommel_core::stop::Stop;
use trommel_decide::hash::random_hash;
use trommel_decide::percent::Percent;
use trommel_select::SelectError;
use trommel_select::membership::Picker;
use trommel_shard::original::{Visit, Visited};
use trommel_shard::plan::ShardRef;
use trommel_shard::samples::{Group, Want};

use super::{Ended, Sink};
use crate::error::PipelineError;
use crate::failures::failed;

/// Who says whether a sample is kept.
pub(super) enum By<'a> {
    Split(Picker<'a>),
    Random(Percent, u64),
}

/// One shard's reading.
pub(super) struct Task<'a> {
    pub(super) shard: &'a ShardRef,
    pub(super) by: By<'a>,
    /// A sample's json must be read before anybody can say.
    pub(super) identity: bool,
    /// Samples before this index were written by an earlier turn.
    pub(super) first: u32,
    pub(super) trouble: Option<SelectError>,
    pub(super) sink: &'a mut dyn Sink,
    pub(super) stop: &'a Stop,
    pub(super) notices: &'a mut Notices,
    /// How many samples were asked for.
    pub(super) read: &'a mut u64,
}

impl Visit for Task<'_> {
    type Error = Ended;

    fn counts(&self) -> bool {
        matches!(&self.by, By::Split(picker) if picker.counts())
    }

    fn want(&mut self, index: u32, key: &[u8]) -> Want {
        *self.read += 1;
        let identity = self.identity;
        if identity {
            return Want::Original { identity };
        }
        let key = String::from_utf8_lossy(key);
        let kept = match &mut self.by {
            By::Random(percent, seed) => percent.takes(random_hash(*seed, &self.shard.name, &key)),
            By::Split(picker) => picker.keeps(index, &key, || None).unwrap_or_else(|error| {
                self.trouble = Some(error);
                false
            }),
        };
        if kept && index >= self.first { Want::Original { identity } } else { Want::Place }
    }

    fn take(&mut self, group: Group) -> Result<ControlFlow<()>, Ended> {
        if let Some(error) = self.trouble.take() {
            return Err(Ended::Failed(failed(error)));
        }
        PipelineError::if_ending(self.stop).map_err(Ended::Failed)?;
        match group {
            Group::Place(_) | Group::Sample(_) => {}
            Group::Rejected(info, reason) => {
                if let (By::Split(picker), Some(uid)) = (&mut self.by, info.uid.as_ref())
                    && !picker.keeps(info.id.index, &info.key, || Some(uid.clone())).map_err(failed)?
                {
                    return Ok(ControlFlow::Continue(()));
                }
                let place = format!("{}/{}: {reason}", self.shard.name, info.key);
                // An earlier turn has told of those before.
                let new = u64::from(info.id.index >= self.first);
                self.notices.loss("not_written", "samples that cannot be written as they stand", place, new, new);
            }
            Group::Original(info, original) => {
                let kept = match &mut self.by {
                    By::Split(picker) if self.identity => {
                        picker.keeps(info.id.index, &info.key, || info.uid.clone()).map_err(failed)?
                    }
                    By::Split(_) | By::Random(..) => true,
                };
                if kept && info.id.index >= self.first {
                    self.sink.add(self.shard, &(&info, original), self.notices)?;
                }
            }
        }
        let done = matches!(&self.by, By::Split(picker) if picker.is_done());
        Ok(if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
}

impl Task<'_> {
    /// The shard has ended.
    pub(super) fn end(self, visited: Visited) -> Result<(), Ended> {
        let Visited { outcome, is_cut, notices, .. } = visited;
        match &outcome {
            ShardOutcome::Unavailable(why) => return Err(Ended::Failed(PipelineError::unfinished(why.clone()))),
            ShardOutcome::Changed(why) => return Err(Ended::Failed(PipelineError::failed(why.clone()))),
            ShardOutcome::Rejected(_) | ShardOutcome::Complete(_) => {}
        }
        let notices = match &self.by {
            By::Split(picker) => picker.ended(&outcome, is_cut, notices).map_err(failed)?,
            By::Random(..) => notices,
        };
        self.notices.merge(&notices);
        Ok(())
    }
}
