//! The commands that need no model: they start in milliseconds and map no libtorch. One file a command: its flags,
//! flags to configuration, report to lines. (`prune` and `radii` may need one: their flags are in `args`.)

#![allow(missing_docs, reason = "a flag's help is its documentation; a flattened group has its own")]

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

use std::io::Write;

use clap::Subcommand;
use serde::Serialize;
use trommel_core::escape::escape_json;
use trommel_core::notices::Notices;
use trommel_pipelines::error::PipelineError;

use crate::outcome::Outcome;

/// Commands that need no model.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "made once")]
pub enum PlainCommand {
    /// Make labelled demo shards, a reference set and benchmarks
    Synth(synth::SynthArgs),
    /// Class folders as shards with captions, to join a pool: a labelled set, or copies of benchmark pictures on purpose
    Inject(inject::InjectArgs),
    /// Other splits from a finished ledger: no pixels, no model
    Select(select::SelectArgs),
    /// Check a published split against a run of your own
    Verify(verify::VerifyArgs),
    /// Near-duplicates inside a set, from its embeddings: no pixels, no model
    Dedup(dedup::DedupArgs),
    /// Kept samples with their original bytes, as a tar on standard output or as new shards: for any trainer
    Stream(stream::StreamArgs),
    /// One sample's fate, or the training steps of all
    Why(why::WhyArgs),
    /// A page about a run: what went, why, and the pictures
    Report(report::ReportArgs),
}

/// Runs a command.
pub fn run(command: &PlainCommand, given: &[String]) -> Outcome {
    match command {
        PlainCommand::Synth(args) => synth::run(args),
        PlainCommand::Inject(args) => inject::run(args, given),
        PlainCommand::Select(args) => select::run(args, given),
        PlainCommand::Stream(args) => stream::run(args),
        PlainCommand::Verify(args) => verify::run(args),
        PlainCommand::Dedup(args) => dedup::run(args, given),
        PlainCommand::Why(args) => why::run(args),
        PlainCommand::Report(args) => report::run(args),
    }
}

/// Notes a seed that is given where nothing is drawn by one: whoever gives it expects that something is.
pub fn note_seed(notices: &mut Notices, given: &[String], draws: bool) {
    let text = "seeds that nobody reads, for nothing is drawn";
    notices.note("seed_not_read", text, "--seed", undrawn(given, draws));
}

/// The same where the folder that is made keeps the seed among what it was begun with: without it the next command is refused.
pub fn note_kept_seed(notices: &mut Notices, given: &[String], draws: bool) {
    let text = "seeds by which nothing is drawn; the folder goes on with this one only";
    notices.note("seed_not_read", text, "--seed", undrawn(given, draws));
}

/// How many seeds are given and draw nothing.
fn undrawn(given: &[String], draws: bool) -> u64 {
    u64::from(!draws && given.iter().any(|flag| flag == "seed"))
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
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(PipelineError::failed(error).within("standard output"))
        }
        _ => Ok(()),
    }
}
