//! The trainer's side of the rendezvous: a step a batch, its metrics, and checkpoints when they are due.

use std::sync::mpsc::Receiver;
use std::time::Instant;

use serde_json::json;

use super::{Assembled, Handed, RunEnd, TrainSummary, TrainerConfig};
use crate::checkpoint::{Checkpoints, FoundCheckpoint, Position};
use crate::error::TrainError;
use crate::files::replace;
use crate::metrics::Metrics;
use crate::save_every::SaveEvery;
use crate::step::{Contrastive, Trainer};
use trommel_core::causes::Causes;

/// Takes batches until the last step, the last pass, or a rank that has none; the rendezvous is taken down when this returns.
#[allow(clippy::needless_pass_by_value)]
pub(super) fn train<M: Contrastive>(
    trainer: &mut Trainer<M>,
    config: &TrainerConfig,
    checkpoints: &Checkpoints,
    start: Option<&FoundCheckpoint>,
    batches: Receiver<Handed>,
    say: &mut impl FnMut(&str),
) -> Result<TrainSummary, TrainError> {
    let mut metrics = open_metrics(trainer, config, say)?;
    let mut progress = Progress::begin(trainer, config, checkpoints, start);
    let mut end = Instant::now();
    let last_step = trainer.schedule().last_step();
    let is_done = |step: u64| last_step.is_some_and(|last| step >= last);
    while !is_done(trainer.global_step()) {
        let (began, step) = (Instant::now(), trainer.global_step());
        let handed = batches.recv().ok();
        let waited = began.elapsed().as_secs_f64();
        progress.summary.wait_seconds += waited;
        let began = Instant::now();
        let all_have = trainer.agree(matches!(handed, Some(Ok(Some(_)))))?;
        progress.summary.ranks_seconds += began.elapsed().as_secs_f64();
        let Some(handed) = handed else { break };
        let handed = handed.map_err(|source| TrainError::Assemble { step, source })?;
        let Some((ready, staged, assembled)) = handed else {
            progress.is_over = true;
            break;
        };
        if !all_have {
            progress.summary.left_over = ready.batch.samples() as u64;
            break;
        }
        progress.summary.assemble_seconds += assembled;
        progress.enter(ready.pass, trainer)?;
        trainer.at = (ready.pass, ready.turns);
        let before = (step, trainer.samples_seen());
        let began = Instant::now();
        let noted = trainer.step_staged(&staged).inspect_err(|error| {
            let rank = trainer.ranks().map_or(0, |ranks| ranks.group().rank());
            leave_trace(config, rank, error, &ready, say);
        });
        let noted = noted?;
        drop(staged);
        progress.summary.step_seconds += began.elapsed().as_secs_f64();
        progress.summary.losses.push(noted.loss);
        progress.position.cursor = ready.cursor;
        progress.ends_pass = ready.ends_pass;
        let batch_seconds = end.elapsed().as_secs_f64();
        end = Instant::now();
        let after = (trainer.global_step(), trainer.samples_seen());
        let pass = progress.position.pass;
        let noted = metrics.as_mut().map(|metrics| metrics.note(&noted, pass, after.1, waited, batch_seconds));
        if let Some(line) = noted.transpose()?.flatten() {
            say(&line);
        }
        let is_due = |every: SaveEvery| every.is_due(progress.saved_at.elapsed(), before, after);
        if !is_done(after.0) && config.save_every.is_some_and(is_due) {
            progress.save(trainer)?;
        }
    }
    if let Some(line) = metrics.as_mut().map(Metrics::finish).transpose()?.flatten() {
        say(&line);
    }
    progress.finish(trainer, say)
}

/// Metrics of the process that writes them.
fn open_metrics<M: Contrastive>(
    trainer: &Trainer<M>,
    config: &TrainerConfig,
    say: &mut impl FnMut(&str),
) -> Result<Option<Metrics>, TrainError> {
    if !config.writes {
        return Ok(None);
    }
    let total_steps = trainer.schedule().total_steps();
    let mut metrics = Metrics::open(&config.logs, trainer.global_step(), total_steps, config.log_every_steps)?;
    metrics.set_devices(trainer.ranks().map_or(1, |ranks| ranks.group().size()));
    if let Some(note) = trainer.schedule().note(trainer.config()) {
        say(&note);
    }
    Ok(Some(metrics))
}

