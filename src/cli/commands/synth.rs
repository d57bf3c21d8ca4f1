//! `trommel synth`: its flags, and what is done with them.

use std::path::PathBuf;

use clap::Args;
use trommel_core::text::{bytes, thousands};
use trommel_pipelines::error::PipelineError;
use trommel_synth::{SynthConfig, SynthError, write};

use super::print_json;
use crate::outcome::{Done, Outcome};
use crate::say::say;

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

/// Makes the data set.
pub fn run(args: &SynthArgs) -> Outcome {
    let defaults = SynthConfig::default();
    let config = SynthConfig {
        shards: args.shards.unwrap_or(defaults.shards),
        samples: args.samples.unwrap_or(defaults.samples),
        reference_pictures_per_class: args.reference_pictures.unwrap_or(defaults.reference_pictures_per_class),
        benchmark_pictures_per_class: args.benchmark_pictures.unwrap_or(defaults.benchmark_pictures_per_class),
        seed: args.seed,
        ..defaults
    };
    let made = write(&args.out, &config).map_err(|error| match error {
        SynthError::Config { .. } | SynthError::Occupied { .. } => PipelineError::usage(error),
        other => PipelineError::failed(other),
    })?;
    say(format!(
        "{} shards, {} samples, {} planted copies of benchmark pictures, {} broken on purpose, {} in {}",
        made.shards,
        thousands(made.samples),
        thousands(made.planted),
        made.broken,
        bytes(made.bytes),
        args.out.display()
    ));
    print_json(args.json, &made)?;
    Ok(Done::default())
}
