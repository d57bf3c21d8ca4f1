//! Pixels to canonical vectors.
//!
//! ```text
//! Decoded ── view u8[size, size, 3] ──▶ batcher of the process ──▶ encoder threads: full batches of one shape ┐
//!    └─ the rest stays with the worker ──────────────────────────────────────────────────────────────────────┴─▶ Embedded | reject
//! ```
//!
//! - [`device`] says where to compute, [`defaults`] how where nobody says; [`encoder`] is a model that turns views into features, `tower` open_clip's, `script` one from
//!   TorchScript; [`load`] makes the one that is asked for; [`slots`] has the next batch ready while a card computes one, [`instances`] computes several side by side on a CPU; [`operator`] puts it into the graph.
//!
//! Invariants:
//! 1. The encoder always runs full batches of one shape, padded where it must, so that a sample's bits do not depend on its neighbours.
//! 2. The canonical vector is the feature divided by its f64 norm, rounded once to f16.
#![forbid(missing_docs)]

pub mod defaults;
pub mod device;
pub mod encoder;
pub mod instances;
pub mod load;
pub mod operator;
mod pixels;
mod script;
pub mod slots;
mod tower;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod encoder_tests;
#[cfg(test)]
#[path = "../model/golden_inputs.rs"]
#[allow(clippy::unwrap_used)]
mod golden_inputs;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod slots_tests;
