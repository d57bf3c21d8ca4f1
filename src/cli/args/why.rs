//! Flags of `trommel why`.

use std::path::PathBuf;

use clap::Args;

/// The flags of `trommel why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// A run folder to look into
    pub run: PathBuf,
    /// A sample's key, or SHARD/KEY
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub key: Option<String>,
    /// Every sample that was trained on: a row a sample and pass with its step, in the order of training
    #[arg(long, requires = "out")]
    pub all: bool,
    /// Where the rows of --all go
    #[arg(short, long, value_name = "FILE.parquet", requires = "all")]
    pub out: Option<PathBuf>,
    /// Print rows as JSON lines; of --all what was written
    #[arg(long)]
    pub json: bool,
}
