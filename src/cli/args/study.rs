//! Flags of `trommel study`.

use std::path::PathBuf;

use clap::Args;

use super::groups::{Machine, Output, share_in_percent};

/// `trommel study`.
#[derive(Debug, Args)]
#[command(after_help = "\
The file says what is studied (`examples/study.toml` has all fields); its paths are relative to its folder. The same command goes on after
anything. In a folder that was begun, seeds, ladder, core and similarity_bin may change; another setting, device or number of threads
wants another folder. As in the paper, sets of the ladder are called by what was pruned: far-B-N has lost the samples far from benchmark B and keeps the N
nearest, near-B-N keeps the N farthest, random-N any.")]
pub struct StudyArgs {
    /// What is studied, as TOML
    #[arg(value_name = "FILE.toml")]
    pub file: PathBuf,
    /// The study's folder: made, or gone on with; RUN/report/index.html is what it found
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// Share of rejected and lost samples of the pool, in percent, above which the exit status is 4
    #[arg(long, default_value_t = 5.0, value_parser = share_in_percent)]
    pub max_rejects: f64,
    #[command(flatten)]
    pub machine: Machine,
    #[command(flatten)]
    pub output: Output,
}
