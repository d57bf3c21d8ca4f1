//! What a training run is told, and what it stands in.

use std::path::PathBuf;
use std::sync::Arc;

use trommel_core::stop::Stop;
use trommel_model::Architecture;
use trommel_train::{Length, SaveEvery, TextPadding, TrainConfig};

use crate::order_defaults::OrderFlags;
use crate::together::Together;
use trommel_pipelines::config::JudgeConfig;
use trommel_pipelines::progress::Progress;

/// How long a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunLength {
    /// Optimiser steps.
    Steps(u64),
    /// Samples trained on, in total.
    Samples(u64),
    /// Passes over what is kept: needs to know how many samples there are.
    Passes(u32),
}

impl From<RunLength> for Length {
    fn from(length: RunLength) -> Self {
        match length {
            RunLength::Steps(steps) => Self::Steps(steps),
            RunLength::Samples(samples) => Self::Samples(samples),
            RunLength::Passes(passes) => Self::Passes(passes),
        }
    }
}

/// What a training run is told beside what judges.
#[derive(Clone, Debug)]
pub struct TrainRun {
    /// What judges, and on which machine.
    pub judge: JudgeConfig,
    /// A finished run folder whose decisions are taken over, instead of judging.
    pub decisions: Option<PathBuf>,
    /// A split of `trommel select` that is trained on, instead of judging.
    pub split: Option<PathBuf>,
    /// open_clip's name of the model, or its JSON.
    pub model: String,
    /// Weights to start from.
    pub pretrained: Option<PathBuf>,
    /// Seed of the initialisation where there is no file, and of crops.
    pub seed: u64,
    /// Batch, optimiser, schedule and precision.
    pub recipe: TrainConfig,
    /// What `--text-padding` says: `None` takes what the run was begun with, and a new run the fewest tokens that its model allows.
    pub text_padding: Option<TextPadding>,
    /// Its length in steps, samples or passes.
    pub length: RunLength,
    /// Raw samples of a pass, where the length is in passes and the user knows it.
    pub pass_samples: Option<u64>,
    /// What is said of the order.
    pub order: OrderFlags,
    /// Checkpoints between passes.
    pub save_every: Option<SaveEvery>,
    /// Whether the end of every pass is a checkpoint too.
    pub save_passes: bool,
    /// Of those between passes the newest so many are kept; the ends of passes are kept all.
    pub keep_checkpoints: usize,
    /// A run of a smaller length is made longer.
    pub extend: bool,
    /// A shard that stays unavailable is a hole for its pass.
    pub skip_failed: bool,
    /// Console lines every so many steps.
    pub log_every_steps: u64,
}

/// Who trains what, and with whom.
pub(crate) struct Setting<'a> {
    /// The recipe and the length.
    pub(crate) run: &'a TrainRun,
    /// The run's folder and machine.
    pub(crate) config: &'a JudgeConfig,
    /// The architecture that is trained.
    pub(crate) model: Arc<dyn Architecture>,
    /// The run's processes.
    pub(crate) together: &'a Together,
    /// Ends the training at a checkpoint.
    pub(crate) stop: &'a Stop,
    /// The run's counters.
    pub(crate) progress: &'a Arc<Progress>,
}
