//! Kept samples to weights: contrastive training with open_clip's recipe, as a service of the process.
//!
//! ```text
//! order ──▶ assemble (tokenise, stack) ──▶ Trainer::step ──▶ metrics (JSON lines, TensorBoard, console)
//!  batch k     u8[n,h,w,3], i64[n,77]        │
//!                                            └──▶ checkpoints/step_N (weights, optimiser, cursor), whole or not at all
//! ```
//!
//! The trainer runs on one thread of its own; no timely worker ever calls libtorch here. It holds no capability: what it
//! has trained is in its cursor.
//!
//! Invariants:
//! - **N1.** A step is a function of (weights, optimiser state, step, batch, configuration); libtorch's global random
//!   state has no part in it. On CPU with a fixed number of libtorch threads it is equal to the bit.
//! - **N2.** A checkpoint is visible whole or not at all, and continues with the losses of the run that wrote it.
//! - **N3.** A loss or gradient that is not finite never reaches the weights: the run stops before that step.
//! - **N4.** Accumulation changes memory, not the gradient: features of all chunks meet in one loss matrix. Nor do ranks:
//!   see `ranks`.
//!
//! Words: a *step* is one update of the weights from one batch of `batch_samples` samples; `global_step` counts finished
//! ones, so the first runs as step 0, as in open_clip. A *pass* goes over the data once; open_clip's *epoch* is our pass,
//! and a checkpoint's `epoch` is the number of finished ones.
#![forbid(missing_docs)]

mod batch;
pub mod checkpoint;
mod config;
mod contrastive;
mod error;
pub mod files;
mod join_ranks;
pub mod loss;
mod metrics;
mod model;
mod open_clip;
mod optim;
mod ranks;
mod save_every;
mod schedule;
pub mod share;
mod sink;
mod staging;
mod state;
mod step;
mod tensorboard;
mod tensors;
pub mod to_order;

pub use batch::{Batch, BatchWriter, Normalisation};
pub use checkpoint::{Checkpoints, Position};
pub use config::{Precision, Scheduler, TextPadding, TrainConfig};
pub use error::TrainError;
pub use metrics::last_loss;
pub use ranks::Ranks;
pub use save_every::SaveEvery;
pub use schedule::{Course, Length, Schedule, Stand};
pub use sink::{Assembled, Next, RunEnd, TrainSummary, TrainerConfig, run_trainer, spawn_trainer};
pub use staging::{Staged, Stager};
pub use step::{Contrastive, StepMetrics, Trainer};

#[cfg(test)]
#[path = "../../tests/common/skipped.rs"]
mod skipped;
#[cfg(test)]
mod tiny;

#[cfg(test)]
mod checkpoint_tests;

#[cfg(test)]
mod step_tests;

#[cfg(test)]
mod ranks_tests;

#[cfg(test)]
mod golden_tests;

#[cfg(test)]
mod golden_clip_tests;

#[cfg(test)]
mod ranks_peers;

#[cfg(test)]
mod siglip_peers;
