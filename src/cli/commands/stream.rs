//! `trommel stream`.

use trommel_core::escape::escape_controls;
use trommel_core::stop::Stop;
use trommel_core::text::thousands;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::stream::{KeptBy, Out, StreamConfig, StreamReport, stream};

use super::print_json;
use crate::args::StreamArgs;
use crate::environment;
use crate::outcome::{Done, Outcome, Read, tell};
use crate::signals;

/// Streams. On standard output stands the tar, and nothing is said unless there is something to say.
pub fn run(args: &StreamArgs) -> Outcome {
    let (config, stop) = (config(args)?, Stop::new());
    if matches!(config.out, Out::Shards(..)) {
        signals::install(stop.clone()).map_err(PipelineError::failed)?;
    }
    let report = stream(&config, &stop)?;
    if let Out::Shards(folder, _) = &config.out {
        let say = |line: &str| eprintln!("trommel: {}", escape_controls(line));
        let (samples, shards, folder) = (thousands(report.samples), report.written.len(), folder.display());
        say(&format!("{samples} samples kept, in {shards} shards in {folder}"));
        match open_clip(&report) {
            Some(command) => say(&format!("  {command}")),
            None => say("  nothing is kept: there is nothing to train on"),
        }
    }
    tell(&report.notices);
    print_json(args.json, &report)?;
    let read = Read { rejected: 0, samples: report.samples, notices: &report.notices };
    Ok(Done { too_many_rejects: read.too_many(args.max_rejects), ..Done::default() })
}

fn config(args: &StreamArgs) -> Result<StreamConfig, PipelineError> {
    let kept_by = match (&args.split, &args.run, &args.rule) {
        (Some(split), ..) => KeptBy::Split(split.clone()),
        (None, Some(run), _) if !run.is_dir() => {
            return Err(PipelineError::Usage(format!("--run {}: no run folder", run.display())));
        }
        (None, Some(run), _) => KeptBy::Split(run.clone()),
        (None, None, Some(rule)) => KeptBy::rule(rule, args.seed)?,
        (None, None, None) => return Err(PipelineError::Usage("give --split, --run or --rule".into())),
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
