//! `trommel radii` of pictures.

use trommel_cli::args::RadiiArgs;
use trommel_cli::commands::radii;
use trommel_cli::outcome::Outcome;
use trommel_cli::progress_bar::ProgressBars;
use trommel_cli::signals;
use trommel_core::stop::Stop;
use trommel_pipelines::config::JudgeConfig;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::radii::RadiiConfig;
use trommel_pipelines_torch::radii::with_embedded;

use crate::run_config;

/// Embeds what are pictures, then measures and writes radii.
pub fn run(args: &RadiiArgs) -> Outcome {
    let config = embedded(args, &radii::config(args)?)?;
    radii::measure(args, &config)
}

fn embedded(args: &RadiiArgs, config: &RadiiConfig) -> Result<RadiiConfig, PipelineError> {
    let judge = embedding(args)?;
    let stop = Stop::new();
    signals::install(stop.clone()).map_err(PipelineError::failed)?;
    let bars = ProgressBars::default();
    with_embedded(config, &judge, &stop, &|name| bars.begin(&format!("embedding {name}")))
}

/// Flags to how pictures are embedded.
pub fn embedding(args: &RadiiArgs) -> Result<JudgeConfig, PipelineError> {
    let embedder = run_config::embedder(&args.embedder);
    let machine = run_config::machine(&args.machine, None)?;
    Ok(JudgeConfig {
        always_embed: true,
        mix_numerics: args.embedder.mix_numerics,
        ..JudgeConfig::keeping_all(Vec::new(), args.out.clone(), embedder, machine)
    })
}
