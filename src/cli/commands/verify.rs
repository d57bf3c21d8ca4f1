//! `trommel verify`: its flags, and what is done with them.

use std::path::PathBuf;

use clap::Args;
use trommel_core::escape::escape_controls;
use trommel_core::text::thousands;
use trommel_pipelines::cores::Threads;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::verify::{VerifyConfig, VerifyReport, verify};

use super::select::reading;
use super::{print_json, print_line};
use crate::args::{LedgerReading, Output};
use crate::outcome::{Done, Outcome, tell_remarks, tell_threads};
use crate::say::say;

/// `trommel verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A split: its .split.json, or its .parquet
    pub split: PathBuf,
    /// A run folder over the same shards (of a split of `dedup A B`: all inputs, in their order); or another split: who changes sides
    #[arg(required = true, num_args = 1..)]
    pub run: Vec<PathBuf>,
    /// Of a split of `dedup --against`: the other set, which may lie elsewhere now
    #[arg(long, value_name = "EMB")]
    pub against: Vec<String>,
    /// Of a split of `dedup --split`: that split
    #[arg(long = "split", value_name = "FILE")]
    pub of: Option<PathBuf>,
    /// Samples to name of those that differ
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub show: usize,
    #[command(flatten)]
    pub reading: LedgerReading,
    #[command(flatten)]
    pub output: Output,
}

/// Checks a split, and names the samples that differ.
pub fn run(args: &VerifyArgs) -> Outcome {
    let (run, more) = args.run.split_first().ok_or_else(|| PipelineError::usage("no run was given"))?;
    let config = VerifyConfig {
        split: args.split.clone(),
        run: run.clone(),
        more: more.to_vec(),
        against: args.against.clone(),
        of: args.of.clone(),
        shown: args.show,
        reading: reading(&args.reading, 0)?,
    };
    let report = verify(&config)?;
    if report.other_rule.is_none() {
        tell_threads(&Threads::of(config.reading.threads));
    } else {
        let unread = [("--memory", args.reading.memory.is_some()), ("--threads", args.reading.threads.is_some())];
        for (flag, _) in unread.iter().filter(|(_, given)| *given) {
            say(format!("{flag} is for a run: of two splits the rows alone are read"));
        }
    }
    tell_remarks(&report.remarks);
    if args.output.json {
        print_json(true, &report)?;
    } else if report.equal {
        print_line(&format!("equal: {} samples, sha256 of their keys {}", report.counts.0, report.keys_sha256.0))?;
    } else {
        for (in_run, row) in report.rows.iter().flat_map(|rows| &rows.first) {
            let (sign, whose) = if *in_run { ('+', other(&report)) } else { ('-', "the split") };
            print_line(&escape_controls(&format!("{sign} {row}: kept by {whose} only")))?;
        }
    }
    if report.equal { Ok(Done::default()) } else { Err(PipelineError::failed(told(args, &report))) }
}

fn other(report: &VerifyReport) -> &'static str {
    if report.other_rule.is_some() { "the other" } else { "the run" }
}

fn told(args: &VerifyArgs, report: &VerifyReport) -> String {
    let run: Vec<String> = args.run.iter().map(|run| run.display().to_string()).collect();
    let (split, run) = (args.split.display(), run.join(" "));
    let rows = report.rows.as_ref().map_or_else(
        || "the split's rows are not beside it, so that nobody can say which".to_owned(),
        |rows| {
            format!(
                "{} only by the split, {} only by {}",
                thousands(rows.only_in_split),
                thousands(rows.only_in_run),
                other(report)
            )
        },
    );
    format!(
        "{split} keeps {} of {} samples, {run} {} of {}: {rows}",
        thousands(report.counts.0),
        thousands(report.judged.0),
        thousands(report.counts.1),
        thousands(report.judged.1)
    )
}
