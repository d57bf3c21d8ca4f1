//! How far each cluster lies from those around it: the mean distance of its centre to the nearest other centres.
//!
//! Times the mean distance of a cluster's own rows to its centre, that is the complexity by which density-based pruning gives clusters their quotas
//! (Abbas et al., ICLR 2024): a cluster that is tight, or close to others, can spare more of its rows. Distances are Euclidean, as in the k-means, and
//! halves of their squares, which between directions are the paper's cosine distances.
//!
//! Products are exact, as for the nearest centre, and sums go from the nearest outwards, equally near ones by their number: one value on every
//! machine. Memory: 8 bytes a centre for each thread.

use rayon::prelude::*;
use trommel_kernels::dot::dot;

use crate::nearest::Centres;

/// Centres that count as around one.
pub const AROUND: usize = 20;

/// How far apart vectors are in the mean.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Apart {
    /// Mean Euclidean distance.
    pub distance: f64,
    /// Mean of half the squared distances: of directions, whose norm is 1, that is the mean cosine distance 1 - cos.
    pub half_square: f64,
}

impl Apart {
    /// Adds a squared distance to what are sums yet.
    pub fn add(&mut self, squared: f64) {
        self.distance += squared.sqrt();
        self.half_square += squared / 2.0;
    }

    /// The means of so many that were added; zeros of none.
    #[must_use]
    pub fn mean(self, count: usize) -> Self {
        let count = count.max(1) as f64;
        Self { distance: self.distance / count, half_square: self.half_square / count }
    }
}

/// For each centre how far it is from the [`AROUND`] nearest others that have rows (all of them where there are fewer); `None` where there is none, and
/// for a centre without rows.
#[must_use]
pub fn neighbour_distances(centres: &Centres, has_rows: impl Fn(usize) -> bool + Sync) -> Vec<Option<Apart>> {
    let with_rows: Vec<usize> = (0..centres.len()).filter(|&at| has_rows(at)).collect();
    let of = |at: usize| {
        if !has_rows(at) {
            return None;
        }
        let centre = centres.centre(at);
        let square = dot(centre, centre);
        let apart = |&other: &usize| {
            let other = centres.centre(other);
            (square + dot(other, other) - 2.0 * dot(centre, other)).max(0.0)
        };
        let mut around: Vec<f64> = with_rows.iter().filter(|&&other| other != at).map(apart).collect();
        if around.len() > AROUND {
            around.select_nth_unstable_by(AROUND - 1, f64::total_cmp);
            around.truncate(AROUND);
        }
        around.sort_unstable_by(f64::total_cmp);
        let mut sum = Apart::default();
        around.iter().for_each(|squared| sum.add(*squared));
        (!around.is_empty()).then(|| sum.mean(around.len()))
    };
    (0..centres.len()).into_par_iter().map(of).collect()
}
