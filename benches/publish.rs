//! Question: what does showing an epoch cost, where one of many shards is new?
//!
//! Command: `cargo xtask bench publish [SHARDS ..]` (default: 1000 40000). Peer: the second epoch of the same run, which links every part of
//! every shard anew, as every epoch would if no folder were taken over. Limit: the plan and the manifest, of which each shard has a line.
//!
//! Shards of one small picture, judged by a tiny model; the first epoch writes them all, then one comes at a time, each seen by a start of its
//! own. `TROMMEL_PROGRAM` is another build to try.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "../tests/common/memory.rs"]
#[allow(dead_code)]
mod memory;
use memory::{bmp, shard, text};

/// Epochs in which one shard comes.
const EPOCHS: usize = 5;

fn program() -> PathBuf {
    std::env::var_os("TROMMEL_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_trommel").into(), PathBuf::from)
}

fn trommel(args: &[&str]) -> serde_json::Value {
    let out = Command::new(program()).args(args).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap_or_default()
}

/// Seconds of the first epoch, and of those in which one shard came.
fn measure(shards: usize) -> Vec<f64> {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name).display().to_string();
    shard(Path::new(&path("one.tar")), 1, |_| vec![("bmp", bmp(8, 1)), ("txt", text(8, 1).into_bytes())]);
    trommel(&["synth", &path("data"), "--shards", "1", "--samples", "24"]);
    let benchmark = format!("photo={}", path("data/benchmarks/photo"));
    std::fs::create_dir(path("in")).unwrap();
    // Copies: another link changes its file's ctime, so that every shard would be another one.
    let put = |number: usize| {
        std::fs::copy(path("one.tar"), path(&format!("in/{number:06}.tar"))).unwrap();
    };
    (0..shards).for_each(put);
    let (from, run) = (path("in"), path("run"));
    let mut args = vec!["watch", &from, "--run", &run, "--once", "--json", "--settle", "0s", "--benchmark", &benchmark];
    args.extend(["--rule", "drop-above:0.99", "--embedder", "trommel-tiny-32", "--random-init", "1"]);
    args.extend(["--image-key", "bmp"]);
    let mut seconds = vec![trommel(&args)["publish_seconds"].as_f64().unwrap()];
    for epoch in 0..EPOCHS {
        put(shards + epoch);
        seconds.push(trommel(&args)["publish_seconds"].as_f64().unwrap());
    }
    seconds
}

fn main() {
    let wanted: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let sizes = if wanted.is_empty() { vec![1_000, 40_000] } else { wanted };
    println!("| shards | all written, s | one came, linked anew, s | one came, folder taken over, s | ratio |");
    println!("|--|--|--|--|--|");
    for shards in sizes {
        let seconds = measure(shards);
        // The first two epochs in which a shard comes find no folder that is no longer kept.
        let (anew, mut taken_over) = (seconds[2], seconds[3..].to_vec());
        taken_over.sort_by(f64::total_cmp);
        let median = taken_over[taken_over.len() / 2];
        println!("| {shards} | {:.3} | {anew:.3} | {median:.3} | {:.1} |", seconds[0], anew / median);
    }
}
