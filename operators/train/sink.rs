//! The trainer as a service of the process: one thread that takes batches in order, steps, notes and saves.
//!
//! The thread pulls: `next` blocks until the order has the next batch, and answers `None` at the end of the data or on a
//! stop. The trainer waits for nothing else, so the order's window is always taken in the end. Time is split into
//! waiting, assembling, stepping and saving.

use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use super::batch::Batch;
use super::checkpoint::{Checkpoints, Found, Position};
use super::error::TrainError;
use super::files::replace;
use super::metrics::Metrics;
use super::save_every::SaveEvery;
use super::step::{Contrastive, Trainer};

/// A batch ready for the device.
#[derive(Clone, Debug)]
pub struct Assembled {
    /// Pixels and tokens.
    pub batch: Batch,
    /// Pass that it belongs to, from 0.
    pub pass: u32,
    /// The order's cursor after this batch: what a checkpoint taken after its step stores.
    pub cursor: serde_json::Value,
    /// Its samples' names, for the file that is left when a loss is not a number. May be empty.
    pub keys: Vec<String>,
}

/// How a run is kept; nothing here changes a weight.
#[derive(Clone, Debug, PartialEq)]
pub struct RunConfig {
    /// Folder of metrics and event files: `RUN/logs`.
    pub logs: PathBuf,
    /// Console and TensorBoard every so many steps. open_clip's default is 100.
    pub log_every_steps: u64,
    /// Checkpoints between passes. Default every 30 minutes.
    pub save_every: Option<SaveEvery>,
    /// Whether the end of a pass saves one, with `epoch_N.pt`.
    pub save_passes: bool,
    /// libtorch's threads for this trainer; `None` leaves them.
    pub threads: Option<i32>,
}

impl RunConfig {
    /// Defaults, with logs in `logs`.
    #[must_use]
    pub fn new(logs: PathBuf) -> Self {
        let save_every = Some(SaveEvery::Time(Duration::from_secs(30 * 60)));
        Self { logs, log_every_steps: 100, save_every, save_passes: true, threads: None }
    }
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps of the schedule are done.
    Complete,
    /// The data ended, or a stop was asked for, before: the same command resumes.
    Interrupted,
}

/// What a run did.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Why it ended.
    pub outcome: Outcome,
    /// Step that this process began with.
    pub first_step: u64,
    /// Finished steps of the whole run.
    pub global_step: u64,
    /// Samples in them.
    pub samples_seen: u64,
    /// Finished passes.
    pub epoch: u32,
    /// Loss of each step of this process.
    pub losses: Vec<f32>,
    /// Waiting for the order.
    pub wait_seconds: f64,
    /// Tokenising and stacking.
    pub assemble_seconds: f64,
    /// Forward, backward, update.
    pub step_seconds: f64,
    /// Writing checkpoints.
    pub save_seconds: f64,
    /// The last checkpoint.
    pub checkpoint: Option<PathBuf>,
}

