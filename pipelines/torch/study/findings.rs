//! What a study says: accuracies by set, what the paper claims and what came out, and accuracy against similarity.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use trommel_core::notices::Notices;
use trommel_evaluate::bins::{bin_of, spearman_of_bins};
use trommel_pipelines::nearest::Near;

use super::sets::{SetKind, TrainingSet};
use super::trainings::Training;

/// A training set's accuracy on one benchmark, over the seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mean {
    /// The training set.
    pub set: String,
    /// Name of the benchmark.
    pub benchmark: String,
    /// Mean zero-shot top-1, 0 to 1.
    pub top1: f64,
    /// Its standard deviation over the seeds (n - 1); none of one seed.
    pub spread: Option<f64>,
    /// Number of seeds.
    pub seeds: u64,
}

/// A comparison that the paper makes, and how it came out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// What is claimed.
    pub claim: String,
    /// The figures, in words.
    pub seen: String,
    /// Whether the means are so.
    pub holds: bool,
}

/// Test pictures of one benchmark that are about equally near to the pool.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// Name of the benchmark.
    pub benchmark: String,
    /// Smallest similarity to the nearest sample of the pool.
    pub low: f64,
    /// Above the largest one.
    pub high: f64,
    /// Number of test pictures.
    pub pictures: u64,
    /// Share of right first guesses of the models that saw the whole pool, over all seeds.
    pub top1: f64,
}

/// Accuracies by set and benchmark.
#[must_use]
pub fn means(sets: &[TrainingSet], trainings: &[Training]) -> Vec<Mean> {
    let benchmarks = trainings.first().map_or(&[][..], |training| &training.accuracies);
    let of = |set: &TrainingSet, benchmark: &str| {
        let mine = trainings.iter().filter(|training| training.set == set.name);
        let tops: Vec<f64> = mine
            .flat_map(|training| training.accuracies.iter().filter(|it| it.benchmark == benchmark).map(|it| it.top1))
            .collect();
        let (top1, spread) = mean_and_spread(&tops);
        Mean { set: set.name.clone(), benchmark: benchmark.into(), top1, spread, seeds: tops.len() as u64 }
    };
    sets.iter().flat_map(|set| benchmarks.iter().map(move |it| of(set, &it.benchmark))).collect()
}

/// Mean, and standard deviation where there are two values at least.
#[expect(clippy::cast_precision_loss)]
fn mean_and_spread(values: &[f64]) -> (f64, Option<f64>) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count.max(1.0);
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    (mean, (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt()))
}

/// The mean of a set on a benchmark.
#[must_use]
pub fn mean_of<'m>(means: &'m [Mean], set: &str, benchmark: &str) -> Option<&'m Mean> {
    means.iter().find(|mean| mean.set == set && mean.benchmark == benchmark)
}

