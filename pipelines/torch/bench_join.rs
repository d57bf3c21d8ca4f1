//! Bench of the join alone: made vectors against made test points, on a device, beside the processor's answers.
//!
//! First the same rows are joined by the device and by the processor, and every column and every point's statistics compared to the bit. Then
//! the device joins alone for a while, as a run's pool has it do: all columns with few and with many hits, and what decides alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use half::f16;
use serde::Serialize;
use trommel_core::hash::mix;
use trommel_core::sample::{PointRow, SampleId, Score};
use trommel_decide::benchmark::Benchmark;
use trommel_decide::join::{ColumnSet, JoinConfig, JoinRow, Joined, Joiner, Needs, Verdict};
use trommel_decide::points::Points;
use trommel_embed::device;
use trommel_pipelines::error::PipelineError;
use trommel_similarity::DeviceKernel;

/// Rows of a shard.
const SHARD_ROWS: usize = 40 * CALL_ROWS;
/// Rows of a call.
const CALL_ROWS: usize = 256;

/// What is measured.
#[derive(Clone, Debug)]
pub struct JoinBench {
    /// `auto`, `cpu` or `cuda:N`.
    pub device: String,
    /// Number of test points.
    pub points: usize,
    /// Elements a vector.
    pub dim: usize,
    /// Rows that are compared with the processor's.
    pub rows: usize,
    /// Threads that call.
    pub threads: usize,
    /// Time for each figure.
    pub seconds: f64,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct JoinBenchReport {
    /// Always `join`: which stage the report is of.
    pub stage: &'static str,
    /// Who multiplied.
    pub on: String,
    /// Number of test points.
    pub points: usize,
    /// Elements a vector.
    pub dim: usize,
    /// Rows compared with the processor's, each with few hits, with many, and for decisions alone.
    pub compared_rows: usize,
    /// Rows and points that differed, and the first of them.
    pub differences: u64,
    /// The first difference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_difference: Option<String>,
    /// Rates for each kind of work.
    pub figures: Vec<JoinFigures>,
}

/// How fast one kind of work is joined.
#[derive(Clone, Debug, Serialize)]
pub struct JoinFigures {
    /// Columns and hits.
    pub work: &'static str,
    /// Rows a second by the device.
    pub rows_per_second: f64,
    /// Rows a second by the processor while it was compared, on all threads.
    pub cpu_rows_per_second: f64,
    /// Time of all cores for a row joined by the device, in microseconds.
    pub cpu_micros_per_row: f64,
    /// Mean hits of a row.
    pub hits_per_row: f64,
    /// Products a row that were computed exactly.
    pub confirmed_per_row: f64,
    /// Rows that the processor joined, for the device had failed.
    pub rows_in_place: u64,
}

/// Drops what exceeds a radius.
struct Near;

impl Verdict for Near {
    fn keeps(&self, _: &str, _: &str, _: SampleId, scores: &[Score]) -> bool {
        scores.iter().all(|score| score.hits.unwrap_or(0) == 0)
    }

