//! Question: how many rows a second does the join decide, where nothing but the decision is asked for and few rows are hit?
//!
//! Command: `cargo xtask bench decisions`, some minutes. Peers: faiss, `IndexFlatIP` and `IndexFlatIPPanorama` over the same points, asked for the nearest point of the same rows with
//! as many threads. Limit: the processor's 8-bit products, see the example `join_speed` of trommel-kernels.
//!
//! `TROMMEL_BENCH_ROWS` (100,000) rows and `TROMMEL_BENCH_POINTS` (50,000) points of 640, as CLIP's embeddings lie: two fifths of the energy in one direction, a spectrum that falls, centres. They lie along the
//! axes in the order of their energy, so that Panorama need not turn them first. 5 % of the rows have a point above the threshold. The peers are asked for `TROMMEL_BENCH_PEER_ROWS`
//! (20,000) of the rows, alternately with ours `TROMMEL_BENCH_ROUNDS` (5) times; their nearest points must be ours, but for points that lie as near as f32 can tell. With the fastest instructions that the processor has for 8-bit codes, and with AVX2's, three answers of ours are timed: all
//! columns, a radius for each point (`drop-over-radius`), and one threshold for all (`drop-above`). Decisions are those of all columns, or the bench fails.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod common;
#[path = "../tests/common/random.rs"]
#[allow(dead_code)]
mod random;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use common::{Compared, number};
use half::f16;
use random::Random;
use trommel_columnar::npy;
use trommel_core::sample::{SampleId, Score};
use trommel_decide::benchmark::Benchmark;
use trommel_decide::cpu::Cpu;
use trommel_decide::join::{ColumnSet, JoinConfig, JoinRow, Joiner, Needs, Verdict};
use trommel_decide::scan::Prepared;
use trommel_kernels::int8::Instructions;

const DIM: usize = 640;
const CENTRES: usize = 1000;
const PART_ROWS: usize = 100_000;

struct Vectors {
    random: Random,
    mean: Vec<f32>,
    centres: Vec<f32>,
}

impl Vectors {
    fn new() -> Self {
        let mut made = Self { random: Random::new(1), mean: Vec::new(), centres: Vec::new() };
        let mean: Vec<f32> = (0..DIM).map(|_| made.normal()).collect();
        let norm = mean.iter().map(|x| x * x).sum::<f32>().sqrt();
        made.mean = mean.iter().map(|x| 0.85 * x / norm).collect();
        made.centres = (0..CENTRES).flat_map(|_| made.direction()).collect();
        made
    }

    fn normal(&mut self) -> f32 {
        ((0..4).map(|_| self.random.share() as f32).sum::<f32>() - 2.0) * 3f32.sqrt()
    }

    /// Energy falls with the power 1.2 of its rank, and is 1/2 in all.
    fn direction(&mut self) -> Vec<f32> {
        let scale = |element: usize| (1.0 + element as f32 / 10.0).powf(-0.6);
        let all = (0..DIM).map(|at| scale(at) * scale(at)).sum::<f32>().sqrt();
        (0..DIM).map(|at| 0.7 * scale(at) / all * self.normal()).collect()
    }

    fn unit(&mut self) -> Vec<f16> {
        let (at, own) = (self.random.below(CENTRES) * DIM, self.direction());
        let raw: Vec<f32> = (0..DIM).map(|j| self.mean[j] + self.centres[at + j] + own[j]).collect();
        let norm = raw.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        raw.iter().map(|x| f16::from_f64(f64::from(*x) / norm)).collect()
    }
}

/// Which of a benchmark's scores the decision reads.
struct Asks(Needs, f64);

impl Verdict for Asks {
    fn keeps(&self, _: &str, _: &str, _: SampleId, scores: &[Score]) -> bool {
        let over = |score: &Score| {
            if self.0.radii { score.hits > Some(0) } else { score.max_similarity.is_some_and(|s| s > self.1) }
        };
        !scores.iter().any(over)
    }

