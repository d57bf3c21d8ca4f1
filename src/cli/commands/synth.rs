//! `trommel synth`.

use trommel_core::text::{bytes, thousands};
use trommel_pipelines::error::PipelineError;
use trommel_synth::{SynthConfig, SynthError, write};

use super::print_json;
use crate::args::SynthArgs;
use crate::outcome::{Done, Outcome};

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
    eprintln!(
        "trommel: {} shards, {} samples, {} planted copies of benchmark pictures, {} broken on purpose, {} in {}",
        made.shards,
        thousands(made.samples),
        thousands(made.planted),
        made.broken,
        bytes(made.bytes),
        args.out.display()
    );
    print_json(args.json, &made)?;
    Ok(Done::default())
}