/// The paper's comparisons.
#[must_use]
pub fn findings(sets: &[TrainingSet], means: &[Mean]) -> Vec<Finding> {
    let percent = |mean: &Mean| 100.0 * mean.top1;
    let mut findings = Vec::new();
    for near in sets {
        let SetKind::Near(benchmark) = &near.kind else { continue };
        let of_size = |kind: &SetKind| sets.iter().find(|set| set.count == near.count && set.kind == *kind);
        let top = |set: Option<&TrainingSet>| set.and_then(|set| mean_of(means, &set.name, benchmark)).map(percent);
        let (random, far) = (top(of_size(&SetKind::Random)), top(of_size(&SetKind::Far(benchmark.clone()))));
        if let (Some(near_top), Some(random), Some(far)) = (top(Some(near)), random, far) {
            findings.push(Finding {
                claim: format!("on {benchmark}, of sets of {} samples: near below random below far", near.count),
                seen: format!("near {near_top:.2} %, random {random:.2} %, far {far:.2} %"),
                holds: near_top < random && random < far,
            });
        }
    }
    for pruned in sets {
        let SetKind::Pruned(benchmark) = &pruned.kind else { continue };
        let costs: Vec<(String, f64)> = (means.iter().filter(|mean| mean.set == pruned.name))
            .filter_map(|mean| {
                Some((mean.benchmark.clone(), percent(mean_of(means, "pool", &mean.benchmark)?) - percent(mean)))
            })
            .collect();
        let cost = costs.iter().find(|(name, _)| name == benchmark).map(|(_, cost)| *cost);
        let shown: Vec<String> = costs.iter().map(|(name, cost)| format!("{name} {:+.2}", -cost)).collect();
        let control = sets.iter().find(|set| set.kind == SetKind::Control(pruned.name.clone()));
        let top = |set: &TrainingSet| mean_of(means, &set.name, benchmark).map(percent);
        if let Some((control, pruned_top)) = control.and_then(top).zip(top(pruned)) {
            findings.push(Finding {
                claim: format!("on {benchmark}, {} is below as many samples drawn at random", pruned.name),
                seen: format!("{pruned_top:.2} %, at random {control:.2} %"),
                holds: pruned_top < control,
            });
        }
        if costs.len() > 1 {
            findings.push(Finding {
                claim: format!("{} costs most on {benchmark}", pruned.name),
                seen: format!("against the pool: {} (points)", shown.join(", ")),
                holds: cost.is_some_and(|most| {
                    most > 0.0 && costs.iter().all(|(name, cost)| name == benchmark || *cost < most)
                }),
            });
        }
        let others = sets.iter().filter(|set| matches!(set.kind, SetKind::Pruned(_)));
        let tops: Vec<(&str, f64)> = others
            .filter_map(|set| Some((set.name.as_str(), percent(mean_of(means, &set.name, benchmark)?))))
            .collect();
        let own = tops.iter().find(|(name, _)| *name == pruned.name).map(|(_, top)| *top);
        let shown: Vec<String> = tops.iter().map(|(name, top)| format!("{name} {top:.2}")).collect();
        if tops.len() > 1 {
            findings.push(Finding {
                claim: format!("no pruned set is worse on {benchmark} than {}", pruned.name),
                seen: format!("{} (%)", shown.join(", ")),
                holds: own.is_some_and(|own| tops.iter().all(|(_, top)| *top >= own)),
            });
        }
    }
    findings
}

