//! Accuracy against the similarity of a test picture to its nearest training picture: bins, and Spearman's rank correlation.

use serde::Serialize;

/// Width of a bin (cosine), as in the study.
pub const BIN_WIDTH: f64 = 0.05;

/// Test pictures whose nearest training picture is about as near.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// Its lower edge, which belongs to it.
    pub low: f64,
    /// Its upper edge.
    pub high: f64,
    /// Pictures in it.
    pub pictures: u64,
    /// Of these the ones that were guessed right.
    pub right: u64,
}

/// The number of the bin where a cosine lies: bin `n` begins at `n * width`. Rounding puts half of all exact copies a little above 1; they are in the
/// bin of those below it.
///
/// ```
/// use trommel_evaluate::bins::bin_of;
/// assert_eq!([0.97, 1.0, 1.000_07, -0.01].map(|cosine| bin_of(cosine, 0.05)), [19, 19, 19, -1]);
/// ```
#[must_use]
pub fn bin_of(cosine: f64, width: f64) -> i64 {
    let last = (1.0 / width).ceil() - 1.0;
    (cosine / width).floor().min(last) as i64
}

/// Counts in bins, from the lowest; empty ones are left out.
///
/// ```
/// use trommel_evaluate::bins::bins;
/// let counted = bins([(0.91, true), (0.93, false), (0.5, true)]);
/// assert_eq!(counted.iter().map(|bin| (bin.pictures, bin.right)).collect::<Vec<_>>(), [(1, 1), (2, 1)]);
/// ```
pub fn bins(pictures: impl IntoIterator<Item = (f64, bool)>) -> Vec<Bin> {
    let mut counted = std::collections::BTreeMap::<i64, (u64, u64)>::new();
    for (similarity, right) in pictures {
        let (pictures, rights) = counted.entry(bin_of(similarity, BIN_WIDTH)).or_default();
        *pictures += 1;
        *rights += u64::from(right);
    }
    let edge = |at: i64| at as f64 * BIN_WIDTH;
    counted
        .into_iter()
        .map(|(at, (pictures, right))| Bin { low: edge(at), high: edge(at + 1), pictures, right })
        .collect()
}

/// Spearman's rho: the correlation of ranks, equal values sharing the mean of theirs. `None` where one side is constant.
///
/// ```
/// use trommel_evaluate::bins::spearman;
/// assert_eq!(spearman(&[1.0, 2.0, 5.0], &[10.0, 20.0, 30.0]), Some(1.0));
/// assert_eq!(spearman(&[1.0, 2.0], &[3.0, 3.0]), None);
/// ```
#[must_use]
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    let (x, y) = (ranks(x), ranks(y));
    let mean = (x.len() as f64 + 1.0) / 2.0;
    let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    let spread = (sum(&x, &x) * sum(&y, &y)).sqrt();
    (spread > 0.0).then(|| sum(&x, &y) / spread)
}

/// Bins with fewer pictures say nothing about the correlation.
const BIN_PICTURES: u64 = 10;

/// [`spearman`] of similarity and accuracy over bins of ten pictures and more, each with its lower edge, its pictures and the share guessed right. `None` of fewer
/// than three such bins.
pub fn spearman_of_bins(bins: impl IntoIterator<Item = (f64, u64, f64)>) -> Option<f64> {
    let full = bins.into_iter().filter(|(_, pictures, _)| *pictures >= BIN_PICTURES);
    let (low, accuracy): (Vec<f64>, Vec<f64>) = full.map(|(low, _, accuracy)| (low, accuracy)).unzip();
    if low.len() < 3 { None } else { spearman(&low, &accuracy) }
}

/// The rank of each value, from 1; equal values have their mean rank.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0.0;
    for group in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = before + (group.len() as f64 + 1.0) / 2.0;
        before += group.len() as f64;
        group.iter().for_each(|at| ranks[*at] = rank);
    }
    ranks
}
