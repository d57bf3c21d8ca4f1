//! What a training run settles at its first start and keeps: `training.json` in its folder. Once something is trained a resume
//! finds it there, so that a ledger that has grown meanwhile, or another program's defaults, does not change the run under way.

use std::path::Path;

use serde::{Deserialize, Serialize};
use trommel_core::durable::if_there;
use trommel_dataflow::order::OrderConfig;
use trommel_ledger::run_folder::RunFolder;
use trommel_train::checkpoint::standing;
use trommel_train::files::replace;
use trommel_train::{Course, Length};

use crate::order_defaults::{Size, describe};
use crate::pass_count::PassCount;
use crate::train_run::{RunLength, TrainRun};
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::training_folder::{CHECKPOINTS, SETTLED_FILE};

/// Version of its layout.
const SCHEMA: u32 = 1;

/// `training.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstStart {
    schema: u32,
    /// Lanes, window and seed of the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    order: Option<OrderConfig>,
    /// What stands for each folder where they are dealt, if it is not its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dealt_as: Option<Vec<String>>,
    /// Samples of a pass, where the run's length was given in passes over what nobody had judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pass: Option<PassCount>,
    /// The ledger's incarnation that began to train: what earlier ones rejected was read anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    /// Shards that the samples were counted over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shards: Option<usize>,
    /// Batches of a pass, where a finished ledger or a split knew them: the ledger may know more of them later, when a shard was mended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pass_batches: Option<u64>,
}

impl FirstStart {
    /// What the folder has; an empty one where it has nothing.
    fn read(run: &Path) -> Result<Self, PipelineError> {
        let path = run.join(SETTLED_FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { schema: SCHEMA, ..Self::default() });
            }
            Err(error) => return Err(PipelineError::at(&path)(error)),
        };
        let first: Self =
            serde_json::from_slice(&text).map_err(|error| PipelineError::usage(error).within(path.display()))?;
        if first.schema != SCHEMA {
            let other = format!("schema {}, this program reads {SCHEMA}", first.schema);
            return Err(PipelineError::usage(other).within(path.display()));
        }
        Ok(first)
    }

    /// Writes it where it differs from what the folder has: of several processes only the first does.
    fn write(&self, run: &Path) -> Result<(), PipelineError> {
        if Self::read(run)? == *self {
            return Ok(());
        }
        let mut text = serde_json::to_vec_pretty(self).map_err(PipelineError::failed)?;
        text.push(b'\n');
        replace(&run.join(SETTLED_FILE), &text).map_err(PipelineError::failed)
    }
}

/// Whether something was trained already: from there on nothing of the order may change.
///
/// # Errors
/// Checkpoints that cannot be listed: nobody may take them for none.
pub(crate) fn has_trained(run: &Path) -> Result<bool, PipelineError> {
    let folder = run.join(CHECKPOINTS);
    let steps = if_there(standing(&folder)).map_err(PipelineError::at(&folder))?;
    Ok(steps.is_some_and(|steps| !steps.is_empty()))
}

/// Shards that are not judged any more: those of which samples were read. Where something is trained, those too that were rejected
/// since it began: the pass under way has an order without them.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn judged(run: &Path, folder: &RunFolder) -> Result<Vec<u64>, PipelineError> {
    if !has_trained(run)? {
        return Ok(folder.before().read().collect());
    }
    let since = FirstStart::read(run)?.since.unwrap_or(0);
    let stays = folder
        .before()
        .committed
        .iter()
        .filter(|(_, (incarnation, line))| line.rejected.is_none() || *incarnation >= since);
    Ok(stays.map(|(&ordinal, _)| ordinal).collect())
}

/// What a run's configuration leaves to its first start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settled {
    /// Lanes, window and seed of the order.
    pub(crate) order: OrderConfig,
    /// What stands for each class folder where a pass permutes them; `None` where shards' names do. Kept, for a folder's size may change
    /// where nothing was read of it.
    pub(crate) dealt_as: Option<Vec<String>>,
    /// Samples of a pass, where the length of the run stands on them.
    pub(crate) pass: Option<PassCount>,
    /// Batches of a pass, where a finished ledger knew them.
    pass_batches: Option<u64>,
    /// Shards that all of it is made for.
    shards: usize,
}

impl Settled {
    /// What the run in `root` was begun with, if something was trained in it; else what the flags say, `size` suggests and
    /// `count` knows. Where a pass is known to be `exact`ly so long, no flag says another length. Worked out on process 0, for all.
    ///
    /// # Errors
    /// Flags that say something else than what was trained with; what `count` says.
    pub(crate) fn find(
        run: &TrainRun,
        root: &Path,
        size: &Size,
        exact: Option<&PassCount>,
        dealt_as: impl FnOnce() -> Option<Vec<String>>,
        count: impl FnOnce() -> Result<Option<PassCount>, PipelineError>,
    ) -> Result<Self, PipelineError> {
        let (first, trained) = (FirstStart::read(root)?, has_trained(root)?);
        let dealt_as = if trained { first.dealt_as } else { dealt_as() };
        let order = match first.order {
            Some(begun) if trained => {
                run.order.must_be(&begun)?;
                begun
            }
            // Begun before orders were written down; the checkpoint's hash tells whether the flags are the same.
            None if trained => run.order.or_default(),
            // Nothing stands on an order yet: shards, batch and flags may be others than at the first start.
            _ => run.order.settle(size),
        };
        order.validate().map_err(PipelineError::usage)?;
        tracing::info!("{}", describe(&order, size));
        let shards = size.shards;
        let RunLength::Passes(passes) = run.length else {
            return Ok(Self { order, dealt_as, pass: None, pass_batches: None, shards });
        };
        let begun = first.pass.filter(|_| trained || first.shards.is_none_or(|counted| counted == shards));
        // What was trained without a count knew its batches.
        let count = || if trained { Ok(None) } else { count() };
        let pass = pass(run, begun, trained, exact, count)?;
        if let Some(PassCount { samples, source }) = &pass {
            tracing::info!(
                "--passes {passes}: {samples} samples a pass ({source}); the learning rate follows the share of the passes \
                 that is gone"
            );
        }
        Ok(Self { order, dealt_as, pass, pass_batches: first.pass_batches.filter(|_| trained), shards })
    }

