//! Flags of `trommel verify`.

use std::path::PathBuf;

use clap::Args;

use super::groups::{LedgerReading, Output};

/// `trommel verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A split: its .split.json, or its .parquet
    pub split: PathBuf,
    /// A run folder over the same shards; or another split: who changes sides
    pub run: PathBuf,
    /// Of a split of `dedup --against`: the other set, which may lie elsewhere now
    #[arg(long, value_name = "EMB")]
    pub against: Vec<String>,
    /// Of a split of `dedup --split`: that split
    #[arg(long = "split", value_name = "FILE")]
    pub of: Option<PathBuf>,
    /// Samples to name of those that differ
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub show: usize,
    #[command(flatten)]
    pub reading: LedgerReading,
    #[command(flatten)]
    pub output: Output,
}