/// How far a run has come, and how far it is saved.
struct Progress<'a> {
    config: &'a TrainerConfig,
    checkpoints: &'a Checkpoints,
    position: Position,
    summary: TrainSummary,
    saved_at: Instant,
    saved_step: u64,
    /// Whether the last pass is over.
    is_over: bool,
    /// Whether the last batch was the last of its pass.
    ends_pass: bool,
}

impl<'a> Progress<'a> {
    fn begin<M: Contrastive>(
        trainer: &Trainer<M>,
        config: &'a TrainerConfig,
        checkpoints: &'a Checkpoints,
        start: Option<&FoundCheckpoint>,
    ) -> Self {
        let beginning = || Position { pass: 0, epoch: 0, cursor: json!(null) };
        Self {
            config,
            checkpoints,
            position: start.map_or_else(beginning, |found| found.state.position.clone()),
            summary: TrainSummary::new(trainer.global_step()),
            saved_at: Instant::now(),
            saved_step: start.map_or(0, |_| trainer.global_step()),
            is_over: false,
            ends_pass: false,
        }
    }

    /// Goes on with the pass of the next batch.
    fn enter<M: Contrastive>(&mut self, pass: u32, trainer: &Trainer<M>) -> Result<(), TrainError> {
        if pass > self.position.pass {
            // The weights are still those of the pass's last step, and so is the cursor.
            self.position.epoch = pass;
            if self.config.save_passes && trainer.global_step() > 0 {
                self.save(trainer)?;
            }
            self.position.pass = pass;
        }
        // A pass that was over may have got more since, by a shard that was mended.
        self.position.epoch = pass;
        Ok(())
    }

    fn save<M: Contrastive>(&mut self, trainer: &Trainer<M>) -> Result<(), TrainError> {
        // All ranks look, and end alike: their weights are the same.
        trainer.check_weights()?;
        if self.config.writes {
            let began = Instant::now();
            self.summary.checkpoint = Some(self.checkpoints.save(trainer, &self.position)?);
            self.summary.save_seconds += began.elapsed().as_secs_f64();
        }
        (self.saved_at, self.saved_step) = (Instant::now(), trainer.global_step());
        Ok(())
    }

    /// The last checkpoint, and the summary.
    fn finish<M: Contrastive>(
        mut self,
        trainer: &Trainer<M>,
        say: &mut impl FnMut(&str),
    ) -> Result<TrainSummary, TrainError> {
        let (config, schedule, steps) = (self.config, trainer.schedule(), trainer.global_step());
        let (last_step, total_steps) = (schedule.last_step(), schedule.total_steps());
        let is_over = self.is_over && config.passes.is_some();
        if is_over && config.writes && last_step.is_some() {
            say(&format!(
                "the last pass is over after {steps} of the {total_steps} steps that the schedule was made for"
            ));
        }
        let complete = is_over || last_step.is_some_and(|last| steps >= last);
        if complete {
            self.summary.outcome = RunEnd::Complete;
        }
        let ends_pass = self.ends_pass || config.passes == Some(self.position.pass + 1);
        if complete && ends_pass {
            self.position.epoch = self.position.pass + 1;
        }
        if steps > 0 && (complete && ends_pass || self.saved_step != steps) {
            self.save(trainer)?;
        }
        let (averaging, mut summary) = (trainer.averaging(), self.summary);
        (summary.averaging_seconds, summary.averaging_exposed_seconds) = (averaging.seconds, averaging.exposed_seconds);
        summary.global_step = steps;
        summary.samples_seen = trainer.samples_seen();
        summary.epoch = self.position.epoch;
        Ok(summary)
    }
}

/// Writes down the batch whose loss or gradient was not finite: each rank its own rows.
fn leave_trace(config: &TrainerConfig, rank: usize, error: &TrainError, ready: &Assembled, say: &mut impl FnMut(&str)) {
    let TrainError::NotFinite { step, what, value, lr, logit_scale } = error else { return };
    let of_rank = if rank == 0 { String::new() } else { format!(".rank_{rank}") };
    let path = config.logs.join(format!("not_finite_step_{step:08}{of_rank}.json"));
    let samples = ready.samples.iter().map(|(shard, index)| json!({"shard": &**shard, "index": index}));
    let trace = json!({
        "step": step, "what": what, "value": value.to_string(), "lr": lr, "logit_scale": logit_scale,
        "pass": ready.pass, "samples": samples.collect::<Vec<_>>(),
    });
    match replace(&path, format!("{trace:#}\n").as_bytes()) {
        Ok(()) => say(&format!("the batch's samples are listed in {}", path.display())),
        Err(error) => say(&Causes(&error).to_string()),
    }
}
