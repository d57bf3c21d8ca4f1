//! Question: how long does `trommel prune` take over stored embeddings, scores, items and ledger included?
//!
//! Command: `cargo xtask bench embeddings`. Peers: faiss, `IndexFlatIP` and `IndexFlatIPPanorama` over the same points, asked for the nearest
//! point of the same rows with as many threads; they read, search, and write nothing. Limit: the processor's 8-bit products, where it has
//! instructions for them, and its f32 products otherwise (the peers' own).
//!
//! `TROMMEL_BENCH_ROWS` (1,000,000) rows of 640 in clip-retrieval's layout, 100,000 a part, are generated to disk (1.3 GB) and taken away
//! afterwards, and `TROMMEL_BENCH_POINTS` (167,000) points in six benchmarks, of the sizes of ImageNet's test sets. The peers are asked for
//! `TROMMEL_BENCH_PEER_ROWS` (all) of the rows: what they take is told a row. Their nearest points must be ours, but for points that lie
//! as near as f32 can tell.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod common;
#[path = "../tests/common/memory.rs"]
#[allow(dead_code)]
mod memory;
#[path = "../tests/common/random.rs"]
#[allow(dead_code)]
mod random;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use common::{Compared, number};
use half::f16;
use random::Random;
use trommel_columnar::npy;
use trommel_columnar::parquet::{Column, ColumnType, Field, TableWriter};
use trommel_ledger::read::Ledger;

const DIM: usize = 640;
const PART_ROWS: usize = 100_000;
const CENTRES: usize = 1000;
/// Sizes of ImageNet's Val, Sketch, A, R and V2, and of ObjectNet's overlapping part, of 167,000.
const BENCHMARKS: [(&str, usize); 6] =
    [("val", 50_000), ("sketch", 50_889), ("a", 7_500), ("r", 30_000), ("v2", 10_000), ("objectnet", 18_611)];

/// Unit vectors around some centres, whose elements grow smaller as an embedding's principal components do.
struct Vectors {
    random: Random,
    centres: Vec<f32>,
}

impl Vectors {
    fn new() -> Self {
        let mut made = Self { random: Random::new(1), centres: Vec::new() };
        made.centres = (0..CENTRES).flat_map(|_| made.directions(0.0, 1.0)).collect();
        made
    }

    fn directions(&mut self, centre: f32, spread: f32) -> Vec<f32> {
        let at = self.random.below(CENTRES) * DIM;
        let normal = |random: &mut Random| (0..4).map(|_| random.share() as f32).sum::<f32>() - 2.0;
        let scale = |element: usize| spread / (1.0 + element as f32 / 20.0).sqrt();
        let old = |vectors: &Self, element: usize| vectors.centres.get(at + element).copied().unwrap_or(0.0);
        (0..DIM).map(|j| centre * old(self, j) + scale(j) * normal(&mut self.random)).collect()
    }

    fn row(&mut self, out: &mut Vec<f16>) {
        let row = self.directions(1.0, 0.6);
        let norm = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        out.extend(row.iter().map(|x| f16::from_f64(f64::from(*x) / norm)));
    }

    fn write(&mut self, path: &Path, rows: usize) {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
        out.write_all(&npy::head_bytes(rows as u64, DIM)).unwrap();
        let mut vector = Vec::new();
        for _ in 0..rows {
            vector.clear();
            self.row(&mut vector);
            vector.iter().for_each(|x| out.write_all(&x.to_le_bytes()).unwrap());
        }
        out.flush().unwrap();
    }
}

fn keys(path: &Path, first: usize, rows: usize) {
    let fields = vec![Field::required("image_path", ColumnType::Text)];
    let mut table = TableWriter::new(path, File::create(path).unwrap(), fields, Vec::new()).unwrap();
    let keys: Vec<Option<String>> = (first..first + rows).map(|row| Some(format!("{row:09}"))).collect();
    keys.chunks(1 << 14).for_each(|keys| table.write(&[Column::Text(keys.to_vec())]).unwrap());
    table.finish().unwrap();
}

