//! `trommel bench --stage train`.

use trommel_pipelines::error::PipelineError;
use trommel_pipelines_torch::bench_train::{Rate, TrainBench, trainer};

use trommel_cli::args::BenchArgs;
use trommel_cli::commands::print_json;
use trommel_cli::environment;
use trommel_cli::outcome::{Done, Outcome};
use trommel_cli::say::{say, say_lines};

use crate::train::precision;

/// Steps of the trainer.
pub fn run(args: &BenchArgs) -> Outcome {
    let report = trainer(&config(args)?)?;
    let on = report.card.as_ref().unwrap_or(&report.device);
    say(format!("{} on {on}, {:?}, batches of {}", report.model, report.precision, report.batch));
    let tell = |what: &str, rate: &Rate| {
        say(format!(
            "{what}: {:.1} samples/s (median of {} steps {:.1} ms, slowest tenth {:.1} ms)",
            rate.samples_per_second,
            rate.steps,
            1e3 * rate.median_seconds,
            1e3 * rate.slow_seconds
        ));
    };
    tell("a step", &report.step);
    tell("with every batch from host memory", &report.with_uploads);
    tell("with the captions' padding", &report.padded);
    for (otherwise, rate) in &report.variants {
        match rate {
            Ok(rate) => tell(otherwise, rate),
            Err(error) => say_lines(format!("{otherwise}: {error}")),
        }
    }
    say(format!(
        "captions of {:.1} tokens, {:.1} computed; {} losses differ from those with padding by {:.1e} at most",
        report.caption_tokens,
        report.computed_tokens,
        report.losses.len(),
        report.padded_difference
    ));
    if let Some(difference) = report.f32_difference {
        say(format!("from those in f32 by {difference:.1e} at most"));
    }
    print_json(args.output.json, &report)?;
    Ok(Done::default())
}

/// Flags to what is measured.
fn config(args: &BenchArgs) -> Result<TrainBench, PipelineError> {
    Ok(TrainBench {
        model: args.model.clone().unwrap_or_default(),
        pretrained: args.weights.pretrained.clone(),
        batch: usize::from(args.batch.unwrap_or(1024)),
        precision: precision(args.precision.as_deref().unwrap_or("bf16"))?,
        device: environment::device(&args.compute.device),
        threads: args.compute.threads_or_cores(),
        seed: args.weights.random_init.unwrap_or(0),
        steps: usize::from(args.steps),
        variants: args.variants,
    })
}
