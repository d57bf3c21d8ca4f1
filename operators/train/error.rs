//! What ends a training run.

use std::path::{Path, PathBuf};

use trommel_core::causes::Cause;

/// A training run that cannot go on, with the place.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A setting that makes no sense, alone or with the others.
    #[error("training: {0}")]
    Config(String),
    /// A batch of another shape than the trainer's.
    #[error("training batch: {0}")]
    Batch(String),
    /// The model refused its input.
    #[error("step {step}, {tower} tower")]
    Model {
        /// Number of the step, from 0.
        step: u64,
        /// `image` or `text`.
        tower: &'static str,
        /// The model's own words.
        #[source]
        source: Cause,
    },
    /// libtorch refused an operation.
    #[error("{operation}")]
    Torch {
        /// What was being done.
        operation: &'static str,
        /// libtorch's message.
        source: tch::TchError,
    },
    /// libtorch refused an operation of the bridge.
    #[error(transparent)]
    Bridge(#[from] trommel_bridge::BridgeError),
    /// Ranks that cannot train together.
    #[error("ranks: {0}")]
    Ranks(String),
    /// Loss or gradient left the numbers; the weights are those before this step.
    #[error(
        "step {step}: the {what} is {value} (learning rate {lr:e}, logit scale {logit_scale:.3}); stopped before it \
         reached the weights. A lower learning rate, a longer warm-up or gradient clipping may help"
    )]
    NotFinite {
        /// Number of the step, from 0.
        step: u64,
        /// `loss`, or `gradient of` a parameter.
        what: String,
        /// `NaN` or `inf`.
        value: f64,
        /// Learning rate of the step.
        lr: f64,
        /// Factor before the logits.
        logit_scale: f64,
    },
    /// An update left the numbers, though loss and gradient were finite.
    #[error(
        "after step {step}: {name} is not finite any more, so nothing is saved; the checkpoint before is good. A lower \
         learning rate, a longer warm-up or gradient clipping may help"
    )]
    WeightsNotFinite {
        /// Number of the step, from 0.
        step: u64,
        /// The first such parameter, by name.
        name: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {what}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was being done.
        what: &'static str,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// A checkpoint that does not fit or is damaged.
    #[error("checkpoint {path}")]
    Checkpoint {
        /// Its folder or file.
        path: PathBuf,
        /// What is damaged, or does not fit.
        source: Cause,
    },
    /// A batch could not be put together.
    #[error("assembling a batch after step {step}")]
    Assemble {
        /// Finished steps.
        step: u64,
        /// What went wrong.
        source: Cause,
    },
    /// The trainer's thread, or the one that assembles for it, panicked.
    #[error("the trainer panicked: {0}")]
    Panic(String),
}

impl TrainError {
    /// For `map_err` on libtorch's results.
    pub fn torch(operation: &'static str) -> impl FnOnce(tch::TchError) -> Self {
        move |source| Self::Torch { operation, source }
    }

    /// For `map_err` on the system's results.
    pub fn file(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { path: path.to_path_buf(), what, source }
    }

    /// From what a thread's `join` returned.
    pub(super) fn panic(panic: &(dyn std::any::Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Self::Panic(text.unwrap_or_else(|| "no message".into()))
    }

    /// A damaged or unfit checkpoint.
    #[must_use]
    pub fn checkpoint(path: &Path, source: impl Into<Cause>) -> Self {
        Self::Checkpoint { path: path.to_path_buf(), source: source.into() }
    }
}