fn main() {
    let (rows, points): (usize, usize) =
        (number("TROMMEL_BENCH_ROWS", 1_000_000), number("TROMMEL_BENCH_POINTS", 167_000));
    let threads = number("TROMMEL_BENCH_THREADS", trommel_core::cores::usable());
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let start = Instant::now();
    let mut vectors = Vectors::new();
    for name in ["pool/img_emb", "pool/metadata", "points"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    for part in 0..rows.div_ceil(PART_ROWS) {
        let (first, many) = (part * PART_ROWS, PART_ROWS.min(rows - part * PART_ROWS));
        vectors.write(&at(&format!("pool/img_emb/img_emb_{part}.npy")), many);
        keys(&at(&format!("pool/metadata/metadata_{part}.parquet")), first, many);
    }
    let all: usize = BENCHMARKS.iter().map(|(_, size)| size).sum();
    let sizes = BENCHMARKS.map(|(name, size)| (name, (size * points).div_ceil(all)));
    for (name, size) in sizes {
        vectors.write(&at(&format!("points/{name}.npy")), size);
    }
    let points: usize = sizes.iter().map(|(_, size)| size).sum();
    println!(
        "{rows} rows, {points} points of {DIM}, {threads} threads; made in {:.0} s",
        start.elapsed().as_secs_f64()
    );

    let program = std::env::var("TROMMEL_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_trommel").into());
    let prune = |name: &str, columns: &str| {
        let mut prune = Command::new(&program);
        prune.arg("prune").arg(at("pool")).arg("--run").arg(at(name));
        prune.args(["--rule", "drop-above:0.9", "--assume-model", "made", "--no-embeddings", "--columns", columns]);
        prune.args(["--threads", &threads.to_string(), "--memory", "4GiB"]);
        for (benchmark, _) in sizes {
            prune.arg("--benchmark").arg(format!("{benchmark}={}", at(&format!("points/{benchmark}.npy")).display()));
        }
        let start = Instant::now();
        let (status, said, peak) = memory::peak_bytes(&mut prune);
        assert_eq!(status, 0, "{said}");
        let each = start.elapsed().as_secs_f64() / rows as f64;
        println!(
            "| trommel prune, --columns {columns} | {:.1} s | {:.1} us a row | {} MiB |",
            each * rows as f64,
            each * 1e6,
            peak >> 20
        );
        each
    };
    let all_columns = prune("run", "all");
    let decisions = prune("decision", "decision");

    let Ok(python) = std::env::var("TROMMEL_PEERS") else {
        println!("no peer: set TROMMEL_PEERS to a Python with faiss");
        return;
    };
    let asked = number("TROMMEL_BENCH_PEER_ROWS", rows).min(rows);
    // The nearest point over all benchmarks, as one number, and how near.
    let ledger = Ledger::open(&at("run")).unwrap();
    let mut out = BufWriter::new(File::create(at("ours.bin")).unwrap());
    let firsts: Vec<u64> =
        sizes.iter().scan(0, |sum, (_, size)| Some(std::mem::replace(sum, *sum + *size as u64))).collect();
    for row in ledger.rows().unwrap().take(asked) {
        let scores = row.unwrap().fate.scores;
        let of = |(score, first): (&trommel_core::sample::Score, &u64)| {
            (score.max_similarity.unwrap(), first + u64::from(score.nearest.unwrap()))
        };
        let (nearest, point) = scores.iter().zip(&firsts).map(of).max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
        out.write_all(&nearest.to_le_bytes()).unwrap();
        out.write_all(&point.to_le_bytes()).unwrap();
    }
    out.flush().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/flat.py");
    let names: Vec<&str> = sizes.iter().map(|(name, _)| *name).collect();
    // A search takes minutes at this size, and ours writes a ledger: one round each.
    for (index, wanted) in [("IndexFlatIP", [3.5, 6.0]), ("IndexFlatIPPanorama", [1.0, 2.0])] {
        let mut peer = Command::new(&python);
        peer.arg(&script).arg(folder.path()).args([index, &asked.to_string(), &threads.to_string(), &names.join(",")]);
        let output = peer.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8_lossy(&output.stdout);
        let (seconds, more) = said.split_once(' ').unwrap();
        println!("faiss {index}: {asked} rows in {seconds} s; {}", more.trim());
        let theirs = [asked as f64 / seconds.parse::<f64>().unwrap()];
        let peer = format!("faiss {index}, nearest point");
        for ((columns, each), wanted) in
            [("all columns", all_columns), ("decisions", decisions)].into_iter().zip(wanted)
        {
            let what = format!("prune of stored embeddings against {points} points, {columns}, ledger written");
            Compared { what: &what, unit: "rows/s", ours: &[1.0 / each], peer: &peer, theirs: &theirs, wanted }.tell();
        }
    }
}
