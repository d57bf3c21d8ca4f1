//! How good a trained model is: zero-shot classification on class folders.
#![forbid(missing_docs)]

pub mod zero_shot;
