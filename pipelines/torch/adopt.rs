//! Decisions that another run has made: a training run takes them over, and is from then on independent of where they came from.
//!
//! The other run's ledger is linked into the new run's folder and committed there, so that all shards are replayed: nothing is embedded or
//! joined. A watch's `current` moves on; a training run that took its decisions over goes on with the same ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use trommel_ledger::LedgerError;
use trommel_ledger::manifest::{PartKind, ShardLine};
use trommel_ledger::read::Ledger;
use trommel_ledger::run_folder::{BLUR, RunConfig, RunFolder, differences};
use trommel_shard::plan::Plan;

use crate::run_setup::RunSetup;
use trommel_pipelines::decision::DecisionConfig;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::past_run::from_folder;
use trommel_pipelines::watch_folder::CURRENT;

/// Whether it leads through a watch's link to its newest epoch.
fn moves_on(from: &Path) -> bool {
    from.ancestors().any(|part| part.file_name().is_some_and(|name| name == CURRENT) && part.is_symlink())
}

/// A finished run whose decisions are taken over.
pub(crate) struct Adopted {
    root: PathBuf,
    ledger: Ledger,
    plan: Arc<Plan>,
}

impl Adopted {
    /// The run in `from`; or `run` itself, where that has taken over before. `from` must not have others then, unless it is a watch's `current`, which moves on.
    ///
    /// # Errors
    /// No run folder, or one with shards that are not judged; other decisions than those that were taken over.
    pub(crate) fn open(from: &Path, run: &Path) -> Result<Self, PipelineError> {
        let Ok(before) = Self::read(run) else { return Self::read(from) };
        match Self::read(from) {
            Ok(now) if !moves_on(from) => before.refuse_other(&now)?,
            // Who made them may be gone by now.
            Ok(_) | Err(_) => {}
        }
        tracing::info!("{} goes on with the decisions that it took over", run.display());
        Ok(before)
    }

    fn refuse_other(&self, now: &Self) -> Result<(), PipelineError> {
        let names = |it: &Self| it.plan.shards.iter().map(|shard| shard.name.clone()).collect::<Vec<_>>();
        let decisions = |it: &Self| it.ledger.config().get("decisions").cloned().unwrap_or_default();
        let differs = differences(&decisions(self), &decisions(now)).into_iter().next();
        let what = match differs {
            Some(it) => format!("another {}: {} here, {} there", it.field, it.stored, it.given),
            None if names(self) != names(now) => "other shards".into(),
            None => return Ok(()),
        };
        let text = format!("it has other decisions than those of {}: {what}", now.root.display());
        Err(PipelineError::usage(text).within(self.root.display()).with_remedy("a new --run takes the others over"))
    }

    fn read(root: &Path) -> Result<Self, PipelineError> {
        let place = format!("{} has no decisions to take over", root.display());
        let damaged = |error: LedgerError| PipelineError::usage(error).within(&place);
        // A link to the newest epoch is followed once.
        let root = std::fs::canonicalize(root).map_err(|error| PipelineError::usage(error).within(&place))?;
        let ledger = Ledger::open(&root).map_err(damaged)?;
        let mut plan: Plan = ledger.plan().map_err(damaged)?;
        let open = plan.shards.iter().filter(|shard| !ledger.is_committed(shard.ordinal)).count();
        if plan.is_empty() {
            return Err(PipelineError::usage("it has no shards").within(place));
        }
        if open > 0 {
            let unjudged = format!("{open} of {} shards are not judged", plan.len());
            return Err(PipelineError::usage(unjudged).within(place));
        }
        if let Some(folder) = ledger.config().pointer("/record/folder").and_then(Value::as_str) {
            plan.shards.iter_mut().for_each(|shard| shard.url = from_folder(Path::new(folder), &shard.url));
        }
        Ok(Self { root, ledger, plan: Arc::new(plan) })
    }

    /// The shards of the run, as they are opened.
    pub(crate) const fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// What the new run's folder is opened with: the decisions' configuration, if samples are read as they were then.
    ///
    /// # Errors
    /// Samples would be read otherwise.
    pub(crate) fn run_config(&self, judging: &RunSetup) -> Result<RunConfig, PipelineError> {
        let value = self.ledger.config().get("decisions").cloned().unwrap_or_default();
        let made: DecisionConfig = serde_json::from_value(value).map_err(PipelineError::failed)?;
        let here = &judging.decision;
        let read = DecisionConfig {
            rule: made.rule.clone(),
            rule_seed: made.rule_seed,
            embedder: made.embedder.clone(),
            benchmarks: made.benchmarks.clone(),
            columns: made.columns,
            embeddings: made.embeddings,
            split: made.split.clone(),
            ..here.clone()
        };
        let (made, read) = (serde_json::json!(made), serde_json::json!(read));
        if let Some(differs) = differences(&made, &read).first() {
            return Err(PipelineError::usage(format!(
                "the decisions of {} were made with another {}: {} there, {} here",
                self.root.display(),
                differs.field,
                differs.stored,
                differs.given
            )));
        }
        let field = |name: &str| self.ledger.config().get(name).cloned().unwrap_or_default();
        let mut record = field("record");
        // Who made the decisions may not have asked for it.
        if judging.run_config().record[BLUR] == true {
            record[BLUR] = Value::Bool(true);
        }
        Ok(RunConfig { decisions: made, numerics: field("numerics"), record })
    }

    /// Links the ledger into a folder and commits it there, unless it is there already.
    ///
    /// # Errors
    /// Files that cannot be linked or copied, a disk that is full; a folder that has begun to take over other decisions.
    pub(crate) fn take_over(&self, folder: &RunFolder) -> Result<(), PipelineError> {
        let before = &folder.before().committed;
        if before.len() == self.plan.len() {
            return Ok(());
        }
        // A watch may have moved on since a kill came in between: a ledger of both would contradict itself.
        let sum = |line: &ShardLine| line.part(PartKind::Ledger).map(|part| part.crc32c.clone());
        let is_other = |(ordinal, (_, line)): (&u64, &(u64, ShardLine))| {
            self.ledger.shards().get(ordinal).is_none_or(|(_, now)| sum(now) != sum(line))
        };
        if before.iter().any(is_other) {
            let text = format!("it has taken over a part of other decisions than those of {}", self.root.display());
            let error = PipelineError::usage(text).within(folder.root().display());
            return Err(error.with_remedy("a new --run takes these over"));
        }
        folder.take_over(&self.ledger).map_err(PipelineError::failed)
    }
}
