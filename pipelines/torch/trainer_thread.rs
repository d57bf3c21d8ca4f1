//! The trainer's thread: batches of the order, as the rows of this rank, into steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use trommel_cluster::Samples;
use trommel_core::causes::Cause;
use trommel_core::sample::SampleId;
use trommel_core::stop::Stop;
use trommel_dataflow::order::{Cursor, Held};
use trommel_decide::ShardNames;
use trommel_ledger::run_folder::LOGS;
use trommel_train::share::{Outbox, rows};
use trommel_train::to_order::{TrainOrder, TrainSample};
use trommel_train::{Next, RunEnd, TrainError, TrainSummary, TrainerConfig, run_trainer, spawn_trainer};

use crate::ranks::fetch;
use crate::train_run::{RunLength, Setting};
use crate::trainer_reach::Trained;
use crate::trainer_setup::{Prepared, assemble};
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::irregular_turns::IrregularTurns;
use trommel_pipelines::phase::Phase;

/// A batch's pass, turns before it and whether it ends the pass; the place after it; this rank's rows.
type Mine = ((u32, u64, bool), Cursor, Vec<Held<TrainSample>>);

/// The batches of the order.
pub(crate) struct Batches {
    /// Gives the batches in order.
    pub(crate) order: TrainOrder,
    /// Whether more may come than is known, so that nobody knows whether a pass is over.
    pub(crate) grows: bool,
    /// This rank, and how many there are.
    pub(crate) rank: (usize, usize),
    /// What other ranks are going to ask for.
    pub(crate) outbox: Outbox,
    /// The other ranks' samples.
    pub(crate) samples: Option<Samples>,
    /// Where irregular turns are written.
    pub(crate) irregular: Option<IrregularTurns>,
    /// How far it has come.
    pub(crate) trained: Trained,
    /// Stable names of shards.
    pub(crate) names: ShardNames,
    /// Microseconds that were waited for batches.
    pub(crate) waited: Arc<AtomicU64>,
}

/// Ends the run, for it has been trained or cannot be, be it for a panic: the dataflow would wait for ever for somebody to take its samples.
struct EndsRun(TrainOrder, Stop);

impl EndsRun {
    fn now(&self) {
        self.0.service().close();
        self.1.request();
    }
}

impl Drop for EndsRun {
    fn drop(&mut self) {
        self.now();
    }
}

/// A schedule's steps, as they are asked for.
struct Asked {
    batch: usize,
    step: u64,
    last: Option<u64>,
}

impl Batches {
    /// The next batch.
    fn next(&mut self, asked: &mut Asked) -> Next<Result<Mine, Cause>> {
        let (began, (rank, ranks)) = (Instant::now(), self.rank);
        self.trained.wait(true);
        let order = self.order.service();
        let Some(ordered) = order.next_batch(asked.batch) else {
            return if order.is_over() { Next::Over } else { Next::Stopped };
        };
        asked.step += 1;
        let irregular = order.take_irregular();
        if let Some(Err(error)) = self.irregular.as_mut().map(|file| file.add(&irregular)) {
            return Next::Batch(Err(error.into()));
        }
        let Some(ends_pass) = self.ends_pass(asked) else { return Next::Stopped };
        self.trained.wait(false);
        let samples = self.samples.as_ref();
        let mut fetch = |owner: usize, pass: u32, ids: &[SampleId]| fetch(samples, owner, pass, ids);
        let rows = rows(ordered.pass, ordered.samples, rank, ranks, &self.outbox, &mut fetch).transpose();
        self.waited.fetch_add(u64::try_from(began.elapsed().as_micros()).unwrap_or(0), Ordering::Relaxed);
        let ordered = |rows| ((ordered.pass, ordered.turns_before, ends_pass), ordered.cursor_after, rows);
        rows.map_or(Next::Stopped, |rows| Next::Batch(rows.map(ordered).map_err(Cause::from)))
    }

    /// Whether the run's last batch ends its pass: asked before it is trained, so that a run which is stopped meanwhile takes it when it is
    /// resumed. `None` after a stop.
    fn ends_pass(&self, asked: &Asked) -> Option<bool> {
        if self.grows || asked.last != Some(asked.step) {
            return Some(false);
        }
        match self.order.service().has_another(asked.batch) {
            Some(another) => Some(!another),
            // A shard that cannot be had stops the run; it stands in this pass, which goes on then.
            None if self.rank.1 == 1 && !self.order.failed().is_empty() => Some(false),
            None => None,
        }
    }
}

/// Starts it; it ends the run when enough is trained, or nothing more can be.
pub(crate) fn start(
    setting: &Setting<'_>,
    prepared: Prepared,
    mut batches: Batches,
) -> Result<JoinHandle<Result<TrainSummary, TrainError>>, PipelineError> {
    let Prepared { mut trainer, checkpoints, found, threads, .. } = prepared;
    let run = setting.run;
    let mut logging = TrainerConfig::new(setting.config.run.join(LOGS));
    logging.log_every_steps = run.log_every_steps;
    logging.save_passes = run.save_passes;
    logging.save_every = run.save_every.or(logging.save_every);
    logging.passes = match run.length {
        RunLength::Passes(passes) => Some(passes),
        RunLength::Steps(_) | RunLength::Samples(_) => None,
    };
    logging.threads = Some(threads);
    logging.writes = batches.rank.0 == 0;
    let batch = run.recipe.batch_samples;
    let mut asked = Asked { batch, step: trainer.global_step(), last: trainer.schedule().last_step() };
    let captions = setting.model.captions().map_err(PipelineError::usage)?;
    let (size, device) = (setting.model.preprocess().size as usize, trainer.device());
    let (order, trained, names) = (batches.order.service().clone(), batches.trained.clone(), batches.names.clone());
    let cluster = setting.together.cluster().cloned();
    let (ends_run, progress) = (EndsRun(batches.order.clone(), setting.stop.clone()), setting.progress.clone());
    spawn_trainer(move || {
        let done = run_trainer(
            &mut trainer,
            &logging,
            &checkpoints,
            found.as_ref(),
            (|| batches.next(&mut asked), || ends_run.now()),
            |mine: Result<Mine, Cause>| {
                let (place, cursor, rows) = mine?;
                progress.steps.fetch_add(1, Ordering::Relaxed);
                trained.reach(&cursor);
                assemble(place, &cursor, rows, &*captions, &names, size, device)
            },
            |line| tracing::info!("{line}"),
        );
        if logging.passes.is_some() && done.as_ref().is_ok_and(|done| done.outcome == RunEnd::Complete) {
            // What lies behind the last batch of the last pass is counted too.
            let _over = order.next_batch(batch);
        }
        if let Some(cluster) = cluster.filter(|_| logging.passes.is_some() && done.is_ok()) {
            // Who ends the run stops the others too, whose orders may not have come so far. One that failed, or is lost, ends all of them anyway.
            let _ended = cluster.control().barrier(Phase::PassesOver.name(), "");
        }
        done
    })
    .map_err(PipelineError::failed)
}
