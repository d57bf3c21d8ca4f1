//! `cargo run -p trommel-fuzz --release -- [TARGET..] [--seconds N] [--seed S] [--replay FILE]`.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let regressions = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    trommel_fuzz::cli::run(&trommel_fuzz::targets::all(), &regressions, std::env::args().skip(1))
}