    /// Writes it into the run's folder: once the run can begin, for one that is refused may come again with other means.
    pub(crate) fn keep(&self, root: &Path, incarnation: u64) -> Result<(), PipelineError> {
        let since = if has_trained(root)? { FirstStart::read(root)?.since } else { Some(incarnation) };
        let (order, pass, pass_batches) = (Some(self.order.clone()), self.pass.clone(), self.pass_batches);
        let shards = pass.as_ref().map(|_| self.shards);
        let dealt_as = self.dealt_as.clone();
        FirstStart { schema: SCHEMA, order, dealt_as, pass, since, shards, pass_batches }.write(root)
    }

    /// Along what the schedule is laid out. A run of passes over what is judged is one of steps, for their number is known, and so is one
    /// over a split that keeps `kept` samples; over anything else it ends with its passes.
    ///
    /// # Errors
    /// A pass that does not fill one batch.
    pub(crate) fn course(
        &mut self,
        run: &TrainRun,
        folder: &RunFolder,
        kept: Option<u64>,
    ) -> Result<Course, PipelineError> {
        match (&self.pass, run.length) {
            (Some(pass), RunLength::Passes(passes)) => Ok(Course::Passes { passes, pass_samples: pass.samples }),
            (None, RunLength::Passes(_)) => {
                let batches = self.pass_batches.map_or_else(|| known_batches(run, folder, kept), Ok)?;
                self.pass_batches = Some(batches);
                steps(run, self.pass_batches)
            }
            (_, RunLength::Steps(_) | RunLength::Samples(_)) => steps(run, None),
        }
    }
}

/// Samples of a pass, from the user, from the run's beginning, or counted.
fn pass(
    run: &TrainRun,
    begun: Option<PassCount>,
    trained: bool,
    exact: Option<&PassCount>,
    count: impl FnOnce() -> Result<Option<PassCount>, PipelineError>,
) -> Result<Option<PassCount>, PipelineError> {
    let told = run.pass_samples.map(|samples| PassCount { samples, source: "--train-num-samples".into() });
    let refusal = |begun: &str| {
        let said = run.pass_samples.unwrap_or(0);
        Err(PipelineError::usage(format!(
            "--train-num-samples {said}: this run was begun with {begun}; leave it out, or take another --run"
        )))
    };
    match (begun, told) {
        (Some(begun), Some(told)) if trained && begun.samples != told.samples => {
            refusal(&format!("{} samples a pass ({})", begun.samples, begun.source))
        }
        (None, Some(_)) if trained => refusal("a finished ledger, which knows its samples"),
        (Some(begun), None) => Ok(Some(begun)),
        // A start that was killed before its first checkpoint goes on along the learning rate that it had.
        (Some(begun), Some(told)) if begun.samples == told.samples => Ok(Some(begun)),
        (_, Some(told)) => match exact {
            None => Ok(Some(told)),
            Some(exact) if exact.samples == told.samples => Ok(None),
            Some(PassCount { samples, source }) => Err(PipelineError::usage(format!(
                "--train-num-samples {}: {source} knows that a pass has {samples} samples; leave it out",
                told.samples
            ))),
        },
        (None, None) => count(),
    }
}

/// The course of a run whose number of steps is known: of one in passes, where it is known how many batches a pass has.
///
/// # Errors
/// A length of nothing, or in passes of which nobody knows the batches.
pub(crate) fn steps(run: &TrainRun, pass_batches: Option<u64>) -> Result<Course, PipelineError> {
    let steps = Length::from(run.length).total_steps(run.recipe.batch_samples, pass_batches);
    steps.map(Course::Steps).map_err(PipelineError::usage)
}

/// Batches of a pass over a split that keeps `kept` samples, or over a finished ledger.
fn known_batches(run: &TrainRun, folder: &RunFolder, kept: Option<u64>) -> Result<u64, PipelineError> {
    let (counts, batch) = (folder.before().counts(), run.recipe.batch_samples as u64);
    let captioned = kept.unwrap_or_else(|| counts.kept - counts.remarks.get("no_caption").unwrap_or(0));
    if captioned < batch {
        return Err(PipelineError::usage(format!(
            "{captioned} kept samples with a caption do not fill one batch of {batch}"
        )));
    }
    Ok(captioned / batch)
}
