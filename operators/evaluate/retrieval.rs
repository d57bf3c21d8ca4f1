//! Retrieval: which captions are nearest to a picture, which pictures to a caption, and whether a right one is among the first k.
//!
//! ```text
//! queries f32[n, dim] ── some rows at a time ─▶ fast products f32[rows, points] ─▶ who is certainly before the right one, who may be
//! points f32[m, dim] ───────────────────────────────────────────────────────────▶ who may be is decided by the exact score
//! ```
//!
//! **Definition.** A query counts at k if any of its matches is among the k points of the largest score: recall@k of CLIP's papers, and of
//! CLIP_benchmark's `recall_at_k` above 0. Of equal scores the earlier point comes first.
//!
//! **Exact.** The score of a pair is the sum of its products in f64, in the order of the dimensions: one value, whatever block, thread or device
//! has made the fast products, and so equal points tie. A fast product of rows whose norms are at most [`NORM`] is within
//! [`error_bound`] of `dim + 1` of it: the products round too, once each, and what f64 rounds vanishes in the bound's own margin.
//!
//! **Cost.** One fast product a pair; f64 for a query's matches and for the points within the bound of the best of them. Memory beside the
//! features: as many scores as are asked for at a time, or one query's.

use std::ops::Range;

use serde::Serialize;
use trommel_kernels::join::error_bound;

/// Largest norm of a row: unit vectors in f32 have less.
pub const NORM: f64 = 1.001;

/// Gives the fast products of some queries f32\[n, dim\] with all points: f32\[n, points\].
pub type Products<'a, E> = dyn FnMut(&[f32]) -> Result<Vec<f32>, E> + 'a;

/// How often a match is among the first `k`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RecallAt {
    /// So many points are looked at.
    pub k: usize,
    /// Queries with a match among them.
    pub found: u64,
    /// The same as a share of all queries, 0 to 1.
    pub recall: f64,
}

/// Recall of queries with such ranks.
///
/// ```
/// use trommel_evaluate::retrieval::recall;
/// let at = recall(&[0, 4, 5, 9], 5);
/// assert_eq!((at.found, at.recall), (2, 0.5));
/// ```
#[must_use]
pub fn recall(ranks: &[usize], k: usize) -> RecallAt {
    let found = ranks.iter().filter(|rank| **rank < k).count();
    RecallAt { k, found: found as u64, recall: found as f64 / ranks.len().max(1) as f64 }
}

/// How many points come before the first match of each query; `usize::MAX` for a query without matches.
///
/// `queries` f32\[n, dim\] and `points` f32\[m, dim\] are finite, their norms at most [`NORM`]; `matches` are n ranges of points. `products` are
/// asked for about `most_scores` at a time.
///
/// # Errors
/// What `products` returns.
pub fn ranks<E>(
    queries: &[f32],
    points: &[f32],
    dim: usize,
    matches: &[Range<usize>],
    most_scores: usize,
    products: &mut Products<'_, E>,
) -> Result<Vec<usize>, E> {
    let dim = dim.max(1);
    let count = (points.len() / dim).max(1);
    let bound = error_bound(dim + 1, NORM, NORM).unwrap_or(f64::INFINITY);
    let block = (most_scores / count).max(1);
    let mut ranks = Vec::with_capacity(matches.len());
    for (queries, matches) in queries.chunks(block * dim).zip(matches.chunks(block)) {
        let scores = products(queries)?;
        let rows = queries.chunks_exact(dim).zip(scores.chunks_exact(count));
        ranks.extend(rows.zip(matches).map(|((query, scores), matches)| {
            rank(scores, bound, matches, |at| score(query, &points[at * dim..(at + 1) * dim]))
        }));
    }
    Ok(ranks)
}

/// Points before the first of `matches`; `fast` scores are within `bound` of the `exact` ones.
fn rank(fast: &[f32], bound: f64, matches: &Range<usize>, exact: impl Fn(usize) -> f64) -> usize {
    let scored = matches.clone().map(|at| (exact(at), at));
    let Some((best, first)) = scored.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1))) else { return usize::MAX };
    let (over, under) = (best + bound, best - bound);
    let is_before = |at: usize| {
        let score = exact(at);
        score > best || score == best && at < first
    };
    let fast = fast.iter().map(|score| f64::from(*score));
    fast.enumerate().filter(|(at, score)| *score > over || *score >= under && is_before(*at)).count()
}

