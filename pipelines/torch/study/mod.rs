//! `trommel study`: the whole method from one file, unattended: data ─▶ embedder ─▶ radii ─▶ one judged pool ─▶ splits ─▶ trainings ─▶ zero-shot
//! ─▶ report. Every phase keeps its result in the study's folder, so that the same command goes on where a killed one was.
//!
//! ```text
//! RUN/study.json             the settings that it was begun with
//! RUN/inputs.json            what the models' files held then, and the folder that relative paths start from
//! RUN/recipe.json            what all sets are trained by, from the first training on
//! RUN/machine.json           device and threads that it was begun with
//! RUN/data/                  generated pictures, where the file asks for them
//! RUN/injected/              the reference as shards, where it joins the pool
//! RUN/embedder/              the embedder's training, where it has one
//! RUN/radii/                 embedded benchmarks and reference, and radii
//! RUN/pool/                  the one ledger, nothing dropped: a run folder
//! RUN/splits/                every training set, and its similarity gap
//! RUN/training/SET/seed-S/   a training: a run folder
//! RUN/evaluation/            accuracies
//! RUN/report/                index.html, and each table as CSV and LaTeX
//! ```
//!
//! Invariants: all splits come from one reading of one ledger; all sets are trained by one recipe, each with each seed; nothing is done
//! twice. Cost: one embedding of the pool, then (sets x seeds) trainings, which are nearly all of it.

pub mod config;
mod done;
pub mod file_error;
mod findings;
mod gaps;
mod phases;
mod report;
mod sets;
mod settled;
mod side_by_side;
mod trainings;

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use serde_json::json;
use trommel_core::notices::Notices;
use trommel_core::out_folder::OutFolder;
use trommel_core::stop::Stop;
use trommel_embed::device;

use trommel_pipelines::config::Machine;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::progress::Progress;

use config::StudyFile;
pub use findings::{Bin, Finding, Mean};
use findings::{by_similarity, findings, means};
pub use gaps::SetGap;
pub use phases::JudgedPool;
pub use sets::{SetKind, SetSplit, TrainingSet};
pub use trainings::{Accuracy, Training};

/// What is studied, where, and on which machine.
#[derive(Clone, Debug)]
pub struct StudyConfig {
    /// The study's file, read.
    pub file: StudyFile,
    /// The folder that its paths are relative to.
    pub folder: PathBuf,
    /// The study's folder.
    pub run: PathBuf,
    /// The machine: no setting of the study.
    pub machine: Machine,
}

impl StudyConfig {
    /// The same on the share of a machine that one of several at once has.
    fn shared_by(&self, several: usize) -> Self {
        let Machine { own_cores, threads, memory_bytes, .. } = self.machine;
        let machine = Machine {
            own_cores: (own_cores / several).max(1),
            threads: (threads / several).max(1),
            memory_bytes: memory_bytes / several as u64,
            ..self.machine.clone()
        };
        Self { machine, ..self.clone() }
    }
}

/// What a study found.
#[derive(Clone, Debug, Serialize)]
pub struct StudyReport {
    /// The judged pool.
    pub pool: JudgedPool,
    /// The training sets.
    pub sets: Vec<TrainingSet>,
    /// Similarity gaps of reference, pool and pruned sets.
    pub gaps: Vec<SetGap>,
    /// The trainings, with their accuracies.
    pub trainings: Vec<Training>,
    /// Accuracies over the seeds.
    pub means: Vec<Mean>,
    /// Accuracy against similarity, by benchmark.
    pub bins: Vec<Binned>,
    /// The paper's comparisons, and how they came out.
    pub findings: Vec<Finding>,
    /// Path of the page.
    pub page: PathBuf,
    /// What was lost of the input, or passed over in it.
    pub notices: Notices,
}

/// Accuracy against similarity on one benchmark.
#[derive(Clone, Debug, Serialize)]
pub struct Binned {
    /// Name of the benchmark.
    pub benchmark: String,
    /// Its test pictures by their similarity to the pool.
    pub bins: Vec<Bin>,
    /// Between a bin's similarity and its accuracy.
    pub spearman_rho: Option<f64>,
}

/// A study at work.
struct Study<'a> {
    config: &'a StudyConfig,
    file: StudyFile,
    stop: &'a Stop,
    progress_of: &'a (dyn Fn(&str) -> Arc<Progress> + Sync),
}

/// Runs a study, or goes on with one.
///
/// # Errors
/// A file that asks for what is not there, a folder that was begun with other settings or on another device, or that another process
/// works in; whatever a phase may end with.
pub fn study(
    config: &StudyConfig,
    stop: &Stop,
    progress_of: &(dyn Fn(&str) -> Arc<Progress> + Sync),
) -> Result<StudyReport, PipelineError> {
    config.file.check().map_err(PipelineError::usage)?;
    let device = device::parse(&config.machine.device).map_err(PipelineError::usage)?;
    let _alone = alone(config)?;
    let file = config.file.clone().in_folder(&config.folder).with_generated(&config.run.join("data"));
    let mut study = Study { config, file, stop, progress_of };
    let models = study.check_models()?;
    study.generate()?;
    study.check()?;
    study.settle(&models)?;
    // What a model comes to hangs on them, so the differences between sets would be those between machines too.
    let (kind, card) = (device::kind(device), device::card(device));
    let machine = json!({ "device": kind, "card": card, "threads": config.machine.threads });
    let advice = "give --device and --threads as there, or another --run: all sets are trained alike";
    done::settle(&config.run, "machine.json", &machine, advice)?;
    let passed_over = study.inject()?;

    let (embedder, lost) = study.embedder()?;
    let ((benchmarks, origins), mut notices) = study.radii(&embedder)?;
    let pool = study.pool(&embedder)?;
    let sets = study.splits(&pool)?;
    let gaps = study.gaps(&sets, &benchmarks)?;
    notices.merge(&pool.notices);
    // Both read again what the pool and the radii are made of.
    notices.merge_larger(&passed_over);
    notices.merge_larger(&lost);
    let trainings = study.trainings(&sets, &mut notices)?;
    let means = means(&sets, &trainings);
    let mut report = StudyReport {
        notices,
        findings: findings(&sets, &means),
        page: config.run.join("report/index.html"),
        bins: Vec::new(),
        pool,
        sets,
        gaps,
        trainings,
        means,
    };
    for (benchmark, nearest) in benchmarks.iter().zip(study.nearest(&benchmarks, &origins)?) {
        let (name, width, lost) = (&benchmark.name, study.file.similarity_bin, &mut report.notices);
        let (bins, rho) = by_similarity(name, &nearest, &report.trainings, width, lost);
        report.bins.push(Binned { benchmark: benchmark.name.clone(), bins, spearman_rho: rho });
    }
    report::write(&report, &study.file, &config.run.join("report"))?;
    Ok(report)
}

/// The study's folder for this process alone.
fn alone(config: &StudyConfig) -> Result<OutFolder, PipelineError> {
    let run = &config.run;
    let alone = OutFolder::locked(run, "study.lock").map_err(PipelineError::at(run))?;
    alone.ok_or_else(|| PipelineError::usage(format!("{}: another process works in it", run.display())))
}
