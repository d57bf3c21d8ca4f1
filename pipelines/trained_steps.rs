//! In which steps a sample was trained: worked out from the order that a run was begun with and the decisions in its ledger. No pixels are read.
//!
//! Cost: of one sample a sum over shards for each pass, and the decisions of a shard a lane; of all samples their names and decisions once a pass.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Serialize;
use serde_json::Value;
use trommel_columnar::parquet::{Column, ColumnType};
use trommel_core::causes::Causes;
use trommel_core::durable::if_there;
use trommel_core::sample::{NO_CAPTION, SampleId, Status};
use trommel_dataflow::irregular::Irregular;
use trommel_dataflow::lanes::{Lanes, OrderConfig};
use trommel_dataflow::whereabouts::{JudgedShards, PassOrder, ShardCount, Unknown};
use trommel_ledger::LedgerError;
use trommel_ledger::read::{Ledger, LedgerRow};

use crate::error::PipelineError;
use crate::irregular_turns;
use crate::past_run::PastRun;
use crate::training_folder::{CHECKPOINTS, SETTLED_FILE, STATE_FILE};

/// What a trainer did with a sample in one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InPass {
    /// It was in the batch of this step, from 0, as `logs/metrics.jsonl` counts them.
    Step(u64),
    /// Its turn is to come.
    NotYet,
    /// It filled no batch: the pass ended before.
    LeftOver,
    /// It could not be read when its turn came.
    Skipped,
}

/// Why a sample's steps cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum StepsError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Unread(LedgerError),
    /// A shard that the ledger lacks.
    #[error("shard {0}, whose samples have turns before it, is not in the ledger")]
    NoShard(String),
}

/// A training run, as far as its steps can be worked out.
pub struct Training {
    order: OrderConfig,
    lanes: Lanes,
    batch: u64,
    /// Steps that are done, and the pass of the last one.
    done: (u64, u32),
    irregular: Vec<Irregular>,
    counts: HashMap<u64, ShardCount>,
}

/// What the ledger says of shards.
struct InLedger<'a> {
    counts: &'a HashMap<u64, ShardCount>,
    ledger: &'a Ledger,
}

impl JudgedShards for InLedger<'_> {
    type Error = LedgerError;

    fn count(&self, ordinal: u64) -> Option<ShardCount> {
        self.counts.get(&ordinal).copied()
    }

    fn trained_before(&self, ordinal: u64, index: u64) -> Result<u64, LedgerError> {
        let rows = self.ledger.shard_rows(ordinal)?;
        Ok(rows.iter().filter(|row| u64::from(row.fate.info.id.index) < index && is_trained(row)).count() as u64)
    }
}

/// Whether a trainer uses it: kept, and with a caption.
fn is_trained(row: &LedgerRow) -> bool {
    uses(row.fate.status.as_str(), row.fate.reason.as_ref().map(|reason| reason.code.as_str()))
}

fn uses(status: &str, reason: Option<&str>) -> bool {
    status == Status::Kept.as_str() && reason != Some(NO_CAPTION)
}

/// A sample that a trainer uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// The shard's ordinal in the plan.
    pub ordinal: u64,
    /// Raw index in the shard.
    pub index: u32,
    /// Its key, as its members are named in the tar.
    pub key: String,
}

/// What a trainer did with a sample in one pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trained {
    /// The sample that this is about.
    pub sample: Used,
    /// Pass over the data, from 0.
    pub pass: u32,
    /// What became of it.
    pub turn: InPass,
    /// Its place in the batch of its step, from 0, over all ranks.
    pub position: Option<u64>,
}

/// What of a training run nobody can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untold {
    /// The pass, and all behind it.
    pub pass: u32,
    /// Samples of it, as far as the ledger has them.
    pub samples: u64,
    /// Places in steps that are done of which nobody can tell who had them; none: what cannot be told has its turn later.
    pub places: u64,
    /// Why nobody can tell.
    pub why: String,
}

