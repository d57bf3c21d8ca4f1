//! How good a trained model is: zero-shot classification on class folders.

pub mod zero_shot;
