//! The command line: flags, configuration file, launch, progress, exit statuses, and the commands that need no model.
#![forbid(unsafe_op_in_unsafe_fn)]

pub mod args;
mod beside;
pub mod commands;
pub mod config_file;
mod duration;
pub mod environment;
pub mod launch;
pub mod library;
mod metrics_server;
mod open_files;
pub mod outcome;
pub mod parsed;
pub mod progress_bar;
pub mod run_config;
pub mod say;
pub mod signals;
mod without_model;
mod wrong_value;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::debug_fn;
use trommel_core::escape::escape_controls;
use trommel_pipelines::error::ErrorKind;

use library::LibraryError;
use parsed::Parsed;
use say::{AboveBars, has_colours, say, say_lines};

/// Runs a command line, the program's name first, and gives the exit status. A command that runs a model is handed over to the library
/// that `find_library` finds, which brings libtorch: `trommel why` starts in milliseconds.
pub fn run(words: Vec<OsString>, find_library: impl FnOnce() -> Result<PathBuf, LibraryError>) -> u8 {
    install_panic_hook(|_, _| {});
    open_files::raise_limit();
    signals::write_errors_alone();
    let status = status_of(words, find_library).unwrap_or_else(|said| said);
    let _reader_gone = std::io::stdout().flush();
    status
}

/// The status, or that of a command line that asks for nothing, which is said by then.
fn status_of(words: Vec<OsString>, find_library: impl FnOnce() -> Result<PathBuf, LibraryError>) -> Result<u8, u8> {
    // The file is read here, once: it may be a pipe.
    let words = config_file::merge(words).map_err(|error| outcome::exit_code(Err(error.into())))?;
    let parsed = parse(&words)?;
    parsed.tell_repeated();
    if let Err(wrong) = log_filter() {
        say(format!("{wrong}; {LOG} is taken"));
    }
    start_log();
    Ok(match without_model::run(&parsed) {
        Some(outcome) => outcome::exit_code(outcome),
        None => library::run(&words, find_library).unwrap_or_else(|error| outcome::exit_code(Err(error))),
    })
}

/// What is logged where nobody says it.
const LOG: &str = "info";

/// What `TROMMEL_LOG` filters, or why it filters nothing.
fn log_filter() -> Result<EnvFilter, String> {
    let filter = environment::given("TROMMEL_LOG").map_or_else(|| LOG.into(), |it| it.to_string_lossy().into_owned());
    EnvFilter::try_new(&filter).map_err(|error| format!("TROMMEL_LOG={filter}: {error}"))
}

/// What a command line asks for.
///
/// # Errors
/// The exit status of help and of wrong usage, which are said by then.
pub fn parse(words: &[OsString]) -> Result<Parsed, u8> {
    Parsed::of(words.iter().cloned()).map_err(|error| {
        let _reader_gone = error.print();
        if error.use_stderr() { ErrorKind::Usage.status() } else { 0 }
    })
}

/// Sends the program's log to stderr, as `TROMMEL_LOG` filters it.
pub fn start_log() {
    tracing_subscriber::fmt()
        .with_writer(|| AboveBars)
        .with_env_filter(log_filter().unwrap_or_else(|_| EnvFilter::new(LOG)))
        .with_ansi(has_colours())
        .fmt_fields(
            debug_fn(|out, field, value| match field.name() {
                "message" => write!(out, "{}", escape_controls(&format!("{value:?}"))),
                name => write!(out, "{name}={}", escape_controls(&format!("{value:?}"))),
            })
            .delimited(" "),
        )
        // That a line cannot be written would be said on stderr as well, by a macro that panics where that is gone.
        .log_internal_errors(false)
        .with_target(false)
        .without_time()
        .compact()
        .init();
}

/// One line for a panic: what it was and where. Panics inside third-party readers that are caught as errors stay silent.
/// `also` is told of each, with the thread's name.
pub fn install_panic_hook(also: impl Fn(&str, &str) + Send + Sync + 'static) {
    std::panic::set_hook(Box::new(move |info| {
        if trommel_columnar::is_guarded() {
            return;
        }
        let payload = info.payload();
        let text =
            payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let place = info.location().map(|place| format!(" ({}:{})", place.file(), place.line())).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        also(&thread, text.unwrap_or("panicked"));
        say_lines(format!("thread {thread}: {}{place}", text.unwrap_or("panicked")));
    }));
}