impl Training {
    /// The training of the run in `run`; `None` where nothing was trained, or nobody can tell: the reason says so.
    ///
    /// # Errors
    /// A damaged folder, or a file of it that cannot be read.
    pub fn open(run: &Path, past: &PastRun) -> Result<Result<Self, Option<String>>, PipelineError> {
        let Some(state) = newest_state(&run.join(CHECKPOINTS))? else { return Ok(Err(None)) };
        let unknown = |why: &str| Ok(Err(Some(format!("its training steps are not known: {why}"))));
        let begun_before = "the run was begun by an earlier version, which kept no irregular turns";
        let Some(((0, 0), irregular)) = irregular_turns::read(run)? else { return unknown(begun_before) };
        let training = state.get("training").and_then(Value::as_str).unwrap_or_default();
        let training: Value = serde_json::from_str(training).unwrap_or_default();
        let order: Option<OrderConfig> = training.get("order").and_then(|it| serde_json::from_value(it.clone()).ok());
        let batch = training.pointer("/recipe/batch_samples").and_then(Value::as_u64).filter(|batch| *batch > 0);
        let done = state.get("global_step").and_then(Value::as_u64);
        let pass = state.pointer("/position/pass").and_then(Value::as_u64).and_then(|pass| u32::try_from(pass).ok());
        let (Some(order), Some(batch), Some(done)) = (order, batch, done.zip(pass)) else {
            return unknown("its checkpoint does not say with which order and batch it was begun");
        };
        let names = dealt_as(run)?.unwrap_or_else(|| past.plan.shards.iter().map(|it| it.name.clone()).collect());
        let lanes = Lanes::new(order.lanes, order.seed, (0..).zip(names));
        let counts = past.ledger.shards().iter().map(|(ordinal, (_, line))| {
            let captionless = line.counts.remarks.get(NO_CAPTION).unwrap_or(0);
            (*ordinal, ShardCount { raw: line.counts.total(), trained: line.counts.kept.saturating_sub(captionless) })
        });
        Ok(Ok(Self { order, lanes, batch, done, irregular, counts: counts.collect() }))
    }

