//! Flags of `trommel watch`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use trommel_decide::parse::forms;

use super::groups::{Against, Running};

/// `trommel watch`.
#[derive(Debug, Clone, Args)]
#[command(
    override_usage = "trommel watch [OPTIONS] --run <DIR> <--rule <RULE>|--split <NAME=RULE>> <PREFIX>...",
    mut_arg("seed", |seed| seed.help("Seed that the folder keeps: no rule of a watch draws, and its trainer's stands in --train's file")),
    after_help = "\
Benchmarks, rules and takedown lists are inputs like the shards: change their files, or the --config file that names them, and
the watch follows; or stop it and start it with others. `docs/streaming.md` explains the rest."
)]
pub struct WatchArgs {
    /// Folders, globs, braces, or list files of such words
    #[arg(required = true, value_name = "PREFIX")]
    pub prefixes: Vec<String>,
    /// The watch's folder: made, or gone on with; RUN/current is the newest epoch
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// Take in what is there, decide, and end: for cron and sbatch. No shard yet is no error: an empty epoch, status 0
    #[arg(long)]
    pub once: bool,
    /// A shard without a current _stats.json of img2dataset, and a changed list, benchmark or --config, is whole when unchanged for so long
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = crate::duration::parse)]
    pub settle: Duration,
    /// Time between looks where the file system notifies of nothing
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = crate::duration::parse)]
    pub poll: Duration,
    /// A shard whose file goes is withdrawn, but not all of a folder or glob at once [default: what is known of it stays]
    #[arg(long)]
    pub withdraw_missing: bool,
    /// Published epochs to keep
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    pub keep_epochs: u16,
    #[command(flatten)]
    pub against: Against,
    /// What is dropped: one split, named main
    #[arg(
        long,
        help = forms(|rule| rule.policy().condition().is_some()) + ": one split, named main",
        help_heading = "Judging"
    )]
    pub rule: Option<String>,
    /// Several splits side by side
    #[arg(long = "split", value_name = "NAME=RULE", conflicts_with = "rule", help_heading = "Judging")]
    pub splits: Vec<String>,
    /// Keep a trainer fed meanwhile: options of `trommel train` (model, batch, steps, ..) as TOML; it writes into RUN/train
    #[arg(long, value_name = "FILE.toml", help_heading = "Training")]
    pub train: Option<PathBuf>,
    /// The split that it is fed with [default: the only one]
    #[arg(long, value_name = "NAME", requires = "train", help_heading = "Training")]
    pub train_split: Option<String>,
    /// Samples to take down in all splits: a key, SHARD/KEY, uid, URL or sha256 a line (`# ` begins a comment, `#1` is a key)
    #[arg(long = "takedown", value_name = "FILE", help_heading = "Judging")]
    pub takedowns: Vec<PathBuf>,
    /// Reports of its splits blur pictures until somebody clicks on them
    #[arg(long, help_heading = "Judging")]
    pub blur: bool,
    /// Which of these flags the --config file has given, and may give otherwise later
    #[arg(long, hide = true)]
    pub from_config: Vec<String>,
    #[command(flatten)]
    pub running: Running,
}
