//! `trommel bench --stage embed`.

use trommel_pipelines::config::EmbedderConfig;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines_torch::bench_embed::{EmbedBench, Figures, embedder};

use trommel_cli::args::BenchArgs;
use trommel_cli::commands::print_json;
use trommel_cli::environment;
use trommel_cli::outcome::{Done, Outcome};
use trommel_cli::say::{say, say_lines};

/// Measures the embedder, and prints what it found.
pub fn run(args: &BenchArgs) -> Outcome {
    let report = embedder(&config(args)?)?;
    say(format!("{} on {}", report.model, report.numerics));
    say(line(&report.figures));
    for variant in &report.variants {
        let said = variant.figures.as_ref().map_or_else(|| variant.failed.clone().unwrap_or_default(), line);
        say_lines(format!("{}: {said}", variant.form));
    }
    print_json(args.output.json, &report)?;
    Ok(Done::default())
}

fn line(figures: &Figures) -> String {
    format!(
        "{:.1} images/s from host views to vectors (batches of {}, {} on their way), {:.1} forward pass alone; largest difference to a CPU's f32 {:.1e}, \
         lowest cosine {:.6}",
        figures.samples_per_second,
        figures.batch,
        figures.in_flight,
        figures.forward_samples_per_second,
        figures.largest_difference,
        figures.lowest_cosine
    )
}

/// Flags to what is measured.
fn config(args: &BenchArgs) -> Result<EmbedBench, PipelineError> {
    if let Some(few @ 0..8) = args.batch {
        return Err(PipelineError::usage(format!("--batch {few}: an embedder's are of at least 8")));
    }
    Ok(EmbedBench {
        embedder: EmbedderConfig {
            name: args.model.clone().unwrap_or_default(),
            weights: args.weights.pretrained.clone(),
            torchscript: args.weights.torchscript,
            random_init: args.weights.random_init,
            assume_model: None,
            precision: args.precision.clone(),
            batch: args.batch.map(usize::from),
            weights_flag: "--pretrained",
        },
        device: environment::device(&args.compute.device),
        threads: args.compute.threads_or_cores(),
        in_flight: args.in_flight.map(usize::from),
        seconds: args.seconds,
        variants: args.variants,
    })
}
