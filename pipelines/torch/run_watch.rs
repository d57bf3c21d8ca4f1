//! What a judging run is watched by, and how its folder is opened where it may train.

use std::path::Path;
use std::sync::Arc;

use trommel_core::credit::Credit;
use trommel_dataflow::watchdog::Watchdog;
use trommel_decode::card::CardDecoder;
use trommel_ledger::run_folder::{Access, RunConfig, RunFolder};
use trommel_shard::plan::Plan;

use crate::run_setup::Machinery;
use crate::settled::has_trained;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::ledger_run::WatchdogGuard;

/// Opens or resumes a run's folder.
///
/// # Errors
/// As [`trommel_pipelines::ledger_run::open_folder`].
pub(crate) fn open_folder(
    root: &Path,
    plan: &Plan,
    config: &RunConfig,
    access: Access,
    mix_numerics: bool,
) -> Result<Arc<RunFolder>, PipelineError> {
    trommel_pipelines::ledger_run::open_folder(root, plan, config, access, mix_numerics, has_trained(root)?)
}

/// Watches what a judging run stands on, and more that `add` names, until the guard is dropped.
pub(crate) fn watch_run(
    credit: &Credit,
    machinery: &Machinery,
    add: impl FnOnce(&Watchdog),
) -> Result<WatchdogGuard, PipelineError> {
    WatchdogGuard::start(|watchdog| {
        watchdog.watch_credit(credit);
        watchdog.watch_pool(&machinery.decoders);
        for lane in machinery.card.iter().flat_map(CardDecoder::lanes) {
            watchdog.watch_batches(lane);
        }
        watchdog.watch_pool(&machinery.joiners);
        if let Some(embedder) = &machinery.embedder {
            watchdog.watch_batches(embedder);
        }
        add(watchdog);
    })
}
