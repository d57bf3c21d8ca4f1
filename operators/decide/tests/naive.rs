//! The naive model of the join, for tests: integers and plain loops, nothing shared with what is tested. And vectors to try it on.

use std::collections::BTreeMap;
use std::sync::Arc;

use half::f16;

use trommel_core::sample::{PointRow, SampleId, Score};
use trommel_decide::benchmark::Benchmark;
use trommel_decide::join::JoinRow;

#[path = "dice.rs"]
mod dice;
pub(crate) use dice::Dice;

/// A value that a kernel with this error bound may give for the similarity `s`. `way` 0: all of the bound too low, 1: too high, 2: either, 3: by any
/// part of it. It stays inside the bound as f32 too.
pub(crate) fn off_by_the_bound(s: f64, bound: f64, way: u32, dice: &mut Dice) -> f32 {
    let by = match way {
        0 => -1.0,
        1 => 1.0,
        2 => [-1.0, 1.0][dice.below(2)],
        _ => 2.0 * dice.symmetric(),
    };
    let v = (s + by * bound) as f32;
    match f64::from(v) {
        high if high > s + bound => v.next_down(),
        low if low < s - bound => v.next_up(),
        _ => v,
    }
}

impl Dice {
    pub(crate) fn unit(&mut self, dim: usize) -> Vec<f16> {
        loop {
            let raw: Vec<f64> = (0..dim).map(|_| self.symmetric()).collect();
            if raw.iter().any(|x| x.abs() > 1e-3) {
                return normalised(&raw);
            }
        }
    }

    /// A unit vector near another one.
    pub(crate) fn near(&mut self, centre: &[f16], spread: f64) -> Vec<f16> {
        let scale = spread / (centre.len() as f64).sqrt();
        normalised(&centre.iter().map(|x| x.to_f64() + scale * self.symmetric()).collect::<Vec<_>>())
    }

    /// Vectors with much in common: fresh ones, near ones, nearly equal ones, copies, negatives.
    pub(crate) fn family(&mut self, count: usize, dim: usize, relatives: &[Vec<f16>]) -> Vec<Vec<f16>> {
        let mut all: Vec<Vec<f16>> = relatives.to_vec();
        for _ in 0..count {
            let kin = if all.is_empty() { self.unit(dim) } else { all[self.below(all.len())].clone() };
            let fresh = match self.below(6) {
                0 | 1 => self.unit(dim),
                2 => self.near(&kin, 0.3),
                3 => self.near(&kin, 1e-3),
                4 => kin,
                _ => kin.iter().map(|x| -*x).collect(),
            };
            all.push(fresh);
        }
        all.split_off(relatives.len())
    }
}

pub(crate) fn normalised(raw: &[f64]) -> Vec<f16> {
    let length = raw.iter().map(|x| x * x).sum::<f64>().sqrt();
    raw.iter().map(|x| f16::from_f64_const(x / length)).collect()
}

/// The cosine as an integer number of 2^-48, then as f64.
pub(crate) fn cosine(a: &[f16], b: &[f16]) -> f64 {
    let scaled = |x: &f16| (x.to_f64() * 16_777_216.0) as i128;
    let sum: i128 = a.iter().zip(b).map(|(x, y)| scaled(x) * scaled(y)).sum();
    sum as f64 / 281_474_976_710_656.0
}

/// One sample against one benchmark.
pub(crate) fn score(x: &[f16], benchmark: &Benchmark) -> Score {
    let mut score = Score::default();
    for point in 0..benchmark.points() {
        let s = cosine(x, benchmark.vector(point));
        if score.max_similarity.is_none_or(|most| s > most) {
            (score.max_similarity, score.nearest) = (Some(s), Some(point as u32));
        }
        if let Some(radii) = &benchmark.radii {
            if score.margin.is_none_or(|most| s - radii[point] > most) {
                (score.margin, score.exceeds) = (Some(s - radii[point]), Some(point as u32));
            }
            score.hits = Some(score.hits.unwrap_or(0) + u32::from(s > radii[point]));
        }
    }
    score
}

/// What every test point saw of every shard.
pub(crate) fn items(
    rows: &[JoinRow<'_>],
    kept: &[bool],
    benchmarks: &[Arc<Benchmark>],
) -> BTreeMap<u64, Vec<PointRow>> {
    let mut all = BTreeMap::<u64, Vec<PointRow>>::new();
    let ordinals: std::collections::BTreeSet<u64> = rows.iter().map(|row| row.id.ordinal).collect();
    for ordinal in ordinals {
        for (at, benchmark) in benchmarks.iter().enumerate() {
            for point in 0..benchmark.points() {
                let mut item = PointRow {
                    benchmark: at as u16,
                    point: point as u32,
                    max_similarity: None,
                    sample: None,
                    hits: 0,
                    kept_max: None,
                    kept_sample: None,
                };
                let better = |s: f64, id: SampleId, most: Option<f64>, who: Option<SampleId>| match (most, who) {
                    (Some(most), Some(who)) => s > most || (s == most && id < who),
                    _ => true,
                };
                for (row, &keep) in rows.iter().zip(kept).filter(|(row, _)| row.id.ordinal == ordinal) {
                    let s = cosine(row.vector, benchmark.vector(point));
                    item.hits += u64::from(benchmark.radii.as_ref().is_some_and(|radii| s > radii[point]));
                    if better(s, row.id, item.max_similarity, item.sample) {
                        (item.max_similarity, item.sample) = (Some(s), Some(row.id));
                    }
                    if keep && better(s, row.id, item.kept_max, item.kept_sample) {
                        (item.kept_max, item.kept_sample) = (Some(s), Some(row.id));
                    }
                }
                all.entry(ordinal).or_default().push(item);
            }
        }
    }
    all
}
