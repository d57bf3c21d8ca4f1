//! `trommel eval`.

use std::fs;
use std::path::Path;

use trommel_pipelines::error::PipelineError;
use trommel_pipelines::eval::{EvalConfig, zero_shot};

use super::{judge, print_json};
use crate::args::EvalArgs;
use crate::outcome::{Done, Outcome};

/// Zero-shot accuracy.
pub fn run(args: &EvalArgs) -> Outcome {
    let machine = judge::machine(&args.common, None)?;
    let lines = |path: &Option<std::path::PathBuf>| path.as_deref().map_or_else(|| Ok(Vec::new()), read_lines);
    let config = EvalConfig {
        checkpoint: args.checkpoint.clone(),
        model: args.model.clone().or_else(|| model_of(&args.checkpoint)).ok_or_else(|| {
            PipelineError::Usage("--model is missing, and the checkpoint does not say which it is".into())
        })?,
        data: args.data.clone(),
        class_names: lines(&args.classnames)?,
        templates: lines(&args.templates)?,
        device: machine.device,
        threads: machine.threads,
    };
    let report = zero_shot(&config)?;
    eprintln!(
        "trommel: zero-shot on {} pictures of {} classes: top-1 {:.2} %, top-5 {:.2} %",
        report.pictures,
        report.classes,
        100.0 * report.top1,
        100.0 * report.top5
    );
    print_json(args.common.json, &report)?;
    Ok(Done::default())
}

/// The name in a checkpoint's `state.json`.
fn model_of(checkpoint: &Path) -> Option<String> {
    let text = fs::read_to_string(checkpoint.join("state.json")).ok()?;
    serde_json::from_str::<serde_json::Value>(&text).ok()?.get("name")?.as_str().map(String::from)
}

fn read_lines(path: &Path) -> Result<Vec<String>, PipelineError> {
    let text =
        fs::read_to_string(path).map_err(|error| PipelineError::Usage(format!("{}: {error}", path.display())))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect())
}
