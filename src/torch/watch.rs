//! `trommel watch`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::OnceLock;

use trommel_core::names::{FOLDER_NAMES, is_folder_name};
use trommel_core::text::thousands;
use trommel_decide::join::ColumnSet;
use trommel_pipelines::benchmarks::NamedPath;
use trommel_pipelines::config::JudgeConfig;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::gauges::Gauges;
use trommel_pipelines::watch_folder::BESIDE_SPLITS;
use trommel_pipelines_torch::watch::{LiveTraining, Wanted, WatchConfig, watch};

use crate::run_config;
use crate::train;
use trommel_cli::args::{self, WatchArgs};
use trommel_cli::commands::{note_kept_seed, print_json};
use trommel_cli::config_file;
use trommel_cli::launch::Launched;
use trommel_cli::outcome::{Done, Outcome, tell};
use trommel_cli::say::say;

/// The split of `--rule`.
const ONE_SPLIT: &str = "main";
/// What a running watch reads again from its `--config`.
const FOLLOWED: [&str; 5] = ["benchmark", "benchmark-without", "rule", "split", "takedown"];

/// Runs the command: watches until told to stop, or once; `given` are the flags that stand on the command line or in its `--config`.
pub fn run(args: &WatchArgs, given: &[String], launched: Option<Launched>) -> Outcome {
    let first = wanted(args)?;
    let mut config = judge_config(args, launched)?;
    let train = args.train.as_ref().map(|file| {
        let split = match (&args.train_split, first.splits.len()) {
            (Some(name), _) if first.splits.contains_key(name) => name.clone(),
            (Some(name), _) => {
                return Err(PipelineError::usage(format!("--train-split {name}: no split of that name")));
            }
            (None, 1) => first.splits.keys().next().cloned().unwrap_or_default(),
            (None, _) => return Err(PipelineError::usage("--train-split is missing: there are several splits")),
        };
        Ok(LiveTraining { split, run: train::of_file(file, &args.run.join("train"))? })
    });
    let train = train.transpose()?;
    let mut begun = run_config::begin(&mut config, &args.running.watched, run_config::Showing::Terminal)?;
    // A pipe says nothing twice.
    let is_pipe = |file: &&PathBuf| file.metadata().is_ok_and(|metadata| !metadata.is_file());
    let file = args.running.common.output.config.as_ref().filter(|file| !is_pipe(file)).cloned();
    let followed =
        Followed { args: args.clone(), file: file.clone(), given: given.to_vec(), at_start: OnceLock::new() };
    let config = WatchConfig {
        judge: config,
        sources: args.prefixes.clone(),
        run: args.run.clone(),
        once: args.once,
        settle: args.settle,
        poll: args.poll,
        withdraw_missing: args.withdraw_missing,
        keep_epochs: usize::from(args.keep_epochs),
        wanted: Box::new(move || followed.wanted()),
        wanted_file: file,
        train,
    };
    let mut report = watch(&config, begun.stop.clone(), &begun.progress)?;
    begun.hide();
    if !begun.speaks {
        return Ok(run_config::silently(report.interrupted, &report.failed));
    }
    // No rule that draws is a watch's, and the file of its trainer has a seed of its own.
    note_kept_seed(&mut report.notices, given, false);
    say(format!(
        "epoch {}, {} shards; {} samples read, {} shards wait, largest lag {:.1} s",
        report.epoch,
        thousands(report.shards),
        thousands(report.judged_now),
        report.waiting,
        report.lag_seconds
    ));
    if let Some(training) = &report.training {
        say(format!(
            "{} steps, {} samples trained; loss {}",
            thousands(training.steps),
            thousands(training.samples_seen),
            run_config::losses(training.first_loss, training.last_loss)
        ));
    }
    tell(&report.notices);
    print_json(args.running.common.output.json, &report)?;
    let read = run_config::Read {
        rejected: report.rejected,
        samples: report.samples,
        shards: report.shards,
        notices: &report.notices,
    };
    let done = run_config::done(report.interrupted, &report.failed, read, args.running.reading.max_rejects);
    let unseen = || {
        let first = report.troubles.first()?;
        Some(format!(
            "{} of what was to be looked at could not be seen ({first}); the same command tries again",
            report.troubles.len()
        ))
    };
    // A watch that is told to stop has done its work.
    let unfinished = if args.once { done.unfinished.or_else(unseen) } else { None };
    Ok(Done { unfinished, ..done })
}

