//! `cargo xtask`: everything a fresh machine needs, and the commands that people and CI share.

mod peers;
mod places;
mod results;
mod run;
mod setup;

use anyhow::{Result, bail};

const HELP: &str = "\
cargo xtask COMMAND

  setup [--cuda]       fetch libtorch 2.11.0 into the user's cache (CPU: 500 MB kept; --cuda: the full one, about 5 GB)
  demo [ARGS..]        build and run `trommel demo`
  test [--peers]       build and run all tests; --peers also those against Pillow, open_clip, FAISS, pyarrow, polars, DuckDB
  wheel                install the Python package as pip does, into a folder of its own, and run it (several minutes)
  lint                 rustfmt, clippy, rustdoc, and cargo-deny where it is installed; all warnings are errors
  fuzz [ARGS..]        feed hostile bytes to all that reads files, a minute for each target; ARGS as `fuzz --help` says
  miri                 the kernels under Rust's interpreter (rustup toolchain install nightly --component miri)
  sanitize             the kernels, SIMD too, under AddressSanitizer (rustup toolchain install nightly)
  bench [NAME]         run the benches
  results [NAME..]     run the benches that benches/RESULTS.md has rows of (main_job, tar, decode, stream, decisions, embeddings, train), or
                       those named, beside their peers, and write there what they measured

Environment: LIBTORCH (your own libtorch 2.11.0 instead), TROMMEL_CACHE (default: ~/.cache/trommel),
TROMMEL_TEST_DATA (folder of real pictures, shards and reference numerics for the tests that want them)";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    match args.first().map(String::as_str) {
        Some("setup") => setup::setup(rest),
        Some("demo") => run::demo(rest),
        Some("test") => run::test(rest),
        Some("wheel") => run::wheel(),
        Some("lint") => run::lint(),
        Some("fuzz") => run::fuzz(rest),
        Some("miri") => run::miri(),
        Some("sanitize") => run::sanitize(),
        Some("bench") => run::bench(rest),
        Some("results") => results::results(rest),
        None | Some("-h" | "--help" | "help") => {
            eprintln!("{HELP}");
            Ok(())
        }
        Some(other) => bail!("unknown command `{other}`; `cargo xtask --help` lists them"),
    }
}
