//! A run's folder, committer, counters and watchdog, and how the run ends. Shared by all pipelines that write a ledger.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use timely::dataflow::StreamVec;
use timely::dataflow::operators::Inspect;
use timely::dataflow::operators::vec::Map;
use trommel_core::sample::{Event, Status, Time};
use trommel_core::stop::Stop;
use trommel_dataflow::redeem::Redeemed;
use trommel_dataflow::watchdog::Watchdog;
use trommel_decide::ShardNames;
use trommel_decide::known_maxima::KnownMaxima;
use trommel_ledger::LedgerError;
use trommel_ledger::committer::{Committed, Committer};
use trommel_ledger::first_samples::First;
use trommel_ledger::manifest::LineStatus;
use trommel_ledger::part::PartConfig;
use trommel_ledger::read::Ledger;
use trommel_ledger::run_folder::{Access, OpenOptions, RunConfig, RunFolder};
use trommel_ledger::storage::Disk;
use trommel_shard::plan::Plan;

use crate::error::PipelineError;
use crate::progress::Progress;
use crate::training_folder::newest_weights;

/// How long the tasks of an array wait for the first of them to write a long plan.
const SET_UP_PATIENCE: Duration = Duration::from_secs(120);

/// Opens or resumes a run's folder, in which something was trained already or not.
///
/// # Errors
/// A folder that is locked, unwritable, or made by another configuration: one line that says what differs.
pub fn open_folder(
    root: &Path,
    plan: &Plan,
    config: &RunConfig,
    access: Access,
    mix_numerics: bool,
    trains: bool,
) -> Result<Arc<RunFolder>, PipelineError> {
    // Names and sizes count, and shards may be added at the end; where the files lie does not matter.
    let extends: fn(&Plan, &Plan) -> bool = |stored, given| {
        let begins = Plan { shards: given.shards.iter().take(stored.len()).cloned().collect(), ..Plan::default() };
        begins.difference(stored).is_none()
    };
    // A pass deals all shards by one permutation: more of them would give the pass under way another order, in which some of what was trained
    // comes again and some of the rest never.
    let is_same: fn(&Plan, &Plan) -> bool =
        |stored, given| given.len() == stored.len() && given.difference(stored).is_none();
    let extends = if trains { is_same } else { extends };
    let open = |plan: &Plan| {
        let options = OpenOptions { plan, extends, config, access, mix_numerics, patience: SET_UP_PATIENCE };
        RunFolder::open(root, Arc::new(Disk), &options)
    };
    let folder = match open(plan) {
        Err(error @ LedgerError::PlanDiffers { .. }) => match known_sizes(root, plan).map(|known| open(&known)) {
            Some(Ok(folder)) => {
                if access == Access::Exclusive {
                    folder.extend(plan).map_err(usage_or_failure)?;
                }
                Ok(folder)
            }
            _ => Err(error),
        },
        folder => folder,
    };
    let folder = folder.map_err(|error| match error {
        LedgerError::PlanDiffers { .. } if trains => PipelineError::usage(error).with_remedy(format_args!(
            "training has begun here, and another list would change the order of the pass under way: give it a --run of its own \
             (--pretrained {} starts from these weights)",
            newest_weights(root).display()
        )),
        error => usage_or_failure(error),
    })?;
    for note in folder.notes() {
        tracing::info!("{note}");
    }
    // What is gone may have come, or gone, since the plan was written.
    if access == Access::Exclusive && folder.plan::<Plan>().map_err(usage_or_failure)?.lost != plan.lost {
        folder.extend(plan).map_err(usage_or_failure)?;
    }
    Ok(Arc::new(folder))
}

/// The plan with the sizes that a folder knows of shards of which it has read nothing: what was not there, or was no tar, may
/// have come since.
fn known_sizes(root: &Path, plan: &Plan) -> Option<Plan> {
    let ledger = Ledger::open(root).ok()?;
    let stored: Plan = ledger.plan().ok()?;
    let mut known = plan.clone();
    for (now, then) in known.shards.iter_mut().zip(&stored.shards) {
        let is_read = ledger.shards().get(&then.ordinal).is_some_and(|(_, line)| line.rejected.is_none());
        if !is_read && now.name == then.name {
            now.bytes = then.bytes;
        }
    }
    (known != *plan).then_some(known)
}

