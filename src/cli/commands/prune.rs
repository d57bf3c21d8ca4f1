//! `trommel prune` of stored embeddings; and what every prune says at its end.

use trommel_core::text::{percent, thousands};
use trommel_decide::rule::Rule;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::join_report::JoinReport;
use trommel_pipelines::prune_embeddings;
use trommel_pipelines::pruning::PruneReport;
use trommel_pipelines::stored::{InputKind, kind_of};

use super::{note_kept_seed, print_json};
use crate::args::PruneArgs;
use crate::launch::Launched;
use crate::outcome::{Outcome, tell};
use crate::run_config::{self, Begun, Showing};
use crate::say::say;

/// Whether what is pruned is embedded already.
///
/// # Errors
/// Embeddings beside shards.
pub fn is_of_embeddings(args: &PruneArgs) -> Result<bool, PipelineError> {
    Ok(kind_of(&args.shards)? == InputKind::Embeddings)
}

/// Judges every row of stored embeddings; `given` are the flags that stand on the command line or in its `--config`.
pub fn run(args: &PruneArgs, given: &[String], launched: Option<Launched>) -> Outcome {
    refuse_unread(given)?;
    has_rule(args)?;
    if args.judging.against.join == "device" {
        let wrong =
            "--join device: stored embeddings are joined on the processor, where no model runs; the answer is the same";
        return Err(PipelineError::usage(wrong));
    }
    let machine = run_config::machine(&args.running.common.machine, launched.as_ref(), || 0)?;
    let (judging, running) = (&args.judging, &args.running);
    let slice = Some(&args.slice);
    let mut config = run_config::config(&args.shards, &args.run, judging, running, slice, machine, launched)?;
    let begun = run_config::begin(&mut config, &running.watched, Showing::Everywhere)?;
    let mut report = prune_embeddings::prune(&config, begun.stop.clone(), &begun.progress)?;
    // Of all that is said of embedding and joining these alone are taken here.
    run_config::note_unread(&mut report.notices, given, judging, &["join", "columns"]);
    told(args, given, report, begun)
}

/// Refuses a run without a rule.
///
/// # Errors
/// No `--rule`.
pub fn has_rule(args: &PruneArgs) -> Result<(), PipelineError> {
    match args.judging.rule {
        Some(_) => Ok(()),
        None => Err(PipelineError::usage("--rule is missing; `trommel embed` is the command without one")),
    }
}

/// Whoever says how to read or embed pictures expects that some are.
fn refuse_unread(given: &[String]) -> Result<(), PipelineError> {
    const READ: [&str; 18] = [
        "run",
        "benchmark",
        "benchmark-without",
        "rule",
        "columns",
        "no-embeddings",
        "blur",
        "join",
        "assume-model",
        "max-rejects",
        "part",
        "metrics",
        "workers",
        "threads",
        "memory",
        "seed",
        "json",
        "config",
    ];
    match given.iter().find(|flag| !READ.contains(&flag.as_str())) {
        None => Ok(()),
        Some(flag) => Err(PipelineError::usage(format!(
            "--{flag}: what is pruned are stored embeddings, no picture is read here and nothing is embedded"
        ))),
    }
}

/// Whether the rule draws by the seed. One that cannot be read has ended the run by now.
fn draws(args: &PruneArgs) -> bool {
    let rule: Option<Result<Rule, _>> = args.judging.rule.as_deref().map(str::parse);
    rule.is_some_and(|rule| rule.is_ok_and(|rule| rule.policy().draws()))
}

/// What a prune says at its end, and its status; `given` are the flags that stand on the command line or in its `--config`.
pub fn told(args: &PruneArgs, given: &[String], mut report: PruneReport, mut begun: Begun) -> Outcome {
    begun.hide();
    if !begun.speaks {
        return Ok(run_config::silently(report.interrupted, &report.failed));
    }
    note_kept_seed(&mut report.notices, given, draws(args));
    let samples = report.kept + report.dropped + report.rejected;
    say(format!(
        "{} samples: {} kept, {} dropped ({}), {} rejected; {:.1} samples/s, bottleneck: {}",
        thousands(samples),
        thousands(report.kept),
        thousands(report.dropped),
        percent(report.dropped, samples),
        thousands(report.rejected),
        report.samples_per_second,
        report.spent.bottleneck
    ));
    if let Some(line) = report.join.as_ref().and_then(JoinReport::line) {
        say(line);
    }
    for (code, count) in &report.rejects {
        say(format!("  rejected {}: {code}", thousands(*count)));
    }
    for (code, count) in &report.remarks {
        say(format!("  kept with a remark {}: {code}", thousands(*count)));
    }
    run_config::tell_decoded(&report.spent);
    tell(&report.notices);
    print_json(args.running.common.output.json, &report)?;
    let read = run_config::Read { rejected: report.rejected, samples, shards: report.shards, notices: &report.notices };
    Ok(run_config::done(report.interrupted, &report.failed, read, args.running.reading.max_rejects))
}
