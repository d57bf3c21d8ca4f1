//! `cargo run -p trommel-fuzz --release -- [TARGET..] [--seconds N] [--seed S] [--replay FILE]`.

use std::process::ExitCode;

fn main() -> ExitCode {
    trommel_fuzz::cli::run(&trommel_fuzz::targets::all(), std::env::args().skip(1))
}
