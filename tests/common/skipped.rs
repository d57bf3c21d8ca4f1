//! What a machine does not have, its tests pass over. They say so, and `cargo xtask test` counts them.
#![allow(dead_code, clippy::unwrap_used)]

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

/// Says why the test at hand is skipped, or a part of it; and appends it to the file that `TROMMEL_SKIPPED` names.
pub fn skipped(why: &str) {
    eprintln!("skipped: {why}");
    let Some(list) = std::env::var_os("TROMMEL_SKIPPED") else { return };
    let thread = std::thread::current();
    let line = format!("{}::{}: {why}\n", env!("CARGO_CRATE_NAME"), thread.name().unwrap_or("unnamed"));
    // One write, for many processes append.
    File::options().create(true).append(true).open(list).unwrap().write_all(line.as_bytes()).unwrap();
}

/// The Python that has the peers, among them what is wanted here, or a counted skip.
pub fn peer(wanted: &str) -> Option<PathBuf> {
    let python = std::env::var_os("TROMMEL_PEERS").map(PathBuf::from);
    if python.is_none() {
        skipped(&format!("set TROMMEL_PEERS to a Python with {wanted}"));
    }
    python
}

/// The folder of real data, or a counted skip.
pub fn test_data() -> Option<PathBuf> {
    let folder = std::env::var_os("TROMMEL_TEST_DATA").map(PathBuf::from);
    if folder.is_none() {
        skipped("set TROMMEL_TEST_DATA");
    }
    folder
}