    fn needs(&self, _: usize) -> Needs {
        Needs { maximum: false, radii: true }
    }
}

/// Compares, then measures.
///
/// # Errors
/// A device that is not there or cannot join.
pub fn join(bench: &JoinBench) -> Result<JoinBenchReport, PipelineError> {
    let JoinBench { points, dim, rows, threads, .. } = *bench;
    let device = device::parse(&bench.device).map_err(PipelineError::usage)?;
    let vectors = units(0, points.max(1), dim.max(1), threads);
    // Of every four rows one lies near a point.
    let mut samples = units(1, rows.max(1), dim.max(1), threads);
    for (at, sample) in samples.chunks_exact_mut(dim).enumerate().step_by(4) {
        let near = &vectors[(at * 977 % points) * dim..][..dim];
        let mixed: Vec<f64> = sample.iter().zip(near).map(|(x, t)| 0.3 * x.to_f64() + t.to_f64()).collect();
        sample.copy_from_slice(&unit(&mixed));
    }
    let spread = (dim as f64).powf(-0.5);
    let cases = [
        ("all columns, few hits", ColumnSet::All, 5.0),
        ("all columns, one pair in twenty a hit", ColumnSet::All, 1.645),
        ("decisions alone, few hits", ColumnSet::Decision, 5.0),
    ];
    let mut report = JoinBenchReport {
        stage: "join",
        on: String::new(),
        points,
        dim,
        compared_rows: rows,
        differences: 0,
        first_difference: None,
        figures: Vec::new(),
    };
    for (work, columns, deviations) in cases {
        let radii = (0..points).map(|at| spread * (deviations + 0.1 * noise(at as u64))).collect();
        let benchmark = Benchmark::new("points", dim, vectors.clone(), vec![], vec![], Some(radii), None);
        let benchmarks = vec![Arc::new(benchmark.map_err(PipelineError::usage)?)];
        let kernel = DeviceKernel::new(device, &benchmarks).map_err(PipelineError::failed)?;
        let config = JoinConfig { columns, ..JoinConfig::default() };
        let joiner = || Joiner::new(benchmarks.clone(), config.clone()).map_err(PipelineError::usage);
        let (plain, other) = (joiner()?, joiner()?.with_kernel(Box::new(kernel)));
        report.on = other.on();
        let started = Instant::now();
        let expected = answers(&plain, &samples, dim, threads)?;
        let cpu_rows_per_second = rows as f64 / started.elapsed().as_secs_f64().max(1e-9);
        compare(&expected, &answers(&other, &samples, dim, threads)?, work, &mut report);
        let (before, burnt, started) = (other.counts(), cpu_seconds(), Instant::now());
        let hits = rate(&other, &samples, dim, threads, bench.seconds)?;
        let (seconds, counts) = (started.elapsed().as_secs_f64(), other.counts());
        let done = ((counts.rows - before.rows) as f64).max(1.0);
        report.figures.push(JoinFigures {
            work,
            rows_per_second: done / seconds,
            cpu_rows_per_second,
            cpu_micros_per_row: (cpu_seconds() - burnt) * 1e6 / done,
            hits_per_row: hits as f64 / done,
            confirmed_per_row: (counts.confirmed - before.confirmed) as f64 / done,
            rows_in_place: counts.rows_in_place,
        });
    }
    Ok(report)
}

/// From -0.5 to 0.5.
fn noise(of: u64) -> f64 {
    (mix(of) >> 11) as f64 / (1u64 << 53) as f64 - 0.5
}

fn unit(raw: &[f64]) -> Vec<f16> {
    let length = raw.iter().map(|x| x * x).sum::<f64>().sqrt();
    raw.iter().map(|x| f16::from_f64(x / length)).collect()
}

/// Unit vectors: f16\[count, dim\].
fn units(seed: u64, count: usize, dim: usize, threads: usize) -> Vec<f16> {
    let vector = |at: usize| {
        let first = (seed << 60) + (at * dim) as u64;
        unit(&(0..dim as u64).map(|k| noise(first + k)).collect::<Vec<_>>())
    };
    let part = |from: usize, to: usize| (from..to).flat_map(vector).collect::<Vec<f16>>();
    let (each, part) = (count.div_ceil(threads.max(1)), &part);
    std::thread::scope(|scope| {
        let starts = (0..count).step_by(each);
        let running: Vec<_> = starts.map(|at| scope.spawn(move || part(at, count.min(at + each)))).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    })
}

/// Runs `work` on all threads until it has no more to do; the first error ends it.
fn on_threads(threads: usize, work: impl Fn() -> Result<(), PipelineError> + Sync) -> Result<(), PipelineError> {
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(&work)).collect();
        let panicked = |_| Err(PipelineError::failed("a thread of the bench panicked"));
        running.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(panicked))
    })
}

/// Joins some rows, which are of the shard `ordinal` from `first` on.
fn call(
    joiner: &Joiner,
    rows: &[&[f16]],
    points: &Points,
    (ordinal, first): (usize, usize),
) -> Result<Vec<Joined>, PipelineError> {
    let mut given = Vec::with_capacity(rows.len());
    for (at, &vector) in rows.iter().enumerate() {
        let id = SampleId { ordinal: ordinal as u64, index: (first + at) as u32 };
        given.push(JoinRow { vector, id, shard: "made", key: "", points: Some(points) });
    }
    joiner.join(&given, &Near).map_err(PipelineError::failed)
}

type Answers = (Vec<Joined>, Vec<PointRow>);

