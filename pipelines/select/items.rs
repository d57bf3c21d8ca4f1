//! `NAME.items.parquet`, beside a split's own: what each test point of the run's benchmarks sees of the samples that it keeps.
//!
//! | column | |
//! |--|--|
//! | benchmark, point, key | a test point, by its place in the benchmark and by its key |
//! | radius | its radius, where there are any |
//! | `max_similarity` | its largest similarity to a kept sample; null where nothing is kept |
//! | `nearest_shard`, `nearest_key`, `nearest_index` | that sample, of equal ones the first |

use std::io::BufWriter;
use std::path::{Path, PathBuf};

use serde::Serialize;
use trommel_columnar::parquet::{Column, ColumnType, Field, TableWriter};
use trommel_core::durable::Aside;
use trommel_decide::benchmark::Benchmark;
use trommel_decide::radii::Radii;
use trommel_select::membership::{Kept, KeptRow, Membership};
use trommel_select::scan::Shard;
use trommel_select::split::{Format, ITEMS};

use super::open_run::{LedgerReading, OpenRun};
use crate::benchmarks::as_judged;
use crate::error::PipelineError;
use crate::failures::failed;
use crate::kept_maxima::kept_maxima;
use crate::memory::MemoryPlan;

/// A benchmark beside a split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SplitPoints {
    /// Name of the benchmark.
    pub benchmark: String,
    /// Its test points.
    pub points: u64,
    /// Of these, points that a kept sample comes nearer to than the radius allows; `None` without radii.
    pub over_radius: Option<u64>,
}

/// The place of a split's items.
pub(super) fn items_path(table: &Path) -> PathBuf {
    table.with_extension(ITEMS)
}

impl OpenRun {
    /// The benchmarks that it was judged against, for `--items`.
    pub(super) fn benchmarks_for_items(
        &self,
        reading: &LedgerReading,
        files: &[(String, Vec<PathBuf>)],
    ) -> Result<Vec<Benchmark>, PipelineError> {
        let has_table = |files: &[PathBuf]| files.iter().any(|file| Format::of(file) == Some(Format::Parquet));
        if !files.iter().all(|(_, files)| has_table(files)) {
            return Err(PipelineError::usage(
                "--items: who is kept is read from the split's .parquet, which is not written",
            ));
        }
        let benchmarks = as_judged(&self.ledger)?;
        if benchmarks.is_empty() {
            return Err(PipelineError::usage(format!(
                "--items: {} was judged against no benchmark",
                self.run.display()
            )));
        }
        let judged = |shard: &&Shard| {
            let line = self.ledger.shards().get(&shard.ordinal);
            line.is_some_and(|(_, line)| line.counts.kept + line.counts.dropped > 0)
        };
        let lacks = |shard: &&Shard| self.ledger.embeddings_path(shard.ordinal).is_err();
        if let Some(shard) = self.shards.iter().filter(judged).find(lacks) {
            return Err(PipelineError::usage(format!(
                "--items: {} keeps no embeddings of {}, and nothing can be joined without (--no-embeddings)",
                self.run.display(),
                shard.name
            )));
        }
        let budget = MemoryPlan::new(reading.memory_bytes, false).credit_bytes()?;
        check_memory(&benchmarks, reading.threads, budget)?;
        Ok(benchmarks)
    }
}

/// Refuses what there is no memory for: a split at a time is joined with all benchmarks.
fn check_memory(benchmarks: &[Benchmark], threads: usize, budget_bytes: u64) -> Result<(), PipelineError> {
    let of = |benchmark: &Benchmark| benchmark.bytes() + Radii::new(benchmark, threads).bytes();
    let needed: u64 = benchmarks.iter().map(of).sum();
    if needed <= budget_bytes {
        return Ok(());
    }
    let lacking = (needed - budget_bytes).div_ceil(1 << 20);
    Err(PipelineError::usage(format!(
        "--memory: {lacking} MiB more are needed: {} benchmarks for --items",
        benchmarks.len()
    )))
}

