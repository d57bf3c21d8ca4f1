//! `trommel stream`: its flags, and what is done with them.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use trommel_core::stop::Stop;
use trommel_core::text::thousands;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::stream::{KeptBy, Out, StreamConfig, StreamReport, stream};

use super::print_json;
use crate::args::{SHARDS, share_in_percent};
use crate::environment;
use crate::outcome::{Done, Outcome, Read, tell};
use crate::say::say;
use crate::signals;

/// `trommel stream`.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("kept_by").required(true).args(["split", "run", "rule"]),
    after_help = format!("\
As a trainer's own data, one process a shard:
  --train-data 'pipe:trommel stream shards/{{00000..00099}}.tar --split s.parquet'   (with --train-num-samples)
Samples come in the order of the plan, each member as it stands: names, contents, whatever it is. Nothing is decoded.
{SHARDS}")
)]
pub struct StreamArgs {
    /// Shards, in the order in which they are read
    #[arg(required = true)]
    pub shards: Vec<String>,
    /// Keep whom a split keeps: .parquet (or .split.json), .txt (SHARD/KEY a line), .npy (DataComp's uids, sorted; one that stands there
    /// several times is taken once) or .keys (a key a line, sorted bytewise: keys alone, whatever the shards are called)
    #[arg(long, value_name = "FILE")]
    pub split: Option<PathBuf>,
    /// Keep whom a run keeps
    #[arg(long, value_name = "RUN")]
    pub run: Option<PathBuf>,
    /// Keep a share by the seeded hash of shard and key: random:P%
    #[arg(long, value_name = "random:P%")]
    pub rule: Option<String>,
    /// Seed of the share
    #[arg(long, default_value_t = 0, conflicts_with_all = ["split", "run"])]
    pub seed: u64,
    /// Write new shards into a folder, with sizes.json and _stats.json [default: one tar on standard output]
    #[arg(short, long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Samples of a new shard, with -o
    #[arg(long, value_name = "N", default_value_t = 10_000, requires = "out", value_parser = clap::value_parser!(u64).range(1..))]
    pub shard_samples: u64,
    /// Share of lost samples, in percent, above which the exit status is 4
    #[arg(long, default_value_t = 5.0, value_parser = share_in_percent)]
    pub max_rejects: f64,
    /// Print the result as one JSON line on stdout, with -o
    #[arg(long, requires = "out")]
    pub json: bool,
}

/// Streams. On standard output stands the tar, and nothing is said unless there is something to say.
pub fn run(args: &StreamArgs) -> Outcome {
    let (config, stop) = (config(args)?, Stop::new());
    if matches!(config.out, Out::Shards(..)) {
        signals::install(stop.clone()).map_err(PipelineError::failed)?;
    }
    let report = stream(&config, &stop)?;
    if let Out::Shards(folder, _) = &config.out {
        let (samples, shards, folder) = (thousands(report.samples), report.written.len(), folder.display());
        say(format!("{samples} samples kept, in {shards} shards in {folder}"));
        match open_clip(&report) {
            Some(command) => say(format!("  {command}")),
            None => say("  nothing is kept: there is nothing to train on"),
        }
    }
    tell(&report.notices);
    print_json(args.json, &report)?;
    let read = Read { rejected: 0, samples: report.samples, shards: report.shards, notices: &report.notices };
    Ok(Done { too_many_rejects: read.too_many(args.max_rejects), ..Done::default() })
}

fn config(args: &StreamArgs) -> Result<StreamConfig, PipelineError> {
    let kept_by = match (&args.split, &args.run, &args.rule) {
        (Some(split), ..) => KeptBy::Split(split.clone()),
        (None, Some(run), _) if !run.is_dir() => {
            return Err(PipelineError::usage(format!("--run {}: no run folder", run.display())));
        }
        (None, Some(run), _) => KeptBy::Split(run.clone()),
        (None, None, Some(rule)) => KeptBy::rule(rule, args.seed)?,
        (None, None, None) => return Err(PipelineError::usage("give --split, --run or --rule")),
    };
    let out = args.out.as_ref().map_or(Out::Pipe, |folder| Out::Shards(folder.clone(), args.shard_samples));
    Ok(StreamConfig { shards: args.shards.clone(), kept_by, out, stores: environment::stores() })
}

/// How open_clip trains on the new shards.
fn open_clip(report: &StreamReport) -> Option<String> {
    let (pattern, count) = (report.pattern.as_ref()?, report.train_num_samples);
    Some(format!(
        "python -m open_clip_train.main --dataset-type webdataset --train-data {pattern} --train-num-samples {count}"
    ))
}
