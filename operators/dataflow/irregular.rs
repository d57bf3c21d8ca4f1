//! What an order did that does not follow from shards and decisions: whoever works it out afterwards ([`crate::whereabouts`]) needs it.

use serde::{Deserialize, Serialize};

/// One irregularity, in the window that was filling when it had its turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Irregular {
    /// Pass over the data, from 0.
    pub pass: u32,
    /// Number of the window in the pass, from 0.
    pub window: u64,
    /// What was irregular about the window.
    #[serde(flatten)]
    pub what: What,
}

/// What was irregular.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The window was closed by its bytes, with so many samples.
    Closed(u64),
    /// A kept sample could not be read any more: shard and index.
    Skipped(u64, u32),
    /// A shard could not be had beyond its first samples: shard, and how many they were.
    GivenUp(u64, u32),
}
