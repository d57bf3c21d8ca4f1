//! Pixels to canonical vectors.
//!
//! ```text
//! Decoded ── view u8[size, size, 3] ──▶ batcher of the process ──▶ encoder thread: full batches of one shape ─┐
//!    └─ the rest stays with the worker ───────────────────────────────────────────────────────────────────────┴─▶ Embedded | reject
//! ```
//!
//! - [`device`] says where to compute; [`encoder`] is a model that turns views into f32 features, [`script`] one from TorchScript; [`operator`] puts it into the graph.
//!
//! Invariants:
//! 1. The encoder always runs full batches of one shape, padded where it must, so that a sample's bits do not depend on its neighbours.
//! 2. The canonical vector is the feature divided by its f64 norm, rounded once to f16.
#![forbid(missing_docs)]

pub mod device;
pub mod encoder;
pub mod operator;
pub mod script;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod encoder_tests;
#[cfg(test)]
#[path = "../model/golden_inputs.rs"]
#[allow(clippy::unwrap_used)]
mod golden_inputs;
