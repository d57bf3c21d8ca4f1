//! What an epoch changed, for people and programs: a summary line, and a table of the samples that changed sides.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use serde::{Deserialize, Serialize};
use trommel_columnar::parquet::{Column, ColumnType, Field, TableWriter};
use trommel_core::sample::{SampleId, Status};
use trommel_incremental::Epoch;
use trommel_incremental::changelog::{Changelog, SideChange, Why};
use trommel_incremental::view::Sizes;
use trommel_ledger::read::Ledger;

use trommel_pipelines::error::PipelineError;

/// One line of `changes.jsonl`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Number of the epoch.
    pub epoch: Epoch,
    /// When it was made, seconds since 1970.
    pub unix_seconds: f64,
    /// What changed among the inputs, in words.
    pub inputs: Vec<String>,
    /// Names of shards that came.
    pub arrived: Vec<String>,
    /// Names of shards that went.
    pub withdrawn: Vec<String>,
    /// Names of shards with new content.
    pub replaced: Vec<String>,
    /// Sizes by split.
    pub sizes: BTreeMap<String, Sizes>,
    /// Samples that changed sides, by split.
    pub changed_sides: BTreeMap<String, u64>,
    /// Samples of the live trainer's split that are dropped now and were trained on: that is not undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_and_dropped: Option<u64>,
    /// Seconds from when the oldest of its shards was seen complete until the epoch was made.
    pub lag_seconds: Option<f64>,
}

impl Summary {
    /// Takes the changelog in. A shard that went and came in one epoch is one with new content.
    #[must_use]
    pub fn with(mut self, log: &Changelog, name: impl Fn(u64) -> String, trained: &WasTrained<'_>) -> Self {
        let names = |ordinals: &[u64]| -> Vec<String> { ordinals.iter().map(|&ordinal| name(ordinal)).collect() };
        let (arrived, withdrawn) = (names(&log.arrived), names(&log.withdrawn));
        self.epoch = log.epoch;
        self.replaced = arrived.iter().filter(|name| withdrawn.contains(name)).cloned().collect();
        self.arrived = arrived.into_iter().filter(|name| !self.replaced.contains(name)).collect();
        self.withdrawn = withdrawn.into_iter().filter(|name| !self.replaced.contains(name)).collect();
        self.sizes = log.sizes.iter().filter_map(|(split, (_, after))| Some((split.clone(), (*after)?))).collect();
        for side in &log.sides {
            *self.changed_sides.entry(side.split.to_string()).or_default() += 1;
            if let Some(trained) = trained(side.sample, &side.split) {
                *self.trained_and_dropped.get_or_insert(0) += u64::from(trained && side.now == Status::Dropped);
            }
        }
        self
    }
}

/// Whether a sample of a split was trained on; `None` where nobody trains on it.
pub type WasTrained<'a> = dyn Fn(SampleId, &str) -> Option<bool> + 'a;

/// Writes the samples that changed sides: one row a sample and split.
///
/// # Errors
/// A file that cannot be written, or names that cannot be read.
pub fn write_changes(
    path: &Path,
    log: &Changelog,
    pool: &Ledger,
    trained: &WasTrained<'_>,
) -> Result<(), PipelineError> {
    let mut names = Names { pool, of: None };
    let fields = vec![
        Field::required("shard", ColumnType::Text),
        Field::required("key", ColumnType::Text),
        Field::required("index", ColumnType::U32),
        Field::required("split", ColumnType::Text),
        Field::required("now", ColumnType::Text),
        Field::required("why", ColumnType::Text),
        Field::nullable("benchmark", ColumnType::Text),
        Field::nullable("point", ColumnType::U32),
        Field::nullable("similarity", ColumnType::F64),
        Field::nullable("trained", ColumnType::Text),
    ];
    let file = File::create(path).map_err(PipelineError::at(path))?;
    let metadata = vec![("trommel.epoch".to_owned(), log.epoch.to_string())];
    let mut table = TableWriter::new(path, BufWriter::new(file), fields, metadata).map_err(PipelineError::failed)?;
    for sides in log.sides.chunks(ROWS) {
        let named = sides.iter().map(|side| names.of(side.sample)).collect::<Result<Vec<_>, _>>()?;
        let (shards, keys) = named.into_iter().map(|(shard, key)| (Some(shard), Some(key))).unzip();
        let text = |of: &dyn Fn(&SideChange) -> Option<String>| Column::Text(sides.iter().map(of).collect());
        let evidence: Vec<_> = sides.iter().map(|side| evidence(&side.why)).collect();
        let columns = [
            Column::Text(shards),
            Column::Text(keys),
            Column::U32(sides.iter().map(|side| Some(side.sample.index)).collect()),
            text(&|side| Some(side.split.to_string())),
            text(&|side| Some(side.now.as_str().into())),
            text(&|side| Some(word(&side.why).into())),
            Column::Text(evidence.iter().map(|found| found.as_ref().map(|found| found.0.clone())).collect()),
            Column::U32(evidence.iter().map(|found| found.as_ref().map(|found| found.1)).collect()),
            Column::F64(evidence.iter().map(|found| found.as_ref().map(|found| found.2)).collect()),
            text(&|side| trained(side.sample, &side.split).map(|trained| if trained { "yes" } else { "no" }.into())),
        ];
        table.write(&columns).map_err(PipelineError::failed)?;
    }
    let out = table.finish().map_err(PipelineError::failed)?;
    let file = out.into_inner().map_err(|error| PipelineError::at(path)(error.into_error()))?;
    file.sync_all().map_err(PipelineError::at(path))
}

/// Rows of a row group: their names are in memory together.
const ROWS: usize = 1 << 14;

/// Names of the samples of one shard at a time: of a split's sides those of a shard stand together.
struct Names<'a> {
    pool: &'a Ledger,
    of: Option<(u64, Vec<String>)>,
}

impl Names<'_> {
    /// Shard and key of a sample.
    fn of(&mut self, sample: SampleId) -> Result<(String, String), PipelineError> {
        let SampleId { ordinal, index } = sample;
        if self.of.as_ref().is_none_or(|of| of.0 != ordinal) {
            self.of = None; // before the next ones are read
            self.of = Some((ordinal, self.pool.keys(ordinal, str::to_owned).map_err(PipelineError::failed)?));
        }
        let shard = self.pool.shards().get(&ordinal).map(|(_, line)| line.name.clone()).unwrap_or_default();
        let key = self.of.as_ref().and_then(|of| of.1.get(index as usize)).cloned().unwrap_or_default();
        Ok((shard, key))
    }
}

fn word(why: &Why) -> &'static str {
    match why {
        Why::Hit { .. } => "hit",
        Why::NoLongerHit { .. } => "no_longer_hit",
        Why::TakenDown => "taken_down",
        Why::Restored => "restored",
        Why::Rule => "rule",
        Why::Replaced => "replaced",
    }
}

fn evidence(why: &Why) -> Option<(String, u32, f64)> {
    match why {
        Why::Hit { benchmark, point, similarity } | Why::NoLongerHit { benchmark, point, similarity } => {
            Some((benchmark.to_string(), *point, *similarity))
        }
        Why::TakenDown | Why::Restored | Why::Rule | Why::Replaced => None,
    }
}
