//! One benchmark's line of counts, its histogram, and its cumulative curves.

use trommel_core::sample::PointRow;
use trommel_report::{BenchmarkCount, Curve, CurveChart, HistogramSeries};

use super::sums::{FINE_BINS, Sums};
use crate::past_run::PastRun;

/// Bins of the histograms shown.
const SHOWN_BINS: usize = 72;

pub(super) fn count(past: &PastRun, at: usize, sums: &Sums, items: &[&PointRow]) -> BenchmarkCount {
    let benchmark = &past.benchmarks[at];
    let known = |value: f64| value.is_finite().then_some(value);
    let most = |values: &mut dyn Iterator<Item = f64>| known(values.fold(f64::NEG_INFINITY, f64::max));
    let hit = |row: &PointRow| {
        past.policy()
            .is_some_and(|policy| policy.point_removes(row.max_similarity.unwrap_or(f64::NEG_INFINITY), row.hits))
    };
    BenchmarkCount {
        name: benchmark.name.clone(),
        points: benchmark.points,
        removed: sums.removed,
        points_hit: items.iter().filter(|row| benchmark.counts && hit(row)).count() as u64,
        pool_max: most(&mut items.iter().filter_map(|row| row.max_similarity)).or_else(|| known(sums.most)),
        kept_max: most(&mut items.iter().filter_map(|row| row.kept_max)),
    }
}

pub(super) fn histogram(past: &PastRun, at: usize, sums: &Sums) -> Option<HistogramSeries> {
    let benchmark = &past.benchmarks[at];
    let threshold = past.threshold().filter(|_| benchmark.counts);
    let radii = || benchmark.radii.iter().flatten().copied().filter(|radius| radius.is_finite());
    if sums.most < sums.least {
        return None;
    }
    let (low, high) = HistogramSeries::span([sums.least, sums.most].into_iter().chain(threshold).chain(radii()));
    // A pool of (nearly) one value stands in the middle, not in bins narrower than those it was counted in.
    let (low, high) = if high - low < 0.005 { (low - 0.01, high + 0.01) } else { (low, high) };
    let mut series = HistogramSeries::new(&benchmark.name, low, high, SHOWN_BINS);
    series.threshold = threshold;
    for (fine, (all, dropped)) in sums.all.iter().zip(&sums.dropped).enumerate().filter(|(_, (all, _))| **all > 0) {
        let middle = (fine as f64 + 0.5) * 2.0 / FINE_BINS as f64 - 1.0;
        let share = (middle - series.low) / (series.high - series.low) * SHOWN_BINS as f64;
        let bin = (share.max(0.0) as usize).min(SHOWN_BINS - 1);
        series.pool[bin] += all;
        series.dropped[bin] += dropped;
    }
    radii().for_each(|radius| series.add_radius(radius));
    Some(series)
}

/// How near each test point's nearest picture is: in the reference set, in the pool, and among the kept.
pub(super) fn curves(past: &PastRun, at: usize, items: &[&PointRow]) -> Option<CurveChart> {
    let benchmark = &past.benchmarks[at];
    let radii: Vec<f64> = benchmark.radii.iter().flatten().copied().filter(|radius| radius.is_finite()).collect();
    let of = |value: fn(&PointRow) -> Option<f64>| items.iter().filter_map(|row| value(row)).collect::<Vec<f64>>();
    let all = [("reference", radii), ("pool", of(|row| row.max_similarity)), ("kept", of(|row| row.kept_max))];
    let curves = all.into_iter().filter(|(_, values)| !values.is_empty());
    let curves: Vec<Curve> = curves.map(|(label, values)| Curve { label: label.into(), values }).collect();
    (!curves.is_empty()).then(|| CurveChart { benchmark: benchmark.name.clone(), curves })
}
