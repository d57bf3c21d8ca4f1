//! What the pool says of each test point: its maximum, its hits, its maximum among the kept.
//!
//! A shard's part holds only the points that it hits or whose maximum it raises over what its incarnation has committed
//! before; merging takes maxima (ties: the smaller shard and index) and sums hits, so nothing is lost by what is left out.

use std::collections::BTreeMap;
use std::collections::HashMap;

use trommel_core::peak;
use trommel_core::sample::{PointRow, SampleId};

type Peak = peak::Peak<SampleId>;

/// The maxima of a row: of the pool, and of what is kept of it.
fn peaks(row: &PointRow) -> [Option<Peak>; 2] {
    [row.max_similarity.zip(row.sample), row.kept_max.zip(row.kept_sample)]
}

fn beats(new: &Peak, old: Option<&Peak>) -> bool {
    old.is_none_or(|old| peak::beats(new, old))
}

/// The maxima that an incarnation has committed so far.
#[derive(Clone, Debug, Default)]
pub struct Peaks {
    /// By benchmark and point: of the pool, and of what is kept of it.
    of: [HashMap<(u16, u32), Peak>; 2],
}

impl Peaks {
    /// The rows worth writing, by benchmark and point.
    #[must_use]
    pub fn select(&self, mut rows: Vec<PointRow>) -> Vec<PointRow> {
        rows.retain(|row| {
            let at = (row.benchmark, row.point);
            row.hits > 0
                || peaks(row).iter().zip(&self.of).any(|(new, old)| new.is_some_and(|new| beats(&new, old.get(&at))))
        });
        rows.sort_by_key(|row| (row.benchmark, row.point));
        rows
    }

    /// Takes in what was committed.
    pub fn raise(&mut self, rows: &[PointRow]) {
        for row in rows {
            let at = (row.benchmark, row.point);
            for (new, old) in peaks(row).into_iter().zip(&mut self.of) {
                if let Some(new) = new.filter(|new| beats(new, old.get(&at))) {
                    old.insert(at, new);
                }
            }
        }
    }
}

/// Merges rows of many parts: maxima with ties to the smaller shard and index, sums of hits.
#[derive(Clone, Debug, Default)]
pub struct MergedItems {
    rows: BTreeMap<(u16, u32), PointRow>,
}

impl MergedItems {
    /// Merges rows: maxima are compared, hits are added.
    pub fn add(&mut self, rows: impl IntoIterator<Item = PointRow>) {
        for row in rows {
            let Some(sum) = self.rows.get_mut(&(row.benchmark, row.point)) else {
                self.rows.insert((row.benchmark, row.point), row);
                continue;
            };
            sum.hits += row.hits;
            let ([pool, kept], [old_pool, old_kept]) = (peaks(&row), peaks(sum));
            if let Some(new) = pool.filter(|new| beats(new, old_pool.as_ref())) {
                (sum.max_similarity, sum.sample) = (Some(new.0), Some(new.1));
            }
            if let Some(new) = kept.filter(|new| beats(new, old_kept.as_ref())) {
                (sum.kept_max, sum.kept_sample) = (Some(new.0), Some(new.1));
            }
        }
    }

    /// All rows, by benchmark and point.
    #[must_use]
    pub fn into_rows(self) -> Vec<PointRow> {
        self.rows.into_values().collect()
    }
}
