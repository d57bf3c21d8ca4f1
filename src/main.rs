//! The `trommel` program: command line, configuration, launch, progress. No operator logic lives here.

mod args;
mod commands;
mod config_file;
#[cfg(feature = "torch")]
mod duration;
#[cfg(feature = "torch")]
mod launch;
#[cfg(feature = "torch")]
mod metrics_server;
mod outcome;
#[cfg(feature = "torch")]
mod progress_bar;
#[cfg(feature = "torch")]
mod signals;

use std::io::Write;

use clap::Parser;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::debug_fn;
use trommel_operators::escape::{escape_controls, escape_lines};

use args::Cli;

fn main() {
    let status = run();
    let _reader_gone = std::io::stdout().flush();
    // Not by way of `exit`: a batch of an interrupted run may still be in libtorch, whose static objects `exit` destroys.
    signal_hook::low_level::exit(i32::from(status));
}

/// Runs the command and gives the exit status.
fn run() -> u8 {
    install_panic_hook();
    let arguments = match config_file::merge(std::env::args_os().collect()) {
        Ok(arguments) => arguments,
        Err(error) => return outcome::refuse(&error),
    };
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { 2 } else { 0 };
        }
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("TROMMEL_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .fmt_fields(
            debug_fn(|out, field, value| match field.name() {
                "message" => write!(out, "{}", escape_controls(&format!("{value:?}"))),
                name => write!(out, "{name}={}", escape_controls(&format!("{value:?}"))),
            })
            .delimited(" "),
        )
        .with_target(false)
        .without_time()
        .compact()
        .init();
    #[cfg(feature = "torch")]
    let outcome = launch::of(&cli.command)
        .map_err(trommel_pipelines::error::PipelineError::from)
        .and_then(|launched| commands::run(cli.command, launched));
    #[cfg(not(feature = "torch"))]
    let outcome = commands::run(cli.command);
    outcome::exit_code(outcome)
}

/// One line for a panic: what it was and where. Panics inside third-party readers that are caught as errors stay silent.
fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        if trommel_operators::columnar::is_guarded() {
            return;
        }
        let payload = info.payload();
        let text =
            payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let place = info.location().map(|place| format!(" ({}:{})", place.file(), place.line())).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        #[cfg(feature = "torch")]
        trommel_pipelines::together::timely_panicked(&thread, text.unwrap_or("panicked"));
        eprintln!("trommel: thread {thread}: {}{place}", escape_lines(text.unwrap_or("panicked")));
    }));
}
