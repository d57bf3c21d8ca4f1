//! Whether a split and the shards that are given belong together: what it keeps of others, and names that differ.

use std::path::Path;

use trommel_core::names::STDIN;
use trommel_core::notices::Notices;
use trommel_select::membership::Membership;
use trommel_select::met::Met;
use trommel_shard::plan::{Plan, ShardRef, is_shard_name};

use super::Out;
use crate::error::PipelineError;
use crate::failures::failed;

/// Other names that a shard may have in a split: parts of its path.
fn other_names(shard: &ShardRef) -> impl Iterator<Item = &str> {
    // Longer ones are looked at in vain for each shard of which nothing is kept.
    const PARTS: usize = 4;
    let slashes = shard.url.rmatch_indices('/').map(|(at, _)| at + 1);
    slashes.chain([0]).take(PARTS).map(|at| &shard.url[at..])
}

/// Tells what the split keeps of shards that are not given, and gives how many samples these are, where new shards are to hold all of it: a reader of standard output asks for each
/// shard by itself.
pub(super) fn cover(split: &Membership, plan: &Plan, out: &Out, notices: &mut Notices) -> Result<u64, PipelineError> {
    let shards: Vec<&str> = plan.shards.iter().map(|shard| shard.name.as_str()).collect();
    let others: Vec<&str> = plan.shards.iter().flat_map(other_names).collect();
    let is_pipe = *out == Out::Pipe;
    // A list of keys is read here for a pipe too: afterwards it knows where each shard's lines stand.
    if is_pipe && !split.lists_keys() {
        return Ok(0);
    }
    let Some(coverage) = split.coverage(&shards, &others).map_err(failed)? else { return Ok(0) };
    coverage.note_repeated(notices);
    if is_pipe {
        return Ok(0);
    }
    if coverage.kept == 0 && coverage.absent > 0 {
        plan.shards.iter().try_for_each(|shard| refuse_other_name(split, shard))?;
        return Err(PipelineError::usage(format!(
            "{}: none of its {} samples is of these shards: it names {} and not {}{}",
            split.path().display(),
            coverage.absent_samples,
            coverage.first,
            shards.first().unwrap_or(&""),
            by_keys_alone(&coverage.first)
        )));
    }
    coverage.note_absent(notices);
    Ok(coverage.absent_samples)
}

/// Why a shard that the split does not name is none of those that it was made from; `None` where that is not known.
pub(super) fn stranger(split: &Membership, shard: &ShardRef) -> Result<Option<String>, PipelineError> {
    let (path, name) = (split.path().display(), &shard.name);
    if shard.url == STDIN {
        return Ok(Some(format!(
            "{path} knows samples by their shards' names, and standard input has none: give the shard's file, or a list that needs no names (.npy of \
             uids, .keys)"
        )));
    }
    let other = split.stranger(name).map_err(failed)?;
    Ok(other.map(|other| format!("{path} was not made from {name}: it names {other}{}", by_keys_alone(&other))))
}

/// What leads from a split of stored embeddings to shards, where its first shard is none.
pub(crate) fn by_keys_alone(first: &str) -> &'static str {
    if is_shard_name(first) || first == STDIN {
        return "";
    }
    "; what was selected from stored embeddings or folders is found in shards by keys alone: `trommel select RUN --rule R -o s.keys`, then \
     `trommel stream SHARDS --split s.keys`"
}

/// A turn of `stream` with a list that does not say where its samples stand, at its end.
pub(super) struct Turn<'a> {
    /// Path of the list.
    pub(super) path: &'a Path,
    /// How many keys there are, where it is one of keys alone.
    pub(super) keys: Option<u64>,
    /// Samples that an earlier turn of the same command has met and could not write.
    pub(super) unwritten: u64,
}

impl Turn<'_> {
    /// Notes which names of the list did not come, and gives how many, where all that was `found` is known; no key at all is no list of these shards.
    pub(super) fn absent(&self, met: &Met, found: &Notices) -> Result<(Notices, u64), PipelineError> {
        let (path, lost, mut notices) = (self.path.display(), found.any_loss(), Notices::default());
        let unmet = met.note(self.path, &mut notices).map_err(failed)?;
        let absent = unmet.count;
        let text = "samples that an earlier turn of this command could not write, whose names may be among those that no sample has";
        notices.note("absent_or_unwritten", text, path.to_string(), self.unwritten.min(absent));
        // Of a shard that could not be read nobody knows.
        if self.keys.is_some_and(|keys| absent > 0 && absent == keys) && !lost {
            return Err(PipelineError::usage(format!(
                "{path}: none of its {absent} keys is in these shards (first: `{}`)",
                unmet.first
            )));
        }
        Ok((notices, absent))
    }
}

/// Refuses a shard that the split has under another part of its path.
pub(super) fn refuse_other_name(split: &Membership, shard: &ShardRef) -> Result<(), PipelineError> {
    for other in other_names(shard) {
        if other != shard.name && split.shard(other).map_err(failed)?.is_some() {
            let (path, name, url) = (split.path().display(), &shard.name, &shard.url);
            return Err(PipelineError::usage(format!(
                "{path} has no shard {name}, but {other}, and {url} may be either: shards are known by their names; give SHARDS as the run was given \
                 them, or NAME=SHARDS, which puts NAME/ before each name"
            )));
        }
    }
    Ok(())
}
