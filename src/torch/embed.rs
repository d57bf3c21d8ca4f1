//! `trommel embed`: shards or class folders to embeddings. A pruning run that keeps everything and joins with nothing.

use std::path::PathBuf;

use trommel_core::text::thousands;
use trommel_pipelines::config::{EmbedderConfig, JudgeConfig};
use trommel_pipelines::error::PipelineError;
use trommel_pipelines_torch::embed;
use trommel_pipelines_torch::prune;

use crate::run_config;
use trommel_cli::args::EmbedArgs;
use trommel_cli::commands::print_json;
use trommel_cli::launch::Launched;
use trommel_cli::outcome::{Outcome, tell};
use trommel_cli::say::say;

/// Runs the command: embeds, and prints what was written.
pub fn run(args: &EmbedArgs, launched: Option<Launched>) -> Outcome {
    if !matches!(args.format.as_str(), "arrow" | "npy") {
        return Err(PipelineError::usage(format!("--format {}: write arrow or npy", args.format)));
    }
    let mut config = config(args, launched)?;
    embed::check(&config)?;
    let mut begun = run_config::begin(&mut config, &args.watched, run_config::Showing::Everywhere)?;
    let mut report = prune::prune(&config, begun.stop.clone(), &begun.progress)?;
    begun.hide();
    if !begun.speaks {
        return Ok(run_config::silently(report.interrupted, &report.failed));
    }
    if !report.interrupted && report.failed.is_empty() {
        let to_come = embed::finish(&config, args.format == "npy", &mut report.notices)?;
        if to_come > 0 {
            say(format!("{to_come} shards of other slices are to come; whoever ends last writes the whole"));
        }
    }
    say(format!(
        "{} embeddings, {} rejects, {:.0} samples/s, bottleneck: {}",
        thousands(report.kept),
        report.rejected,
        report.samples_per_second,
        report.spent.bottleneck
    ));
    for (code, count) in &report.rejects {
        say(format!("  rejected {}: {code}", thousands(*count)));
    }
    run_config::tell_decoded(&report.spent);
    tell(&report.notices);
    print_json(args.output.json, &report)?;
    let samples = report.kept + report.rejected;
    let read = run_config::Read { rejected: report.rejected, samples, shards: report.shards, notices: &report.notices };
    Ok(run_config::done(report.interrupted, &report.failed, read, args.reading.max_rejects))
}

/// Flags to a run that keeps everything.
pub(super) fn config(args: &EmbedArgs, launched: Option<Launched>) -> Result<JudgeConfig, PipelineError> {
    let embedder = EmbedderConfig {
        name: args.model.clone(),
        weights: args.weights.pretrained.clone(),
        torchscript: args.weights.torchscript,
        random_init: args.weights.random_init,
        assume_model: None,
        precision: args.embed_precision.clone(),
        batch: args.embed_batch.map(usize::from),
        weights_flag: "--pretrained",
    };
    let machine = run_config::machine(&args.machine, launched.as_ref())?;
    Ok(JudgeConfig {
        always_embed: true,
        reading: run_config::reading(&args.reading, Some(&args.slice)),
        mix_numerics: args.mix_numerics,
        cluster: launched.map(Launched::seat),
        ..JudgeConfig::keeping_all(args.input.clone(), PathBuf::from(&args.out), embedder, machine)
    })
}
