//! `trommel train`.

use std::ffi::OsString;
use std::path::Path;

use clap::CommandFactory;
use trommel_core::text::{percent, thousands};
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::memory::parse_bytes;
use trommel_pipelines_torch::order_defaults::OrderFlags;
use trommel_pipelines_torch::train::{RunLength, TrainReport, TrainRun, TrainedWithout, train};
use trommel_train::{Precision, SaveEvery, TextPadding, TrainConfig};

use crate::run_config;
use trommel_cli::args::{ModelCommand, TrainArgs};
use trommel_cli::commands::print_json;
use trommel_cli::config_file;
use trommel_cli::launch::Launched;
use trommel_cli::outcome::{Done, Outcome, tell};
use trommel_cli::parsed::{Cli, Command, Parsed, in_a_line};
use trommel_cli::say::say;
use trommel_core::causes::Cause;

/// Prunes while streaming, and trains; `given` are the flags that stand on the command line or in its `--config`.
pub fn run(args: &TrainArgs, given: &[String], launched: Option<Launched>) -> Outcome {
    let mut run = config(args, launched)?;
    let mut begun = run_config::begin(&mut run.judge, &args.running.watched, run_config::Showing::Everywhere)?;
    let mut report = train(&run, begun.stop.clone(), &begun.progress)?;
    run_config::note_unread(&mut report.notices, given, &args.judging, &run_config::EMBEDS_OR_JOINS);
    begun.hide();
    if !begun.speaks {
        let unfinished = report.interrupted || !report.trained_without.is_empty();
        return Ok(run_config::silently(unfinished, &report.failed));
    }
    let samples = report.kept + report.dropped + report.rejected;
    say(format!(
        "{} samples judged in finished shards: {} kept, {} dropped ({}), {} rejected",
        thousands(samples),
        thousands(report.kept),
        thousands(report.dropped),
        percent(report.dropped, samples),
        thousands(report.rejected)
    ));
    say(format!(
        "{} steps, {} samples trained in {} finished passes ({} left over, {} without caption); loss {}",
        thousands(report.steps),
        thousands(report.samples_seen),
        report.passes,
        report.left_over,
        report.without_caption,
        run_config::losses(report.first_loss, report.last_loss)
    ));
    if let Some(checkpoint) = &report.checkpoint {
        say(format!("checkpoint {}", checkpoint.display()));
    }
    run_config::tell_decoded(&report.spent);
    tell(&report.notices);
    print_json(args.running.common.output.json, &report)?;
    let read = run_config::Read { rejected: report.rejected, samples, shards: report.shards, notices: &report.notices };
    let done = run_config::done(report.interrupted, &report.failed, read, args.running.reading.max_rejects);
    Ok(Done { unfinished: unfinished(&report, done.unfinished), ..done })
}

/// Why a run is not whole, which is `usual` where no more than that is to be said. What a pass was trained without stays so, whatever is
/// started again.
fn unfinished(report: &TrainReport, usual: Option<String>) -> Option<String> {
    let Some(TrainedWithout { pass, shard, samples }) = report.trained_without.first() else {
        let unread = run_config::unread(&report.failed).filter(|_| !report.interrupted);
        return unread.map(|unread| format!("{unread}; the run is complete without them")).or(usual);
    };
    let from = if *samples == 0 { String::new() } else { format!(" from sample {samples} on") };
    let without = format!("pass {pass} was trained without {shard}{from}");
    let line = match report.trained_without.len() - 1 {
        0 => format!("{without}; it is not made up for"),
        more => format!("{without}, and so {more} more times; they are not made up for"),
    };
    Some(match usual.filter(|_| report.interrupted) {
        Some(usual) => format!("{usual}; {line}"),
        None => line,
    })
}

/// The training run that a file of options describes; its shards and its judging are somebody else's. The file is read as the `--config`
/// of a `trommel train` would be, by way of words: what the flags of that command are, what they take and what their defaults are is said
/// to the parser of command lines alone.
pub fn of_file(file: &Path, run: &Path) -> Result<TrainRun, PipelineError> {
    let wrong = |cause: Cause| PipelineError::usage(cause).within(format_args!("--train {}", file.display()));
    let words = ["trommel", "train", "--config"].map(OsString::from).into_iter().chain([file.into()]).collect();
    // Whoever reads the file names it, and the flag by which it came here is another one.
    let mut words = config_file::merge(words).map_err(|error| error.by("--train"))?;
    if let Some(flag) = of_the_watch(&words) {
        return Err(wrong(format!("`{flag}` is the watch's to say, its trainer does not read it").into()));
    }
    words.extend(["--decisions", ".", "--run"].map(OsString::from).into_iter().chain([run.into()]));
    match Parsed::of(words).map_err(|error| wrong(in_a_line(&error).into()))?.command {
        Command::Model(ModelCommand::Train(args)) if args.passes.is_some() => {
            Err(wrong("give steps or samples: a watch has one endless pass".into()))
        }
        Command::Model(ModelCommand::Train(args)) => Ok(TrainRun { decisions: None, ..config(&args, None)? }),
        _ => Err(wrong("no options of `trommel train`".into())),
    }
}

