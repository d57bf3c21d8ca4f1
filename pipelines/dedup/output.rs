//! The files of `trommel dedup`: the split of who stays, the table of who goes and because of whom, the table of all.
//!
//! | file | a row | columns |
//! |--|--|--|
//! | `NAME.parquet`, `.npy`, `.txt` | a sample that stays | those of every split |
//! | `NAME.duplicates.parquet` | a sample that goes | shard, key, index; `by_shard`, `by_key`, `by_index`: who suppresses it; similarity; cluster |
//! | `NAME.samples.parquet` | a sample | shard, key, index, kept (1 or 0); of clusters: cluster, `centroid_distance`, `cluster_size`, `cluster_mean_distance`, `cluster_neighbour_distance` (null for an only one), `cluster_complexity`: their product, `cluster_cosine_complexity`: the same of cosine distances |
//!
//! All in the order of (shard's name, index). The last one is a `--table` of `trommel select`, which finds its rows by shard and key.

use std::collections::BTreeSet;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use trommel_columnar::parquet::{Column, ColumnType, Field, TableWriter};
use trommel_core::durable::Aside;
use trommel_dedup::names::{Caption, RowNames};
use trommel_dedup::nearest::Nearest;
use trommel_dedup::neighbours::Apart;
use trommel_dedup::scan::Suppressed;
use trommel_select::head::{KeysHash, SplitHead};
use trommel_select::settle::Unnamed;
use trommel_select::split::{DUPLICATES, Kept, SAMPLES, Sink, Whole, head_path, write_head};

use super::spooled;
use crate::error::PipelineError;
use crate::failures::failed;

/// Rows of a row group, and of names that are read at once.
const GROUP_ROWS: u32 = 16 << 10;

/// What is written.
pub(super) struct Found<'a> {
    /// What the rows are called.
    pub names: &'a RowNames,
    /// Names of all shards of the set.
    pub shards: &'a BTreeSet<String>,
    /// What those are called that suppress: the rows', or the other set's.
    pub by: &'a RowNames,
    /// Who goes, by row.
    pub suppressed: &'a [Suppressed],
    /// Each row's cluster; empty where there are none.
    pub nearest: &'a [Nearest],
    /// Rows of each cluster, and how far they are from its centre.
    pub clusters: &'a [(u32, Apart)],
    /// How far each cluster is from those around it, where there are any.
    pub around: &'a [Option<Apart>],
}

/// Counts of who stays.
#[derive(Default)]
pub(super) struct Counted {
    pub count: u64,
    pub captionless: u64,
    pub captions_unknown: u64,
}

/// The names of a split's tables.
pub(super) fn tables(split: &Path) -> [PathBuf; 2] {
    [DUPLICATES, SAMPLES].map(|ending| split.with_extension(ending))
}

/// A table that is seen when it is whole, and all others are.
struct Table {
    path: PathBuf,
    writer: TableWriter<BufWriter<Aside>>,
    columns: Vec<Column>,
}

impl Table {
    fn begin(path: &Path, fields: &[Field]) -> Result<Self, PipelineError> {
        let file = Aside::create(path).map_err(PipelineError::at(path))?;
        let columns = fields.iter().map(|field| Column::new(field.kind)).collect();
        let file = BufWriter::with_capacity(1 << 20, file);
        let writer = TableWriter::new(path, file, fields.to_vec(), Vec::new()).map_err(PipelineError::failed)?;
        Ok(Self { path: path.into(), writer, columns })
    }

    fn row(&mut self, cells: impl IntoIterator<Item = Cell>) -> Result<(), PipelineError> {
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            match (column, cell) {
                (Column::Text(all), Cell::Text(one)) => all.push(Some(one)),
                (Column::U32(all), Cell::Number(one)) => all.push(one),
                (Column::F64(all), Cell::Real(one)) => all.push(one),
                _ => return Err(PipelineError::failed("a cell of another column's kind; this is a bug")),
            }
        }
        if self.columns[0].len() >= GROUP_ROWS as usize { self.group() } else { Ok(()) }
    }

    fn group(&mut self) -> Result<(), PipelineError> {
        let empty = self.columns.iter().map(|column| Column::new(column.kind())).collect();
        self.writer.write(&std::mem::replace(&mut self.columns, empty)).map_err(PipelineError::failed)
    }

    fn finish(mut self, rule: &str) -> Result<Whole, PipelineError> {
        self.group()?;
        let metadata = vec![("rule".to_owned(), rule.to_owned())];
        let out = self.writer.finish_with(metadata).map_err(PipelineError::failed)?;
        Whole::table(self.path, out).map_err(failed)
    }
}

enum Cell {
    Text(String),
    Number(Option<u32>),
    Real(Option<f64>),
}

fn text(text: &str) -> Cell {
    Cell::Text(text.into())
}

