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
    #[arg(long, default_value_t = SynthConfig::default().shards)]
    pub shards: u32,
    /// Samples a shard
    #[arg(long, default_value_t = SynthConfig::default().samples)]
    pub samples: u32,
    /// Pictures a class in the reference set
    #[arg(long, value_name = "N", default_value_t = SynthConfig::default().reference_pictures_per_class)]
    pub reference_pictures: u32,
    /// Pictures a class in each benchmark
    #[arg(long, value_name = "N", default_value_t = SynthConfig::default().benchmark_pictures_per_class)]
    pub benchmark_pictures: u32,
    /// Seed: equal seeds give equal bytes
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print the result as one JSON line on stdout
    #[arg(long)]
    pub json: bool,
}

/// Makes the data set.
pub fn run(args: &SynthArgs) -> Outcome {
    let config = SynthConfig {
        shards: args.shards,
        samples: args.samples,
        reference_pictures_per_class: args.reference_pictures,
        benchmark_pictures_per_class: args.benchmark_pictures,
        seed: args.seed,
        ..SynthConfig::default()
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
