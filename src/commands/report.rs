//! `trommel report`.

use trommel_pipelines::error::PipelineError;

use crate::args::ReportArgs;
use crate::outcome::Outcome;

/// Placeholder until merged.
pub fn run(_args: &ReportArgs) -> Outcome {
    Err(PipelineError::Usage("not built yet".into()))
}