/// Writes a split, its tables where the split has a place, and last of all what it says of itself, which is given, with remarks for people. Nothing
/// is seen under its name before it is whole.
pub(super) fn write(
    mut sinks: Vec<Box<dyn Sink>>,
    split: Option<&Path>,
    found: &Found<'_>,
    head: impl FnOnce(Counted, String) -> SplitHead,
) -> Result<(SplitHead, Vec<String>), PipelineError> {
    let required = Field::required;
    let names =
        [required("shard", ColumnType::Text), required("key", ColumnType::Text), required("index", ColumnType::U32)];
    let by = [
        required("by_shard", ColumnType::Text),
        required("by_key", ColumnType::Text),
        required("by_index", ColumnType::U32),
    ];
    let pair = [required("similarity", ColumnType::F64), Field::nullable("cluster", ColumnType::U32)];
    let (duplicates, samples) = split.map(tables).map(Into::into).unzip();
    let begin = |path: Option<PathBuf>, fields: &[Field]| path.map(|path| Table::begin(&path, fields)).transpose();
    let mut duplicates = begin(duplicates, &[&names[..], &by, &pair].concat())?;
    let kept = [required("kept", ColumnType::U32)];
    let clustered = [
        required("cluster", ColumnType::U32),
        required("centroid_distance", ColumnType::F64),
        required("cluster_size", ColumnType::U32),
        required("cluster_mean_distance", ColumnType::F64),
        Field::nullable("cluster_neighbour_distance", ColumnType::F64),
        Field::nullable("cluster_complexity", ColumnType::F64),
        Field::nullable("cluster_cosine_complexity", ColumnType::F64),
    ];
    let clustered = if found.nearest.is_empty() { &[][..] } else { &clustered };
    let mut samples = begin(samples, &[&names[..], &kept, clustered].concat())?;
    let (mut hash, mut counted) = (KeysHash::default(), Counted::default());
    for segment in found.names.in_order() {
        let shard = segment.shard.as_str();
        let mut from = found.suppressed.partition_point(|one| one.row < segment.rows.start);
        for first in segment.rows.clone().step_by(GROUP_ROWS as usize) {
            let rows = first..segment.rows.end.min(first.saturating_add(GROUP_ROWS));
            for (row, name) in rows.clone().zip(found.names.read(rows).map_err(spooled)?) {
                let gone = found.suppressed.get(from).filter(|one| one.row == row);
                let nearest = found.nearest.get(row as usize);
                let names = || [text(shard), text(&name.key), Cell::Number(Some(name.index))];
                if let Some(table) = &mut samples {
                    let kept = [Cell::Number(Some(u32::from(gone.is_none())))];
                    let clustered = nearest.map(|nearest| {
                        let (size, mean) = found.clusters[nearest.cluster as usize];
                        let around = found.around[nearest.cluster as usize];
                        [
                            Cell::Number(Some(nearest.cluster)),
                            Cell::Real(Some(nearest.squared_distance.sqrt())),
                            Cell::Number(Some(size)),
                            Cell::Real(Some(mean.distance)),
                            Cell::Real(around.map(|around| around.distance)),
                            Cell::Real(around.map(|around| mean.distance * around.distance)),
                            Cell::Real(around.map(|around| mean.half_square * around.half_square)),
                        ]
                    });
                    table.row(names().into_iter().chain(kept).chain(clustered.into_iter().flatten()))?;
                }
                match gone {
                    Some(gone) => {
                        from += 1;
                        sinks.iter_mut().try_for_each(|sink| sink.leave_out(shard, &name.key)).map_err(failed)?;
                        let Some(table) = &mut duplicates else { continue };
                        let (shard, by) = found.by.of(gone.by).map_err(spooled)?;
                        let by = [text(shard), text(&by.key), Cell::Number(Some(by.index))];
                        let cluster = Cell::Number(nearest.map(|nearest| nearest.cluster));
                        table.row(names().into_iter().chain(by).chain([Cell::Real(Some(gone.similarity)), cluster]))?;
                    }
                    None => {
                        hash.add(shard, name.index, &name.key);
                        counted.count += 1;
                        counted.captionless += u64::from(name.caption == Caption::Missing);
                        counted.captions_unknown += u64::from(name.caption == Caption::Unknown);
                        let kept = Kept { shard, index: name.index, key: &name.key, uid: name.uid.as_deref() };
                        sinks.iter_mut().try_for_each(|sink| sink.add(kept)).map_err(failed)?;
                    }
                }
            }
        }
    }
    let head = head(counted, hash.finish());
    sinks.iter_mut().for_each(|sink| sink.run_has(&mut found.shards.iter().map(String::as_str)));
    let tables = [duplicates, samples].into_iter().flatten().map(|table| table.finish(&head.rule));
    let tables = tables.collect::<Result<Vec<_>, _>>()?;
    let (head, remarks) = Unnamed::of(sinks, head).and_then(|files| files.with(tables)?.settle()).map_err(failed)?;
    split.map_or(Ok(()), |split| write_head(&head_path(split), &head).map_err(failed))?;
    Ok((head, remarks))
}
