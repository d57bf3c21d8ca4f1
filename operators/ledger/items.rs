//! What the pool says of each test point: its maximum, its hits, its maximum among the kept.
//!
//! A shard's part holds only the points that it hits or whose maximum it raises over what its incarnation has committed
//! before; merging takes maxima (ties: the smaller shard and index) and sums hits, so nothing is lost by what is left out.

use std::collections::BTreeMap;
use std::collections::HashMap;

use trommel_core::sample::SampleId;

/// One test point against the samples of one shard, or of all of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ItemRow {
    /// The benchmark, by its place in the configuration.
    pub benchmark: u16,
    /// The point, by its index in the benchmark.
    pub point: u32,
    /// Largest similarity of any sample; not finite where no maximum is known.
    pub max_similarity: f64,
    /// The sample that has it.
    pub sample: SampleId,
    /// Samples over the point's radius.
    pub hits: u64,
    /// Largest similarity of any kept sample.
    pub kept_max: Option<f64>,
    /// The sample that has it.
    pub kept_sample: Option<SampleId>,
}

/// Where the committer gets a shard's items when all its fates have arrived.
pub trait TakeItems: Send + Sync {
    /// The rows of a finished shard; they are given up.
    fn take(&self, ordinal: u64) -> Vec<ItemRow>;
    /// The shard will not be committed: its rows may be forgotten.
    fn discard(&self, ordinal: u64);
}

/// No items: rules that join with nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoItems;

impl TakeItems for NoItems {
    fn take(&self, _ordinal: u64) -> Vec<ItemRow> {
        Vec::new()
    }

    fn discard(&self, _ordinal: u64) {}
}

type Peak = (f64, SampleId);

/// Whether `new` is larger, or as large and earlier.
fn beats(new: Peak, old: Option<Peak>) -> bool {
    new.0.is_finite() && old.is_none_or(|old| new.0 > old.0 || (new.0 == old.0 && new.1 < old.1))
}

fn peak(row: &ItemRow) -> Peak {
    (row.max_similarity, row.sample)
}

fn kept_peak(row: &ItemRow) -> Option<Peak> {
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
    pub fn select(&self, mut rows: Vec<ItemRow>) -> Vec<ItemRow> {
        rows.retain(|row| {
            let at = (row.benchmark, row.point);
            row.hits > 0
                || beats(peak(row), self.all.get(&at).copied())
                || kept_peak(row).is_some_and(|new| beats(new, self.kept.get(&at).copied()))
        });
        rows.sort_by_key(|row| (row.benchmark, row.point));
        rows
    }

    /// Takes in what was committed.
    pub fn raise(&mut self, rows: &[ItemRow]) {
        for row in rows {
            let at = (row.benchmark, row.point);
            if beats(peak(row), self.all.get(&at).copied()) {
                self.all.insert(at, peak(row));
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
    rows: BTreeMap<(u16, u32), ItemRow>,
}

impl MergedItems {
    /// Takes rows in.
    pub fn add(&mut self, rows: impl IntoIterator<Item = ItemRow>) {
        for row in rows {
            let Some(sum) = self.rows.get_mut(&(row.benchmark, row.point)) else {
                self.rows.insert((row.benchmark, row.point), row);
                continue;
            };
            sum.hits += row.hits;
            if beats(peak(&row), Some(peak(sum)).filter(|p| p.0.is_finite())) {
                (sum.max_similarity, sum.sample) = peak(&row);
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
    pub fn into_rows(self) -> Vec<ItemRow> {
        self.rows.into_values().collect()
    }
}
