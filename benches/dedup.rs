//! Question: how long does `trommel dedup` take for all pairs, and inside clusters, and how much memory?
//!
//! Command: `cargo xtask bench dedup`. Peers: faiss-cpu's `range_search` over a flat index for all pairs; SemDeDup in numpy with faiss' k-means for
//! clusters, with as many rounds. Limit: the products alone, as the join's kernel multiplies them (`trommel-kernels`' example `join_speed`).
//!
//! `TROMMEL_BENCH_ROWS` (200,000) vectors of 640 in bunches, one of eight a near copy of another one; `TROMMEL_PROGRAM` is another build to try.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

#[path = "../tests/common/memory.rs"]
#[allow(dead_code)]
mod memory;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

const ABOVE: &str = "0.876";
const ROUNDS: usize = 10;

fn main() {
    let rows: usize = std::env::var("TROMMEL_BENCH_ROWS").map_or(200_000, |rows| rows.parse().unwrap());
    let clusters = ((rows as f64).sqrt() as usize).to_string();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let Ok(python) = std::env::var("TROMMEL_PEERS") else {
        println!("no peer: set TROMMEL_PEERS to a Python with faiss, which makes the vectors too");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/dedup.py");
    let peer = |words: &[&str]| {
        let mut python = Command::new(&python);
        python.arg(&script).args(words);
        python
    };
    let set = path("set.npy");
    measured("vectors made", &mut peer(&["make", &set, &rows.to_string()]));
    let program = std::env::var("TROMMEL_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_trommel").into());
    let trommel = |mode: &str, more: &[&str]| {
        let mut trommel = Command::new(&program);
        trommel.args(["dedup", &set, "--assume-model", "m", "--above", ABOVE, "-o", &path(mode)]).args(more);
        measured(&format!("trommel dedup, {mode}"), &mut trommel)
    };
    let count = |mode: &str| {
        let head = std::fs::read(folder.path().join(mode).join("dedup.split.json")).unwrap();
        serde_json::from_slice::<Value>(&head).unwrap()["count"].as_u64().unwrap()
    };
    let rounds = ROUNDS.to_string();
    let ours = trommel("all pairs", &["--exact"]);
    let theirs = measured("faiss range_search", &mut peer(&["pairs", &set, ABOVE, &path("pairs.json")]));
    let told: Value = serde_json::from_slice(&std::fs::read(path("pairs.json")).unwrap()).unwrap();
    println!("kept: {} and {} (f32); {:.2} of faiss' time", count("all pairs"), told["kept"], ours / theirs);
    let ours = trommel("clusters", &["--clusters", &clusters, "--iterations", &rounds, "--moved", "0"]);
    let theirs = measured(
        "SemDeDup, faiss and numpy",
        &mut peer(&["clusters", &set, ABOVE, &path("clusters.json"), &clusters, &rounds]),
    );
    let told: Value = serde_json::from_slice(&std::fs::read(path("clusters.json")).unwrap()).unwrap();
    println!("kept: {} and {} (other clusters); {:.2} of its time", count("clusters"), told["kept"], ours / theirs);
}

/// Runs `command` to its end; its wall-clock time in seconds.
fn measured(what: &str, command: &mut Command) -> f64 {
    let start = Instant::now();
    let (status, said, peak) = memory::peak_bytes(command);
    assert_eq!(status, 0, "{said}");
    let seconds = start.elapsed().as_secs_f64();
    println!("| {what} | {seconds:.1} s | {} MiB |", peak >> 20);
    seconds
}
