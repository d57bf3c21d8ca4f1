//! `trommel prune`.

use trommel_pipelines_torch::prune;

use crate::run_config;
use trommel_cli::args::PruneArgs;
use trommel_cli::commands::prune::{has_rule, is_of_embeddings, told};
use trommel_cli::launch::Launched;
use trommel_cli::outcome::Outcome;

/// The flags that say where models run. A prune without a benchmark runs none; a trainer does.
const WHERE_MODELS_RUN: [&str; 2] = ["device", "decode"];

/// Judges every sample; `given` are the flags that stand on the command line or in its `--config`.
pub fn run(args: &PruneArgs, given: &[String], launched: Option<Launched>) -> Outcome {
    if is_of_embeddings(args)? {
        return trommel_cli::commands::prune::run(args, given, launched);
    }
    has_rule(args)?;
    let (judging, running) = (&args.judging, &args.running);
    let mut config = run_config::config(&args.shards, &args.run, judging, running, Some(&args.slice), launched)?;
    let begun = run_config::begin(&mut config, &running.watched, run_config::Showing::Everywhere)?;
    let mut report = prune::prune(&config, begun.stop.clone(), &begun.progress)?;
    run_config::note_unread(
        &mut report.notices,
        given,
        judging,
        &[&run_config::EMBEDS_OR_JOINS[..], &WHERE_MODELS_RUN].concat(),
    );
    told(args, given, report, begun)
}
