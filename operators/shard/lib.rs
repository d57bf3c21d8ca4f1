//! URLs to bytes to samples: the source of every pipeline.
//!
//! ```text
//! arguments ─▶ plan ─▶ store ─▶ compression ─▶ tar ─▶ samples ─▶ reader ─▶ dataflow::source ─▶ split_admitted
//!              names    bytes     plain bytes   members  grouped   admitted                     samples, events,
//!                                                                                               replayed
//! ```
//!
//! - [`plan`] turns arguments (paths, globs, brace ranges, lists) into a numbered list of shards with stable names.
//! - [`store`] is the seam behind which bytes lie: what is there, and its bytes from any one on. Local files and stdin today.
//! - [`compression`] knows gzip, zstd, xz and bzip2 by their first bytes, and stops a stream that blows up; [`content`] says what a
//!   file is that holds no tar, [`promised`] how many samples are lost with it.
//! - [`tar`] walks the members of a tar of any dialect; [`names`] and [`samples`] group them as WebDataset does.
//! - [`embeddings`] reads files of stored embeddings as shards, without tars and pictures.
//! - [`reader`] asks for credit, gives every sample its index and its [`trommel_core::sample::Work`], and ends each shard
//!   with one [`trommel_core::sample::ShardEnd`].
//!
//! - [`original`] gives samples as they stand in their tar, for those who write tars.
//!
//! # Invariants
//!
//! 1. A shard streams: what is held is one sample's wanted members, never the shard, never what a header merely
//!    announces.
//! 2. Indices are raw: every group of members takes the next one, rejects included, whatever is wanted of it. They are a
//!    function of the tar's bytes and the configuration.
//! 3. Whatever the bytes, reading ends as samples, as rejects with a reason, or as a rejected shard whose samples are counted as
//!    lost. Only bytes that cannot be had make a shard [`trommel_core::sample::ShardOutcome::Unavailable`].
//! 4. Credit is taken after the sample before has left and before the picture's bytes are read.
#![forbid(missing_docs)]

pub mod braces;
pub mod class_names;
pub mod classified;
pub mod compression;
pub mod content;
pub mod embeddings;
pub mod folders;
pub mod header;
pub mod metadata;
pub mod names;
pub mod operator;
pub mod original;
pub mod plan;
pub mod promised;
pub mod reader;
mod remark;
pub mod samples;
pub mod store;
pub mod tar;

#[cfg(test)]
extern crate self as trommel_shard; // other rooms' tests take `store/faulty.rs` in by its path
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod oracle;
#[cfg(test)]
#[path = "../../tests/common/skipped.rs"]
mod skipped;
#[cfg(test)]
mod testing;