/// What a joiner says of all samples, as one shard.
fn answers(joiner: &Joiner, samples: &[f16], dim: usize, threads: usize) -> Result<Answers, PipelineError> {
    let rows: Vec<&[f16]> = samples.chunks_exact(dim).collect();
    let (points, next, done) = (joiner.points(0), AtomicUsize::new(0), std::sync::Mutex::new(Vec::new()));
    on_threads(threads, || {
        loop {
            let first = next.fetch_add(CALL_ROWS, Ordering::Relaxed);
            if first >= rows.len() {
                return Ok(());
            }
            let part = &rows[first..rows.len().min(first + CALL_ROWS)];
            let joined = call(joiner, part, &points, (0, first))?;
            trommel_core::wake::locked(&done).push((first, joined));
        }
    })?;
    let mut done = std::mem::take(&mut *trommel_core::wake::locked(&done));
    done.sort_by_key(|(first, _)| *first);
    Ok((done.into_iter().flat_map(|(_, joined)| joined).collect(), points.rows()))
}

fn compare(expected: &Answers, found: &Answers, work: &str, report: &mut JoinBenchReport) {
    let mut differ = |what: String| {
        report.differences += 1;
        report.first_difference.get_or_insert(what);
    };
    for (row, (a, b)) in expected.0.iter().zip(&found.0).enumerate() {
        if a != b {
            differ(format!("{work}: row {row} is {b:?}, by the processor {a:?}"));
        }
    }
    if expected.1.len() != found.1.len() {
        differ(format!("{work}: {} points saw something, by the processor {}", found.1.len(), expected.1.len()));
    }
    for (a, b) in expected.1.iter().zip(&found.1).filter(|(a, b)| a != b) {
        differ(format!("{work}: point {} saw {b:?}, by the processor {a:?}", a.point));
    }
}

/// Joins the samples again and again for so long, in shards; gives the hits.
fn rate(joiner: &Joiner, samples: &[f16], dim: usize, threads: usize, seconds: f64) -> Result<u64, PipelineError> {
    let rows: Vec<&[f16]> = samples.chunks_exact(dim).collect();
    let (started, next, hits) = (Instant::now(), AtomicUsize::new(0), AtomicUsize::new(0));
    let open = std::sync::Mutex::new((0, Arc::new(joiner.points(0))));
    on_threads(threads, || {
        while started.elapsed().as_secs_f64() < seconds {
            let first = next.fetch_add(CALL_ROWS, Ordering::Relaxed);
            let shard = first / SHARD_ROWS;
            let points = {
                let mut open = trommel_core::wake::locked(&open);
                if open.0 < shard {
                    *open = (shard, Arc::new(joiner.points(shard as u64)));
                }
                open.1.clone()
            };
            let part: Vec<&[f16]> = (0..CALL_ROWS).map(|at| rows[(first + at) % rows.len()]).collect();
            let joined = call(joiner, &part, &points, (shard, first % SHARD_ROWS))?;
            let sum: u32 = joined.iter().map(|row| row.scores[0].hits.unwrap_or(0)).sum();
            hits.fetch_add(sum as usize, Ordering::Relaxed);
        }
        Ok(())
    })?;
    Ok(hits.into_inner() as u64)
}

/// Time that this process's threads have computed, as the kernel counts it.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn equal_answers_have_no_difference_and_others_are_told() {
        let bench = JoinBench { device: "cpu".into(), points: 300, dim: 24, rows: 300, threads: 2, seconds: 0.01 };
        let mut report = join(&bench).unwrap();
        assert_eq!((report.differences, report.first_difference.take()), (0, None));
        assert_eq!(report.figures.len(), 3);
        for figures in &report.figures {
            assert!(figures.rows_per_second > 0.0 && figures.confirmed_per_row > 0.0 && figures.rows_in_place == 0);
        }
        // One pair in twenty.
        let share = report.figures[1].hits_per_row / 300.0;
        assert!((0.03..0.08).contains(&share), "{share}");
        let points = vec![PointRow {
            benchmark: 0,
            point: 7,
            max_similarity: Some(0.5),
            sample: None,
            hits: 1,
            kept_max: None,
            kept_sample: None,
        }];
        let row = |keeps| Joined { scores: vec![Score::default()], keeps };
        let (a, b) = (
            (vec![row(true); 2], points.clone()),
            (vec![row(true), row(false)], vec![PointRow { hits: 2, ..points[0] }]),
        );
        compare(&a, &b, "this", &mut report);
        assert_eq!(report.differences, 2);
        assert!(report.first_difference.unwrap().starts_with("this: row 1 is "));
    }
}
