//! `trommel watch`: follows shards, benchmarks, rules and takedowns as they change, and keeps all decisions right.
//!
//! ```text
//!  prefixes ─▶ sources ─▶ arrivals ─▶ a round of judging ─▶ pool (embeddings)
//!                                                            │ shards, as changes
//!  benchmarks, splits, takedowns ─▶ inputs ─▶ changes ─▶ incremental engine ─▶ epoch ─▶ publish ─▶ RUN/current
//! ```
//!
//! Two clocks: a round reads shards in the time of passes and shards; the epoch of changes orders what decisions depend on. A turn of
//! the loop reads what is new, then lets all that has changed take effect together, as one epoch, and shows it whole.
//!
//! Everything is durable before it is visible: an arrival before it is read, its parts before the pool counts it, an epoch's folder
//! before the epoch is committed, and that before it is shown. So a watch that is killed at any instant goes on where it was: what it does next
//! depends on what is there alone.
//!
//! Of several processes the first looks, publishes and writes lists; each reads and embeds its own shards (process
//! `ordinal % processes` owns a shard) and joins them; all keep one state and make each epoch together.
//!
//! What is to be done, `trommel_incremental::planner` says; here it is carried out. `start.rs` has what a watch holds, `turns.rs` its loop;
//! `reading.rs`, `deciding.rs` and `feeding.rs` are its three parts, and [`Phase`](trommel_pipelines::phase::Phase) names where processes meet.

mod arrivals;
mod changes;
mod deciding;
mod feeding;
mod inputs;
mod list_files;
mod live;
mod pool;
mod publish;
mod reading;
mod settling;
mod sources;
mod start;
mod turns;
mod wake;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use trommel_core::notices::Notices;
use trommel_core::stop::Stop;
use trommel_incremental::view::Sizes;

pub use self::inputs::Wanted;
use self::start::Watch;
use crate::together::Together;
use crate::train::{TrainReport, TrainRun};
use trommel_pipelines::config::JudgeConfig;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::progress::Progress;

/// What a watch is told.
pub struct WatchConfig {
    /// How shards are read and embedded, and on which machine; its shards, benchmarks and rule are not used.
    pub judge: JudgeConfig,
    /// Prefixes: folders, globs, braces, list files.
    pub sources: Vec<String>,
    /// The watch's folder.
    pub run: PathBuf,
    /// One turn, then end.
    pub once: bool,
    /// A shard without statistics is complete when it has not changed for so long; so is a file that the user has changed.
    pub settle: Duration,
    /// Time between looks where nothing notifies.
    pub poll: Duration,
    /// A shard whose file goes is withdrawn; otherwise what is known of it stays.
    pub withdraw_missing: bool,
    /// Published epochs that are kept.
    pub keep_epochs: usize,
    /// What the user wants now: asked again in every turn.
    pub wanted: Box<dyn Fn() -> Result<Wanted, PipelineError>>,
    /// The file that `wanted` reads, if there is one.
    pub wanted_file: Option<PathBuf>,
    /// A trainer to be kept fed.
    pub train: Option<LiveTraining>,
}

/// A trainer that is fed while the watch goes on; it writes into `RUN/train`.
#[derive(Clone, Debug)]
pub struct LiveTraining {
    /// The split whose rule decides what it gets.
    pub split: String,
    /// Model, recipe and length; what it says of judging is not used.
    pub run: TrainRun,
}

/// How a watch stands when it ends.
#[derive(Clone, Debug, Default, Serialize)]
pub struct WatchReport {
    /// The last epoch.
    pub epoch: u64,
    /// Epochs of this process.
    pub epochs_now: u64,
    /// Shards that are there and in the epoch.
    pub shards: u64,
    /// Shards that are there and not yet in an epoch: not complete, or not readable.
    pub waiting: u64,
    /// Samples of these shards, whoever read them.
    pub samples: u64,
    /// Of these, rejected.
    pub rejected: u64,
    /// Sizes by split.
    pub sizes: BTreeMap<String, Sizes>,
    /// Samples read by this process.
    pub judged_now: u64,
    /// Of these, rejected.
    pub rejected_now: u64,
    /// What could not be looked at when it was looked last, and why.
    pub troubles: Vec<String>,
    /// Shards whose bytes could not be had, and why.
    pub failed: BTreeMap<u64, String>,
    /// What was lost of the shards that are in the epoch or that this process has read, or passed over in them.
    pub notices: Notices,
    /// Largest time from a complete shard to the epoch that shows it, of this process.
    pub lag_seconds: f64,
    /// Writing and showing the last epoch, in seconds.
    pub publish_seconds: f64,
    /// How the live trainer stands.
    pub training: Option<TrainReport>,
    /// Whether it was stopped with work left.
    pub interrupted: bool,
}

/// Watches until it is stopped, or once.
///
/// # Errors
/// Wrong input before the first byte; later a full disk, a budget that an epoch does not fit in, a bug.
pub fn watch(config: &WatchConfig, stop: Stop, progress: &Arc<Progress>) -> Result<WatchReport, PipelineError> {
    Together::run(&config.judge, false, &stop, progress, |together| watch_together(config, together, &stop, progress))
}

fn watch_together(
    config: &WatchConfig,
    together: &Together,
    stop: &Stop,
    progress: &Arc<Progress>,
) -> Result<WatchReport, PipelineError> {
    let mut watch = Watch::start(config, together, stop, progress)?;
    let followed = watch.follow().and_then(|()| watch.end_live());
    let mut report = std::mem::take(&mut watch.report);
    watch.tell_unnamed(&mut report.notices);
    if config.once {
        watch.tell_waiting(&mut report.notices);
    }
    watch.tell_shown(&mut report);
    report.notices.merge(&watch.lost);
    let Watch { engine, .. } = watch;
    match followed {
        Ok(()) => drop(engine), // with the others
        Err(error) => {
            // The others end as they hear of it; nothing would come of waiting for them.
            std::mem::forget(engine);
            return Err(error);
        }
    }
    if let Some(failure) = stop.failure() {
        return Err(failure.into());
    }
    report.interrupted = config.once && stop.is_ending();
    Ok(report)
}
