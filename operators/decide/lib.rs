//! What is decided, and how: unit vectors against benchmarks, exactly, and the rules that keep or drop.
//!
//! Five nouns: a [`benchmark::Benchmark`] is a checked set of test points; the [`join::Joiner`] scores vectors against all of them at
//! once; a [`rule::Rule`] is what was written, its [`policy::Policy`] what that means, and a [`judge::Judge`] the same checked against the
//! benchmarks of a run. The [`items::ItemsBoard`] keeps what each test point has seen of each open shard.
//!
//! What a decision is stands here alone: whoever must know it asks a policy, and nobody outside of this crate takes a rule apart.
//!
//! All cosines are canonical (see `trommel_kernels::dot`): a score is a function of vector and benchmark alone,
//! whatever batch, tile, thread or machine computes it.
#![forbid(missing_docs)]

pub mod benchmark;
pub mod condition;
pub mod hash;
pub mod items;
pub mod join;
pub mod judge;
pub mod maxima;
pub mod parse;
pub mod percent;
pub mod policy;
pub mod prune;
pub mod radii;
pub mod rule;
pub mod scan;
pub mod score;

#[cfg(test)]
extern crate self as trommel_decide; // other rooms' tests take `tests/naive.rs` in by its path
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::sync::Arc;

use half::f16;

use trommel_core::credit::Permit;
use trommel_core::sample::{SampleInfo, Score, Work};

/// The stable name of a shard, by its ordinal in the plan.
pub type ShardNames = Arc<dyn Fn(u64) -> Arc<str> + Send + Sync>;

/// A sample with its canonical embedding.
#[derive(Debug)]
pub struct Embedded {
    /// Identity and provenance.
    pub info: Arc<SampleInfo>,
    /// Pass over the data, from 0.
    pub pass: u32,
    /// What is wanted of it.
    pub work: Work,
    /// Caption; `None` when missing or empty.
    pub caption: Option<Arc<str>>,
    /// Canonical embedding: f16\[dim\], unit norm.
    pub vector: Vec<f16>,
    /// The trainer's view, u8\[size, size, 3\], where one is wanted.
    pub train: Option<Vec<u8>>,
    /// Bytes of the encoded picture and caption as they stood in the tar.
    pub encoded_bytes: u64,
    /// Credit for what the sample still holds.
    pub permit: Permit,
}

/// A sample with its embedding and its scores.
#[derive(Debug)]
pub struct Scored {
    /// Identity and provenance.
    pub info: Arc<SampleInfo>,
    /// Pass over the data, from 0.
    pub pass: u32,
    /// What is wanted of it.
    pub work: Work,
    /// Caption; `None` when missing or empty.
    pub caption: Option<Arc<str>>,
    /// Canonical embedding: f16\[dim\], unit norm; empty where the rule needs none.
    pub vector: Vec<f16>,
    /// The trainer's view, u8\[size, size, 3\], where one is wanted.
    pub train: Option<Vec<u8>>,
    /// Bytes of the encoded picture and caption as they stood in the tar.
    pub encoded_bytes: u64,
    /// Credit for what the sample still holds.
    pub permit: Permit,
    /// One score a benchmark, in the configuration's order; empty where the rule needs none.
    pub scores: Vec<Score>,
}

impl Embedded {
    /// The sample with its scores.
    #[must_use]
    pub fn with_scores(self, scores: Vec<Score>) -> Scored {
        let Self { info, pass, work, caption, vector, train, encoded_bytes, permit } = self;
        Scored { info, pass, work, caption, vector, train, encoded_bytes, permit, scores }
    }
}