/// What all processes of a run must have in common. The plan as its hash: it may be long.
pub fn agreed(config: &RunConfig, plan: &Plan) -> Value {
    let names: String = plan.shards.iter().map(|shard| format!("{:?} {:?}\n", shard.name, shard.bytes)).collect();
    let plan = json!({ "shards": plan.len(), "sha256": format!("{:x}", Sha256::digest(names.as_bytes())) });
    json!({ "decisions": config.decisions, "numerics": config.numerics, "plan": plan })
}

fn usage_or_failure(error: LedgerError) -> PipelineError {
    if error.is_disk_full() { PipelineError::failed(error) } else { PipelineError::usage(error) }
}

/// Starts the committer, which waits for what becomes of the first samples.
///
/// # Errors
/// The system has no thread to give.
pub fn start_committer(
    folder: &Arc<RunFolder>,
    parts: PartConfig,
    first: &First,
    stop: &Stop,
) -> Result<Committer, PipelineError> {
    let spawn = if first.is_settled() { Committer::spawn } else { Committer::spawn_waiting };
    spawn(folder.clone(), parts, stop.clone()).map_err(PipelineError::failed)
}

/// Counts fates and shards for whoever watches the run.
#[derive(Clone)]
pub struct Counting {
    progress: Arc<Progress>,
}

impl Counting {
    /// Counts into `progress`.
    #[must_use]
    pub fn new(progress: &Arc<Progress>) -> Self {
        Self { progress: progress.clone() }
    }

    /// Counts the fates that pass by.
    pub fn watch<'scope>(&self, events: StreamVec<'scope, Time, Event>) -> StreamVec<'scope, Time, Event> {
        let progress = self.progress.clone();
        events.inspect(move |event| {
            if let Event::Fate(fate) = event {
                let counter = match fate.status {
                    Status::Kept => &progress.kept,
                    Status::Dropped => &progress.dropped,
                    Status::Rejected => &progress.rejected,
                };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    /// Counts the shards that are durable, or were given up, and has the test points' maxima known; their leases go on.
    pub fn durable<'scope>(
        &self,
        shards: StreamVec<'scope, Time, Committed>,
        known: &Arc<KnownMaxima>,
    ) -> StreamVec<'scope, Time, Redeemed> {
        let (progress, known) = (self.progress.clone(), known.clone());
        shards.map(move |shard| {
            known.raise(&shard.points);
            if shard.status == LineStatus::Committed {
                progress.shards_committed.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(remark) = &shard.remark {
                tracing::warn!("{}: {remark}", shard.name);
            }
            progress.bytes_read.fetch_add(shard.bytes, Ordering::Relaxed);
            shard.lease()
        })
    }
}

/// Readers of worker `worker` (or lanes of a process): a fair share of `readers`.
#[must_use]
pub fn share(worker: usize, workers: usize, readers: usize) -> std::ops::Range<usize> {
    worker * readers / workers..(worker + 1) * readers / workers
}

/// Stable names of a plan's shards.
#[must_use]
pub fn names_of(plan: &Plan) -> ShardNames {
    let names: Vec<Arc<str>> = plan.shards.iter().map(|shard| Arc::from(shard.name.as_str())).collect();
    let unknown: Arc<str> = Arc::from("");
    Arc::new(move |ordinal| usize::try_from(ordinal).ok().and_then(|at| names.get(at)).unwrap_or(&unknown).clone())
}

/// Time without movement after which the watchdog says who waits for what.
const QUIET: Duration = Duration::from_secs(60);

/// A watchdog; it ends when this is dropped.
pub struct WatchdogGuard(Stop);

impl WatchdogGuard {
    /// Watches what `add` names.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(add: impl FnOnce(&Watchdog)) -> Result<Self, PipelineError> {
        let watchdog = Watchdog::default();
        add(&watchdog);
        let end = Stop::new();
        watchdog.start(QUIET, &end).map_err(PipelineError::failed)?;
        Ok(Self(end))
    }
}

impl Drop for WatchdogGuard {
    fn drop(&mut self) {
        self.0.request();
    }
}
