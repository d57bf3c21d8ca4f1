//! Trommel's complete dataflows, one file each, and what they share. A pipeline reads like a sentence of operators; it owns no
//! logic of its own. What runs a model stands in `torch/`, a crate of its own; nothing here needs libtorch.
#![forbid(missing_docs)]

pub mod as_given;
pub mod begun_with;
pub mod benchmarks;
pub mod config;
pub mod cores;
pub mod dealt;
pub mod decision;
pub mod dedup;
pub mod ending;
pub mod error;
pub mod first;
pub mod fleet;
pub mod gauges;
pub mod inject;
pub mod irregular_turns;
pub mod join_report;
pub mod kept_maxima;
pub mod labelled;
pub mod ledger_memory;
pub mod lists;
pub mod lying_beside;
pub mod memory;
pub mod metrics;
pub mod nearest;
pub mod past_run;
pub mod pictures;
pub mod progress;
pub mod prune_embeddings;
pub mod pruning;
pub mod radii;
pub mod report;
pub mod rounded;
pub mod running;
pub mod secret;
pub mod select;
pub mod spent;
pub mod split_file;
pub mod stored;
pub mod stream;
pub mod together;
pub mod trained;
pub mod verify;
pub mod why;