    /// Steps that are done.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.done.0
    }

    /// What the trainer did with a sample that it uses, pass by pass, up to the one that is under way, and why nobody can tell the rest.
    pub fn of(&self, past: &PastRun, row: &LedgerRow) -> (Vec<InPass>, Option<StepsError>) {
        let mut passes = Vec::new();
        let ended = if is_trained(row) { self.passes_of(past, row.fate.info.id, &mut passes) } else { Ok(()) };
        (passes, ended.err().map(|unknown| StepsError::of(past, unknown)))
    }

    fn passes_of(&self, past: &PastRun, id: SampleId, passes: &mut Vec<InPass>) -> Result<(), Unknown<LedgerError>> {
        let shards = InLedger { counts: &self.counts, ledger: &past.ledger };
        let mut before = 0;
        for pass in 0..=self.done.1 {
            if self.is_to_come(pass, before) {
                break;
            }
            let order = PassOrder::new(&self.order, &self.lanes, pass, &self.irregular, &shards);
            let batches = self.batches_of(pass, &order)?;
            passes.push(self.turn(order.number(id)?, before, batches));
            before += batches.unwrap_or(0);
        }
        Ok(())
    }

    /// Batches of a pass. Of the pass that is under way they may be unknown (`None`), for it ends behind all that was trained; of a pass that is
    /// over they must be known, since what filled none of its batches was left over.
    fn batches_of<S: JudgedShards>(
        &self,
        pass: u32,
        order: &PassOrder<'_, S>,
    ) -> Result<Option<u64>, Unknown<S::Error>> {
        match order.samples() {
            Ok(samples) => Ok(Some(samples / self.batch)),
            Err(Unknown::Shard(_)) if pass == self.done.1 => Ok(None),
            Err(unknown) => Err(unknown),
        }
    }

    /// What becomes of the sample with a number in a pass, before which there were `before` batches, and which has `batches`, where that is known.
    fn turn(&self, number: Option<u64>, before: u64, batches: Option<u64>) -> InPass {
        match number.map(|number| number / self.batch) {
            None => InPass::Skipped,
            Some(at) if batches.is_some_and(|batches| at >= batches) => InPass::LeftOver,
            Some(at) if before + at < self.done.0 => InPass::Step(before + at),
            Some(_) => InPass::NotYet,
        }
    }

    /// Samples of a batch, over all ranks.
    #[must_use]
    pub const fn batch(&self) -> u64 {
        self.batch
    }

    /// Whether a pass, before which there are `before` batches, was not begun: a checkpoint at the end of one stands at the start of the next.
    const fn is_to_come(&self, pass: u32, before: u64) -> bool {
        pass > 0 && before >= self.done.0
    }

    /// What the trainer did with all samples that it uses, pass by pass in the order of training, up to the pass that is under way: see [`Training::of`].
    /// One shard a lane is read at a time, and no scores.
    ///
    /// # Errors
    /// A ledger that cannot be read, or what `each` says.
    pub fn each(
        &self,
        past: &PastRun,
        mut each: impl FnMut(Trained) -> Result<(), PipelineError>,
    ) -> Result<Option<Untold>, PipelineError> {
        let shards = InLedger { counts: &self.counts, ledger: &past.ledger };
        let in_ledger: u64 = self.counts.values().map(|count| count.trained).sum();
        let mut before = 0;
        for pass in 0..=self.done.1 {
            if self.is_to_come(pass, before) {
                break;
            }
            let order = PassOrder::new(&self.order, &self.lanes, pass, &self.irregular, &shards);
            let batches = self.batches_of(pass, &order);
            let known = batches.as_ref().ok().copied().flatten();
            let (mut told, mut in_steps) = (0, 0);
            let ended = match batches {
                Err(unknown) => Some(unknown),
                Ok(_) => order.walk(
                    |ordinal| samples_of(&past.ledger, ordinal),
                    |number, sample| {
                        told += 1;
                        let turn = self.turn(number, before, known);
                        let position = number.filter(|_| matches!(turn, InPass::Step(_)));
                        let position = position.map(|number| number % self.batch);
                        in_steps += u64::from(position.is_some());
                        each(Trained { sample, pass, turn, position })
                    },
                )?,
            };
            if let Some(unknown) = ended {
                let samples = in_ledger.saturating_sub(told);
                let places = (self.done.0.saturating_sub(before) * self.batch).saturating_sub(in_steps);
                let why = Causes(&StepsError::of(past, unknown)).to_string();
                return Ok(Some(Untold { pass, samples, places, why }));
            }
            before += known.unwrap_or(0);
        }
        Ok(None)
    }
}

impl StepsError {
    fn of(past: &PastRun, unknown: Unknown<LedgerError>) -> Self {
        match unknown {
            Unknown::Unreadable(error) => Self::Unread(error),
            Unknown::Shard(ordinal) => {
                Self::NoShard(past.plan.shard(ordinal).map_or_else(String::new, |shard| shard.name.clone()))
            }
        }
    }
}

/// A judged shard's samples in their order; `None` for who is not trained on.
fn samples_of(
    ledger: &Ledger,
    ordinal: u64,
) -> Result<impl Iterator<Item = Result<Option<Used>, PipelineError>> + use<>, PipelineError> {
    let wanted = [
        ("index", ColumnType::U32),
        ("key", ColumnType::Text),
        ("status", ColumnType::Text),
        ("reason", ColumnType::Text),
    ];
    let groups = ledger.columns(ordinal, &wanted).map_err(PipelineError::failed)?;
    Ok(groups.flat_map(move |group| match group {
        Err(error) => vec![Err(PipelineError::failed(error))],
        Ok(group) => {
            let mut columns = group.into_iter();
            let (
                Some(Column::U32(indices)),
                Some(Column::Text(keys)),
                Some(Column::Text(statuses)),
                Some(Column::Text(reasons)),
            ) = (columns.next(), columns.next(), columns.next(), columns.next())
            else {
                return Vec::new();
            };
            let rows = indices.into_iter().zip(keys).zip(statuses.into_iter().zip(reasons));
            let used = rows.map(|((index, key), (status, reason))| {
                let uses = uses(status.as_deref().unwrap_or_default(), reason.as_deref());
                uses.then(|| Used { ordinal, index: index.unwrap_or_default(), key: key.unwrap_or_default() })
            });
            used.map(Ok).collect()
        }
    }))
}

