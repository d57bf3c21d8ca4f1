//! A training run's folder: what lies there beside what every run has, for those who read it without the trainer.

use std::path::{Path, PathBuf};

/// The folder of checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";
/// What the training settled at its first start.
pub const SETTLED_FILE: &str = "training.json";

/// What a checkpoint says of itself, in its folder, as the trainer writes it (`operators/train/checkpoint.rs`).
pub const STATE_FILE: &str = "state.json";

/// The weights of the newest checkpoint, in the folder of checkpoints: a link that the trainer sets.
pub const NEWEST: &str = "epoch_latest.pt";

/// The weights of the newest checkpoint of a run.
#[must_use]
pub fn newest_weights(run: &Path) -> PathBuf {
    run.join(CHECKPOINTS).join(NEWEST)
}
