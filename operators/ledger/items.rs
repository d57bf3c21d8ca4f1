//! What the pool says of each test point: its maximum, its hits, its maximum among the kept.
//!
//! A shard's part holds only the points that it hits or whose maximum it raises over what its incarnation has committed
//! before; merging takes maxima (ties: the smaller shard and index) and sums hits, so nothing is lost by what is left out.

use std::collections::BTreeMap;
use std::collections::HashMap;

use trommel_core::sample::{PointRow, SampleId};

type Peak = (f64, SampleId);

/// Whether `new` is larger, or as large and earlier.
fn beats(new: Peak, old: Option<Peak>) -> bool {
    old.is_none_or(|old| new.0 > old.0 || (new.0 == old.0 && new.1 < old.1))
}

fn peak(row: &PointRow) -> Option<Peak> {
    row.max_similarity.zip(row.sample)
}

fn kept_peak(row: &PointRow) -> Option<Peak> {
    row.kept_max.zip(row.kept_sample)
}

/// The maxima that an incarnation has committed so far.
#[derive(Clone, Debug, Default)]
pub struct Peaks {
    all: HashMap<(u16, u32), Peak>,
    kept: HashMap<(u16, u32), Peak>,
}

impl Peaks {
    /// The rows worth writing, by benchmark and point.
    #[must_use]
    pub fn select(&self, mut rows: Vec<PointRow>) -> Vec<PointRow> {
        rows.retain(|row| {
            let at = (row.benchmark, row.point);
            row.hits > 0
                || peak(row).is_some_and(|new| beats(new, self.all.get(&at).copied()))
                || kept_peak(row).is_some_and(|new| beats(new, self.kept.get(&at).copied()))
        });
        rows.sort_by_key(|row| (row.benchmark, row.point));
        rows
    }

    /// Takes in what was committed.
    pub fn raise(&mut self, rows: &[PointRow]) {
        for row in rows {
            let at = (row.benchmark, row.point);
            if let Some(new) = peak(row)
                && beats(new, self.all.get(&at).copied())
            {
                self.all.insert(at, new);
            }
            if let Some(new) = kept_peak(row)
                && beats(new, self.kept.get(&at).copied())
            {
                self.kept.insert(at, new);
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
            if let Some(new) = peak(&row)
                && beats(new, peak(sum))
            {
                (sum.max_similarity, sum.sample) = (Some(new.0), Some(new.1));
            }
            if let Some(new) = kept_peak(&row)
                && beats(new, kept_peak(sum))
            {
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
