//! Question: how many images a second does the whole job judge (tar, decode, embed, join, prune, ledger), beside the Python
//! stack that people use today (webdataset + Pillow + open_clip + FAISS) on the same shards, model and threads?
//!
//! Command: `cargo xtask bench main_job`. Peer: `benches/peers/main_job.py`. Limits: the embedder alone (`trommel bench --stage embed`),
//! and open_clip's forward pass alone, which the peer measures as well. Weights are random on both sides: arithmetic does not depend on them.
//!
//! Two jobs: ViT-B-32 over COCO's shards from `TROMMEL_TEST_DATA` where it is set, else one generated shard, bound by the model; and
//! `trommel-tiny-32` over 4,000 generated samples, bound by everything else. Four shards are read sixteen times each under names of their own: a CPU computes a
//! batch on each core, and with few batches one core idles at the end. `TROMMEL_BENCH_ROUNDS` (5) of each in turn; medians and spreads.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::{Compared, median, number};
use serde_json::Value;

/// How often each of four shards is read: 1,600 photos of COCO, which are 100 batches of ViT-B-32's 16.
const COPIES: usize = 16;

/// A model over some shards.
struct Job<'a> {
    model: &'a str,
    shards: &'a str,
    benchmark: &'a str,
}

/// Rates of each run, in samples a second.
#[derive(Default)]
struct Rates {
    ours: Vec<f64>,
    embedder: Vec<f64>,
    theirs: Vec<f64>,
    forward: Vec<f64>,
}

fn trommel(args: &[&str]) -> Vec<u8> {
    let out = Command::new(env!("CARGO_BIN_EXE_trommel")).args(args).stderr(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "trommel {args:?}");
    out.stdout
}

/// A rate that a JSON line tells.
fn rate(line: &[u8], name: &str) -> f64 {
    serde_json::from_slice::<Value>(line).unwrap()[name].as_f64().unwrap()
}

impl Job<'_> {
    fn rates(&self, folder: &Path, peer: Option<&str>) -> Rates {
        let Self { model, shards, benchmark } = self;
        let points = folder.join(format!("{model}-points")).display().to_string();
        let weights = ["--random-init", "0"];
        trommel(&[&["embed", benchmark, "-o", &points, "--model", model][..], &weights].concat());
        let mut rates = Rates::default();
        for at in 0..number("TROMMEL_BENCH_ROUNDS", 5) {
            let (test, run) = (format!("test={points}"), folder.join(format!("{model}-{at}")).display().to_string());
            let job = ["prune", shards, "--benchmark", &test, "--rule", "drop-above:0.95", "--embedder", model];
            let report = trommel(&[&job[..], &weights, &["--run", &run, "--json"]].concat());
            rates.ours.push(rate(&report, "samples_per_second"));
            let alone = ["bench", "--stage", "embed", "--model", model, "--seconds", "20", "--json"];
            rates.embedder.push(rate(&trommel(&[&alone[..], &weights].concat()), "samples_per_second"));
            if let Some(python) = peer {
                let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/main_job.py");
                let out = Command::new(python).arg(script).args([model, shards, &points[..]]).output().unwrap();
                assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
                rates.theirs.push(rate(&out.stdout, "samples_per_second"));
                rates.forward.push(rate(&out.stdout, "forward_only_per_second"));
            }
        }
        rates
    }
}

/// Four shards of a folder, linked into another one so often under names of their own.
fn copies(shards: &str, folder: &str) -> String {
    std::fs::create_dir(folder).unwrap();
    // A link's target is read from where the link lies.
    let shards = std::fs::canonicalize(shards).unwrap();
    for at in 0..4 * COPIES {
        let shard = shards.join(format!("{:05}.tar", at % 4));
        std::os::unix::fs::symlink(shard, format!("{folder}/{at:05}.tar")).unwrap();
    }
    format!("{folder}/{{00000..{:05}}}.tar", 4 * COPIES - 1)
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let made = path("made");
    trommel(&["synth", &made, "--shards", "4", "--samples", "1000"]);
    let generated = (copies(&format!("{made}/shards"), &path("generated")), format!("{made}/benchmarks/photo"));
    let (shards, benchmark) = std::env::var("TROMMEL_TEST_DATA").map_or_else(
        |_| (format!("{made}/shards/00000.tar"), generated.1.clone()),
        |data| (copies(&format!("{data}/shards/coco"), &path("coco")), format!("{data}/cifar_test")),
    );
    let peer = std::env::var("TROMMEL_PEERS").ok();
    if peer.is_none() {
        println!("no peer: run by `cargo xtask bench main_job`");
    }
    let stack = "webdataset, Pillow, open_clip, FAISS";

    let big = Job { model: "ViT-B-32", shards: &shards, benchmark: &benchmark };
    let rates = big.rates(folder.path(), peer.as_deref());
    let row = |what, peer, theirs, wanted| {
        Compared { what, unit: "photos/s", ours: &rates.ours, peer, theirs, wanted }.tell();
    };
    row("tars to a ledger, ViT-B-32 f32", stack, &rates.theirs, 1.1);
    row("the same, beside the slowest stage alone", "our embedder alone", &rates.embedder, 0.95);
    println!("open_clip's forward pass alone: {:.1} photos/s", median(&rates.forward));

    let small = Job { model: "trommel-tiny-32", shards: &generated.0, benchmark: &generated.1 };
    let rates = small.rates(folder.path(), peer.as_deref());
    Compared {
        what: "tars to a ledger, a tiny model",
        unit: "pictures/s",
        ours: &rates.ours,
        peer: stack,
        theirs: &rates.theirs,
        wanted: 3.0,
    }
    .tell();
}
