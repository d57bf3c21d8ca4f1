//! The `trommel` program. What runs a model lies in a library beside it, which brings libtorch and is opened when a command needs
//! it: `trommel why` starts in milliseconds.

mod library;

use std::io::Write;

use trommel_cli::outcome;
use trommel_cli::{command_line, commands, install_panic_hook, parse, start_log};

fn main() {
    let status = run();
    let _reader_gone = std::io::stdout().flush();
    // Not by way of `exit`: a batch of an interrupted run may still be in libtorch, whose static objects `exit` destroys.
    signal_hook::low_level::exit(i32::from(status));
}

/// Runs the command and gives the exit status.
fn run() -> u8 {
    install_panic_hook(|_, _| {});
    let asked = command_line().and_then(|words| parse(&words).map(|command| (words, command)));
    let (words, command) = match asked {
        Ok(asked) => asked,
        Err(status) => return status,
    };
    start_log();
    match commands::run(command, &words) {
        Ok(outcome) => outcome::exit_code(outcome),
        Err(_needs_a_model) => library::run(&words).unwrap_or_else(|error| outcome::exit_code(Err(error))),
    }
}
