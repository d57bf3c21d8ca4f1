//! What a run has lost of its input, or passed over in it. Whoever goes on with its shards and decisions tells it: in the shards nobody finds it again.

use trommel_core::notices::Notices;
use trommel_core::sample::TAKEN_DOWN;
use trommel_ledger::read::Ledger;
use trommel_select::membership::Membership;
use trommel_shard::plan::Plan;

/// What was lost in planning and of the shards that are judged, or passed over there. Samples that were rejected one by one are not among it: the
/// ledger has them.
#[must_use]
pub fn of_run(plan: &Plan, ledger: &Ledger) -> Notices {
    let mut notices = plan.losses();
    notices.merge(&ledger.notices());
    notices
}

/// What a split cannot keep, since it was lost before: of a run folder, what its ledger has lost, and samples that it rejected; of a file that says
/// what it is, samples that could not be judged.
#[must_use]
pub fn of_split(split: &Membership) -> Notices {
    let (mut notices, rejected, first) = if let Some(ledger) = split.ledger() {
        let counts = ledger.counts();
        // Nobody misses what is taken down.
        let lost = counts.rejects.iter().filter(|(code, _)| *code != TAKEN_DOWN);
        let most = lost.max_by_key(|(_, count)| *count);
        let first = most.map_or_else(String::new, |(code, count)| format!("{code}: {count}"));
        let taken_down = counts.rejects.get(TAKEN_DOWN).unwrap_or(0);
        (ledger.notices(), counts.rejected.saturating_sub(taken_down), first)
    } else {
        let rejected = split.head().map_or(0, |head| head.rejected);
        (Notices::default(), rejected, split.path().display().to_string())
    };
    for shard in split.head().iter().flat_map(|head| &head.unfinished) {
        notices.file_loss("not_judged_before", "shards that were not judged when the split was made", shard, None);
    }
    let text = "samples that could not be judged, and are not kept";
    notices.loss("rejected_before", text, first, rejected, rejected);
    notices
}
