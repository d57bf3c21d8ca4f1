//! `trommel why`.

use trommel_pipelines::error::PipelineError;

use crate::args::WhyArgs;
use crate::outcome::Outcome;

/// Placeholder until merged.
pub fn run(_args: &WhyArgs) -> Outcome {
    Err(PipelineError::Usage("not built yet".into()))
}
