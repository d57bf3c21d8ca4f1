//! How what goes wrong with a ledger, or with a split of one, ends a pipeline.

use std::io;
use std::path::Path;

use trommel_ledger::LedgerError;
use trommel_select::SelectError;

use crate::error::PipelineError;

/// What is given as a run folder and is none.
pub(crate) fn no_run(run: &Path, error: LedgerError) -> PipelineError {
    match error {
        LedgerError::NoRun { .. } => PipelineError::usage(error),
        damaged => {
            PipelineError::usage(damaged).within(format_args!("{} cannot be read as a run folder", run.display()))
        }
    }
}

/// A failure of selecting, with its exit status.
pub(crate) fn failed(error: SelectError) -> PipelineError {
    match error {
        // What is named and is not there.
        SelectError::Io { ref cause, .. } if cause.kind() == io::ErrorKind::NotFound => PipelineError::usage(error),
        SelectError::Input(_)
        | SelectError::Rule(_)
        | SelectError::NoSplit { .. }
        | SelectError::Table(_)
        | SelectError::Ledger(LedgerError::NoRun { .. }) => PipelineError::usage(error),
        SelectError::Unfinished(_) => PipelineError::unfinished(error),
        SelectError::Columnar(ref table) if table.io_cause().is_none() => PipelineError::usage(error),
        SelectError::Changed(_)
        | SelectError::Ledger(_)
        | SelectError::Columnar(_)
        | SelectError::Io { .. }
        | SelectError::Threads(_)
        | SelectError::Head(_) => PipelineError::failed(error),
    }
}
