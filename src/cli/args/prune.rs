//! Flags of `trommel prune`.

use std::path::PathBuf;

use clap::Args;

use super::groups::{Judging, RULES, Running, SHARDS, Slice};

/// `trommel prune`.
#[derive(Debug, Args)]
#[command(
    override_usage = "trommel prune [OPTIONS] --run <DIR> --rule <RULE> <SHARDS>...",
    mut_arg("seed", |seed| seed.help("Seed of random:P%")),
    after_help = format!("{RULES}\n{SHARDS}")
)]
pub struct PruneArgs {
    /// Shards, one folder of class folders, or stored embeddings (a run of `trommel embed`, clip-retrieval's folder, DataComp's .npz, .npy: the last three with --assume-model)
    #[arg(required = true)]
    pub shards: Vec<String>,
    /// The run's folder: made, or resumed
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    #[command(flatten)]
    pub judging: Judging,
    #[command(flatten)]
    pub slice: Slice,
    #[command(flatten)]
    pub running: Running,
}