/// Products of f32 summed in f64, one after the other.
fn score(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).fold(0.0, |sum, (x, y)| sum + f64::from(*x) * f64::from(*y))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Numbers below `below`, and whatever else is drawn from them.
    struct Random(u64);

    impl Random {
        fn below(&mut self, below: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % below
        }

        fn rows(&mut self, n: usize, dim: usize) -> Vec<Vec<i32>> {
            (0..n).map(|_| (0..dim).map(|_| self.below(5) as i32 - 2).collect()).collect()
        }
    }

    /// Eighths: every product and sum of them is exact.
    fn floats(rows: &[Vec<i32>]) -> Vec<f32> {
        rows.concat().iter().map(|it| *it as f32 / 8.0).collect()
    }

    fn dot(a: &[i32], b: &[i32]) -> i32 {
        a.iter().zip(b).map(|(x, y)| x * y).sum()
    }

    /// All points sorted by score, then place; the place of the first match among them.
    fn sorted(query: &[i32], points: &[Vec<i32>], matches: &Range<usize>) -> Option<usize> {
        let mut order: Vec<usize> = (0..points.len()).collect();
        order.sort_by_key(|&at| (-dot(query, &points[at]), at));
        order.iter().position(|at| matches.contains(at))
    }

    /// Ranks of a sort in integers, from products that are off by as much as they may be; many of them tie.
    #[test]
    fn ranks_are_those_of_a_sort() {
        let mut random = Random(7);
        let (mut ties, mut queries_seen) = (0, 0);
        for round in 0..400 {
            let (dim, n) = (1 + random.below(6), 1 + random.below(12));
            let pictures = random.rows(n, dim);
            let counts: Vec<usize> = (0..n).map(|_| 1 + random.below(3)).collect();
            let captions = random.rows(counts.iter().sum(), dim);
            let mut own = Vec::new();
            for count in counts {
                let first = own.last().map_or(0, |last: &Range<usize>| last.end);
                own.push(first..first + count);
            }
            let owners: Vec<Range<usize>> =
                own.iter().enumerate().flat_map(|(at, own)| own.clone().map(move |_| at..at + 1)).collect();
            let bound = error_bound(dim + 1, NORM, NORM).unwrap() * 0.8;
            for (queries, points, matches) in [(&pictures, &captions, &own), (&captions, &pictures, &owners)] {
                let most = 1 + random.below(40);
                let mut asked = 0;
                let mut products = |rows: &[f32]| {
                    let n = rows.len() / dim;
                    assert!(n == 1 || n * points.len() <= most, "round {round}");
                    asked += n;
                    let mut scores = Vec::new();
                    for row in rows.chunks(dim) {
                        for point in floats(points).chunks(dim) {
                            scores.push((score(row, point) + bound * (random.below(3) as f64 - 1.0)) as f32);
                        }
                    }
                    Ok::<_, Infallible>(scores)
                };
                let Ok(found) = ranks(&floats(queries), &floats(points), dim, matches, most, &mut products);
                assert_eq!(asked, queries.len());
                let due: Vec<usize> =
                    queries.iter().zip(matches).map(|(query, own)| sorted(query, points, own).unwrap()).collect();
                assert_eq!(found, due, "round {round}");
                for k in 1..=points.len() {
                    assert_eq!(recall(&found, k).found, due.iter().filter(|rank| **rank < k).count() as u64);
                }
                queries_seen += queries.len();
                for (query, own) in queries.iter().zip(matches) {
                    let best = own.clone().map(|at| dot(query, &points[at])).max();
                    let mut others = (0..points.len()).filter(|at| !own.contains(at));
                    ties += usize::from(others.any(|at| Some(dot(query, &points[at])) == best));
                }
            }
        }
        assert!(ties * 3 > queries_seen, "{ties} of {queries_seen} queries tie with another's");
    }

    #[test]
    fn a_query_without_matches_is_never_found() {
        let mut products = |_: &[f32]| Ok::<_, Infallible>(vec![0.5, 0.25]);
        let nothing = 0..0;
        let Ok(found) = ranks(&[0.5], &[1.0, 0.5], 1, std::slice::from_ref(&nothing), 8, &mut products);
        assert_eq!(found, [usize::MAX]);
        assert_eq!(recall(&found, 1000).found, 0);
        assert_eq!(recall(&[], 1).recall, 0.0);
    }
}
