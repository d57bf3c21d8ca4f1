//! What is asked of a join, and of those who multiply for it.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which columns a join fills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnSet {
    /// Every column of every benchmark.
    #[default]
    All,
    /// What the rule needs; maxima it does not need are null, and so are those of the items.
    Decision,
}

/// What is no set of columns.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}`: write all or decision")]
pub struct ColumnSetError(String);

impl FromStr for ColumnSet {
    type Err = ColumnSetError;

    fn from_str(text: &str) -> Result<Self, ColumnSetError> {
        match text {
            "all" => Ok(Self::All),
            "decision" => Ok(Self::Decision),
            other => Err(ColumnSetError(other.to_owned())),
        }
    }
}

/// Settings of the join. Only `columns` changes what comes out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JoinConfig {
    /// Which columns are filled. Default: all.
    pub columns: ColumnSet,
    /// Bytes of products that one call holds at most, over all benchmarks (never less than one row's). Default 64 MiB.
    pub block_bytes: u64,
    /// Bytes of one tile of points widened to f32. Default 512 KiB.
    pub tile_bytes: u64,
    /// Threads of one call's products; leave at 1 where several calls run side by side. Default 1.
    pub threads: usize,
}

impl Default for JoinConfig {
    fn default() -> Self {
        Self { columns: ColumnSet::All, block_bytes: 64 << 20, tile_bytes: 512 << 10, threads: 1 }
    }
}

/// What a verdict needs of one benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// `max_similarity` and `nearest`.
    pub maximum: bool,
    /// `margin`, `exceeds` and `hits`.
    pub radii: bool,
}

impl Needs {
    /// Whether it needs anything.
    #[must_use]
    pub fn any(self) -> bool {
        self.maximum || self.radii
    }
}
