//! Question: what does a second process cost? Two processes of one worker beside one process of two workers, on the same
//! cores and shards; and what uneven data cost, when one process's shards keep nothing.
//!
//! Command: `cargo xtask bench cluster`. Peer: the one process. Limit: the same, 1.00; 0.95 is aimed at. Weights are random:
//! arithmetic does not depend on them. Runs in turn, so that whatever else the machine does meets both; medians.
//!
//! Time is that of the work, from the first sample to the last commit (`seconds` of `--json`), then that of the whole
//! command, start and end included. Uneven and even training take the same steps with the same batch; half of the samples
//! are dropped in both: whole shards here, every second sample there.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

#[path = "../tests/common/members.rs"]
mod members;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use members::append;
use trommel_dataflow::lanes::Lanes;

/// Small enough for seconds, large enough that the embedder is what counts.
const EMBEDDER: &str = "ViT-S-32";
const TRAINED: &str = "trommel-small-32";
const RUNS: usize = 5;
const COPIES: usize = 2;

/// One measured run: samples a second of the work, and of the whole command.
#[derive(Clone, Copy, Default)]
struct Rate {
    work: f64,
    command: f64,
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    json(&["synth", &path("data"), "--shards", "4", "--samples", "96", "--benchmark-pictures", "2", "--json"]);
    let benchmark = path("benchmark");
    let pictures = path("data/benchmarks/photo");
    json(&["embed", &pictures, "-o", &benchmark, "--model", EMBEDDER, "--random-init", "0", "--json"]);
    pruning(folder.path(), &benchmark);
    uneven(folder.path());
}

/// Runs the program; its one line of JSON and the seconds it took.
fn json(args: &[&str]) -> (serde_json::Value, f64) {
    let started = Instant::now();
    let out = Command::new(env!("CARGO_BIN_EXE_trommel")).args(args).stderr(Stdio::piped()).output().unwrap();
    assert!(out.status.success(), "trommel {args:?}\n{}", String::from_utf8_lossy(&out.stderr));
    (serde_json::from_slice(&out.stdout).unwrap_or_default(), started.elapsed().as_secs_f64())
}

fn pruning(folder: &Path, benchmark: &str) {
    let shards: Vec<String> = (0..COPIES)
        .flat_map(|copy| (0..4).map(move |shard| (copy, shard)))
        .map(|(copy, shard)| {
            format!("c{copy}s{shard}={}", folder.join(format!("data/shards/{shard:05}.tar")).display())
        })
        .collect();
    let samples = (COPIES * 4 * 96) as f64;
    let named = format!("test={benchmark}");
    let mut rates: [Vec<Rate>; 2] = Default::default();
    for at in 0..RUNS {
        for (kind, rates) in rates.iter_mut().enumerate() {
            let run_folder = folder.join(format!("prune{kind}-{at}")).display().to_string();
            let mut args = if kind == 0 { vec!["prune"] } else { vec!["launch", "--local", "2", "--", "prune"] };
            args.extend(shards.iter().map(String::as_str));
            args.extend(["--benchmark", &named, "--rule", "drop-above:0.95", "--embedder", EMBEDDER]);
            args.extend(["--random-init", "0", "--run", &run_folder, "--json"]);
            args.extend(["--workers", if kind == 0 { "2" } else { "1" }]);
            let (report, seconds) = json(&args);
            let work = report["seconds"].as_f64().unwrap();
            println!("{} x {} workers: {:.1}/s at work", kind + 1, 2 - kind, samples / work);
            rates.push(Rate { work: samples / work, command: samples / seconds });
        }
    }
    let [one, two] = rates.map(median);
    println!("pruning {samples} samples, {EMBEDDER}, median of {RUNS} runs in turn");
    println!("one process of two workers:   {:.1}/s at work, {:.1}/s with start and end", one.work, one.command);
    println!("two processes of one worker:  {:.1}/s at work, {:.1}/s with start and end", two.work, two.command);
    println!(
        "ratio: {:.3} at work (0.95 aimed at), {:.3} with start and end",
        two.work / one.work,
        two.command / one.command
    );
}

