//! Question: how many samples a second does a CPU train on, from shards to weights, beside open_clip's training on the same shards?
//!
//! Command: `cargo xtask bench train`. Peer: `benches/peers/train.py`, open_clip's model, loader, tokenizer, transform, loss, and torch's
//! fused AdamW (open_clip_train takes the unfused one). Limit: a step alone, which both tell too: the time of a step without what it waits for
//! its samples.
//!
//! f32, as many threads as cores. Ours with the captions' padding, which is what the peer computes, and without, which is what a run does
//! that says nothing: the gradients are the same. A process each, in turn. The first step of each is not counted: oneDNN makes its kernels, memory
//! is taken.
//!
//! Photos of COCO with captions of the web from `TROMMEL_TEST_DATA` where it is set, else generated ones, whose captions are shorter and more
//! alike. `TROMMEL_BENCH_ROUNDS` (2), `TROMMEL_BENCH_STEPS` (3, the first not counted), `TROMMEL_BENCH_BATCH` (64), `TROMMEL_BENCH_MODEL`
//! (ViT-B-32).
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss, missing_docs)]

mod common;
#[path = "../tests/common/members.rs"]
mod members;

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Compared, number};
use members::append;
use serde_json::Value;
use trommel_columnar::parquet::{Column, ColumnType, TableReader};
use trommel_core::cores;

const SHARDS: usize = 2;

/// What is trained, and for how long.
struct Recipe {
    model: String,
    batch: usize,
    steps: usize,
    threads: usize,
}

/// Samples a second.
#[derive(Clone, Copy)]
struct Rates {
    from_shards: f64,
    step: f64,
}

fn main() {
    let recipe = Recipe {
        model: std::env::var("TROMMEL_BENCH_MODEL").unwrap_or_else(|_| "ViT-B-32".into()),
        batch: number("TROMMEL_BENCH_BATCH", 64),
        steps: number::<usize>("TROMMEL_BENCH_STEPS", 3).max(2),
        threads: cores::usable(),
    };
    let (rounds, folder) = (number("TROMMEL_BENCH_ROUNDS", 2), tempfile::tempdir().unwrap());
    let (shards, what) = shards(folder.path(), recipe.batch * recipe.steps);
    let Recipe { model, batch, steps, threads } = &recipe;
    println!("{model}, f32, batch {batch}, {threads} threads; {what}; {rounds} rounds of {steps} steps");
    let python = std::env::var("TROMMEL_PEERS").ok();
    let (mut padded, mut bare, mut peer) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        padded.push(ours(&recipe, &shards, &["--text-padding", "full"], folder.path()));
        bare.push(ours(&recipe, &shards, &[], folder.path()));
        peer.extend(python.as_deref().map(|python| theirs(&recipe, &shards, python)));
    }
    if python.is_none() {
        println!("no peer: run by `cargo xtask bench train`");
    }
    let stack = "open_clip, webdataset, fused AdamW";
    row(&format!("training {model} f32 from shards, captions padded to 77"), &padded, stack, &peer, 1.0, |it| {
        it.from_shards
    });
    row(&format!("training {model} f32 from shards, without padding"), &bare, stack, &peer, 1.35, |it| it.from_shards);
    row(&format!("a training step of {model} f32, captions padded to 77"), &padded, "open_clip", &peer, 1.0, |it| {
        it.step
    });
    row(&format!("a training step of {model} f32, without padding"), &bare, "open_clip", &peer, 1.35, |it| it.step);
}

/// Makes the shards; gives where they are, and what they hold.
fn shards(folder: &Path, samples: usize) -> (String, &'static str) {
    let Ok(data) = std::env::var("TROMMEL_TEST_DATA") else {
        let out = folder.join("data");
        let mut synth = Command::new(env!("CARGO_BIN_EXE_trommel"));
        // Some captions are missing there, on purpose.
        synth.arg("synth").arg(&out).args(["--shards", &SHARDS.to_string()]);
        synth.args(["--samples", &(samples * 6 / 5).div_ceil(SHARDS).to_string()]);
        assert!(synth.stderr(Stdio::null()).status().unwrap().success());
        return (braces(&out.join("shards")), "generated pictures and captions");
    };
    let (photos, captions) = (photos(Path::new(&data)), captions(Path::new(&data)));
    let out = folder.join("shards");
    fs::create_dir(&out).unwrap();
    for shard in 0..SHARDS {
        let mut tar = tar::Builder::new(File::create(out.join(format!("{shard:05}.tar"))).unwrap());
        for at in (shard..samples).step_by(SHARDS) {
            let caption = captions[at % captions.len()].as_bytes();
            for (ending, bytes) in [("jpg", photos[at % photos.len()].as_slice()), ("txt", caption)] {
                append(&mut tar, format!("{at:09}.{ending}"), bytes);
            }
        }
        tar.into_inner().unwrap();
    }
    (braces(&out), "COCO's photos, captions of the web")
}