    fn needs(&self, _: usize) -> Needs {
        self.0
    }
}

/// Scores and whether each row is kept, and rows a second, on so many threads.
fn joined(joiner: &Joiner, asks: &Asks, rows: &[Vec<f16>], threads: usize) -> (Vec<(Score, bool)>, f64) {
    let shards: Vec<_> = (0..rows.len().div_ceil(10_000)).map(|shard| joiner.points(shard as u64)).collect();
    let of = |(at, vector)| {
        let id = SampleId { ordinal: (at / 10_000) as u64, index: (at % 10_000) as u32 };
        JoinRow { vector, id, shard: "s", key: "k", points: Some(&shards[at / 10_000]) }
    };
    let all: Vec<JoinRow<'_>> = rows.iter().map(|vector| &vector[..]).enumerate().map(of).collect();
    let (next, start) = (AtomicUsize::new(0), Instant::now());
    let work = || {
        let mut mine = Vec::new();
        loop {
            let most = joiner.most_rows();
            let first = next.fetch_add(most, Ordering::Relaxed);
            let Some(portion) = all.get(first..all.len().min(first + most)).filter(|portion| !portion.is_empty())
            else {
                return mine;
            };
            let joined = joiner.join(portion, asks).unwrap();
            mine.push((first, joined.into_iter().map(|joined| (joined.scores[0], joined.keeps)).collect::<Vec<_>>()));
        }
    };
    let mut parts: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let seconds = start.elapsed().as_secs_f64();
    parts.sort_by_key(|part| part.0);
    (parts.into_iter().flat_map(|part| part.1).collect(), rows.len() as f64 / seconds)
}

fn write(path: &Path, rows: &[Vec<f16>]) {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    out.write_all(&npy::head_bytes(rows.len() as u64, DIM)).unwrap();
    rows.iter().flatten().for_each(|x| out.write_all(&x.to_le_bytes()).unwrap());
    out.flush().unwrap();
}

