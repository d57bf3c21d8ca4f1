//! The commands that run a model, as the library that the program opens when it needs one. One file a command: flags to
//! configuration, report to lines.
#![forbid(missing_docs)]

mod bench;
mod demo;
mod embed;
mod eval;
#[cfg(test)]
mod flags;
mod launch;
mod prune;
mod radii;
mod run_config;
mod study;
mod train;
mod watch;

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use trommel_cli::args::ModelCommand;
use trommel_cli::launch::Launched;
use trommel_cli::outcome::{self, Outcome};
use trommel_cli::parsed::{Command, Parsed};
use trommel_cli::say::say;
use trommel_cli::{install_panic_hook, parse, start_log};
use trommel_pipelines::process_end::Ending;

/// Runs a command line of `count` words, its `--config` merged in, and gives the exit status. The program has parsed it already, to know
/// that it needs a model; words are all that crosses from the one to the other, for `trommel_cli::parsed` says why.
///
/// # Safety
/// `version` and the `count` pointers at `words` are texts that end with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trommel_torch_main(
    version: *const c_char,
    words: *const *const c_char,
    count: usize,
) -> c_int {
    // SAFETY: the caller's promise.
    let (version, words) = unsafe { (CStr::from_ptr(version), std::slice::from_raw_parts(words, count)) };
    // SAFETY: the caller's promise.
    let text = |word: &*const c_char| OsStr::from_bytes(unsafe { CStr::from_ptr(*word) }.to_bytes()).to_owned();
    let words: Vec<OsString> = words.iter().map(text).collect();
    let own = env!("CARGO_PKG_VERSION");
    if version.to_bytes() != own.as_bytes() {
        say(format!("libtrommel_torch.so is of version {own}, the program of {}", version.to_string_lossy()));
        return 1;
    }
    // Nothing may unwind into the program; the hook has said what happened.
    let status = catch_unwind(AssertUnwindSafe(|| status_of(&words))).unwrap_or(1);
    let _reader_gone = std::io::stdout().flush();
    c_int::from(status)
}

fn status_of(words: &[OsString]) -> u8 {
    let ending = Ending::new(outcome::leave);
    let told = ending.clone();
    install_panic_hook(move |thread, text| told.panicked(thread, text));
    start_log();
    match parse(words) {
        Ok(Parsed { command: Command::Plain(_), .. }) => unreachable!("the program runs it itself"),
        Ok(Parsed { command: Command::Model(command), given, repeated }) => {
            let launched = trommel_cli::launch::of(&command, &ending);
            let asked = Parsed { command, given, repeated };
            outcome::exit_code(launched.and_then(|launched| run(asked, launched, &ending)))
        }
        Err(status) => status,
    }
}

/// Runs a command; `launched` says which of several processes this is.
fn run(asked: Parsed<ModelCommand>, launched: Option<Launched>, ending: &Arc<Ending>) -> Outcome {
    let given = &asked.given;
    match asked.command {
        ModelCommand::Embed(args) => embed::run(&args, launched),
        ModelCommand::Radii(args) => radii::run(&args),
        ModelCommand::Prune(args) => prune::run(&args, given, launched),
        ModelCommand::Train(args) => train::run(&args, given, launched),
        ModelCommand::Watch(args) => watch::run(&args, given, launched),
        ModelCommand::Eval(args) => eval::run(&args),
        ModelCommand::Bench(args) => bench::run(&args, given),
        ModelCommand::Launch(args) => launch::run(&args, ending),
        ModelCommand::Study(args) => study::run(&args),
        ModelCommand::Demo(args) => demo::run(&args),
    }
}
