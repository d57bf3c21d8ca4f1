//! Question: does a run stay within its `--memory`, whatever its input makes large?
//!
//! Command: `cargo xtask bench memory`. No peer: the limit is the number that was asked for. Each case makes its input in a
//! fresh folder, runs the program once, and prints the largest resident set (`VmHWM`) beside the budget.
//!
//! A batch of 16,384 is refused under its budget, in one line that says what it would need. `TROMMEL_MEMORY_SAMPLES` (default 40,000) sets the size of the inputs, `TROMMEL_PROGRAM` another build to try, words after
//! the command the cases.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::path::Path;
use std::process::Command;

use half::f16;
use trommel_columnar::canonical::canonicalise_into;
use trommel_columnar::embeddings::{EmbeddingFile, EmbeddingHead, EmbeddingRow};

#[path = "../tests/common/memory.rs"]
mod memory;
use memory::{bmp, json_of_url, peak_bytes, shard, text};

const MIB: u64 = 1 << 20;

/// A model of one narrow layer, with 640 dimensions or large pictures.
fn model(path: &Path, dim: u32, size: u32, patch: u32) -> String {
    let json = format!(
        r#"{{"embed_dim": {dim}, "vision_cfg": {{"image_size": {size}, "layers": 1, "width": 64, "patch_size": {patch}}},
            "text_cfg": {{"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}}}}"#
    );
    std::fs::write(path, json).unwrap();
    path.display().to_string()
}

/// `points` random directions of 640 dimensions.
fn benchmark(folder: &Path, points: usize) {
    let mut file = EmbeddingFile::in_folder(folder, &EmbeddingHead { dim: 640, ..Default::default() }).unwrap();
    let mut state = 1u64;
    let mut vector: Vec<f16> = Vec::new();
    for point in 0..points {
        let raw: Vec<f32> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .take(640)
        .collect();
        vector.clear();
        canonicalise_into(&raw, &mut vector).unwrap();
        let key = format!("{point:09}");
        file.push(EmbeddingRow { key: &key, label: None, shard: None, index: None, vector: &vector, radius: None })
            .unwrap();
    }
    file.commit().unwrap();
}

struct Bench {
    root: tempfile::TempDir,
    samples: usize,
    wanted: Vec<String>,
}

impl Bench {
    fn path(&self, name: &str) -> String {
        self.root.path().join(name).display().to_string()
    }

    fn shard(&self, samples: usize, members: impl Fn(usize) -> memory::Members) -> String {
        let path = self.path("shard.tar");
        shard(Path::new(&path), samples.max(10), members);
        path
    }

    fn wants(&self, case: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|word| case.contains(word.as_str()))
    }

    /// Runs the program and prints one row; the run's folder is new.
    fn row(&self, case: &str, budget_mib: u64, args: &[&str]) {
        let into = self.path("run");
        let _ = std::fs::remove_dir_all(&into);
        self.again(case, budget_mib, args);
    }

    fn again(&self, case: &str, budget_mib: u64, args: &[&str]) {
        let program = std::env::var("TROMMEL_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_trommel").into());
        let mut command = Command::new(program);
        command.args(args).args([
            "--run",
            &self.path("run"),
            "--memory",
            &format!("{budget_mib}MiB"),
            "--threads",
            "2",
        ]);
        command.args(["--max-rejects", "100"]);
        let (status, said, peak) = peak_bytes(&mut command);
        let share = peak as f64 / MIB as f64 / budget_mib as f64;
        println!("| {case} | {budget_mib} MiB | {} MiB | {share:.2} | {status} |", peak / MIB);
        if status != 0 {
            println!("  {}", said.lines().last().unwrap_or_default());
        }
    }
}

