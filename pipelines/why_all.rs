//! `trommel why RUN --all`: what a trainer did with every sample that it uses, in every pass that was begun, as a Parquet table.
//!
//! | column | |
//! |--|--|
//! | `shard`, `key`, `index` | the sample |
//! | `pass` | over the data, from 0 |
//! | `turn` | `step`, `left_over` (the pass ended before its batch was full), `skipped` (it could not be read again), `not_yet`: the words of `why --json` |
//! | `step` | as `logs/metrics.jsonl` counts them; null but for `step` |
//! | `position` | in the batch of that step, from 0, over all ranks; null but for `step` |
//!
//! A row is a sample and a pass. Rows stand in the order of training, what was skipped where it had its turn. Cost: names and decisions of the
//! ledger once a pass; memory: a shard a lane, one window, one row group.

use std::io::BufWriter;
use std::path::Path;

use serde::Serialize;
use serde_json::json;
use trommel_columnar::parquet::{Column, ColumnType, Field, TableWriter};
use trommel_core::durable::{Aside, parent};
use trommel_core::out_folder::OutFolder;

use crate::error::PipelineError;
use crate::past_run::PastRun;
use crate::trained_steps::{InPass, Trained, Training, Untold};

/// Rows of a row group.
const GROUP_ROWS: usize = 64 << 10;

/// What the file's metadata call what it says of itself.
pub const META_STEPS: &str = "trommel.steps";

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WhyAllReport {
    /// Path of the table.
    pub file: String,
    /// Rows of the table: a sample and a pass each.
    pub rows: u64,
    /// Rows of samples that were in a step.
    pub trained: u64,
    /// Rows of samples that filled no batch.
    pub left_over: u64,
    /// Rows of samples that could not be read again.
    pub skipped: u64,
    /// Rows of samples whose turn has not come.
    pub not_yet: u64,
    /// Steps that are done.
    pub steps: u64,
    /// Samples of a batch, over all ranks.
    pub batch: u64,
    /// Samples in no row, since nobody can tell when they have their turn.
    pub untold_samples: u64,
    /// Places in steps that are done of which nobody can tell who had them; 0: those samples have their turn later.
    pub untold_places: u64,
    /// Why nobody can tell; `None` where all is told.
    pub untold_because: Option<String>,
}

/// Writes the table.
///
/// # Errors
/// No run folder, or one in which nothing was trained that can be told; a damaged ledger; a file that cannot be written.
pub fn why_all(run: &Path, file: &Path) -> Result<WhyAllReport, PipelineError> {
    if file.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("parquet")) {
        let file = file.display();
        return Err(PipelineError::usage(format!("-o {file}: name it .parquet, which is what is written")));
    }
    let past = PastRun::open(run)?;
    let training = Training::open(run, &past)?.map_err(|why| {
        let why = why.unwrap_or_else(|| "no step of it is in a checkpoint".into());
        PipelineError::usage(format!("{}: {why}", run.display()))
    })?;
    let mut table = Table::begin(file)?;
    let mut report = WhyAllReport { steps: training.steps(), batch: training.batch(), ..WhyAllReport::default() };
    let untold = training.each(&past, |row| {
        *match row.turn {
            InPass::Step(_) => &mut report.trained,
            InPass::LeftOver => &mut report.left_over,
            InPass::Skipped => &mut report.skipped,
            InPass::NotYet => &mut report.not_yet,
        } += 1;
        report.rows += 1;
        let shard = past.plan.shard(row.sample.ordinal).map(|shard| shard.name.clone()).unwrap_or_default();
        table.add(shard, row)
    })?;
    if let Some(Untold { pass, samples, places, why }) = untold {
        (report.untold_samples, report.untold_places) = (samples, places);
        report.untold_because = Some(format!("in pass {pass}, {why}"));
    }
    report.file = file.display().to_string();
    table.finish(&json!({
        "schema": 1, "steps": report.steps, "batch": report.batch, "untold_samples": report.untold_samples, "untold_places": report.untold_places,
    }))?;
    Ok(report)
}

/// The table, seen when it is whole.
struct Table<'a> {
    path: &'a Path,
    writer: TableWriter<BufWriter<Aside>>,
    shards: Vec<Option<String>>,
    keys: Vec<Option<String>>,
    turns: Vec<Option<String>>,
    /// Index and pass.
    numbers: [Vec<Option<u32>>; 2],
    /// Step and position.
    places: [Vec<Option<u64>>; 2],
    /// Gone again where the table is given up.
    _made: OutFolder,
}

impl<'a> Table<'a> {
    fn begin(path: &'a Path) -> Result<Self, PipelineError> {
        let required = Field::required;
        let fields = vec![
            required("shard", ColumnType::Text),
            required("key", ColumnType::Text),
            required("index", ColumnType::U32),
            required("pass", ColumnType::U32),
            required("turn", ColumnType::Text),
            Field::nullable("step", ColumnType::U64),
            Field::nullable("position", ColumnType::U64),
        ];
        let made = OutFolder::make(parent(path)).map_err(PipelineError::at(path))?;
        let out = Aside::create(path).map_err(PipelineError::at(path))?;
        let out = BufWriter::with_capacity(1 << 20, out);
        let writer = TableWriter::new(path, out, fields, Vec::new()).map_err(PipelineError::failed)?.with_statistics();
        let (shards, keys, turns, numbers, places) = Default::default();
        Ok(Self { path, writer, shards, keys, turns, numbers, places, _made: made })
    }

    fn add(&mut self, shard: String, row: Trained) -> Result<(), PipelineError> {
        let (turn, step) = match row.turn {
            InPass::Step(step) => ("step", Some(step)),
            InPass::LeftOver => ("left_over", None),
            InPass::Skipped => ("skipped", None),
            InPass::NotYet => ("not_yet", None),
        };
        self.shards.push(Some(shard));
        self.keys.push(Some(row.sample.key));
        self.turns.push(Some(turn.into()));
        let [indices, passes] = &mut self.numbers;
        indices.push(Some(row.sample.index));
        passes.push(Some(row.pass));
        let [steps, positions] = &mut self.places;
        steps.push(step);
        positions.push(row.position);
        if self.keys.len() >= GROUP_ROWS { self.group() } else { Ok(()) }
    }

    fn group(&mut self) -> Result<(), PipelineError> {
        let [indices, passes] = std::mem::take(&mut self.numbers);
        let [steps, positions] = std::mem::take(&mut self.places);
        let texts = [&mut self.shards, &mut self.keys, &mut self.turns].map(std::mem::take);
        let [shards, keys, turns] = texts.map(Column::Text);
        let [indices, passes] = [indices, passes].map(Column::U32);
        let [steps, positions] = [steps, positions].map(Column::U64);
        let columns = [shards, keys, indices, passes, turns, steps, positions];
        self.writer.write(&columns).map_err(PipelineError::failed)
    }

    fn finish(mut self, meta: &serde_json::Value) -> Result<(), PipelineError> {
        self.group()?;
        let meta = vec![(META_STEPS.to_owned(), meta.to_string())];
        let out = self.writer.finish_with(meta).map_err(PipelineError::failed)?;
        let file = out.into_inner().map_err(|error| PipelineError::at(self.path)(error.into_error()))?;
        file.commit().map_err(PipelineError::at(self.path))
    }
}
