//! Trommel's complete dataflows, one file each. A pipeline reads like a sentence of operators; it owns no logic of its own.
#![forbid(missing_docs)]

#[cfg(feature = "torch")]
mod adopt;
pub mod benchmarks;
pub mod config;
mod control_group;
#[cfg(feature = "torch")]
pub mod demo;
#[cfg(feature = "torch")]
pub mod embed;
pub mod error;
#[cfg(feature = "torch")]
mod first;
pub mod fleet;
pub mod gauges;
#[cfg(feature = "torch")]
mod goes_on;
pub mod lists;
pub mod memory;
pub mod metrics;
pub mod past_run;
pub mod pictures;
pub mod progress;
pub mod radii;
pub mod report;
pub mod why;

#[cfg(feature = "torch")]
pub mod decision;
#[cfg(feature = "torch")]
pub mod embedder;
#[cfg(feature = "torch")]
pub mod eval;
#[cfg(feature = "torch")]
mod first_start;
#[cfg(feature = "torch")]
mod judge_graph;
#[cfg(feature = "torch")]
pub mod judging;
#[cfg(feature = "torch")]
pub mod order_defaults;
#[cfg(feature = "torch")]
mod pass_count;
#[cfg(feature = "torch")]
pub mod prune;
#[cfg(feature = "torch")]
mod ranks;
#[cfg(feature = "torch")]
mod round;
#[cfg(feature = "torch")]
mod running;
#[cfg(feature = "torch")]
pub mod secret;
#[cfg(feature = "torch")]
pub mod spent;
#[cfg(feature = "torch")]
mod takedown;
#[cfg(feature = "torch")]
pub mod together;
#[cfg(feature = "torch")]
pub mod train;
#[cfg(feature = "torch")]
mod train_graph;
#[cfg(feature = "torch")]
mod training;
#[cfg(feature = "torch")]
pub mod watch;
