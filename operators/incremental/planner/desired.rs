//! What the user wants, read; and the changes that lead there.
//!
//! A benchmark keeps as much of what is known as it can: new points at its end, points that went and other radii are changes of their own;
//! only a benchmark whose points stand in another order is a new one. Benchmarks stand in the order in which they came.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use trommel_decide::benchmark::Benchmark;
use trommel_decide::rule::Rule;

use crate::inputs::{Change, Inputs};

/// Benchmarks, rules and takedowns as they should be.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// Benchmarks, in the order of the columns.
    pub benchmarks: Vec<Arc<Benchmark>>,
    /// Rules by split.
    pub splits: BTreeMap<String, Rule>,
    /// What is taken down: keys, uids, URLs, sha256, or `SHARD/KEY`.
    pub takedowns: Arc<BTreeSet<String>>,
}

/// The changes from what is to what is desired, each with a word for people.
#[must_use]
pub fn changes(now: &Inputs, desired: &Desired) -> Vec<(Change, String)> {
    let mut out = Vec::new();
    for held in &now.benchmarks {
        let name = &held.benchmark.name;
        if !desired.benchmarks.iter().any(|benchmark| benchmark.name == *name) {
            out.push((Change::RemoveBenchmark(name.clone()), format!("benchmark {name} removed")));
        }
    }
    for benchmark in &desired.benchmarks {
        match now.benchmarks.iter().find(|held| held.benchmark.name == benchmark.name) {
            None => {
                let line = format!("benchmark {} added: {} points", benchmark.name, benchmark.points());
                out.push((Change::AddBenchmark(benchmark.clone()), line));
            }
            Some(held) => out.extend(to_benchmark(&held.benchmark, benchmark)),
        }
    }
    for name in now.splits.keys().filter(|name| !desired.splits.contains_key(*name)) {
        out.push((Change::RemoveSplit(name.clone()), format!("split {name} removed")));
    }
    for (name, rule) in &desired.splits {
        if now.splits.get(name).is_none_or(|held| held.rule != *rule) {
            out.push((Change::SetSplit(name.clone(), rule.clone()), format!("split {name}: {rule}")));
        }
    }
    let lifted: Vec<String> = now.taken_keys.difference(&desired.takedowns).cloned().collect();
    let new: Vec<String> = desired.takedowns.difference(&now.taken_keys).cloned().collect();
    if !lifted.is_empty() {
        let line = format!("{} takedowns lifted", lifted.len());
        out.push((Change::Restore(Vec::new(), lifted), line));
    }
    if !new.is_empty() {
        let line = format!("{} takedowns", new.len());
        out.push((Change::TakeDown(Vec::new(), new), line));
    }
    out
}

fn to_benchmark(held: &Benchmark, wanted: &Arc<Benchmark>) -> Vec<(Change, String)> {
    let name = &wanted.name;
    let anew = || {
        vec![
            (Change::RemoveBenchmark(name.clone()), format!("benchmark {name} replaced")),
            (Change::AddBenchmark(wanted.clone()), format!("benchmark {name} added: {} points", wanted.points())),
        ]
    };
    let alike = held.dim == wanted.dim && held.radii.is_some() == wanted.radii.is_some();
    if !alike || held.identity != wanted.identity {
        return anew();
    }
    // Old points that stay, in their order; what is left of the new ones must all stand behind them.
    let same = |old: usize, new: usize| {
        held.keys[old] == wanted.keys[new]
            && held.labels[old] == wanted.labels[new]
            && held.vector(old) == wanted.vector(new)
    };
    let (mut stays, mut gone) = (Vec::new(), Vec::new());
    for old in 0..held.points() {
        let next = stays.len();
        if next < wanted.points() && same(old, next) {
            stays.push(old);
        } else {
            gone.push(old as u32);
        }
    }
    if stays.is_empty() {
        return anew();
    }
    let mut out = Vec::new();
    if !gone.is_empty() {
        let line = format!("benchmark {name}: {} points removed", gone.len());
        out.push((Change::RemovePoints(name.clone(), gone), line));
    }
    if let (Some(was), Some(is)) = (&held.radii, &wanted.radii) {
        let moved =
            stays.iter().zip(is).enumerate().filter(|(_, (old, radius))| was[**old].to_bits() != radius.to_bits());
        let moved: Vec<(u32, f64)> = moved.map(|(place, (_, &radius))| (place as u32, radius)).collect();
        if !moved.is_empty() {
            let line = format!("benchmark {name}: {} radii moved", moved.len());
            out.push((Change::SetRadii(name.clone(), moved), line));
        }
    }
    let from = stays.len();
    if from < wanted.points() {
        let more = Benchmark::new(
            name.clone(),
            wanted.dim,
            wanted.vectors[from * wanted.dim..].to_vec(),
            wanted.keys[from..].to_vec(),
            wanted.labels[from..].to_vec(),
            wanted.radii.as_ref().map(|radii| radii[from..].to_vec()),
            wanted.identity.clone(),
        );
        match more {
            Ok(more) => {
                let line = format!("benchmark {name}: {} points added", more.points());
                out.push((Change::AddPoints(Arc::new(more)), line));
            }
            Err(_) => return anew(),
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use half::f16;

    use super::*;

    /// Points on a circle, one a letter.
    fn benchmark(points: &str, radius: f64) -> Arc<Benchmark> {
        let angle = |letter: char| f64::from(letter as u32 - 'a' as u32) / 10.0;
        let vectors = points.chars().flat_map(|letter| [angle(letter).cos(), angle(letter).sin()]).map(f16::from_f64);
        let (keys, count) = (points.chars().map(String::from).collect(), points.len());
        let radii = Some(vec![radius; count]);
        Arc::new(Benchmark::new("b", 2, vectors.collect(), keys, vec![None; count], radii, None).unwrap())
    }

    /// Whatever the difference, the changes lead to what is wanted; and the small ones are not a new benchmark.
    #[test]
    fn changes_lead_to_what_is_wanted() {
        for (was, is, kinds) in [
            ("abcd", "abcd", ""),
            ("abcd", "abcdef", "+"),
            ("abcd", "bd", "-"),
            ("abcd", "acef", "-+"),
            ("abcd", "dcba", "-+"),
            ("ab", "cd", "!"),
        ] {
            for radius in [0.5, 0.6] {
                let before = Inputs::default().after(&[Change::AddBenchmark(benchmark(was, 0.5))]).unwrap();
                let desired = Desired { benchmarks: vec![benchmark(is, radius)], ..Desired::default() };
                let changes: Vec<Change> = changes(&before, &desired).into_iter().map(|change| change.0).collect();
                let after = before.after(&changes).unwrap();
                assert_eq!(after.benchmarks.len(), 1);
                assert_eq!(*after.benchmarks[0].benchmark, *desired.benchmarks[0], "{was} {is}");
                let kept = changes.iter().all(|change| !matches!(change, Change::AddBenchmark(_)));
                assert_eq!(kept, kinds != "!", "{was} {is}");
                if radius == 0.5 && kept {
                    assert_eq!(changes.len(), kinds.len(), "{was} {is}");
                }
            }
        }
    }
}
