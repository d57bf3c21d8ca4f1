//! Flags of `trommel stream`.

use std::path::PathBuf;

use clap::Args;

use super::groups::percent;

/// `trommel stream`.
#[derive(Debug, Args)]
#[command(after_help = "\
As a trainer's own data, one process a shard:
  --train-data 'pipe:trommel stream shards/{00000..00099}.tar --split s.parquet'   (with --train-num-samples)
Samples come in the order of the plan, each member as it stands: names, contents, whatever it is. Nothing is decoded.")]
pub struct StreamArgs {
    /// Shards, in the order in which they are read
    #[arg(required = true)]
    pub shards: Vec<String>,
    /// Keep whom a split keeps: .parquet (or .split.json), .txt (SHARD/KEY a line), .npy (DataComp's uids) or .keys (a key a line, sorted bytewise:
    /// keys alone, whatever the shards are called)
    #[arg(long, value_name = "FILE", required_unless_present_any = ["run", "rule"], conflicts_with_all = ["run", "rule"])]
    pub split: Option<PathBuf>,
    /// Keep whom a run keeps
    #[arg(long, value_name = "RUN", conflicts_with = "rule")]
    pub run: Option<PathBuf>,
    /// Keep a share by the seeded hash of shard and key: random:P%
    #[arg(long, value_name = "random:P%")]
    pub rule: Option<String>,
    /// Seed of the share
    #[arg(long, default_value_t = 0, conflicts_with_all = ["split", "run"])]
    pub seed: u64,
    /// Write new shards into a folder, with sizes.json and _stats.json [default: one tar on standard output]
    #[arg(short, long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Samples of a new shard
    #[arg(long, value_name = "N", default_value_t = 10_000, requires = "out", value_parser = clap::value_parser!(u64).range(1..))]
    pub shard_samples: u64,
    /// Share of lost samples, in percent, above which the exit status is 4
    #[arg(long, default_value_t = 5.0, value_parser = percent)]
    pub max_rejects: f64,
    /// Print the result as one JSON line on stdout
    #[arg(long, requires = "out")]
    pub json: bool,
}
