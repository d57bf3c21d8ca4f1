//! A pruning run around whoever judges: plan and folder agreed, what is left to judge, and the report of all processes.
//!
//! ```text
//!  plan, configuration ─▶ agree ─▶ run folder ─▶ what nobody has judged ─▶ judge ─▶ gather ─▶ report
//! ```
//!
//! `trommel prune` of shards judges with a model, of stored embeddings without one: the rest is the same, and stands here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use trommel_core::notices::Notices;
use trommel_core::stop::Stop;
use trommel_ledger::committer::CommitSummary;
use trommel_ledger::first_samples::Order;
use trommel_ledger::manifest::Counts;
use trommel_ledger::run_folder::{RunConfig, RunFolder};
use trommel_shard::plan::Plan;

use crate::config::Machine;
use crate::cores::Threading;
use crate::error::PipelineError;
use crate::join_report::JoinReport;
use crate::ledger_run::{agreed, open_folder};
use crate::phase::Phase;
use crate::progress::Progress;
use crate::time_spent::{Spent, Stages};
use crate::together::Together;

/// How a pruning run ended.
#[derive(Clone, Debug, Serialize)]
pub struct PruneReport {
    /// Shards of the plan (of this slice).
    pub shards: u64,
    /// Shards that earlier runs had finished.
    pub shards_resumed: u64,
    /// Counts over the whole ledger of this plan.
    pub kept: u64,
    /// Dropped by the rule.
    pub dropped: u64,
    /// Could not be judged.
    pub rejected: u64,
    /// Rejects by their code.
    pub rejects: BTreeMap<String, u64>,
    /// Remarks on kept samples by their code.
    pub remarks: BTreeMap<String, u64>,
    /// Shards whose bytes could not be had, and why.
    pub failed: BTreeMap<u64, String>,
    /// What was lost of the input, or passed over in it, over the whole ledger of this plan.
    pub notices: Notices,
    /// Samples judged by this process.
    pub judged_now: u64,
    /// Seconds from the start to the first byte: plan, benchmarks, model.
    pub start_seconds: f64,
    /// Seconds from the first byte to the last commit.
    pub seconds: f64,
    /// Samples judged a second.
    pub samples_per_second: f64,
    /// Where time went.
    pub spent: Spent,
    /// Cores and threads of this process.
    pub cores: Threading,
    /// How this process joined, where there are benchmarks.
    pub join: Option<JoinReport>,
    /// Whether a stop ended it early.
    pub interrupted: bool,
}

/// What a run is of, and where it goes.
pub struct Pruning<'a> {
    /// The shards, those included that are judged already.
    pub plan: &'a Plan,
    /// What its folder is opened with.
    pub config: &'a RunConfig,
    /// The run's folder.
    pub run: &'a Path,
    /// Whether a folder of another numeric part is resumed.
    pub mix_numerics: bool,
    /// Whether something was trained in the folder.
    pub trains: bool,
    /// What it works on.
    pub machine: &'a Machine,
    /// The processes that share the run.
    pub together: &'a Together,
    /// Ends the run at once.
    pub stop: &'a Stop,
    /// The run's counters.
    pub progress: &'a Arc<Progress>,
}

/// What is left to judge.
pub struct Wanted<'a> {
    /// Where the parts go.
    pub folder: &'a Arc<RunFolder>,
    /// Ordinals of the shards.
    pub shards: Vec<u64>,
    /// The shards whose first samples must not all be rejects.
    pub first: Order,
}

/// What came of it.
pub struct Judged {
    /// What is durable.
    pub summary: CommitSummary,
    /// What was found before the first shard.
    pub notices: Notices,
    /// What tells where time went.
    pub stages: Stages,
    /// What the join did, where there was one.
    pub join: Option<JoinReport>,
}

