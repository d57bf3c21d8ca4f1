//! Trommel's stages, one folder each.
//!
//! Three nouns run through everything: a [`sample::Sample`] is one image-text pair as it stood in its tar; a
//! [`sample::Fate`] is what became of it; a [`sample::Time`] says in which pass and which shard that happened.
//! Imports run one way: `sample`, `columnar`, `dataflow` and `model` first, then the stages in the order in which
//! the data meets them. A stage never imports a later one.
#![forbid(missing_docs)]

pub mod columnar;
pub mod dataflow;
pub mod escape;
pub mod notices;
pub mod sample;

#[cfg(feature = "torch")]
pub mod model;

pub mod shard;

pub mod decode;

#[cfg(feature = "torch")]
pub mod embed;

pub mod similarity;

pub mod prune;

pub mod ledger;

pub mod incremental;

pub mod cluster;

#[cfg(feature = "torch")]
pub mod train;

#[cfg(feature = "torch")]
pub mod evaluate;

pub mod report;

pub mod synth;
