//! How many rows a second does the processor join, in 8-bit codes and in f32? `cargo run --release -p trommel-decide --example join_rates [rows points dim threads]`
//!
//! Vectors have two fifths of their energy in common and a falling spectrum, as CLIP's have; radii are such that 5 % of the rows have a hit; rows come in shards of 10,000, which the points see. Of
//! every kernel: rows a second over all threads, products that were listed and computed exactly, all columns, and decisions alone without and with directions that are looked at first. Answers are compared. With `TROMMEL_PEERS` (a Python with
//! faiss) `IndexFlatIP` is asked for the nearest point of the same vectors, with as many threads, before and after.
//!
//! The limit: the processor's integer products, see the example `join_speed` of trommel-kernels.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use half::f16;
use trommel_core::cores;
use trommel_core::sample::{SampleId, Score};
use trommel_decide::benchmark::Benchmark;
use trommel_decide::cpu::Cpu;
use trommel_decide::join::{ColumnSet, JoinConfig, JoinRow, Joiner, Needs, Verdict};
use trommel_decide::scan::Prepared;
use trommel_kernels::int8::Instructions;

/// The paper's rule.
struct Near;

impl Verdict for Near {
    fn keeps(&self, _: &str, _: &str, _: SampleId, scores: &[Score]) -> bool {
        scores.iter().all(|score| score.hits.unwrap_or(0) == 0)
    }

    fn needs(&self, _: usize) -> Needs {
        Needs { maximum: false, radii: true }
    }
}

struct Vectors {
    state: u64,
    dim: usize,
    centres: Vec<Vec<f32>>,
}

impl Vectors {
    fn noise(&mut self) -> f32 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 40) as f32 / (1u32 << 24) as f32 - 0.5
    }

    fn direction(&mut self) -> Vec<f32> {
        let scale = |element: usize| (1.0 + element as f32 / 10.0).powf(-0.6);
        (0..self.dim).map(|at| scale(at) * (self.noise() + self.noise() + self.noise())).collect()
    }

    fn new(dim: usize) -> Self {
        let mut made = Self { state: 1, dim, centres: Vec::new() };
        let mean: Vec<f32> = (0..dim).map(|_| 0.45 * made.noise()).collect();
        for _ in 0..1000 {
            let own = made.direction();
            made.centres.push(own.iter().zip(&mean).map(|(own, mean)| own + mean).collect());
        }
        made
    }

    fn unit(&mut self) -> Vec<f16> {
        let at = ((self.noise() + 0.5) * 1000.0) as usize;
        let own = self.direction();
        let raw: Vec<f32> = own.iter().zip(&self.centres[at.min(999)]).map(|(own, centre)| own + centre).collect();
        let norm = raw.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        raw.iter().map(|x| f16::from_f64(f64::from(*x) / norm)).collect()
    }
}

fn joiner(benchmark: &Arc<Benchmark>, with: Option<Instructions>, columns: ColumnSet, directions: bool) -> Joiner {
    let config = JoinConfig { columns, ..JoinConfig::default() };
    let prepared = [Prepared::new(benchmark)].into_iter().collect();
    let mut cpu = Cpu::new(vec![benchmark.clone()], prepared, config.clone()).with_codes(with);
    if directions {
        cpu = cpu.with_directions(None);
    }
    Joiner::new(vec![benchmark.clone()], config).unwrap().with_kernel(Box::new(cpu))
}

