//! Workspace: what a reader's decompressor holds as long as it reads its shard, a part of the same budget.
//!
//! ```text
//!   memory that samples are given none of  |  shared part
//!   claimed by workspaces ────────────────────▶| what is left of it to samples
//! ```
//!
//! A claim on the shared part narrows the samples' room at once, and is there when the samples above it have gone: they go without the reader that
//! waits, which holds no sample. So samples are never asked to make room for ever, and no workspace is starved by them.
//!
//! - *Nobody takes turns*: who finds no room to claim waits until another shard ends, whose reader goes on with what its lane has.
//! - *Lanes take turns*: all their shards are open at once and wait for one another. Who finds no room is refused; and the lane in
//!   turn does not wait for samples of others, which wait for it: for that long both stand beside each other.
//!
//! Either way nobody waits for the room of others who holds some: two such readers would wait for each other, and one for itself.
//!
//! What each reader may always use is set aside with its buffers ([`OWN_BYTES`]) and asks for nothing.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

pub use super::core::NoRoom;
use super::core::{Claim, Core};
use super::{Credit, Inner};
use crate::wake::locked;

/// What a reader has for a decompressor without asking: gzip, bzip2, and zstd up to `-15`.
pub const OWN_BYTES: u64 = 4 << 20;

/// The workspace of one reader, empty at first; returned on drop.
pub struct Workspace {
    of: Option<(Credit, usize)>,
    bytes: u64,
}

impl Workspace {
    pub(super) fn new(credit: &Credit, lane: usize) -> Self {
        Self { of: Some((credit.clone(), lane)), bytes: 0 }
    }

    /// One of no budget: for tests and for programs without one.
    #[must_use]
    pub fn unbounded() -> Self {
        Self { of: None, bytes: 0 }
    }

    /// Makes it large enough for a decompressor of `bytes`, before the shard's first byte is out; blocks until that is there. Ask
    /// while the reader holds no sample. One that is not empty any more waits for samples only.
    ///
    /// # Errors
    /// [`NoRoom`] where it cannot be there, or the run stops first.
    pub fn open(&mut self, bytes: u64) -> Result<(), NoRoom> {
        let more = self.missing(bytes);
        let Some((credit, lane)) = self.of.as_ref().filter(|_| more > 0) else { return Ok(()) };
        let inner = &*credit.inner;
        let mut core = locked(&inner.core);
        let lane = lane % core.lanes();
        inner.waiting.fetch_add(1, Ordering::SeqCst);
        let (mut claimed, mut told) = (false, false);
        let outcome = loop {
            if inner.stop.is_requested() {
                break Err(NoRoom::Stopped);
            }
            if !claimed {
                match core.claim(more, self.bytes) {
                    Claim::Taken => claimed = true,
                    Claim::Later => {}
                    Claim::Never(full) => break Err(full),
                }
            }
            if claimed && core.is_clear(lane) {
                break Ok(());
            }
            if !told {
                told = true;
                drop(core);
                inner.hurry.wake_all(); // batchers flush: what we wait for may sit with them
                core = locked(&inner.core);
                continue;
            }
            core = inner.returned.wait(core).unwrap_or_else(PoisonError::into_inner);
        };
        inner.waiting.fetch_sub(1, Ordering::SeqCst);
        match outcome {
            Ok(()) => self.bytes += more,
            Err(_) if claimed => give_back(inner, core, more),
            Err(_) => {}
        }
        outcome
    }

    /// The same in the middle of a shard, where a later frame needs more than those before: waits for nothing, so samples that
    /// have their credit already may stand beside it for a while.
    ///
    /// # Errors
    /// [`NoRoom::Full`] where there is no room for it.
    pub fn grow(&mut self, bytes: u64) -> Result<(), NoRoom> {
        let more = self.missing(bytes);
        let Some((credit, _)) = self.of.as_ref().filter(|_| more > 0) else { return Ok(()) };
        let mut core = locked(&credit.inner.core);
        match core.claim(more, self.bytes) {
            Claim::Taken => self.bytes += more,
            Claim::Later => return Err(core.full(self.bytes)),
            Claim::Never(full) => return Err(full),
        }
        Ok(())
    }

    fn missing(&self, bytes: u64) -> u64 {
        bytes.saturating_sub(OWN_BYTES).saturating_sub(self.bytes)
    }
}

fn give_back(inner: &Inner, mut core: std::sync::MutexGuard<'_, Core>, bytes: u64) {
    core.unclaim(bytes);
    drop(core);
    inner.returned.notify_all();
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if let Some((credit, _)) = self.of.as_ref().filter(|_| self.bytes > 0) {
            give_back(&credit.inner, locked(&credit.inner.core), self.bytes);
        }
    }
}

impl std::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workspace").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