/// Measures a split that is written, and writes its items.
pub(super) fn write(
    run: &OpenRun,
    table: &Path,
    benchmarks: &[Benchmark],
    threads: usize,
) -> Result<Vec<SplitPoints>, PipelineError> {
    let split = Membership::open(table).map_err(failed)?;
    let shards = run.shards.iter().map(|shard| (shard.name.as_str(), shard.ordinal));
    let kept = split.head().map_or(0, |head| head.count);
    let maxima = match kept {
        0 => benchmarks.iter().map(|_| Vec::new()).collect(),
        _ => kept_maxima(&run.ledger, shards, Some(&split), benchmarks, threads, &|| Ok(()))?,
    };
    let path = items_path(table);
    let file = BufWriter::with_capacity(1 << 20, Aside::create(&path).map_err(PipelineError::at(&path))?);
    let fields = vec![
        Field::required("benchmark", ColumnType::Text),
        Field::required("point", ColumnType::U32),
        Field::required("key", ColumnType::Text),
        Field::nullable("radius", ColumnType::F64),
        Field::nullable("max_similarity", ColumnType::F64),
        Field::nullable("nearest_shard", ColumnType::Text),
        Field::nullable("nearest_key", ColumnType::Text),
        Field::nullable("nearest_index", ColumnType::U32),
    ];
    let mut writer = TableWriter::new(&path, file, fields, Vec::new()).map_err(PipelineError::failed)?;
    let mut told = Vec::new();
    for (benchmark, maxima) in benchmarks.iter().zip(maxima) {
        // Many points have the same neighbour, and neighbours share shards: each is asked for once, in their order.
        let mut order: Vec<usize> = (0..maxima.len()).collect();
        order.sort_by_key(|&point| maxima[point].shard);
        let mut nearest: Vec<Option<(String, KeptRow)>> = vec![None; benchmark.points()];
        for points in order.chunk_by(|&a, &b| maxima[a].shard == maxima[b].shard) {
            let name = &run.shards[maxima[points[0]].shard].name;
            if let Some(Kept::Rows(rows)) = split.shard(name).map_err(failed)? {
                for &point in points {
                    nearest[point] = rows.get(maxima[point].place).map(|row| (name.clone(), row.clone()));
                }
            }
        }
        let radius = |point: usize| benchmark.radii.as_ref().map(|radii| radii[point]);
        let similarity = |point: usize| maxima.get(point).map(|maximum| maximum.similarity);
        let points = 0..benchmark.points();
        let number = |point: usize| u32::try_from(point).ok();
        writer
            .write(&[
                Column::Text(points.clone().map(|_| Some(benchmark.name.clone())).collect()),
                Column::U32(points.clone().map(number).collect()),
                Column::Text(benchmark.keys.iter().map(|key| Some(key.clone())).collect()),
                Column::F64(points.clone().map(radius).collect()),
                Column::F64(points.clone().map(similarity).collect()),
                Column::Text(nearest.iter().map(|it| it.as_ref().map(|(shard, _)| shard.clone())).collect()),
                Column::Text(nearest.iter().map(|it| it.as_ref().map(|(_, row)| row.key.clone())).collect()),
                Column::U32(nearest.iter().map(|it| it.as_ref().map(|(_, row)| row.index)).collect()),
            ])
            .map_err(PipelineError::failed)?;
        let is_over = |&point: &usize| similarity(point).zip(radius(point)).is_some_and(|(s, r)| s > r);
        told.push(SplitPoints {
            benchmark: benchmark.name.clone(),
            points: benchmark.points() as u64,
            over_radius: benchmark.radii.as_ref().map(|_| points.filter(is_over).count() as u64),
        });
    }
    let rule = split.head().map_or_else(String::new, |head| head.rule.clone());
    let out = writer.finish_with(vec![("rule".into(), rule)]).map_err(PipelineError::failed)?;
    let file = out.into_inner().map_err(|error| PipelineError::at(&path)(error.into_error()))?;
    file.commit().map_err(PipelineError::at(&path))?;
    Ok(told)
}