/// Trains until the schedule's last step, the end of the data, or a stop.
///
/// `next` blocks for the next batch of the order; `assemble` tokenises and stacks it; `say` gets the console's lines.
/// `start` is the checkpoint that `trainer` was restored from, if it was. A checkpoint is written at the end in any case
/// but an error.
///
/// # Errors
/// A loss that is not finite (with `logs/not_finite_step_N.json` beside it), a batch that cannot be assembled, a disk that
/// is full: the last checkpoint is untouched.
pub fn run_trainer<M: Contrastive, T>(
    trainer: &mut Trainer<M>,
    config: &RunConfig,
    checkpoints: &Checkpoints,
    start: Option<&Found>,
    mut next: impl FnMut() -> Option<T>,
    mut assemble: impl FnMut(T) -> Result<Assembled, String>,
    mut say: impl FnMut(&str),
) -> Result<Summary, TrainError> {
    if let Some(threads) = config.threads {
        tch::set_num_threads(threads);
    }
    let total_steps = trainer.schedule().total_steps();
    let mut metrics = Metrics::open(&config.logs, trainer.global_step(), total_steps, config.log_every_steps)?;
    if let Some(note) = trainer.schedule().note(trainer.config()) {
        say(&note);
    }
    // A cursor of null is the order's beginning.
    let mut position =
        start.map_or(Position { pass: 0, epoch: 0, cursor: json!(null) }, |found| found.state.position.clone());
    let mut summary = Summary {
        outcome: Outcome::Interrupted,
        first_step: trainer.global_step(),
        global_step: trainer.global_step(),
        samples_seen: trainer.samples_seen(),
        epoch: position.epoch,
        losses: Vec::new(),
        wait_seconds: 0.0,
        assemble_seconds: 0.0,
        step_seconds: 0.0,
        save_seconds: 0.0,
        checkpoint: None,
    };
    let (mut saved_at, mut saved_step, mut end) =
        (Instant::now(), start.map(|_| trainer.global_step()), Instant::now());
    let save = |trainer: &Trainer<M>, position: &Position, ends_pass: bool, summary: &mut Summary| {
        let began = Instant::now();
        summary.checkpoint = Some(checkpoints.save(trainer, position, ends_pass)?);
        summary.save_seconds += began.elapsed().as_secs_f64();
        Ok::<_, TrainError>(())
    };

    while trainer.global_step() < total_steps {
        let began = Instant::now();
        let Some(ordered) = next() else { break };
        let waited = began.elapsed().as_secs_f64();
        summary.wait_seconds += waited;
        let began = Instant::now();
        let step = trainer.global_step();
        let ready = assemble(ordered).map_err(|problem| TrainError::Assemble { step, problem })?;
        let assembled = began.elapsed().as_secs_f64();
        summary.assemble_seconds += assembled;
        if ready.pass > position.pass {
            // The weights are still those of the pass's last step, and so is the cursor.
            position.epoch = ready.pass;
            if config.save_passes && summary.first_step < step {
                save(trainer, &position, true, &mut summary)?;
                (saved_at, saved_step) = (Instant::now(), Some(step));
            }
            position.pass = ready.pass;
        }
        let before = (step, trainer.samples_seen());
        let began = Instant::now();
        let noted = trainer.step(&ready.batch).inspect_err(|error| leave_trace(config, error, &ready, &mut say))?;
        summary.step_seconds += began.elapsed().as_secs_f64();
        summary.losses.push(noted.loss);
        position.cursor = ready.cursor;
        let batch_seconds = end.elapsed().as_secs_f64();
        end = Instant::now();
        let seen = trainer.samples_seen();
        if let Some(line) = metrics.note(&noted, position.pass, seen, waited + assembled, batch_seconds)? {
            say(&line);
        }
        let after = (trainer.global_step(), seen);
        if config.save_every.is_some_and(|every| every.is_due(saved_at.elapsed(), before, after)) {
            save(trainer, &position, false, &mut summary)?;
            (saved_at, saved_step) = (Instant::now(), Some(after.0));
        }
    }
    if trainer.global_step() >= total_steps {
        summary.outcome = Outcome::Complete;
    }
    if saved_step != Some(trainer.global_step()) {
        save(trainer, &position, false, &mut summary)?;
    }
    summary.global_step = trainer.global_step();
    summary.samples_seen = trainer.samples_seen();
    summary.epoch = position.epoch;
    Ok(summary)
}

/// Runs `body` on the trainer's own thread; a panic becomes an error.
///
/// # Errors
/// The thread cannot be started.
pub fn spawn_trainer(
    body: impl FnOnce() -> Result<Summary, TrainError> + Send + 'static,
) -> std::io::Result<JoinHandle<Result<Summary, TrainError>>> {
    std::thread::Builder::new().name("trainer".into()).spawn(move || {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(TrainError::Panic(text.unwrap_or_else(|| "no message".into())))
        })
    })
}

/// Writes down the batch whose loss or gradient was not finite.
fn leave_trace(config: &RunConfig, error: &TrainError, ready: &Assembled, say: &mut impl FnMut(&str)) {
    let TrainError::NotFinite { step, what, value, lr, logit_scale } = error else { return };
    let path = config.logs.join(format!("not_finite_step_{step:08}.json"));
    let trace = json!({
        "step": step, "what": what, "value": value.to_string(), "lr": lr, "logit_scale": logit_scale,
        "pass": ready.pass, "keys": ready.keys,
    });
    match replace(&path, format!("{trace:#}\n").as_bytes()) {
        Ok(()) => say(&format!("the batch's samples are listed in {}", path.display())),
        Err(error) => say(&error.to_string()),
    }
}
