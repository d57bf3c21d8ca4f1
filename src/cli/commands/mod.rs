//! The commands that need no model: they start in milliseconds and map no libtorch. One file a command: flags to
//! configuration, report to lines.

mod dedup;
mod inject;
pub mod prune;
pub mod radii;
mod report;
mod select;
mod stream;
mod synth;
mod verify;
mod why;

use std::ffi::OsString;
use std::io::Write;

use serde::Serialize;
use trommel_core::escape::escape_json;
use trommel_pipelines::error::PipelineError;

use crate::args::Command;
use crate::launch::is_launched;
use crate::outcome::Outcome;

/// Runs `command`, to which `words` were parsed, or gives it back where it needs a model.
///
/// # Errors
/// The command that runs a model.
#[allow(clippy::result_large_err, reason = "made once")]
pub fn run(command: Command, words: &[OsString]) -> Result<Outcome, Command> {
    Ok(match command {
        Command::Synth(args) => synth::run(&args),
        Command::Inject(args) => inject::run(&args),
        Command::Select(args) => select::run(&args),
        Command::Stream(args) => stream::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Dedup(args) => dedup::run(&args),
        Command::Why(args) => why::run(&args),
        Command::Report(args) => report::run(&args),
        // One of several processes is told by whoever watches the others.
        Command::Prune(args) if !is_launched() => match prune::is_of_embeddings(&args) {
            Ok(true) => prune::run(&args, words, None),
            Ok(false) => return Err(Command::Prune(args)),
            Err(error) => Err(error),
        },
        Command::Radii(args) => match radii::config(&args).and_then(|config| Ok((config.needs_embedder()?, config))) {
            Ok((true, _)) => return Err(Command::Radii(args)),
            Ok((false, config)) => radii::run(&args, &config, words),
            Err(error) => Err(error),
        },
        command => return Err(command),
    })
}

/// The result as one JSON line on stdout, where it was asked for.
///
/// # Errors
/// Standard output that cannot be written.
pub fn print_json(wanted: bool, report: &impl Serialize) -> Result<(), PipelineError> {
    if !wanted {
        return Ok(());
    }
    let line = serde_json::to_string(report).map_err(PipelineError::failed)?;
    print_line(&escape_json(&line))
}

/// A line on stdout; a reader that went away is no error.
///
/// # Errors
/// Standard output that cannot be written.
pub fn print_line(line: &str) -> Result<(), PipelineError> {
    match writeln!(std::io::stdout().lock(), "{line}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(PipelineError::failed(error)),
        _ => Ok(()),
    }
}
