//! What is decided, and how: unit vectors against benchmarks, exactly, and the rules that keep or drop.
//!
//! Five nouns: a [`benchmark::Benchmark`] is a checked set of test points; the [`join::Joiner`] scores vectors against all of them at
//! once; a [`rule::Rule`] is what was written, its [`policy::Policy`] what that means, and a [`checked_rule::CheckedRule`] the same checked against the
//! benchmarks of a run. What each test point has seen of a shard are its [`points::Points`].
//! [`stage::Decide`] is the stage of the graph.
//!
//! A [`selection::Selection`] puts rules together, for who looks at a finished ledger.
//!
//! What a decision is stands here alone: whoever must know it asks a policy, and nobody outside of this crate takes a rule apart.
//!
//! All cosines are canonical (see `trommel_kernels::dot`): a score is a function of vector and benchmark alone,
//! whatever batch, tile, thread or machine computes it.
#![forbid(missing_docs)]

pub mod benchmark;
pub mod checked_rule;
mod coded;
pub mod column;
pub mod condition;
pub mod cpu;
pub mod hash;
pub mod join;
mod join_config;
pub mod kernel;
pub mod known_maxima;
mod leading;
pub mod maxima;
mod open_shards;
pub mod parse;
pub mod percent;
pub mod points;
pub mod policy;
pub mod radii;
pub mod rule;
pub mod scan;
pub mod selection;
pub mod stage;
mod syntax;
mod written;

#[cfg(test)]
extern crate self as trommel_decide; // other rooms' tests take `tests/naive.rs` in by its path
#[cfg(test)]
#[path = "../../tests/common/skipped.rs"]
mod skipped;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::sync::Arc;

/// The stable name of a shard, by its ordinal in the plan.
pub type ShardNames = Arc<dyn Fn(u64) -> Arc<str> + Send + Sync>;
