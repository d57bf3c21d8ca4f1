//! How a command ended, as an exit status and one line.

#![cfg_attr(not(feature = "torch"), allow(dead_code, reason = "statuses of commands that are left out"))]

use std::process::ExitCode;

use trommel_pipelines::error::PipelineError;

/// What a command that did not fail has to say.
#[derive(Debug, Default)]
pub struct Done {
    /// Interrupted, or shards unfinished: status 3.
    pub unfinished: Option<String>,
    /// More rejects than allowed: status 4.
    pub too_many_rejects: Option<String>,
}

/// The result of a command.
pub type Outcome = Result<Done, PipelineError>;

/// Prints why, if there is a why, and gives the status.
pub fn exit_code(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(Done { unfinished: Some(why), .. }) => {
            eprintln!("trommel: {why}");
            ExitCode::from(3)
        }
        Ok(Done { too_many_rejects: Some(why), .. }) => {
            eprintln!("trommel: {why}");
            ExitCode::from(4)
        }
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trommel: {error}");
            ExitCode::from(error.status())
        }
    }
}

/// Wrong usage before anything ran.
pub fn refuse(error: &anyhow::Error) -> ExitCode {
    eprintln!("trommel: {error:#}");
    ExitCode::from(2)
}
