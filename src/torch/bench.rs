//! `trommel bench`: one file a stage.

mod decode;
mod embed;
mod join;
mod train;

use trommel_cli::args::{BenchArgs, Stage};
use trommel_cli::outcome::Outcome;
use trommel_pipelines::error::PipelineError;

/// One stage alone; `given` are the flags that stand on the command line or in its `--config`.
pub fn run(args: &BenchArgs, given: &[String]) -> Outcome {
    refuse_unread(args.stage, given)?;
    match args.stage {
        Stage::Decode => decode::run(args),
        Stage::Embed => embed::run(args),
        Stage::Join => join::run(args),
        Stage::Train => train::run(args),
    }
}

/// A flag of another stage would change nothing.
fn refuse_unread(stage: Stage, given: &[String]) -> Result<(), PipelineError> {
    let read: &[&str] = match stage {
        Stage::Decode => &["pictures", "view", "seconds"],
        Stage::Embed => &[
            "model",
            "pretrained",
            "torchscript",
            "random-init",
            "precision",
            "batch",
            "in-flight",
            "seconds",
            "variants",
            "threads",
        ],
        Stage::Join => &["points", "dim", "rows", "seconds", "threads"],
        Stage::Train => &["model", "pretrained", "random-init", "precision", "batch", "steps", "variants", "threads"],
    };
    let is_read = |flag: &str| ["stage", "device", "json", "config"].contains(&flag) || read.contains(&flag);
    match given.iter().find(|flag| !is_read(flag)) {
        None => Ok(()),
        Some(flag) => Err(PipelineError::usage(format!("--{flag}: this stage does not read it"))),
    }
}