/// The configuration of the rounds that judge.
pub(super) fn judge_config(args: &WatchArgs, launched: Option<Launched>) -> Result<JudgeConfig, PipelineError> {
    let args::Running { embedder, reading, common, .. } = &args.running;
    Ok(JudgeConfig {
        shards: Vec::new(),
        plan: None,
        run: args.run.clone(),
        benchmarks: Vec::new(),
        rule: None,
        rule_seed: common.seed,
        join: args.against.join.parse()?,
        columns: ColumnSet::All,
        keep_embeddings: true,
        embedder: run_config::embedder(embedder),
        always_embed: true,
        reading: run_config::reading(reading, None),
        blur: args.blur,
        mix_numerics: embedder.mix_numerics,
        machine: run_config::machine(&common.machine, launched.as_ref())?,
        cluster: launched.map(Launched::seat),
        gauges: Gauges::default(),
    })
}

/// A command line, of which a part stands in its configuration file and is read again.
struct Followed {
    args: WatchArgs,
    /// The configuration file, if it can be read again.
    file: Option<PathBuf>,
    /// The flags of the command line and of the file, as the watch was started.
    given: Vec<String>,
    /// What the file said when it was read first.
    at_start: OnceLock<BTreeMap<String, Vec<String>>>,
}

impl Followed {
    /// What is wanted now: of what the command line leaves to the configuration file, what that says by now.
    fn wanted(&self) -> Result<Wanted, PipelineError> {
        let args = &self.args;
        let Some(file) = &self.file else { return wanted(args) };
        let says = config_file::texts(file, "watch")?;
        let now = |flag: &str, given: Vec<String>| match given.is_empty() || self.is_from_file(flag) {
            true => says.get(flag).cloned().unwrap_or_default(),
            false => given,
        };
        let paths = |texts: Vec<String>| texts.into_iter().map(PathBuf::from).collect();
        let takedowns = args.takedowns.iter().map(|path| path.display().to_string()).collect();
        let wanted = wanted(&WatchArgs {
            against: args::Against {
                benchmarks: now("benchmark", args.against.benchmarks.clone()),
                benchmark_without: now("benchmark-without", args.against.benchmark_without.clone()),
                ..args.against.clone()
            },
            rule: now("rule", args.rule.iter().cloned().collect()).pop(),
            splits: now("split", args.splits.clone()),
            takedowns: paths(now("takedown", takedowns)),
            ..args.clone()
        })?;
        Ok(Wanted { not_followed: self.not_followed(&says), ..wanted })
    }

    fn is_from_file(&self, flag: &str) -> bool {
        self.args.from_config.iter().any(|name| name == flag)
    }

    /// What the file gives otherwise than at the start, and would count if the same command were started now.
    fn not_followed(&self, says: &BTreeMap<String, Vec<String>>) -> Vec<String> {
        let before = self.at_start.get_or_init(|| says.clone());
        let is_on_the_line = |flag: &str| self.given.iter().any(|name| name == flag) && !self.is_from_file(flag);
        // A switch that is off is as good as none.
        let differs =
            |flag: &&String| before.get(*flag).into_iter().flatten().ne(says.get(*flag).into_iter().flatten());
        let flags: BTreeSet<_> = before.keys().chain(says.keys()).collect();
        let other = flags.into_iter().filter(|flag| !FOLLOWED.contains(&flag.as_str()) && !is_on_the_line(flag));
        other.filter(differs).cloned().collect()
    }
}

pub(super) fn wanted(args: &WatchArgs) -> Result<Wanted, PipelineError> {
    let benchmarks = NamedPath::parse_all(&args.against.benchmarks, &args.against.benchmark_without)?;
    if args.rule.is_some() && !args.splits.is_empty() {
        return Err(PipelineError::usage("--rule and --split: --rule is one split, give that a name too"));
    }
    let mut splits = BTreeMap::new();
    splits.extend(args.rule.iter().map(|rule| (ONE_SPLIT.to_owned(), rule.clone())));
    for text in &args.splits {
        let Some((name, rule)) = text.split_once('=').filter(|(name, _)| is_folder_name(name, &BESIDE_SPLITS)) else {
            return Err(PipelineError::usage(format!(
                "--split {text}: write it as NAME=RULE; the name becomes a folder's, beside {}: {FOLDER_NAMES}",
                BESIDE_SPLITS.join(" and ")
            )));
        };
        if splits.insert(name.to_owned(), rule.to_owned()).is_some() {
            return Err(PipelineError::usage(format!("--split {name} is given twice")));
        }
    }
    if splits.is_empty() {
        return Err(PipelineError::usage("--rule or --split is missing: say what is to be dropped"));
    }
    Ok(Wanted { benchmarks, splits, takedowns: args.takedowns.clone(), not_followed: Vec::new() })
}
