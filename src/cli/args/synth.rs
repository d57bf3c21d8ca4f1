//! Flags of `trommel synth`.

use std::path::PathBuf;

use clap::Args;

/// `trommel synth`.
#[derive(Debug, Args)]
pub struct SynthArgs {
    /// Folder to make the data in
    pub out: PathBuf,
    /// Number of shards
    #[arg(long)]
    pub shards: Option<u32>,
    /// Samples a shard
    #[arg(long)]
    pub samples: Option<u32>,
    /// Pictures a class in the reference set
    #[arg(long, value_name = "N")]
    pub reference_pictures: Option<u32>,
    /// Pictures a class in each benchmark
    #[arg(long, value_name = "N")]
    pub benchmark_pictures: Option<u32>,
    /// Seed: equal seeds give equal bytes
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print the result as one JSON line on stdout
    #[arg(long)]
    pub json: bool,
}