/// What the newest checkpoint says of itself, of those that are not damaged: from it the run would go on.
fn newest_state(checkpoints: &Path) -> Result<Option<Value>, PipelineError> {
    let step = |name: &str| name.strip_prefix("step_")?.parse::<u64>().ok();
    let at = PipelineError::at(checkpoints);
    let Some(entries) = if_there(fs::read_dir(checkpoints)).map_err(&at)? else { return Ok(None) };
    let names: Vec<_> = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>().map_err(&at)?;
    let state = |name: &std::ffi::OsString| Some((step(name.to_str()?)?, checkpoints.join(name).join(STATE_FILE)));
    let mut states: Vec<(u64, PathBuf)> = names.iter().filter_map(state).collect();
    states.sort_unstable();
    for (_, path) in states.iter().rev() {
        // One may go while this looks: a trainer that runs keeps the newest few.
        let Some(text) = if_there(fs::read(path)).map_err(PipelineError::at(path))? else { continue };
        if let Ok(state) = serde_json::from_slice(&text) {
            return Ok(Some(state));
        }
    }
    Ok(None)
}

/// What stands for class folders in the order.
fn dealt_as(run: &Path) -> Result<Option<Vec<String>>, PipelineError> {
    let path = run.join(SETTLED_FILE);
    let damaged = |error: serde_json::Error| PipelineError::failed(error).within(path.display());
    let Some(text) = if_there(fs::read(&path)).map_err(PipelineError::at(&path))? else { return Ok(None) };
    let first: Value = serde_json::from_slice(&text).map_err(damaged)?;
    first.get("dealt_as").map_or(Ok(None), |names| serde_json::from_value(names.clone()).map_err(damaged))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A file that is there and cannot be read says nothing else than one that can: nobody goes on without it.
    #[test]
    fn what_cannot_be_read_is_not_taken_for_what_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let put = |name: &str, text: &str| {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), text).unwrap();
        };
        let newest = || newest_state(&at("checkpoints")).map(|state| state.and_then(|state| state["step"].as_u64()));
        assert_eq!((newest().unwrap(), dealt_as(folder.path()).unwrap()), (None, None));
        put("checkpoints/step_9/state.json", r#"{"step": 9}"#);
        put("checkpoints/step_10/state.json", r#"{"step": 10}"#);
        assert_eq!(newest().unwrap(), Some(10));
        put("checkpoints/step_10/state.json", "cut off");
        assert_eq!(newest().unwrap(), Some(9), "the run goes on from the one before");
        std::fs::create_dir_all(at("checkpoints/step_11/state.json")).unwrap();
        assert!(newest().unwrap_err().line().contains("step_11/state.json: "));
        for (text, due) in
            [(r#"{"dealt_as": ["a"]}"#, Some(vec!["a".to_owned()])), ("{}", None), (r#"{"dealt_as": null}"#, None)]
        {
            put("training.json", text);
            assert_eq!(dealt_as(folder.path()).unwrap(), due, "{text}");
        }
        for damaged in ["{\"dealt_as\": [\"a", r#"{"dealt_as": 3}"#] {
            put("training.json", damaged);
            assert!(dealt_as(folder.path()).unwrap_err().line().contains("training.json: "), "{damaged}");
        }
    }
}