/// Training on two processes: shards that keep all or nothing, beside shards that keep half.
fn uneven(folder: &Path) {
    const STEPS: &str = "24";
    let sets = [("even", shards(folder, "even", false)), ("uneven", shards(folder, "uneven", true))];
    let similar = folder.join("similar").display().to_string();
    // The benchmark is the dropped pictures themselves; f16 keeps a vector within 2e-4 of length 1.
    let pictures = folder.join("dropped").display().to_string();
    json(&["embed", &pictures, "-o", &similar, "--model", "trommel-tiny-32", "--random-init", "1", "--json"]);
    let named = format!("dropped={similar}");
    let mut rates: [Vec<Rate>; 2] = Default::default();
    for at in 0..RUNS {
        for ((name, shards), rates) in sets.iter().zip(&mut rates) {
            let run_folder = folder.join(format!("{name}-run{at}")).display().to_string();
            let mut args = vec!["launch", "--local", "2", "--", "train"];
            args.extend(shards.iter().map(|shard| shard.to_str().unwrap()));
            args.extend(["--benchmark", &named, "--rule", "drop-from:0.9995", "--embedder", "trommel-tiny-32"]);
            args.extend(["--random-init", "1", "--run", &run_folder, "--json", "--model", TRAINED, "--batch", "32"]);
            args.extend(["--steps", STEPS, "--precision", "f32", "--lanes", "2", "--window", "64"]);
            let (report, seconds) = json(&args);
            assert_eq!(report["steps"].as_u64(), STEPS.parse().ok(), "{name}: {report}");
            let trained = report["samples_seen"].as_u64().unwrap() as f64;
            rates.push(Rate { work: trained / report["seconds"].as_f64().unwrap(), command: trained / seconds });
        }
    }
    let [even, uneven] = rates.map(median);
    println!("training {STEPS} steps of 32 on two processes, {TRAINED}, median of {RUNS} runs in turn");
    println!("even (every shard keeps half):            {:.1}/s at work, {:.1}/s in all", even.work, even.command);
    println!("uneven (a lane keeps nothing at first):   {:.1}/s at work, {:.1}/s in all", uneven.work, uneven.command);
    println!("ratio: {:.3}", uneven.work / even.work);
}

/// Eight shards of 96 of the same samples, half of them copies of twelve pictures that `dropped` holds: by shard (those of
/// lane 0 of 2 in the first pass), or every second sample.
fn shards(folder: &Path, name: &str, by_shard: bool) -> Vec<PathBuf> {
    const SHARDS: u64 = 8;
    let mut samples = Vec::new();
    for shard in 0..4 {
        let file = std::fs::File::open(folder.join(format!("data/shards/{shard:05}.tar"))).unwrap();
        for entry in tar::Archive::new(file).entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry.path().unwrap().extension().is_some_and(|ext| ext == "jpg") {
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
                samples.push(bytes);
            }
        }
    }
    let dropped: Vec<Vec<u8>> = samples.drain(..12).collect();
    std::fs::create_dir_all(folder.join("dropped/all")).unwrap();
    for (at, picture) in dropped.iter().enumerate() {
        std::fs::write(folder.join(format!("dropped/all/{at:04}.jpg")), picture).unwrap();
    }
    let (mut kept, mut dropped) = (samples.into_iter().cycle(), dropped.into_iter().cycle());
    let names: Vec<String> = (0..SHARDS).map(|at| format!("{at:05}.tar")).collect();
    let lanes = Lanes::new(2, 0, (0u64..).zip(names.clone()));
    std::fs::create_dir_all(folder.join(name)).unwrap();
    (0u64..)
        .zip(names)
        .map(|(ordinal, file)| {
            let path = folder.join(name).join(file);
            let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
            let first_lane = lanes.place(0, ordinal).unwrap().lane == 0;
            for at in 0..96 {
                let drop = if by_shard { first_lane } else { at % 2 == 0 };
                let picture = if drop { dropped.next() } else { kept.next() }.unwrap();
                for (ext, bytes) in [("jpg", &picture[..]), ("txt", &b"a picture"[..])] {
                    append(&mut tar, format!("{at:06}.{ext}"), bytes);
                }
            }
            tar.finish().unwrap();
            path
        })
        .collect()
}

fn median(mut rates: Vec<Rate>) -> Rate {
    let mut middle = |value: fn(&Rate) -> f64| {
        rates.sort_by(|a, b| value(a).total_cmp(&value(b)));
        value(&rates[rates.len() / 2])
    };
    Rate { work: middle(|rate| rate.work), command: middle(|rate| rate.command) }
}
