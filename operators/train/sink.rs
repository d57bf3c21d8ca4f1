//! The trainer as a service of the process: one thread that takes batches in order, steps, notes and saves.
//!
//! ```text
//!  order ─ next ─▶ [assembler: tokenise, stack, send] ─ one batch ahead ─▶ [trainer: step, metrics, checkpoint]
//! ```
//!
//! Frontiers: none. `next` blocks the assembler until the order has a batch, and answers `None` at the end of the data or
//! on a stop. Both threads wait for nothing else, so the order's window is always taken in the end.
//!
//! Invariants:
//! 1. A checkpoint's cursor belongs to its weights, whatever the assembler has taken meanwhile.
//! 2. At most two assembled batches exist: one in the step, one ahead.
//! 3. After `None` the step under way ends, a batch already assembled is trained, a checkpoint is written.
//! 4. With other ranks, every step begins with asking whether all of them have a batch. If one has none, for whatever
//!    reason, all stop there, and a batch that waits here is left over.

use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::checkpoint::{Checkpoints, FoundCheckpoint};
use super::error::TrainError;
use super::save_every::SaveEvery;
use super::staging::Staged;
use super::step::{Contrastive, Trainer};
use trommel_core::causes::Cause;

mod steps;

/// A batch ready for the device.
#[derive(Debug)]
pub struct Assembled {
    /// Pixels and tokens.
    pub batch: Batch,
    /// Pass that it belongs to, from 0.
    pub pass: u32,
    /// Raw samples of that pass that had their turn before this batch.
    pub turns: u64,
    /// That its pass has no batch behind it. To be known of the run's last batch; of others the next one tells.
    pub ends_pass: bool,
    /// The order's cursor after this batch: what a checkpoint taken after its step stores.
    pub cursor: serde_json::Value,
    /// Its samples, each by its shard's name and its raw index there, for the file that is left when a loss is not a number. May be empty.
    pub samples: Vec<(Arc<str>, u32)>,
}

/// What the order has next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// The next batch.
    Batch(T),
    /// Nothing more, ever: the last pass is over.
    Over,
    /// Nothing any more, since the run is stopped.
    Stopped,
}

impl<T> From<Option<T>> for Next<T> {
    fn from(batch: Option<T>) -> Self {
        batch.map_or(Self::Stopped, Self::Batch)
    }
}

/// How a run is kept; nothing here changes a weight.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainerConfig {
    /// Folder of metrics and event files: `RUN/logs`.
    pub logs: PathBuf,
    /// Console and TensorBoard every so many steps. open_clip's default is 100.
    pub log_every_steps: u64,
    /// Checkpoints between passes. Default every 30 minutes.
    pub save_every: Option<SaveEvery>,
    /// Whether the end of a pass saves one, with `epoch_N.pt`.
    pub save_passes: bool,
    /// Passes of the whole run, where its length was given so: it is complete when the last one is over, be that before the
    /// schedule's last step. A sample that cannot be read any more may take a batch from every pass.
    pub passes: Option<u32>,
    /// libtorch's threads for this trainer; `None` leaves them.
    pub threads: Option<usize>,
    /// Whether this process writes metrics, event files and checkpoints, and says console lines. False on all ranks but
    /// one; the summary is filled all the same.
    pub writes: bool,
}

impl TrainerConfig {
    /// Defaults, with logs in `logs`.
    #[must_use]
    pub fn new(logs: PathBuf) -> Self {
        let save_every = Some(SaveEvery::Time(Duration::from_secs(30 * 60)));
        Self { logs, log_every_steps: 100, save_every, save_passes: true, passes: None, threads: None, writes: true }
    }
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// All steps of the schedule are done, or all passes where these were asked for.
    Complete,
    /// The data ended, or a stop was asked for, before: the same command resumes.
    Interrupted,
}

/// What a run did.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainSummary {
    /// Why the run ended.
    pub outcome: RunEnd,
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
    /// Waiting for an assembled batch, on the trainer's thread.
    pub wait_seconds: f64,
    /// Waiting for the other ranks to have one.
    pub ranks_seconds: f64,
    /// Samples of this rank that were assembled when another rank had no batch any more.
    pub left_over: u64,
    /// Tokenising and stacking, beside the step before.
    pub assemble_seconds: f64,
    /// Forward, backward, update.
    pub step_seconds: f64,
    /// Averaging gradients over ranks, most of it beside backward.
    pub averaging_seconds: f64,
    /// Of these, those in which backward had nothing left to do.
    pub averaging_exposed_seconds: f64,
    /// Writing checkpoints.
    pub save_seconds: f64,
    /// The last checkpoint.
    pub checkpoint: Option<PathBuf>,
}

