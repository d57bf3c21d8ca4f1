//! How far each cluster lies from those around it: the mean Euclidean distance of its centre to the nearest other centres.
//!
//! Times the mean distance of a cluster's own rows to its centre, that is the complexity by which density-based pruning gives clusters their quotas
//! (Abbas et al., ICLR 2024): a cluster that is tight, or close to others, can spare more of its rows.
//!
//! Products are exact, as for the nearest centre, and sums go from the nearest outwards, equally near ones by their number: one value on every
//! machine. Memory: 8 bytes a centre for each thread.

use rayon::prelude::*;
use trommel_kernels::dot::dot;

use crate::nearest::Centres;

/// Centres that count as around one.
pub const AROUND: usize = 20;

/// For each centre the mean distance to the [`AROUND`] nearest others that have rows (all of them where there are fewer); `None` where there is none, and
/// for a centre without rows.
#[must_use]
pub fn neighbour_distances(centres: &Centres, has_rows: impl Fn(usize) -> bool + Sync) -> Vec<Option<f64>> {
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
        let count = around.len();
        (count > 0).then(|| around.iter().map(|squared| squared.sqrt()).sum::<f64>() / count as f64)
    };
    (0..centres.len()).into_par_iter().map(of).collect()
}
