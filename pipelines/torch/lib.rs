//! The dataflows that run a model: prune, train, embed, watch, eval, study, demo, radii of pictures, and the benches of single stages. One file
//! or folder each; the other files are what several of them share: how a run is set up, its embedder, its trainer, what it was begun with.
#![forbid(missing_docs)]

mod adopt;
pub mod bench_decode;
pub mod bench_embed;
pub mod bench_join;
pub mod bench_train;
pub mod demo;
pub mod embed;
mod embed_and_join;
mod embedder;
pub mod eval;
mod joiner;
pub mod order_defaults;
mod pass_count;
pub mod prune;
mod prune_round;
pub mod radii;
mod ranks;
mod resume_check;
mod run_setup;
mod run_watch;
mod settled;
mod source_files;
pub mod study;
mod takedown;
mod time_spent;
pub mod train;
mod train_dataflows;
mod train_on;
mod train_report;
mod train_run;
pub mod trained_model;
mod trainer_memory;
mod trainer_reach;
mod trainer_setup;
mod trainer_thread;
pub mod watch;

use trommel_pipelines::together;

#[cfg(test)]
#[path = "../../operators/shard/store/faulty.rs"]
#[allow(dead_code)]
mod faulty;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod second_store;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod side_by_side;
#[cfg(test)]
#[path = "../../tests/common/skipped.rs"]
mod skipped;
