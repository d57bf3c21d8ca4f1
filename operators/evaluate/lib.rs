//! How good a trained model is: zero-shot classification, retrieval, a linear probe, and accuracy against the nearness of the training data.
#![forbid(missing_docs)]

pub mod bins;
pub mod probe;
pub mod retrieval;
pub mod scores;
pub mod zero_shot;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod peers;
#[cfg(test)]
#[path = "../../tests/common/skipped.rs"]
mod skipped;
