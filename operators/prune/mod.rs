//! The prune room: scores to keep or drop.
//!
//! Three nouns: a [`rule::Rule`] is what was written; a [`rule::Judge`] is a rule checked against the benchmarks of a run;
//! [`operator::Kept`] is a sample that goes on to the trainer.

pub mod hash;
pub mod operator;
pub mod percent;
pub mod rule;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod graph_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