/// Judges what no earlier run has judged. `finished` names the shards of a folder that are not judged any more.
///
/// # Errors
/// A folder of another run, or what `judge` ends with.
pub fn prune(
    pruning: &Pruning<'_>,
    finished: impl FnOnce(&RunFolder) -> Result<Vec<u64>, PipelineError>,
    judge: impl FnOnce(Wanted<'_>) -> Result<Judged, PipelineError>,
) -> Result<PruneReport, PipelineError> {
    let &Pruning { plan, config, run, mix_numerics, trains, machine, together, stop, progress } = pruning;
    together.agree(Phase::Configuration, &agreed(config, plan))?;
    let open = || open_folder(run, plan, config, together.access(), mix_numerics, trains);
    let folder = together.in_turn(Phase::RunFolder, open)?;
    together.wait(Phase::Ready)?;
    let mine: Vec<u64> =
        plan.shards.iter().map(|shard| shard.ordinal).filter(|ordinal| folder.owns(*ordinal)).collect();
    // A shard of which nothing could be read may be there by now.
    let finished: BTreeSet<u64> = finished(&folder)?.into_iter().collect();
    let wanted: Vec<u64> = mine.iter().copied().filter(|ordinal| !finished.contains(ordinal)).collect();
    let unfinished = wanted.len() as u64;
    progress.shards_planned.store(mine.len() as u64, Ordering::Relaxed);
    progress.shards_resumed.store(mine.len() as u64 - unfinished, Ordering::Relaxed);
    // What an earlier run has committed it was found sound by; a slice has the plan's beginning as far as it is its own.
    let first = match unfinished == mine.len() as u64 {
        true => (0..).zip(&mine).map_while(|(at, &ordinal)| (at == ordinal).then_some(ordinal)).collect(),
        false => Vec::new(),
    };
    let first = Order { whole: first.len() == plan.len(), shards: first };
    let Judged { summary, notices, stages, join } = judge(Wanted { folder: &folder, shards: wanted, first })?;

    let parts = together.gather(
        Phase::Finished,
        Part {
            counts: summary.counts,
            failed: summary.failed,
            notices: summary.notices,
            committed: summary.committed,
            again: summary.again,
            judged: progress.judged(),
        },
    )?;
    let all = parts.iter().fold(Part::default(), Part::with);
    let (mut counts, mut notices) = (all.counts, notices);
    for ordinal in mine.iter().filter(|ordinal| !all.again.contains(*ordinal)) {
        if let Some((_, line)) = folder.before().committed.get(ordinal) {
            counts.add(&line.counts);
            notices.merge(&line.notices);
        }
    }
    notices.merge(&all.notices);
    let line_of = |ordinal| folder.before().committed.get(ordinal).map(|(_, line)| line);
    let left: Vec<&str> = mine
        .iter()
        .filter(|ordinal| finished.contains(ordinal))
        .filter_map(line_of)
        .filter(|line| line.rejected.is_some())
        .map(|line| line.name.as_str())
        .collect();
    let text = "rejected shards not read again, for training has begun here";
    notices.note("not_read_again", text, left.first().copied().unwrap_or_default(), left.len() as u64);
    let seconds = progress.working_seconds();
    #[expect(clippy::cast_precision_loss)]
    let samples_per_second = all.judged as f64 / seconds.max(1e-9);
    let ended_early = stop.is_ending();
    Ok(PruneReport {
        shards: mine.len() as u64,
        shards_resumed: mine.len() as u64 - unfinished,
        kept: counts.kept,
        dropped: counts.dropped,
        rejected: counts.rejected,
        rejects: (&counts.rejects).into(),
        remarks: (&counts.remarks).into(),
        interrupted: ended_early && all.committed + (all.failed.len() as u64) < unfinished,
        failed: all.failed,
        notices,
        judged_now: all.judged,
        start_seconds: progress.start_seconds(),
        seconds,
        samples_per_second,
        spent: Spent::of(stages, seconds),
        cores: Threading::of(machine),
        join,
    })
}

/// What one process did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Part {
    counts: Counts,
    failed: BTreeMap<u64, String>,
    notices: Notices,
    committed: u64,
    again: BTreeSet<u64>,
    judged: u64,
}

impl Part {
    fn with(mut self, other: &Self) -> Self {
        self.counts.add(&other.counts);
        self.failed.extend(other.failed.clone());
        self.notices.merge(&other.notices);
        self.committed += other.committed;
        self.again.extend(&other.again);
        self.judged += other.judged;
        self
    }
}
