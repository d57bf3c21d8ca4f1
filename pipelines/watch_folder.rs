//! A watch's folder: what lies there, and what of it nobody may read as it lies there.

use trommel_core::durable;
use trommel_ledger::read::Ledger;

use crate::error::PipelineError;

/// The link to the epoch that is published, which moves on.
pub const CURRENT: &str = "current";
/// The folder of embeddings and decisions on all that has come.
pub const POOL: &str = "pool";
/// The folder of the epochs' journal and tables.
pub const EPOCHS: &str = "epochs";
/// What else an epoch's folder holds beside its splits: no split is called so.
pub const BESIDE_SPLITS: [&str; 2] = ["summary.json", "changes.parquet"];
/// What a published split says of itself.
pub const STAMPS: &str = "stamps.json";

/// Refuses what a watch wrote without marking what is taken down: all of it would take part.
///
/// # Errors
/// An epoch that an earlier version published, or a watch's pool.
pub(crate) fn refuse_unmarked(ledger: &Ledger) -> Result<(), PipelineError> {
    let run = ledger.root();
    if run.join(STAMPS).exists() && ledger.config().pointer("/record/takedowns").is_none() {
        let run = run.display();
        return Err(PipelineError::usage(format!(
            "{run}: an earlier version published this epoch and did not mark what is taken down; let `trommel watch` publish another one"
        )));
    }
    let watch = durable::parent(run);
    if run.ends_with(POOL) && watch.join(EPOCHS).is_dir() {
        return Err(PipelineError::usage(format!(
            "{} is a watch's pool, where nothing is marked as taken down: give one of its splits, {}/SPLIT",
            run.display(),
            watch.join(CURRENT).display()
        )));
    }
    Ok(())
}
