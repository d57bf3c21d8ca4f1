//! What an earlier turn of the same command has met of a list of uids or of keys alone: who goes on with it reads no shard twice, and finds in the
//! new shards whose names have come. Of keys alone no data is read there; of uids all of it, for they stand in each sample's json.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Mutex;

use trommel_core::notices::Notices;
use trommel_core::sample::ShardOutcome;
use trommel_core::wake::locked;
use trommel_select::SelectError;
use trommel_select::membership::Membership;
use trommel_select::met::Met;
use trommel_shard::original::{Visit, visit};
use trommel_shard::plan::ShardRef;
use trommel_shard::reader::ReaderConfig;
use trommel_shard::samples::{Group, Want};
use trommel_shard::store::Local;

use crate::error::PipelineError;
use crate::failures::failed;

/// Tells `met` which of its names stand in shards that were written.
pub(super) fn meet(written: &[PathBuf], split: Option<&Membership>, met: &Mutex<Met>) -> Result<(), PipelineError> {
    let identity = split.is_some_and(Membership::needs_uids);
    for (ordinal, path) in (0..).zip(written) {
        let url = path.display().to_string();
        let shard = ShardRef { ordinal, name: url.clone(), url, bytes: None };
        let mut names = Names { met, identity };
        let visited = visit(&Local::default(), &shard, &ReaderConfig::default(), &mut names).map_err(failed)?;
        if !matches!(visited.outcome, ShardOutcome::Complete(_)) || visited.is_cut {
            let path = path.display();
            return Err(PipelineError::failed(format!(
                "{path}: it was written by an earlier turn of this command and cannot be read again; give another folder"
            )));
        }
    }
    Ok(())
}

/// Samples that an earlier turn has met and could not write: nobody finds their names in the new shards.
pub(super) fn unwritten(notices: &Notices) -> u64 {
    let of = |code| notices.get(code).map_or(0, |notice| notice.count);
    of("not_written") + of("not_renamed")
}

struct Names<'a> {
    met: &'a Mutex<Met>,
    identity: bool,
}

impl Visit for Names<'_> {
    type Error = SelectError;

    fn want(&mut self, _: u32, _: &[u8]) -> Want {
        if self.identity { Want::Original { identity: true } } else { Want::Place }
    }

    fn take(&mut self, group: Group) -> Result<ControlFlow<()>, SelectError> {
        // A sample that was renamed has the uid that it had; its key was met before it, or there was nothing to rename it for.
        let info = group.info();
        locked(self.met).again(&info.key, info.uid.as_deref())?;
        Ok(ControlFlow::Continue(()))
    }
}
