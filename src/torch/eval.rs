//! `trommel eval`.

use std::fs;
use std::path::Path;

use trommel_pipelines::error::PipelineError;
use trommel_pipelines::labelled::ClassNames;
use trommel_pipelines::lists;
use trommel_pipelines_torch::eval::{EvalConfig, zero_shot};

use trommel_cli::args::EvalArgs;
use trommel_cli::commands::print_json;
use trommel_cli::outcome::{Done, Outcome, Read, tell};

/// Zero-shot accuracy.
pub fn run(args: &EvalArgs) -> Outcome {
    let report = zero_shot(&config(args)?)?;
    tell(&report.notices);
    eprintln!(
        "trommel: zero-shot on {} pictures of {} classes ({} rejected): top-1 {:.2} %, top-5 {:.2} %",
        report.pictures,
        report.classes,
        report.rejected,
        100.0 * report.top1,
        100.0 * report.top5
    );
    print_json(args.output.json, &report)?;
    // What could not be decoded is among what was lost.
    let read = Read { rejected: 0, samples: report.pictures, notices: &report.notices };
    let too_many_rejects = read.too_many(args.max_rejects);
    Ok(Done { too_many_rejects, ..Done::default() })
}

/// Flags to an evaluation.
pub(super) fn config(args: &EvalArgs) -> Result<EvalConfig, PipelineError> {
    Ok(EvalConfig {
        checkpoint: args.checkpoint.clone(),
        model: args.model.clone().or_else(|| model_of(&args.checkpoint)).ok_or_else(|| {
            PipelineError::Usage("--model is missing, and the checkpoint does not say which it is".into())
        })?,
        data: args.data.clone(),
        classes: ClassNames {
            list: args.classnames.as_deref().map(lists::class_names).transpose()?.unwrap_or_default(),
            table: args.class_table.as_deref().map(lists::class_table).transpose()?.unwrap_or_default(),
        },
        templates: args.templates.as_deref().map(lists::templates).transpose()?.unwrap_or_default(),
        device: args.compute.device.clone(),
        threads: args.compute.threads_or_cores(),
    })
}

/// The name in a checkpoint's `state.json`.
fn model_of(checkpoint: &Path) -> Option<String> {
    let text = fs::read_to_string(checkpoint.join("state.json")).ok()?;
    serde_json::from_str::<serde_json::Value>(&text).ok()?.get("name")?.as_str().map(String::from)
}