impl TrainSummary {
    const fn new(first_step: u64) -> Self {
        Self {
            outcome: RunEnd::Interrupted,
            first_step,
            global_step: first_step,
            samples_seen: 0,
            epoch: 0,
            losses: Vec::new(),
            wait_seconds: 0.0,
            ranks_seconds: 0.0,
            left_over: 0,
            assemble_seconds: 0.0,
            step_seconds: 0.0,
            averaging_seconds: 0.0,
            averaging_exposed_seconds: 0.0,
            save_seconds: 0.0,
            checkpoint: None,
        }
    }
}

/// What the assembling thread hands over: a batch, its way to the device, and the seconds it took to assemble; `None` when the last pass
/// is over.
type Handed = Result<Option<(Assembled, Staged, f64)>, Cause>;

/// Trains until the schedule's last step, the end of the data, or a stop.
///
/// The order's `next` blocks for the next batch of the order (an [`Option`] knows no other end than a stop) and `assemble` tokenises and stacks it, both on a thread of their own
/// that works one batch ahead and never asks for more batches than the run has steps. `say` gets the console's lines.
/// `start` is the checkpoint that `trainer` was restored from, if it was. A checkpoint is written at the end in any case
/// but an error, unless no step was done. Where training fails, the order's `close` is called: a `next` that blocks is to return.
///
/// # Errors
/// A loss that is not finite (with `logs/not_finite_step_N.json` beside it), a batch that cannot be assembled, a disk that
/// is full: the last checkpoint is untouched.
pub fn run_trainer<M: Contrastive, T, N: Into<Next<T>>>(
    trainer: &mut Trainer<M>,
    config: &TrainerConfig,
    checkpoints: &Checkpoints,
    start: Option<&FoundCheckpoint>,
    (mut next, close): (impl FnMut() -> N + Send, impl FnOnce()),
    mut assemble: impl FnMut(T) -> Result<Assembled, Cause> + Send,
    mut say: impl FnMut(&str),
) -> Result<TrainSummary, TrainError> {
    let threads = config.threads;
    let on_its_threads = move || threads.into_iter().for_each(trommel_bridge::set_threads);
    on_its_threads();
    let left = trainer.schedule().last_step().map_or(u64::MAX, |last| last.saturating_sub(trainer.global_step()));
    let mut stager = trainer.stager()?;
    // A rendezvous: the one batch ahead waits in the sender's hand.
    let (sender, batches) = mpsc::sync_channel::<Handed>(0);
    let ahead = move || {
        on_its_threads();
        for _ in 0..left {
            let ordered: Next<T> = next().into();
            let handed = match ordered {
                Next::Stopped => return,
                Next::Over => Ok(None),
                Next::Batch(ordered) => {
                    let began = Instant::now();
                    assemble(ordered).and_then(|ready| {
                        let staged = stager.stage(&ready.batch)?;
                        Ok(Some((ready, staged, began.elapsed().as_secs_f64())))
                    })
                }
            };
            let last = !matches!(handed, Ok(Some(_)));
            if sender.send(handed).is_err() || last {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        let assembler = std::thread::Builder::new().name("assembler".into()).spawn_scoped(scope, ahead);
        let assembler = assembler.map_err(TrainError::file(&config.logs, "starting a thread"))?;
        let done = caught(|| steps::train(trainer, config, checkpoints, start, batches, &mut say));
        if done.is_err() {
            trainer.leave_ranks();
            close(); // else the assembler would wait for data that nobody takes
        }
        match assembler.join() {
            Ok(()) => done,
            Err(panic) => Err(TrainError::panic(panic.as_ref())),
        }
    })
}

/// Runs `body` on the trainer's own thread; a panic becomes an error.
///
/// # Errors
/// The thread cannot be started.
pub fn spawn_trainer(
    body: impl FnOnce() -> Result<TrainSummary, TrainError> + Send + 'static,
) -> std::io::Result<JoinHandle<Result<TrainSummary, TrainError>>> {
    std::thread::Builder::new().name("trainer".into()).spawn(move || caught(body))
}

/// What `body` gives; a panic is an error.
fn caught(body: impl FnOnce() -> Result<TrainSummary, TrainError>) -> Result<TrainSummary, TrainError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(body))
        .unwrap_or_else(|panic| Err(TrainError::panic(panic.as_ref())))
}
