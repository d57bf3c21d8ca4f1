//! The naive model: integers and plain loops over everything, nothing shared with what is tested but the types.

use std::collections::BTreeMap;

use half::f16;

use super::exact::cosine;
use super::rules;
use super::script::Pool;
use crate::inputs::Inputs;
use crate::view::{Reach, Sizes, View};
use trommel_core::sample::PointRow;
use trommel_core::sample::{SampleId, Score, Status};

/// Compares everything that a view says with a computation from scratch.
pub(super) fn check(view: &View, inputs: &Inputs, pool: &Pool, context: &str) {
    // s[sample][benchmark][point]
    let mut all = BTreeMap::<SampleId, Vec<Vec<f64>>>::new();
    let mut rejected = 0u64;
    let mut taken_down = 0;
    assert_eq!(view.shards().collect::<Vec<_>>(), inputs.shards.keys().copied().collect::<Vec<_>>(), "{context}");
    let mut gone = BTreeMap::<SampleId, bool>::new();
    for (&ordinal, shard) in &inputs.shards {
        rejected += shard.rejected.len() as u64;
        for (index, key, vector) in pool.shard(ordinal, shard.generation) {
            let id = SampleId { ordinal, index };
            let taken = inputs.taken.contains(&id) || inputs.taken_keys.contains(&key);
            taken_down += u64::from(taken);
            gone.insert(id, taken);
            let row = |points: &std::sync::Arc<crate::inputs::Points>| {
                let vectors: Vec<&[f16]> = points.benchmark.vectors.chunks(points.benchmark.dim).collect();
                vectors.iter().map(|t| cosine(&vector, t)).collect()
            };
            all.insert(id, inputs.benchmarks.iter().map(row).collect());
        }
    }
    assert_eq!(view.taken_down(), taken_down, "taken down: {context}");
    for (at, points) in inputs.benchmarks.iter().enumerate() {
        let name = &points.benchmark.name;
        let radii = points.benchmark.radii.as_ref();
        for &ordinal in inputs.shards.keys() {
            let expected: Vec<(u32, Score)> = (all.iter())
                .filter(|(id, _)| id.ordinal == ordinal)
                .map(|(id, s)| (id.index, score(&s[at], radii)))
                .collect();
            assert_eq!(
                view.scores(ordinal, name).unwrap().unwrap(),
                expected,
                "scores of {ordinal} in {name}: {context}"
            );
        }
        let over = |s: &[f64]| (0..s.len()).any(|point| radii.is_some_and(|radii| s[point] > radii[point]));
        let expected = radii.map(|radii| Reach {
            samples: all.values().filter(|s| over(&s[at])).count() as u64,
            points: (0..radii.len()).filter(|&p| all.values().any(|s| s[at][p] > radii[p])).count() as u64,
        });
        assert_eq!(view.over_radius(name), expected, "over radius of {name}: {context}");
    }
    for (name, split) in &inputs.splits {
        let looks =
            |benchmark: &str| rules::names(&split.rule).is_none_or(|names| names.iter().any(|name| name == benchmark));
        let mut keeps = BTreeMap::<SampleId, bool>::new();
        for (id, s) in &all {
            let seen: Vec<(f64, Option<f64>)> = (inputs.benchmarks.iter().zip(s))
                .filter(|(points, _)| looks(&points.benchmark.name))
                .flat_map(|(points, s)| {
                    let radius = |point| points.benchmark.radii.as_ref().map(|radii| radii[point]);
                    s.iter().enumerate().map(move |(point, &s)| (s, radius(point)))
                })
                .collect();
            let kept = rules::keeps(&split.rule, &seen, 0).expect("a maintained rule");
            keeps.insert(*id, kept && !gone[id]);
        }
        let kept = keeps.values().filter(|kept| **kept).count() as u64;
        let sizes = Sizes { kept, dropped: keeps.len() as u64 - kept, rejected };
        assert_eq!(view.sizes(name), Some(sizes), "sizes of {name}: {context}");
        for (&ordinal, shard) in &inputs.shards {
            let status = |index| match keeps.get(&SampleId { ordinal, index }) {
                None => Status::Rejected,
                Some(true) => Status::Kept,
                Some(false) => Status::Dropped,
            };
            let expected: Vec<Status> = (0..shard.count).map(status).collect();
            assert_eq!(view.statuses(ordinal, name), Some(expected), "statuses of {ordinal} in {name}: {context}");
        }
        for (at, points) in inputs.benchmarks.iter().enumerate() {
            let radii = points.benchmark.radii.as_ref();
            let hits = |point: usize, s: f64| rules::hit(&split.rule, s, radii.map(|radii| radii[point])).unwrap();
            let expected = looks(&points.benchmark.name).then(|| Reach {
                samples: all.values().filter(|s| (0..s[at].len()).any(|p| hits(p, s[at][p]))).count() as u64,
                points: (0..points.benchmark.points()).filter(|&p| all.values().any(|s| hits(p, s[at][p]))).count()
                    as u64,
            });
            assert_eq!(view.reach(&points.benchmark.name, name), expected, "reach in {name}: {context}");
            let items: Vec<PointRow> =
                (0..points.benchmark.points()).map(|p| item(at, p, &all, &keeps, radii)).collect();
            assert_eq!(view.items(&points.benchmark.name, name), Some(items), "items of {at} in {name}: {context}");
        }
    }
}

fn score(s: &[f64], radii: Option<&Vec<f64>>) -> Score {
    let mut score = Score::default();
    for (point, &s) in s.iter().enumerate() {
        if score.max_similarity.is_none_or(|most| s > most) {
            (score.max_similarity, score.nearest) = (Some(s), Some(point as u32));
        }
        if let Some(radii) = radii {
            if score.margin.is_none_or(|most| s - radii[point] > most) {
                (score.margin, score.exceeds) = (Some(s - radii[point]), Some(point as u32));
            }
            score.hits = Some(score.hits.unwrap_or(0) + u32::from(s > radii[point]));
        }
    }
    score
}

fn item(
    at: usize,
    point: usize,
    all: &BTreeMap<SampleId, Vec<Vec<f64>>>,
    keeps: &BTreeMap<SampleId, bool>,
    radii: Option<&Vec<f64>>,
) -> PointRow {
    let mut row = PointRow {
        benchmark: at as u16,
        point: point as u32,
        max_similarity: None,
        sample: None,
        hits: 0,
        kept_max: None,
        kept_sample: None,
    };
    for (id, s) in all {
        let s = s[at][point];
        row.hits += u64::from(radii.is_some_and(|radii| s > radii[point]));
        if row.max_similarity.is_none_or(|most| s > most) {
            (row.max_similarity, row.sample) = (Some(s), Some(*id));
        }
        if keeps[id] && row.kept_max.is_none_or(|most| s > most) {
            (row.kept_max, row.kept_sample) = (Some(s), Some(*id));
        }
    }
    row
}
