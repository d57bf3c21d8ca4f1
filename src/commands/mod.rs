//! One file a command: flags to configuration, report to lines.

#[cfg(feature = "torch")]
mod demo;
#[cfg(feature = "torch")]
mod embed;
#[cfg(feature = "torch")]
mod eval;
#[cfg(all(test, feature = "torch"))]
mod flags;
#[cfg(feature = "torch")]
mod judge;
#[cfg(feature = "torch")]
mod launch;
#[cfg(feature = "torch")]
mod prune;
mod radii;
mod report;
mod synth;
#[cfg(feature = "torch")]
mod train;
#[cfg(feature = "torch")]
mod watch;
mod why;

use std::io::Write;

use serde::Serialize;
use trommel_operators::escape::escape_json;
use trommel_pipelines::error::PipelineError;

use crate::args::Command;
#[cfg(feature = "torch")]
use crate::launch::Launched;
use crate::outcome::Outcome;

/// Runs a command; `launched` says which of several processes this is.
pub fn run(command: Command, #[cfg(feature = "torch")] launched: Option<Launched>) -> Outcome {
    match command {
        Command::Synth(args) => synth::run(&args),
        #[cfg(feature = "torch")]
        Command::Embed(args) => embed::run(&args, launched),
        Command::Radii(args) => radii::run(&args),
        #[cfg(feature = "torch")]
        Command::Prune(args) => prune::run(&args, launched),
        #[cfg(feature = "torch")]
        Command::Train(args) => train::run(&args, launched),
        #[cfg(feature = "torch")]
        Command::Watch(args) => watch::run(&args, launched),
        #[cfg(feature = "torch")]
        Command::Eval(args) => eval::run(&args),
        Command::Why(args) => why::run(&args),
        Command::Report(args) => report::run(&args),
        #[cfg(feature = "torch")]
        Command::Launch(args) => launch::run(&args),
        #[cfg(feature = "torch")]
        Command::Demo(args) => demo::run(&args),
    }
}

/// The result as one JSON line on stdout, where it was asked for.
pub fn print_json(wanted: bool, report: &impl Serialize) -> Result<(), PipelineError> {
    if !wanted {
        return Ok(());
    }
    let line = serde_json::to_string(report).map_err(PipelineError::failed)?;
    print_line(&escape_json(&line))
}

/// A line on stdout; a reader that went away is no error.
pub fn print_line(line: &str) -> Result<(), PipelineError> {
    match writeln!(std::io::stdout().lock(), "{line}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(PipelineError::failed(error)),
        _ => Ok(()),
    }
}