fn braces(folder: &Path) -> String {
    folder.join(format!("{{00000..{:05}}}.tar", SHARDS - 1)).display().to_string()
}

fn photos(data: &Path) -> Vec<Vec<u8>> {
    let mut photos = Vec::new();
    for shard in 0..4 {
        let path = data.join(format!("shards/coco/{shard:05}.tar"));
        for member in tar::Archive::new(File::open(path).unwrap()).entries().unwrap() {
            let mut member = member.unwrap();
            if member.path().unwrap().extension().is_some_and(|ending| ending == "jpg") {
                photos.push(Vec::new());
                member.read_to_end(photos.last_mut().unwrap()).unwrap();
            }
        }
    }
    photos
}

fn captions(data: &Path) -> Vec<String> {
    let path = data.join("captions/test_10000.parquet");
    let table = TableReader::open(&path, Box::new(File::open(&path).unwrap()), &[("TEXT", ColumnType::Text)]).unwrap();
    let mut captions = Vec::new();
    for column in table.flat_map(|group| group.unwrap()) {
        let Column::Text(texts) = column else { panic!("text is due") };
        captions.extend(texts.into_iter().flatten().filter(|text| !text.trim().is_empty()));
    }
    captions
}

/// A run of the program, by what its steps tell of themselves in `logs/metrics.jsonl`.
fn ours(recipe: &Recipe, shards: &str, more: &[&str], folder: &Path) -> Rates {
    let run = folder.join("run");
    let mut command = Command::new(env!("CARGO_BIN_EXE_trommel"));
    command.args([
        "train",
        shards,
        "--model",
        &recipe.model,
        "--batch",
        &recipe.batch.to_string(),
        "--precision",
        "f32",
    ]);
    command.args(["--steps", &recipe.steps.to_string(), "--threads", &recipe.threads.to_string(), "--device", "cpu"]);
    let out = command.args(more).arg("--run").arg(&run).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let lines = fs::read_to_string(run.join("logs/metrics.jsonl")).unwrap();
    let steps: Vec<Value> = lines.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(steps.len() + 1, recipe.steps);
    let seconds = |name: &str| steps.iter().map(|step| step[name].as_f64().unwrap()).sum::<f64>();
    let samples = (steps.len() * recipe.batch) as f64;
    let (all, waited) = (seconds("train/batch_time"), seconds("train/data_time"));
    // Its checkpoint is larger than all the rest.
    fs::remove_dir_all(&run).unwrap();
    Rates { from_shards: samples / all, step: samples / (all - waited) }
}

fn theirs(recipe: &Recipe, shards: &str, python: &str) -> Rates {
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/train.py")).arg(&recipe.model).arg(shards);
    command.args([recipe.batch, recipe.steps, recipe.threads].map(|number| number.to_string()));
    command.env("OMP_NUM_THREADS", recipe.threads.to_string()).env_remove("LD_LIBRARY_PATH");
    let out = command.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let told: Value = serde_json::from_slice(&out.stdout).unwrap();
    let rate = |name: &str| told[name].as_f64().unwrap();
    Rates { from_shards: rate("samples_per_second"), step: rate("step_samples_per_second") }
}

fn row(what: &str, ours: &[Rates], peer: &str, theirs: &[Rates], wanted: f64, of: fn(&Rates) -> f64) {
    let [ours, theirs] = [ours, theirs].map(|rates| rates.iter().map(of).collect::<Vec<_>>());
    Compared { what, unit: "samples/s", ours: &ours, peer, theirs: &theirs, wanted }.tell();
}