/// Scores, and seconds on so many threads.
fn joined(joiner: &Joiner, rows: &[Vec<f16>], threads: usize) -> (Vec<Vec<Score>>, f64) {
    let shards: Vec<_> = (0..rows.len().div_ceil(10_000)).map(|shard| joiner.points(shard as u64)).collect();
    let of = |(at, vector)| {
        let id = SampleId { ordinal: (at / 10_000) as u64, index: (at % 10_000) as u32 };
        JoinRow { vector, id, shard: "s", key: "k", points: Some(&shards[at / 10_000]) }
    };
    let all: Vec<JoinRow<'_>> = rows.iter().map(|vector| &vector[..]).enumerate().map(of).collect();
    // What is made once is made before.
    joiner.join(&all[..all.len().min(64)], &Near).unwrap();
    let most = joiner.most_rows();
    let portions: Vec<&[JoinRow<'_>]> = all.chunks(most).collect();
    let (next, start) = (AtomicUsize::new(0), Instant::now());
    let mut parts: Vec<(usize, Vec<Vec<Score>>)> = std::thread::scope(|scope| {
        let work = || {
            let mut mine = Vec::new();
            while let Some(portion) = portions.get(next.fetch_add(1, Ordering::Relaxed)) {
                let scores = joiner.join(portion, &Near).unwrap().into_iter().map(|joined| joined.scores).collect();
                mine.push((portion[0].id.ordinal as usize * 10_000 + portion[0].id.index as usize, scores));
            }
            mine
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let seconds = start.elapsed().as_secs_f64();
    parts.sort_by_key(|part| part.0);
    (parts.into_iter().flat_map(|part| part.1).collect(), seconds)
}

fn faiss(rows: usize, points: usize, dim: usize, threads: usize) {
    let Ok(python) = std::env::var("TROMMEL_PEERS") else { return };
    let script = "import sys, time, faiss, numpy as np
rows, points, dim, threads = map(int, sys.argv[1:])
faiss.omp_set_num_threads(threads)
random = np.random.default_rng(1)
unit = lambda n: (lambda x: (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32))(random.standard_normal((n, dim)))
index = faiss.IndexFlatIP(dim)
index.add(unit(points))
rows = unit(rows)
start = time.perf_counter()
for at in range(0, len(rows), 4096):
    index.search(rows[at : at + 4096], 1)
print(f'faiss IndexFlatIP {faiss.__version__}: {len(rows) / (time.perf_counter() - start):.0f} rows/s')";
    let words = [rows, points, dim, threads].map(|number| number.to_string());
    let said = std::process::Command::new(python).arg("-c").arg(script).args(words).output().unwrap();
    print!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
}

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let [rows, points, dim, threads] = numbers.try_into().unwrap_or([20_000, 50_000, 640, cores::usable()]);
    let mut vectors = Vectors::new(dim);
    let t: Vec<f16> = (0..points).flat_map(|_| vectors.unit()).collect();
    let x: Vec<Vec<f16>> = (0..rows).map(|_| vectors.unit()).collect();
    let benchmark = |radii| Arc::new(Benchmark::new("b", dim, t.clone(), vec![], vec![], radii, None).unwrap());
    let plain = joiner(&benchmark(None), Instructions::fast(), ColumnSet::All, false);
    let some = joined(&plain, &x[..rows.min(1000)], threads).0;
    let mut nearest: Vec<f64> = some.iter().map(|scores| scores[0].max_similarity.unwrap()).collect();
    nearest.sort_by(f64::total_cmp);
    let radius = nearest[nearest.len() * 95 / 100];
    println!(
        "{rows} rows, {points} points of {dim}, {threads} threads; nearest points at {:.3}, radius {radius:.3}",
        nearest[nearest.len() / 2]
    );
    let benchmark = benchmark(Some(vec![radius; points]));
    for columns in [ColumnSet::All, ColumnSet::Decision] {
        faiss(rows.min(8192), points, dim, threads);
        let mut expected = None;
        let codes: Vec<_> = Instructions::all().filter(|with| *with != Instructions::Portable).map(Some).collect();
        let led = codes.iter().map(|with| (*with, true)).filter(|_| columns == ColumnSet::Decision);
        for (with, directions) in codes.iter().map(|with| (*with, false)).chain([(None, false)]).chain(led) {
            let joiner = joiner(&benchmark, with, columns, directions);
            let some = if with.is_none() { &x[..rows.min(4096)] } else { &x[..] };
            let (scores, seconds) = joined(&joiner, some, threads);
            let (counts, hit) = (joiner.counts(), scores.iter().filter(|scores| scores[0].hits > Some(0)).count());
            println!(
                "{columns:?}, {}: {:.0} rows/s, {:.1} exact products a row, {:.1} % of rows hit",
                joiner.on(),
                some.len() as f64 / seconds,
                counts.confirmed as f64 / counts.rows as f64,
                100.0 * hit as f64 / some.len() as f64
            );
            let expected = expected.get_or_insert_with(|| scores.clone());
            assert!(expected[..scores.len()] == scores[..], "the same answers");
        }
        faiss(rows.min(8192), points, dim, threads);
    }
}
