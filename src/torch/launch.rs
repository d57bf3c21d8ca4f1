//! `trommel launch`: several processes of one command, or one of several.

use std::sync::Arc;

use trommel_cli::args::LaunchArgs;
use trommel_cli::launch::{self, Inner};
use trommel_cli::outcome::{Done, Outcome};
use trommel_pipelines::process_end::Ending;

/// Starts all on this machine (`--local`), or becomes one of several (`--process`).
pub fn run(args: &LaunchArgs, ending: &Arc<Ending>) -> Outcome {
    let command = match launch::parse(&args.command)? {
        Inner::Command(command) => command,
        Inner::Said(status) => return Ok(Done::said(status)),
    };
    if args.local.is_none_or(|processes| processes == 1) {
        command.tell_repeated();
    }
    match args.local {
        Some(1) => {
            launch::tell_alone(args);
            super::run(command, None, ending)
        }
        Some(processes) => Ok(Done::said(launch::start_local(usize::from(processes), args)?)),
        None => super::run(command, launch::by_flags(args, ending)?, ending),
    }
}
