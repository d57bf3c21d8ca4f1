//! Folders that hold samples which are taken down, and do not mark them.

use trommel_core::durable;
use trommel_ledger::read::Ledger;

use crate::error::PipelineError;
use crate::watch_folder::CURRENT;

/// Refuses what a watch wrote without marking what is taken down: all of it would take part.
///
/// # Errors
/// An epoch that an earlier version published, or a watch's pool.
pub(crate) fn refuse_unmarked(ledger: &Ledger) -> Result<(), PipelineError> {
    let run = ledger.root();
    if run.join("stamps.json").exists() && ledger.config().pointer("/record/takedowns").is_none() {
        let run = run.display();
        return Err(PipelineError::Usage(format!(
            "{run}: an earlier version published this epoch and did not mark what is taken down; let `trommel watch` publish another one"
        )));
    }
    let watch = durable::parent(run);
    if run.ends_with("pool") && watch.join("epochs").is_dir() {
        return Err(PipelineError::Usage(format!(
            "{} is a watch's pool, where nothing is marked as taken down: give one of its splits, {}/SPLIT",
            run.display(),
            watch.join(CURRENT).display()
        )));
    }
    Ok(())
}
