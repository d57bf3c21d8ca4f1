//! Flags of `trommel verify`.

use std::path::PathBuf;

use clap::Args;

use super::groups::{LedgerReading, Output};

/// `trommel verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A split: its .split.json, or its .parquet
    pub split: PathBuf,
    /// A run folder over the same shards
    pub run: PathBuf,
    /// Samples to name of those that differ
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub show: usize,
    #[command(flatten)]
    pub reading: LedgerReading,
    #[command(flatten)]
    pub output: Output,
}
