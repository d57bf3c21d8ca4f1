//! Flags of `trommel why`.

use std::path::PathBuf;

use clap::Args;

/// `trommel why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// A run folder
    pub run: PathBuf,
    /// A sample's key, or SHARD/KEY
    pub key: String,
    /// Print rows as JSON lines
    #[arg(long)]
    pub json: bool,
}