fn main() {
    let samples = std::env::var("TROMMEL_MEMORY_SAMPLES").ok().and_then(|text| text.parse().ok()).unwrap_or(40_000);
    let wanted = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let bench = Bench { root: tempfile::tempdir().unwrap(), samples, wanted };
    println!("| input | --memory | peak resident | peak / --memory | status |\n|--|--|--|--|--|");
    let samples = bench.samples;
    let random = ["--rule", "random:50%", "--max-pixels", "1000000"];
    if bench.wants("urls") {
        let path = bench.shard(samples, |at| vec![("bmp", bmp(16, at)), ("json", json_of_url(60_000, at))]);
        let case = format!("urls of 60 kB, {samples} in one shard");
        bench.row(&case, 900, &[&["prune", &path][..], &random].concat());
    }
    if bench.wants("pictureless") {
        let members = |at: usize| -> memory::Members {
            let picture = (at.is_multiple_of(100)).then(|| ("bmp", bmp(16, at)));
            picture.into_iter().chain([("json", json_of_url(60_000, at))]).collect()
        };
        let path = bench.shard(samples, members);
        let case = format!("pictureless samples, {samples} with urls of 60 kB");
        bench.row(&case, 900, &[&["prune", &path][..], &random].concat());
    }
    if bench.wants("captions") {
        let caption = text(900 << 10, 1).into_bytes();
        let count = (samples / 20).max(640);
        let path = bench.shard(count, |at| vec![("bmp", bmp(64, at)), ("txt", caption.clone())]);
        let training = ["--model", "trommel-tiny-32", "--batch", "64", "--steps", "10", "--precision", "f32"];
        let case = format!("captions of 0.9 MB behind their pictures, {count}");
        bench.row(&case, 1300, &[&["train", &path][..], &training].concat());
    }
    if bench.wants("slots") {
        let paths: Vec<String> = (0..4)
            .map(|at| {
                let path = bench.path(&format!("slots{at}.tar"));
                // The first is large and slow, the others hold next to nothing.
                let side = if at == 0 { 512 } else { 8 };
                let count = if at == 0 { samples / 100 } else { samples * 10 };
                shard(Path::new(&path), count, |n| vec![("bmp", bmp(side, n)), ("txt", b"a word".to_vec())]);
                path
            })
            .collect();
        let shards: Vec<&str> = paths.iter().map(String::as_str).collect();
        let rule = ["--rule", "random:1%"];
        let case = format!("slots skipped in a replay, {} of them", samples * 30);
        bench.row(&format!("{case} (judging)"), 900, &[&["prune"][..], &shards, &rule].concat());
        let training = ["--model", "trommel-tiny-32", "--batch", "64", "--passes", "3", "--precision", "f32"];
        bench.again(&case, 1500, &[&["train"][..], &shards, &rule, &training].concat());
    }
    for batch in [4096usize, 16_384] {
        if bench.wants("batch") {
            let path = bench.shard(2 * batch, |n| vec![("bmp", bmp(8, n)), ("txt", b"a word".to_vec())]);
            let training = ["--model", "trommel-tiny-32", "--steps", "1", "--precision", "f32", "--accum-freq", "256"];
            let case = format!("batch {batch}, --accum-freq 256");
            let batch = batch.to_string();
            bench.row(&case, 1800, &[&["train", &path, "--batch", &batch][..], &training].concat());
        }
    }
    if bench.wants("512 px") {
        let model = model(Path::new(&bench.path("large.json")), 64, 512, 32);
        let path = bench.shard(300, |n| vec![("bmp", bmp(64, n)), ("txt", b"a word".to_vec())]);
        let training = ["--model", &model, "--batch", "128", "--steps", "2", "--precision", "f32"];
        bench.row("model of 512 px, batch 128", 3400, &[&["train", &path][..], &training].concat());
    }
    if bench.wants("benchmark") {
        let folder = bench.root.path().join("points");
        benchmark(&folder, 300_000);
        let model = model(Path::new(&bench.path("wide.json")), 640, 32, 8);
        let path = bench.shard(300, |n| vec![("bmp", bmp(32, n)), ("txt", b"a word".to_vec())]);
        let points = format!("points={}", folder.display());
        let judging = ["--benchmark", &points, "--rule", "drop-above:0.9", "--embedder", &model, "--random-init", "1"];
        let args = [&["prune", &path, "--assume-model", "wide"][..], &judging].concat();
        bench.row("benchmark of 300,000 x 640", 2048, &args);
    }
}
