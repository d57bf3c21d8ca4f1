//! Question: how many images a second does the whole job judge (tar, decode, embed, join, prune, ledger), beside the Python
//! stack that people use today (webdataset + Pillow + open_clip + FAISS) on the same shards, model and threads?
//!
//! Command: `cargo xtask bench main_job`. Peer: `benches/peers/main_job.py`. Limit: the embedder's forward pass alone, which the
//! peer measures as well (`forward only`). Weights are random on both sides: arithmetic does not depend on them.
//!
//! Shards: COCO's from `TROMMEL_TEST_DATA` where it is set, else generated ones. Three runs of each in turn; medians.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

const MODEL: &str = "ViT-B-32";
const RUNS: usize = 3;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let trommel = env!("CARGO_BIN_EXE_trommel");
    let run = |args: &[&str]| {
        let out = Command::new(trommel).args(args).stderr(Stdio::null()).output().unwrap();
        assert!(out.status.success(), "trommel {args:?}");
        String::from_utf8(out.stdout).unwrap()
    };
    let path = |name: &str| root.join(name).display().to_string();
    let (shards, benchmark) = match std::env::var("TROMMEL_TEST_DATA") {
        Ok(data) => (format!("{data}/shards/coco/{{00000..00003}}.tar"), format!("{data}/cifar_test")),
        Err(_) => {
            run(&["synth", &path("data"), "--shards", "2", "--samples", "60"]);
            (path("data/shards/{00000..00001}.tar"), path("data/benchmarks/photo"))
        }
    };
    run(&["embed", &benchmark, "-o", &path("benchmark"), "--model", MODEL, "--random-init", "0"]);
    let peer = std::env::var("TROMMEL_PEERS").ok();
    let (mut ours, mut theirs, mut limit) = (Vec::new(), Vec::new(), Vec::new());
    for at in 0..RUNS {
        let started = Instant::now();
        let report = run(&[
            "prune",
            &shards,
            "--benchmark",
            &format!("test={}", path("benchmark")),
            "--rule",
            "drop-above:0.95",
            "--embedder",
            MODEL,
            "--random-init",
            "0",
            "--run",
            &path(&format!("run{at}")),
            "--json",
        ]);
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        ours.push(report["samples_per_second"].as_f64().unwrap());
        let samples = report["judged_now"].as_u64().unwrap();
        println!("trommel: {samples} samples, {:.1}/s (process {:.1} s)", ours[at], started.elapsed().as_secs_f64());
        if let Some(python) = &peer {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/main_job.py");
            let out = Command::new(python).arg(script).args([MODEL, &shards, &path("benchmark")]).output().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            let line: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
            theirs.push(line["samples_per_second"].as_f64().unwrap());
            limit.push(line["forward_only_per_second"].as_f64().unwrap());
            println!("python:  {} samples, {:.1}/s; forward only {:.1}/s", line["samples"], theirs[at], limit[at]);
        }
    }
    let (ours, theirs, limit) = (median(ours), median(theirs), median(limit));
    println!("median: trommel {ours:.1}/s, python {theirs:.1}/s, forward only {limit:.1}/s");
    if theirs > 0.0 {
        println!("ratio to the Python stack: {:.2}; to the forward pass alone: {:.2}", ours / theirs, ours / limit);
    } else {
        println!("no peer: run by `cargo xtask bench main_job`");
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
