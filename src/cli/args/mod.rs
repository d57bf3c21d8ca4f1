//! The command line: names that scripts may rely on. Here are the flags that commands share, and those of each command that may
//! run a model, in the file that is called after it; a command that runs none has its own beside what it does, in `commands`.

#![allow(missing_docs, reason = "a flag's help is its documentation; a flattened group has its own")]

mod bench;
mod demo;
mod embed;
mod eval;
mod groups;
mod launch;
mod prune;
mod radii;
mod study;
mod train;
mod watch;

use clap::Subcommand;

pub use bench::{BenchArgs, Stage};
pub use demo::DemoArgs;
pub use embed::EmbedArgs;
pub use eval::EvalArgs;
pub(crate) use groups::SHARDS;
pub use groups::{
    Against, Common, Compute, Embedder, ImageWeights, Judging, LedgerReading, Machine, Output, Reading, Running, Slice,
    Watched, share_in_percent, threads_or_cores,
};
pub use launch::LaunchArgs;
pub use prune::PruneArgs;
pub use radii::RadiiArgs;
pub use study::StudyArgs;
pub use train::TrainArgs;
pub use watch::WatchArgs;

/// Commands that may run a model.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "made once")]
pub enum ModelCommand {
    /// Embed shards or class folders
    Embed(EmbedArgs),
    /// Radii r_i of a benchmark's test points against a reference set
    Radii(RadiiArgs),
    /// Score every sample against benchmarks, decide, and write the ledger
    Prune(PruneArgs),
    /// Prune while streaming, and train CLIP on what is kept
    Train(Box<TrainArgs>),
    /// Follow shards, benchmarks, rules and takedowns as they change, and keep every decision right
    Watch(WatchArgs),
    /// Zero-shot accuracy of a checkpoint on class folders or CLIP_benchmark's tars; recall on captioned pictures
    Eval(EvalArgs),
    /// One stage alone, on what it makes itself: what it can reach here
    Bench(BenchArgs),
    /// One run of prune, embed, train or watch as several processes; `docs/cluster.md`
    Launch(LaunchArgs),
    /// The whole method from one file, unattended: radii, one judged pool, every split, trainings, zero-shot, report
    Study(StudyArgs),
    /// All of it, small
    Demo(DemoArgs),
}
