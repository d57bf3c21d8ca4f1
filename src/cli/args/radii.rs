//! Flags of `trommel radii`.

use std::path::PathBuf;

use clap::Args;

use super::groups::{Embedder, Machine, Output, share_in_percent};

/// `trommel radii`.
#[derive(Debug, Args)]
pub struct RadiiArgs {
    /// A reference set: embeddings, or a folder of pictures, which are embedded into OUT/embedded; of several, radii are those to all together
    #[arg(long = "reference", value_name = "[NAME=]DIR", required = true)]
    pub references: Vec<String>,
    #[command(flatten)]
    pub embedder: Embedder,
    /// A benchmark: embeddings, or a folder of pictures, which are embedded into OUT/embedded
    #[arg(long = "benchmark", value_name = "NAME=DIR", required = true)]
    pub benchmarks: Vec<String>,
    /// A benchmark's picture that could not be embedded and may be missing; NAME/SHARD/KEY where several shards have the key
    #[arg(long, value_name = "NAME/KEY")]
    pub benchmark_without: Vec<String>,
    /// Round references that are stored as f32 as they stand, as clip-retrieval has rounded the pool: a copy of one has its bits then
    #[arg(long, value_name = "clip-retrieval", value_parser = ["clip-retrieval"])]
    pub round_like: Option<String>,
    /// Share of reference pictures and rows that cannot be used, in percent, above which the exit status is 4
    #[arg(long, default_value_t = 5.0, value_parser = share_in_percent)]
    pub max_rejects: f64,
    /// Each benchmark with its radii goes to DIR/NAME
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
    #[command(flatten)]
    pub machine: Machine,
    #[command(flatten)]
    pub output: Output,
}
