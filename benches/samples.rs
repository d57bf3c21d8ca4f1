//! Question: how fast do samples come into Python through `trommel.samples`, all of them and a split's 12 %, beside webdataset with the same
//! workers?
//!
//! Command: `cargo xtask bench samples`. Peer: `benches/peers/samples.py`, webdataset in the same DataLoader; for a split it reads all and
//! leaves out by key, which is what it can do. Both must give the same samples. Limit: the bytes of the shards, read once by `cat`.
//!
//! Eight generated shards of `TROMMEL_BENCH_SAMPLES` (2,000) samples each; the package is installed by pip into a folder of its own.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss, missing_docs)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const SHARDS: &str = "8";

fn main() {
    let Ok(python) = std::env::var("TROMMEL_PEERS") else {
        println!("run by `cargo xtask bench samples`");
        return;
    };
    let samples = std::env::var("TROMMEL_BENCH_SAMPLES").unwrap_or_else(|_| "2000".into());
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let trommel = |words: &[&str]| succeeds(Command::new(env!("CARGO_BIN_EXE_trommel")).args(words));
    trommel(&["synth", &path("data"), "--shards", SHARDS, "--samples", &samples]);
    let (shards, run) = (path("data/shards"), path("run"));
    let limit = limit(Path::new(&shards));
    trommel(&["prune", &shards, "--rule", "random:100%", "--run", &run]);
    trommel(&["select", &run, "--rule", "random:12%", "-o", &path("some.parquet")]);
    succeeds(Command::new(&python).args([
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--target",
        &path("site"),
        env!("CARGO_MANIFEST_DIR"),
    ]));
    println!("{SHARDS} shards of {samples} samples; limit: {limit:.0} MB/s");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/samples.py");
    succeeds(
        Command::new(&python)
            .args([script, &shards, &path("some.parquet")])
            .env("PYTHONPATH", path("site"))
            .env_remove("LD_LIBRARY_PATH"),
    );
}

fn succeeds(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// MB a second of reading the shards once, from memory as the others read them.
fn limit(folder: &Path) -> f64 {
    let mut bytes = 0;
    let started = Instant::now();
    for entry in fs::read_dir(folder).unwrap() {
        bytes += fs::read(entry.unwrap().path()).unwrap().len();
    }
    bytes as f64 / 1e6 / started.elapsed().as_secs_f64()
}