/// The first option of a trainer's file that a watch says in its place: what is read and judged, and where.
fn of_the_watch(words: &[OsString]) -> Option<String> {
    const OTHERS: [&str; 6] = ["run", "decisions", "split", "skip-failed", "train-num-samples", "json"];
    let (cli, headings) = (Cli::command(), ["Judging", "Embedder", "Reading", "Machine"]);
    let train = cli.find_subcommand("train")?;
    let is_its = |flag: &str| {
        let arg = train.get_arguments().find(|arg| arg.get_long() == Some(flag));
        let heading = arg.and_then(clap::Arg::get_help_heading);
        OTHERS.contains(&flag) || heading.is_some_and(|heading| headings.contains(&heading))
    };
    let flags = words.iter().filter_map(|word| word.to_str()?.strip_prefix("--")?.split('=').next());
    flags.map(str::to_owned).find(|flag| is_its(flag))
}

/// `--precision` of the trainer.
pub(super) fn precision(word: &str) -> Result<Precision, PipelineError> {
    match word {
        "f32" | "fp32" => Ok(Precision::F32),
        "bf16" => Ok(Precision::Bf16),
        other => Err(PipelineError::usage(format!("--precision {other}: write f32 or bf16"))),
    }
}

/// Flags to a training run.
pub(super) fn config(args: &TrainArgs, launched: Option<Launched>) -> Result<TrainRun, PipelineError> {
    let length = match (args.steps, args.samples, args.passes) {
        (Some(steps), None, None) => RunLength::Steps(steps),
        (None, Some(samples), None) => RunLength::Samples(samples),
        (None, None, Some(passes)) => RunLength::Passes(passes),
        _ => {
            return Err(PipelineError::usage("a schedule needs a length: give one of --steps, --samples or --passes"));
        }
    };
    if args.train_num_samples.is_some() && args.passes.is_none() {
        return Err(PipelineError::usage("--train-num-samples: only --passes needs it"));
    }
    if !args.judging.against.benchmarks.is_empty() && args.judging.rule.is_none() {
        return Err(PipelineError::usage("--benchmark without --rule: say what is to be dropped"));
    }
    let precision = precision(&args.precision)?;
    let text_padding = match args.text_padding.as_deref() {
        None => None,
        Some("none") => Some(TextPadding::None),
        Some("full") => Some(TextPadding::Full),
        Some(other) => return Err(PipelineError::usage(format!("--text-padding {other}: write none or full"))),
    };
    let save_every: Option<SaveEvery> =
        args.save_every.as_deref().map(str::parse).transpose().map_err(PipelineError::usage)?;
    let mut recipe = TrainConfig::new(args.batch as usize);
    recipe.accumulation_chunks = args.accum_freq as usize;
    recipe.lr = args.lr;
    recipe.beta1 = args.beta1;
    recipe.beta2 = args.beta2;
    recipe.eps = args.eps;
    recipe.weight_decay = args.wd;
    recipe.warmup_steps = args.warmup;
    recipe.grad_clip_norm = args.grad_clip_norm;
    recipe.precision = precision;
    let (judging, running) = (&args.judging, &args.running);
    Ok(TrainRun {
        decisions: args.decisions.clone(),
        split: args.split.clone(),
        judge: run_config::config(&args.shards, &args.run, judging, running, None, launched)?,
        model: args.model.clone(),
        pretrained: args.pretrained.clone(),
        seed: running.common.seed,
        recipe,
        text_padding,
        length,
        pass_samples: args.train_num_samples,
        order: OrderFlags {
            lanes: args.lanes.map(|lanes| lanes as usize),
            window_samples: args.window.map(|samples| samples as usize),
            window_bytes: args.window_bytes.as_deref().map(parse_bytes).transpose()?,
            seed: running.common.seed,
        },
        save_every,
        save_passes: true,
        keep_checkpoints: usize::from(args.keep_checkpoints),
        extend: args.extend,
        skip_failed: args.skip_failed,
        log_every_steps: 100,
    })
}
