//! `trommel eval`.

use std::fs;

use trommel_core::notices::Notices;
use trommel_core::text::{Align, TextTable, percent, thousands};
use trommel_evaluate::probe::ProbeConfig;
use trommel_evaluate::retrieval::RecallAt;
use trommel_evaluate::scores::Shares;
use trommel_pipelines::cores::Threads;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::labelled::ClassNames;
use trommel_pipelines::lists;
use trommel_pipelines::training_folder::{NEWEST, newest_weights};
use trommel_pipelines_torch::eval::retrieval::{RetrievalConfig, retrieve};
use trommel_pipelines_torch::eval::{EvalConfig, ProbeOn, evaluate};
use trommel_pipelines_torch::trained_model::TrainedModel;

use trommel_cli::args::EvalArgs;
use trommel_cli::commands::print_json;
use trommel_cli::environment;
use trommel_cli::outcome::{Done, Outcome, Read, tell, tell_threads};
use trommel_cli::say::{say, show};

/// Evaluates, and says how well the model did.
pub fn run(args: &EvalArgs) -> Outcome {
    if args.retrieval {
        return run_retrieval(args);
    }
    let config = config(args)?;
    let report = evaluate(&config)?;
    tell_threads(&Threads::of_libtorch(config.threads, environment::waiting()));
    tell(&report.notices);
    say(format!(
        "zero-shot on {} pictures of {} classes ({} rejected): {}",
        report.pictures,
        report.classes,
        report.rejected,
        tops(&report.zero_shot, report.classes)
    ));
    say(format!("mean per class {:.2} %", 100.0 * report.zero_shot.mean_per_class));
    if let Some(probe) = &report.probe {
        let which = probe.shots.map_or_else(|| "linear probe".to_owned(), |shots| format!("{shots}-shot linear probe"));
        say(format!(
            "{which} fit on {} pictures: {}, mean per class {:.2} %",
            probe.fit_on,
            tops(&probe.accuracy, report.classes),
            100.0 * probe.accuracy.mean_per_class
        ));
    }
    if let Some(nearest) = &report.nearest {
        let mut table =
            TextTable::new(&[("similarity", Align::Left), ("pictures", Align::Right), ("top-1", Align::Right)]);
        for bin in &nearest.bins {
            let similarity = format!("{:.2} to {:.2}", bin.low, bin.high);
            table.row([similarity, thousands(bin.pictures), percent(bin.right, bin.pictures)]);
        }
        show(table.to_string().trim_end());
        let rho = |rho: Option<f64>| rho.map_or_else(|| "not known".into(), |rho| format!("{rho:.3}"));
        say(format!(
            "Spearman's rho of similarity and accuracy: {} over bins, {} over pictures",
            rho(nearest.rho_bins),
            rho(nearest.rho_pictures)
        ));
    }
    print_json(args.output.json, &report)?;
    // What could not be decoded is among what was lost, of the probe's pictures too.
    let samples = report.pictures + report.probe.as_ref().map_or(0, |probe| probe.fit_on);
    Ok(done(args, samples, &report.notices))
}

/// Top-1 and top-5 in words. Among five classes or fewer every picture is in the first five, whatever the model.
fn tops(Shares { top1, top5, .. }: &Shares, classes: usize) -> String {
    let top5 = if classes > 5 { format!(", top-5 {:.2} %", 100.0 * top5) } else { String::new() };
    format!("top-1 {:.2} %{top5}", 100.0 * top1)
}

/// Retrieves, and says how well the model did.
fn run_retrieval(args: &EvalArgs) -> Outcome {
    let config = retrieval_config(args)?;
    let report = retrieve(&config)?;
    tell_threads(&Threads::of_libtorch(config.threads, environment::waiting()));
    tell(&report.notices);
    say(format!("retrieval on {} pictures with {} captions", report.pictures, report.captions));
    for (from, recalls) in [("image to text", &report.image_to_text), ("text to image", &report.text_to_image)] {
        let shares = recalls.iter().map(|RecallAt { k, recall, .. }| format!("recall@{k} {:.2} %", 100.0 * recall));
        say(format!("{from}: {}", shares.collect::<Vec<_>>().join(", ")));
    }
    print_json(args.output.json, &report)?;
    Ok(done(args, report.pictures, &report.notices))
}

/// Whether too much was lost beside so many pictures.
fn done(args: &EvalArgs, samples: u64, notices: &Notices) -> Done {
    let read = Read { rejected: 0, samples, shards: 0, notices };
    Done { too_many_rejects: read.too_many(args.max_rejects), ..Done::default() }
}

/// Flags to a retrieval.
pub(super) fn retrieval_config(args: &EvalArgs) -> Result<RetrievalConfig, PipelineError> {
    Ok(RetrievalConfig {
        checkpoint: args.checkpoint.clone(),
        model: model(args)?,
        data: environment::named(&args.data)?,
        k: args.recall_k.iter().map(|k| *k as usize).collect(),
        device: environment::device(&args.compute.device),
        threads: args.compute.threads_or_cores(),
    })
}

/// Flags to an evaluation.
pub(super) fn config(args: &EvalArgs) -> Result<EvalConfig, PipelineError> {
    Ok(EvalConfig {
        checkpoint: args.checkpoint.clone(),
        model: model(args)?,
        data: environment::named(&args.data)?,
        classes: ClassNames {
            list: args.classnames.as_deref().map(lists::class_names).transpose()?.unwrap_or_default(),
            table: args.class_table.as_deref().map(lists::class_table).transpose()?.unwrap_or_default(),
        },
        templates: args.templates.as_deref().map(lists::templates).transpose()?.unwrap_or_default(),
        probe: args.probe.as_ref().map(|data| ProbeOn {
            data: data.clone(),
            shots: args.shots.map(usize::from),
            seed: args.seed.unwrap_or(0),
            c: args.probe_c.unwrap_or(ProbeConfig::default().c),
        }),
        nearest: args.nearest.clone(),
        device: environment::device(&args.compute.device),
        threads: args.compute.threads_or_cores(),
    })
}

fn model(args: &EvalArgs) -> Result<String, PipelineError> {
    fs::metadata(&args.checkpoint).map_err(|error| PipelineError::usage(error).within(args.checkpoint.display()))?;
    // A run's folder holds checkpoints, and is none.
    let newest =
        [newest_weights(&args.checkpoint), args.checkpoint.join(NEWEST)].into_iter().find(|file| file.exists());
    if let Some(newest) = newest {
        let (folder, newest) = (args.checkpoint.display(), newest.display());
        return Err(PipelineError::usage(format!(
            "{folder}: the folder of a run, or of its checkpoints: give {newest}"
        )));
    }
    let missing = || PipelineError::usage("--model is missing, and the checkpoint does not say which it is");
    match &args.model {
        Some(model) => Ok(model.clone()),
        None => TrainedModel::of(&args.checkpoint).ok_or_else(missing)?.builtin(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_5_of_five_classes_says_nothing_and_is_not_said() {
        let shares = Shares { top1: 0.25, top5: 0.75, mean_per_class: 0.25 };
        assert_eq!([5, 6].map(|classes| tops(&shares, classes)), ["top-1 25.00 %", "top-1 25.00 %, top-5 75.00 %"]);
    }
}
