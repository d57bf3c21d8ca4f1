//! `trommel prune`.

use trommel_operators::report::text::{percent, thousands};
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::prune;

use super::{judge, print_json};
use crate::args::PruneArgs;
use crate::outcome::Outcome;

/// Judges every sample.
pub fn run(args: &PruneArgs) -> Outcome {
    if args.judging.rule.is_none() {
        return Err(PipelineError::Usage("--rule is missing; `trommel embed` is the command without one".into()));
    }
    let config = judge::config(&args.shards, &args.run, &args.judging, &args.embedder, &args.reading, &args.common)?;
    let (stop, progress, bar) = judge::begin()?;
    let report = prune::prune(&config, stop, &progress)?;
    drop(bar);
    let samples = report.kept + report.dropped + report.rejected;
    eprintln!(
        "trommel: {} samples: {} kept, {} dropped ({}), {} rejected; {:.1} samples/s, bottleneck: {}",
        thousands(samples),
        thousands(report.kept),
        thousands(report.dropped),
        percent(report.dropped, samples),
        thousands(report.rejected),
        report.samples_per_second,
        report.spent.bottleneck
    );
    for (code, count) in &report.rejects {
        eprintln!("trommel:   rejected {}: {code}", thousands(*count));
    }
    print_json(args.common.json, &report)?;
    Ok(judge::done(report.interrupted, &report.failed, report.rejected, samples, args.reading.max_rejects))
}
