//! The dataflows that run a model: prune, train, embed, watch, eval, study, and radii of pictures. One file each.
#![forbid(missing_docs)]

mod adopt;
pub mod bench_decode;
pub mod bench_embed;
pub mod bench_join;
pub mod bench_train;
pub mod demo;
pub mod embed;
pub mod embedder;
pub mod eval;
mod first_start;
mod goes_on;
pub mod joining;
mod judge_graph;
pub mod judging;
pub mod order_defaults;
mod pass_count;
pub mod prune;
pub mod radii;
mod ranks;
mod reached;
mod round;
mod running;
pub mod spent;
pub mod study;
mod takedown;
pub mod train;
mod train_graph;
mod train_on;
mod train_report;
mod trainer_thread;
mod training;
pub mod watch;

use trommel_pipelines::{first, together};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod second_store;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod side_by_side;
