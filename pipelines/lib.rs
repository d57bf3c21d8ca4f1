//! Trommel's complete dataflows, one file each, and what they share. A pipeline reads like a sentence of operators; it owns no
//! logic of its own. What runs a model stands in `torch/`, a crate of its own; nothing here needs libtorch.
#![forbid(missing_docs)]

pub mod begun_with;
pub mod benchmark_origin;
pub mod benchmarks;
pub mod config;
pub mod cores;
pub mod decision;
pub mod dedup;
pub mod error;
pub mod exports;
mod failures;
pub mod fleet;
pub mod gauges;
pub mod inject;
pub mod irregular_turns;
pub mod join_report;
pub mod kept_maxima;
pub mod labelled;
pub mod ledger_memory;
pub mod ledger_run;
pub mod lists;
pub mod memory;
pub mod metrics;
mod named_path;
pub mod nearest;
pub mod one_model;
pub mod past_run;
pub mod phase;
pub mod pictures;
pub mod plan_arguments;
pub mod process_end;
pub mod progress;
pub mod prune_embeddings;
pub mod pruning;
pub mod radii;
mod reading_flags;
pub mod report;
pub mod rounding;
pub mod run_losses;
pub mod secret;
pub mod select;
pub mod shard_leases;
pub mod split_file;
mod split_writer;
pub mod stored;
pub mod stray_files;
pub mod stream;
pub mod time_spent;
pub mod together;
pub mod trained_steps;
pub mod training_folder;
pub mod verify;
pub mod watch_folder;
pub mod why;
pub mod why_all;
mod workers;

#[cfg(test)]
#[path = "../tests/common/skipped.rs"]
mod skipped;