/// The test pictures of one benchmark in bins of `width` by their similarity to the pool, and Spearman's rho between a bin's similarity and
/// its accuracy, over bins of ten pictures and more; none of fewer than three such bins. Pictures of which nobody knows which point they are, are
/// lost to it.
#[must_use]
pub fn by_similarity(
    benchmark: &str,
    near: &Near,
    trainings: &[Training],
    width: f64,
    notices: &mut Notices,
) -> (Vec<Bin>, Option<f64>) {
    let mut counts: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
    let mine = trainings.iter().flat_map(|training| &training.accuracies).filter(|it| it.benchmark == benchmark);
    let models = mine.clone().filter(|it| !it.right.is_empty()).count().max(1) as u64;
    // The models of all seeds have seen the same pictures.
    let mut unknown = BTreeSet::new();
    for accuracy in mine {
        for (at, (key, is_right)) in accuracy.right.iter().enumerate() {
            let shard = accuracy.shards.get(at).map(String::as_str);
            let Some(point) = near.find(shard, key) else {
                unknown.insert((shard, key));
                continue;
            };
            let bin = counts.entry(bin_of(near.similarity(point), width)).or_default();
            *bin = (bin.0 + 1, bin.1 + u64::from(*is_right));
        }
    }
    if let Some((shard, key)) = unknown.first() {
        let (count, shard) = (unknown.len() as u64, shard.map_or_else(String::new, |shard| format!("{shard}/")));
        let text =
            "test pictures of which nobody knows how near the pool comes, left out of the accuracy by similarity";
        notices.loss("similarity_not_known", text, format!("benchmark {benchmark}: {shard}{key}"), count, count);
    }
    #[expect(clippy::cast_precision_loss)]
    let bin = |(at, (seen, right)): (i64, (u64, u64))| Bin {
        benchmark: benchmark.into(),
        low: at as f64 * width,
        high: (at + 1) as f64 * width,
        pictures: seen / models,
        top1: right as f64 / seen as f64,
    };
    let bins: Vec<Bin> = counts.into_iter().map(bin).collect();
    let rho = spearman_of_bins(bins.iter().map(|bin| (bin.low, bin.pictures, bin.top1)));
    (bins, rho)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::sets::controls;
    use super::super::trainings::Accuracy;
    use super::*;

    fn set(name: &str, kind: SetKind, count: u64) -> TrainingSet {
        TrainingSet { name: name.into(), kind, count, trainable: count, splits: Vec::new() }
    }

    fn training(set: &str, seed: u64, tops: &[(&str, f64)]) -> Training {
        let accuracy = |&(benchmark, top1): &(&str, f64)| Accuracy {
            benchmark: benchmark.into(),
            pictures: 100,
            top1,
            top5: 1.0,
            right: Vec::new(),
            shards: Vec::new(),
        };
        let accuracies = tops.iter().map(accuracy).collect();
        Training { set: set.into(), seed, steps: 1, samples_seen: 1, last_loss: None, accuracies }
    }

    #[test]
    fn the_papers_claims_are_held_against_the_means() {
        let sketch = || "sketch".to_owned();
        let sets = [
            set("pool", SetKind::Pool, 200),
            set("pruned-sketch", SetKind::Pruned(sketch()), 180),
            set("far", SetKind::Far(sketch()), 100),
            set("near", SetKind::Near(sketch()), 100),
            set("random", SetKind::Random, 100),
        ];
        let mut trainings = Vec::new();
        for (seed, shift) in [(0, -0.01), (1, 0.01)] {
            for (set, photo, sketch) in [
                ("pool", 0.6, 0.5),
                ("pruned-sketch", 0.59, 0.4),
                ("far", 0.3, 0.45),
                ("near", 0.3, 0.1),
                ("random", 0.3, 0.3),
            ] {
                trainings.push(training(set, seed, &[("photo", photo + shift), ("sketch", sketch + shift)]));
            }
        }
        let means = means(&sets, &trainings);
        let pool = mean_of(&means, "pool", "sketch").unwrap();
        // By hand: 0.49 and 0.51 have the mean 0.5 and the deviation 0.02 / sqrt 2.
        assert!((pool.top1 - 0.5).abs() < 1e-12 && (pool.spread.unwrap() - 0.014_142_135_6).abs() < 1e-9);
        let found = findings(&sets, &means);
        assert_eq!(found.iter().map(|finding| finding.holds).collect::<Vec<_>>(), [true, true], "{found:?}");
        assert_eq!(found[0].seen, "near 10.00 %, random 30.00 %, far 45.00 %");
        assert_eq!(found[1].seen, "against the pool: photo -1.00, sketch -10.00 (points)");
        // With another pruned set the two are compared on each benchmark.
        let and_photo = [&sets[..], &[set("pruned-photo", SetKind::Pruned("photo".into()), 180)]].concat();
        let tops = [("photo", 0.5), ("sketch", 0.41)];
        let and_its: Vec<Training> = trainings.iter().cloned().chain([training("pruned-photo", 0, &tops)]).collect();
        let found = findings(&and_photo, &super::means(&and_photo, &and_its));
        let claims = found.iter().filter(|finding| finding.claim.starts_with("no pruned set is worse on"));
        assert_eq!(claims.map(|finding| finding.holds).collect::<Vec<_>>(), [true, true], "{found:?}");
        // The other way round neither holds.
        for training in &mut trainings {
            for accuracy in &mut training.accuracies {
                accuracy.top1 = 1.0 - accuracy.top1;
            }
        }
        let found = findings(&sets, &super::means(&sets, &trainings));
        assert_eq!(found.iter().map(|finding| finding.holds).collect::<Vec<_>>(), [false, false], "{found:?}");
    }

    #[test]
    fn equal_means_are_judged_by_what_is_claimed_and_not_by_names() {
        let pruned = |name: &str| set(&format!("pruned-{name}"), SetKind::Pruned(name.into()), 180);
        let sets = [set("pool", SetKind::Pool, 200), pruned("photo"), pruned("sketch")];
        let trainings = [("pool", 0.5), ("pruned-photo", 0.25), ("pruned-sketch", 0.25)]
            .map(|(set, top)| training(set, 0, &[("photo", top), ("sketch", top)]));
        let found = findings(&sets, &means(&sets, &trainings));
        let held =
            |claim: &str| found.iter().filter(|it| it.claim.contains(claim)).map(|it| it.holds).collect::<Vec<_>>();
        assert_eq!(held("costs most"), [false, false], "each costs as much on the other benchmark: {found:?}");
        assert_eq!(held("no pruned set is worse"), [true, true], "none is: {found:?}");
    }

    #[test]
    fn a_pruned_set_is_held_against_as_many_samples_drawn_at_random() {
        let pruned = [set("pruned-sketch", SetKind::Pruned("sketch".into()), 180), set("core-100", SetKind::Core, 100)];
        let wanted = controls(&[&[set("pool", SetKind::Pool, 200)], &pruned[..]].concat(), false);
        let asked: Vec<(&str, &str)> =
            wanted.iter().map(|set| (set.name.as_str(), set.rule.as_deref().unwrap())).collect();
        assert_eq!(asked, [("random-as-pruned-sketch", "random:180"), ("random-as-core-100", "random:100")]);
        let sets = [&pruned[..1], &[set(asked[0].0, wanted[0].kind.clone(), 180)]].concat();
        for (of_control, holds) in [(0.5, true), (0.3, false)] {
            let trainings =
                [training("pruned-sketch", 0, &[("sketch", 0.4)]), training(asked[0].0, 0, &[("sketch", of_control)])];
            let found = findings(&sets, &means(&sets, &trainings));
            assert_eq!(found.iter().map(|finding| finding.holds).collect::<Vec<_>>(), [holds], "{found:?}");
            assert!(found[0].seen.starts_with("40.00 %, at random"), "{found:?}");
        }
    }

    #[test]
    fn pictures_are_binned_by_similarity_and_ranked() {
        let (mut points, mut right, mut shards) = (Vec::new(), Vec::new(), Vec::new());
        // Four bins of twenty; of those of bin k, 5 k are right, but bins 1 and 2 are exchanged.
        for (bin, good) in [(0, 0), (1, 10), (2, 5), (3, 15)] {
            for at in 0..20 {
                // Each tar has its own keys.
                let (shard, key) = (format!("{bin}.tar"), at.to_string());
                points.push((Some(shard.clone()), key.clone(), 0.5 + 0.1 * f64::from(bin) + 0.05));
                right.push((key, at < good));
                shards.push(shard);
            }
        }
        right.push(("7".into(), true));
        shards.push("4.tar".into());
        let mut pool = training("pool", 0, &[("photo", 0.5)]);
        (pool.accuracies[0].right, pool.accuracies[0].shards) = (right, shards);
        let mut notices = Notices::default();
        let near = Near::of(points);
        let (bins, rho) = by_similarity("photo", &near, &[pool.clone(), pool], 0.1, &mut notices);
        let lost = notices.get("similarity_not_known").unwrap();
        assert_eq!((lost.lost_samples, lost.first.as_str()), (1, "benchmark photo: 4.tar/7"));
        assert_eq!(bins.iter().map(|bin| bin.pictures).collect::<Vec<_>>(), [20, 20, 20, 20]);
        assert_eq!(bins.iter().map(|bin| bin.top1).collect::<Vec<_>>(), [0.0, 0.5, 0.25, 0.75]);
        // By hand: 1 - 6 * (0 + 1 + 1 + 0) / (4 * 15).
        assert!((rho.unwrap() - 0.8).abs() < 1e-12);
    }
}
