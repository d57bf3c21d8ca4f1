//! `trommel prune`.

use trommel_pipelines::error::PipelineError;
use trommel_pipelines_torch::joining::JoinReport;
use trommel_pipelines_torch::prune;
use trommel_report::text::{percent, thousands};

use crate::judge;
use trommel_cli::args::PruneArgs;
use trommel_cli::commands::print_json;
use trommel_cli::launch::Launched;
use trommel_cli::outcome::{Outcome, tell};

/// Judges every sample.
pub fn run(args: &PruneArgs, launched: Option<Launched>) -> Outcome {
    if args.judging.rule.is_none() {
        return Err(PipelineError::Usage("--rule is missing; `trommel embed` is the command without one".into()));
    }
    let (judging, embedder, reading) = (&args.judging, &args.embedder, &args.reading);
    let mut config = judge::config(&args.shards, &args.run, judging, embedder, reading, &args.common, launched)?;
    let mut begun = judge::begin(&mut config, &args.watched, judge::Showing::Everywhere)?;
    let mut report = prune::prune(&config, begun.stop.clone(), &begun.progress)?;
    judge::note_unread(&mut report.notices, judging, embedder);
    begun.hide();
    if !begun.speaks {
        return Ok(judge::silently(report.interrupted, &report.failed));
    }
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
    if let Some(line) = report.join.as_ref().and_then(JoinReport::line) {
        eprintln!("trommel: {line}");
    }
    for (code, count) in &report.rejects {
        eprintln!("trommel:   rejected {}: {code}", thousands(*count));
    }
    for (code, count) in &report.remarks {
        eprintln!("trommel:   kept with a remark {}: {code}", thousands(*count));
    }
    judge::tell_decoded(&report.spent);
    tell(&report.notices);
    print_json(args.common.output.json, &report)?;
    let read = judge::Read { rejected: report.rejected, samples, notices: &report.notices };
    Ok(judge::done(report.interrupted, &report.failed, read, args.reading.max_rejects))
}
