//! Flags of `trommel why`.

use std::path::PathBuf;

use clap::Args;

/// The flags of `trommel why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// A run folder to look into
    pub run: PathBuf,
    /// A sample's key, or SHARD/KEY
    pub key: String,
    /// Print rows as JSON lines
    #[arg(long)]
    pub json: bool,
}