fn main() {
    let (rows, points) = (number("TROMMEL_BENCH_ROWS", 100_000), number("TROMMEL_BENCH_POINTS", 50_000));
    let threads = number("TROMMEL_BENCH_THREADS", trommel_core::cores::usable());
    let mut vectors = Vectors::new();
    let t: Vec<Vec<f16>> = (0..points).map(|_| vectors.unit()).collect();
    let x: Vec<Vec<f16>> = (0..rows).map(|_| vectors.unit()).collect();
    let benchmark = |radii| Arc::new(Benchmark::new("b", DIM, t.concat(), vec![], vec![], radii, None).unwrap());
    let fast = Instructions::fast().expect("a processor with AVX2 at least");
    let joiner = |radii: Option<f64>, columns, with| {
        let config = JoinConfig { columns, ..JoinConfig::default() };
        let benchmark = benchmark(radii.map(|radius| vec![radius; points]));
        let prepared = [Prepared::new(&benchmark)].into_iter().collect();
        let cpu = Cpu::new(vec![benchmark.clone()], prepared, config.clone());
        // The fastest instructions go as in the program, which codes nothing before that pays.
        let cpu = if with == fast { cpu } else { cpu.with_codes(Some(with)) };
        Joiner::new(vec![benchmark], config).unwrap().with_kernel(Box::new(cpu))
    };
    let kernels: BTreeSet<_> = [fast.name(), "avx2"].into();
    let kernels: Vec<_> = Instructions::all().filter(|it| kernels.contains(it.name())).collect();
    let (maximum, radii) = (Needs { maximum: true, radii: false }, Needs { maximum: false, radii: true });
    let few = joined(&joiner(None, ColumnSet::All, fast), &Asks(maximum, 1.0), &x[..rows.min(2000)], threads).0;
    let mut nearest: Vec<f64> = few.iter().map(|(score, _)| score.max_similarity.unwrap()).collect();
    nearest.sort_by(f64::total_cmp);
    let threshold = nearest[nearest.len() * 95 / 100];
    println!(
        "{rows} rows, {points} points of {DIM}, {threads} threads; nearest points at {:.3}, threshold {threshold:.3}",
        nearest[nearest.len() / 2]
    );

    let asked = number("TROMMEL_BENCH_PEER_ROWS", 20_000).min(rows);
    let python = std::env::var("TROMMEL_PEERS").ok();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    ["pool/img_emb", "points"].iter().for_each(|name| fs::create_dir_all(at(name)).unwrap());
    write(&at("points/b.npy"), &t);
    for (part, x) in x[..asked].chunks(PART_ROWS).enumerate() {
        write(&at(&format!("pool/img_emb/img_emb_{part}.npy")), x);
    }
    let answers = [
        ("all columns", Some(threshold), ColumnSet::All, radii),
        ("decisions, a radius each", Some(threshold), ColumnSet::Decision, radii),
        ("decisions, one threshold", None, ColumnSet::Decision, maximum),
    ];
    let mut ours: Vec<_> = kernels.iter().flat_map(|with| answers.map(|answer| (*with, answer, Vec::new()))).collect();
    let mut theirs = [("IndexFlatIP", Vec::new()), ("IndexFlatIPPanorama", Vec::new())];
    for round in 0..number("TROMMEL_BENCH_ROUNDS", 5) {
        let mut kept: Option<Vec<bool>> = None;
        for (with, (name, radius, columns, needs), rates) in &mut ours {
            let joiner = joiner(*radius, *columns, *with);
            let (scores, rate) = joined(&joiner, &Asks(*needs, threshold), &x, threads);
            let dropped = scores.iter().filter(|(_, keeps)| !keeps).count();
            println!(
                "trommel, {name}, {}: {rate:.0} rows/s, {:.1} exact products a row, {:.1} % dropped",
                with.name(),
                joiner.counts().confirmed as f64 / rows as f64,
                100.0 * dropped as f64 / rows as f64
            );
            rates.push(rate);
            let keeps: Vec<bool> = scores.iter().map(|(_, keeps)| *keeps).collect();
            assert!(kept.get_or_insert_with(|| keeps.clone()) == &keeps, "the same decisions");
            if needs.maximum && round == 0 {
                let mut out = BufWriter::new(File::create(at("ours.bin")).unwrap());
                for (score, _) in &scores[..asked] {
                    out.write_all(&score.max_similarity.unwrap().to_le_bytes()).unwrap();
                    out.write_all(&u64::from(score.nearest.unwrap()).to_le_bytes()).unwrap();
                }
                out.flush().unwrap();
            }
        }
        let Some(python) = &python else {
            println!("no peer: set TROMMEL_PEERS to a Python with faiss");
            continue;
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/flat.py");
        for (index, rates) in &mut theirs {
            let mut peer = Command::new(python);
            peer.arg(&script).arg(folder.path()).args([&**index, &asked.to_string(), &threads.to_string(), "b"]);
            let output = peer.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let said = String::from_utf8_lossy(&output.stdout);
            let (seconds, more) = said.split_once(' ').unwrap();
            let rate = asked as f64 / seconds.parse::<f64>().unwrap();
            println!("faiss {index}: {rate:.0} rows/s; {}", more.trim());
            rates.push(rate);
        }
    }
    // What is aimed at, over the flat index and over Panorama.
    for (with, (name, ..), ours) in &ours {
        let codes = if with.name() == "avx2" { 1.8 } else { 3.5 };
        let wanted = if *name == "all columns" { [codes, 1.0] } else { [6.0, 2.0] };
        let what = format!("join of {points} points of {DIM}, {name}, {}", with.name());
        for ((index, theirs), wanted) in theirs.iter().zip(wanted) {
            let peer = format!("faiss {index}, nearest point");
            Compared { what: &what, unit: "rows/s", ours, peer: &peer, theirs, wanted }.tell();
        }
    }
}
