//! The commands that run a model, as the library that the program opens when it needs one. One file a command: flags to
//! configuration, report to lines.
#![forbid(missing_docs)]

mod demo;
mod embed;
mod eval;
#[cfg(test)]
mod flags;
mod judge;
mod launch;
mod prune;
mod radii;
mod train;
mod watch;

use std::ffi::c_int;

use trommel_cli::args::Command;
use trommel_cli::launch::Launched;
use trommel_cli::outcome::{self, Outcome};
use trommel_cli::{commands, install_panic_hook, parse, start_log};
use trommel_pipelines::error::PipelineError;
use trommel_pipelines_torch::together;

/// Runs the process's command and gives the exit status. The program has parsed the arguments already, to know that they need
/// a model; a command line is all that crosses from the one to the other, so that they share no type of Rust's.
#[unsafe(no_mangle)]
pub extern "C" fn trommel_torch_main() -> c_int {
    install_panic_hook(together::timely_panicked);
    start_log();
    let status = parse().map_or_else(
        |status| status,
        |command| {
            let launched = trommel_cli::launch::of(&command).map_err(PipelineError::from);
            outcome::exit_code(launched.and_then(|launched| run(command, launched)))
        },
    );
    c_int::from(status)
}

/// Runs a command; `launched` says which of several processes this is.
fn run(command: Command, launched: Option<Launched>) -> Outcome {
    match command {
        Command::Embed(args) => embed::run(&args, launched),
        Command::Radii(args) => radii::run(&args),
        Command::Prune(args) => prune::run(&args, launched),
        Command::Train(args) => train::run(&args, launched),
        Command::Watch(args) => watch::run(&args, launched),
        Command::Eval(args) => eval::run(&args),
        Command::Launch(args) => launch::run(&args),
        Command::Demo(args) => demo::run(&args),
        command => commands::run(command).unwrap_or_else(|_| unreachable!("every command is in one of the two lists")),
    }
}
