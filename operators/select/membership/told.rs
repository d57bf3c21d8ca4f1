//! What is told where a split is read beside shards, in the same words and codes by whoever reads it.

use trommel_core::names::STDIN;
use trommel_core::notices::Notices;
use trommel_core::sample::{Reason, ShardOutcome};
use trommel_shard::plan::is_shard_name;

use super::{Coverage, Membership, Picker};
use crate::SelectError;

/// Notes `count` shards that are not read since the split keeps nothing of them, and the `first`.
pub fn not_in_split(notices: &mut Notices, first: &str, count: u64) {
    notices.note("not_in_split", "shards of which the split keeps nothing, not read", first, count);
}

/// Notes a shard that is not read since the split was not made from it.
pub fn not_of_split(notices: &mut Notices, shard: &str) {
    notices.note("not_of_split", "shards that the split was not made from, not read", shard, 1);
}

/// What is said of shards of which nobody knows what the split would keep.
const NOT_JUDGED: &str = "shards that were not judged when the split was made, not read";

/// Counts a shard that is not read since it was not judged when the split was made: what it would have kept of it is lost.
pub fn not_judged(notices: &mut Notices, shard: &str) {
    notices.file_loss("not_judged", NOT_JUDGED, shard, None);
}

/// Notes `count` samples whose key another one has too, of a list that says nothing but keys, and the `first`.
pub fn repeated_keys(notices: &mut Notices, first: impl Into<String>, count: u64) {
    let text = "samples kept whose key another one has too: keys alone do not tell them apart";
    notices.note("repeated_keys", text, first, count);
}

impl Coverage {
    /// Notes lines of a list that stand there several times.
    pub fn note_repeated(&self, notices: &mut Notices) {
        let text = "lines of the list that stand there once more, taken once";
        notices.note("repeated_lines", text, self.first_repeated.as_deref().unwrap_or_default(), self.repeated);
    }

    /// Notes what the split keeps of shards that were not asked for.
    pub fn note_absent(&self, notices: &mut Notices) {
        let text = "samples that the split keeps of shards that are not given";
        notices.note("absent_shards", text, &self.first, self.absent_samples);
    }
}

impl Membership {
    /// A shard that the split names, where it was not made from `shard` at all; `None` where it was, and where nobody knows.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn stranger(&self, shard: &str) -> Result<Option<String>, SelectError> {
        let leaves_out = self.leaves_out(shard);
        if leaves_out == Some(true) {
            return Ok(None);
        }
        let Some(other) = self.first_shard()? else { return Ok(None) };
        let is_other = is_shard_name(shard) && !is_shard_name(&other) && other != STDIN;
        Ok(Some(other).filter(|_| is_other || leaves_out == Some(false)))
    }

    /// Notes why a shard of which nothing is kept is not read; what was lost before is told elsewhere.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn note_unread(&self, shard: &str, notices: &mut Notices) -> Result<(), SelectError> {
        if self.had_not_judged(shard) {
            notices.note("not_judged", NOT_JUDGED, shard, 1);
            return Ok(());
        }
        match self.stranger(shard)? {
            Some(_) => not_of_split(notices, shard),
            None => not_in_split(notices, shard, 1),
        }
        Ok(())
    }
}

impl Picker<'_> {
    /// Takes that the shard has ended as `outcome` says, its bytes before its tar where it `is_cut`; `found` is what was found in reading it. Gives
    /// that, and what the split keeps of it and did not get; of a rejected shard the latter in its place.
    ///
    /// # Errors
    /// A shard that is whole and has not all that the split keeps of it.
    pub fn ended(&self, outcome: &ShardOutcome, is_cut: bool, found: Notices) -> Result<Notices, SelectError> {
        let (shard, mut notices) = (self.shard(), found);
        match (outcome, self.finish()) {
            // What the split keeps of it is lost, and no more.
            (ShardOutcome::Rejected(Reason { code, detail }), Err(_)) => {
                notices = Notices::default();
                let (text, place) = (format!("shards rejected ({code})"), format!("{shard}: {detail}"));
                notices.loss(&format!("shard_{code}"), &text, place, 1, self.missing());
            }
            (ShardOutcome::Complete(_), Err(_)) if is_cut => {
                let text = "shards cut off before all samples that the split keeps of them";
                notices.loss("cut_before_kept", text, shard, 1, self.missing());
            }
            (ShardOutcome::Complete(_), Err(error)) => return Err(error),
            (ShardOutcome::Unavailable(_) | ShardOutcome::Changed(_), Err(_)) | (_, Ok(())) => {}
        }
        let text = "samples whose uid stands in the list several times, taken once";
        notices.note("repeated_uids", text, shard, self.repeated_uids());
        repeated_keys(&mut notices, shard, self.repeated_keys());
        Ok(notices)
    }
}
