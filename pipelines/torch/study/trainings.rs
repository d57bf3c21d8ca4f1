//! Trainings and their accuracies: every set with every seed, by one recipe, judged on every benchmark.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;
use trommel_core::notices::Notices;
use trommel_core::stop::Stop;
use trommel_ledger::run_folder::LOGS;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::labelled::ClassNames;
use trommel_pipelines::lists;
use trommel_pipelines::training_folder::{CHECKPOINTS, newest_weights};
use trommel_train::last_loss;

use super::Study;
use super::config::BenchmarkFile;
use super::done::once;
use super::sets::{SetKind, TrainingSet};
use super::side_by_side::side_by_side;
use crate::eval::{EvalConfig, evaluate_each};
use crate::train::{TrainReport, TrainRun, train_part};

/// A finished training, and what it is worth on each benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// The training set.
    pub set: String,
    /// Seed of initial weights, crops and order.
    pub seed: u64,
    /// Optimiser steps.
    pub steps: u64,
    /// Samples in them.
    pub samples_seen: u64,
    /// Loss of the last step; none where an earlier start of the study made it.
    pub last_loss: Option<f32>,
    /// Its zero-shot accuracies.
    pub accuracies: Vec<Accuracy>,
}

/// Zero-shot accuracy of one training on one benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Name of the benchmark.
    pub benchmark: String,
    /// Test pictures judged.
    pub pictures: u64,
    /// Share of first guesses that were right.
    pub top1: f64,
    /// Share of pictures whose class was among the first five guesses.
    pub top5: f64,
    /// Of the whole pool's models: whether the first guess was right, by the picture's key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub right: Vec<(String, bool)>,
    /// The tar of each of these, where keys are each tar's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<String>,
}

/// How a training ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ended {
    steps: u64,
    samples_seen: u64,
    last_loss: Option<f32>,
    notices: Notices,
}

/// What a training is worth, and what was lost of the benchmarks or passed over in them.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Evaluated {
    accuracies: Vec<Accuracy>,
    notices: Notices,
}

impl Study<'_> {
    /// Trains and evaluates all sets with all seeds; what they lost or passed over goes to `notices`.
    ///
    /// As many as the file says go side by side, each with its share of threads and memory.
    pub(super) fn trainings(
        &self,
        sets: &[TrainingSet],
        notices: &mut Notices,
    ) -> Result<Vec<Training>, PipelineError> {
        // Seed by seed, so that a study that is looked at half-way has whole tables of the first seeds.
        let seeds = self.file.seeds.iter().copied().enumerate();
        let jobs: Vec<_> = seeds.flat_map(|(at, seed)| sets.iter().map(move |set| (at, seed, set))).collect();
        let at_once = self.file.trainings_at_once;
        // A training that fails stops those beside it, and not whoever asked for the study.
        let stop = Stop::new();
        let _registrations = self.stop.hand_on(&stop);
        let config = self.config.shared_by(at_once);
        let study = Study { config: &config, file: self.file.clone(), stop: &stop, progress_of: self.progress_of };
        let done = side_by_side(&jobs, at_once, &stop, |number, &(at, seed, set)| {
            let ended = study.train_set(set, at, seed, &format!("{} of {}", number + 1, jobs.len()))?;
            Ok((ended, study.evaluate(set, seed)?))
        })?;
        let training = |((_, seed, set), (ended, evaluated)): (&(usize, u64, &TrainingSet), (Ended, Evaluated))| {
            let Ended { steps, samples_seen, last_loss, notices: found } = ended;
            // Each training finds again what the pool, or another training, has found.
            notices.merge_larger(&found);
            notices.merge_larger(&evaluated.notices);
            let (set, accuracies) = (set.name.clone(), evaluated.accuracies);
            Training { set, seed: *seed, steps, samples_seen, last_loss, accuracies }
        };
        Ok(jobs.iter().zip(done).map(training).collect())
    }

    fn train_set(&self, set: &TrainingSet, at: usize, seed: u64, number: &str) -> Result<Ended, PipelineError> {
        let folder = self.place("training").join(&set.name);
        let (run, split) = (folder.join(format!("seed-{seed}")), set.split_of(at));
        once(&folder.join(format!("seed-{seed}.json")), &json!(split.map(|split| &split.keys_sha256)), || {
            let base = self.training(&self.file.model, &self.file.training, seed, run.clone())?;
            let training = match split {
                Some(split) => TrainRun { split: Some(self.place("splits").join(&split.file)), ..base },
                None => TrainRun { decisions: Some(self.place("pool")), ..base },
            };
            let title = format!("training {number}: {}, seed {seed}", set.name);
            let report = self.train(&training, &title)?;
            let (steps, samples_seen, last_loss) = (report.steps, report.samples_seen, report.last_loss);
            Ok(Ended { steps, samples_seen, last_loss, notices: report.notices })
        })
    }

    /// Trains, and leaves the last checkpoint alone.
    pub(super) fn train(&self, training: &TrainRun, title: &str) -> Result<TrainReport, PipelineError> {
        PipelineError::if_ending(self.stop)?;
        let mut report = train_part(training, self.stop, title, self.progress_of)?;
        // A split keeps what could be judged; what cannot be read any more is lost between the two, and no count of the pool tells it.
        if training.split.is_some() {
            let text = "samples of a training set that could not be read when it was trained";
            report.notices.loss("rejected_in_training", text, title, report.rejected, report.rejected);
        }
        let run = &training.judge.run;
        // A study that was killed between a training's last checkpoint and its mark finds no step to make.
        if report.last_loss.is_none() && report.steps > 0 {
            report.last_loss = last_loss(&run.join(LOGS)).map_err(PipelineError::failed)?;
        }
        keep_latest(run).map_err(PipelineError::at(run))?;
        Ok(report)
    }

    fn evaluate(&self, set: &TrainingSet, seed: u64) -> Result<Evaluated, PipelineError> {
        let name = format!("seed-{seed}");
        let checkpoint = newest_weights(&self.place("training").join(&set.name).join(&name));
        let file = self.place("evaluation").join(&set.name).join(name + ".json");
        let machine = &self.config.machine;
        let config = |benchmark: &BenchmarkFile| {
            Ok::<_, PipelineError>(EvalConfig {
                checkpoint: checkpoint.clone(),
                model: self.file.model.clone(),
                data: benchmark.data.clone(),
                classes: class_names(benchmark)?,
                templates: benchmark.templates.as_deref().map(lists::templates).transpose()?.unwrap_or_default(),
                probe: None,
                nearest: None,
                device: machine.device.clone(),
                threads: machine.threads,
            })
        };
        let configs = self.file.benchmarks.values().map(config).collect::<Result<Vec<_>, _>>()?;
        // The lists' lines too: a study goes on where only their paths are the same.
        let lines = configs.iter().map(|of| json!([of.classes.list, of.classes.table, of.templates]));
        let (model, benchmarks) = (&self.config.file.model, &self.config.file.benchmarks);
        let lines: Vec<_> = lines.collect();
        let of = json!({ "set": set.name, "model": model, "benchmarks": benchmarks, "lists": lines });
        once(&file, &of, || {
            let (mut accuracies, mut notices) = (Vec::new(), Notices::default());
            for (name, config) in self.file.benchmarks.keys().zip(&configs) {
                PipelineError::if_ending(self.stop)?;
                let (mut right, mut shards) = (Vec::new(), Vec::new());
                let report = evaluate_each(config, &mut |picture, guess| {
                    if set.kind == SetKind::Pool {
                        right.push((picture.key.clone(), guess.is_right));
                        shards.extend(picture.shard.clone());
                    }
                })?;
                notices.merge(&report.notices);
                let (pictures, top1, top5) = (report.pictures, report.zero_shot.top1, report.zero_shot.top5);
                accuracies.push(Accuracy { benchmark: name.clone(), pictures, top1, top5, right, shards });
            }
            Ok(Evaluated { accuracies, notices })
        })
    }
}

/// What a file says of a benchmark's classes.
pub(super) fn class_names(benchmark: &BenchmarkFile) -> Result<ClassNames, PipelineError> {
    named_classes(benchmark.classnames.as_deref(), benchmark.class_table.as_deref())
}

/// The lines of a list of class names, and of a table of them, where they are given.
pub(super) fn named_classes(list: Option<&Path>, table: Option<&Path>) -> Result<ClassNames, PipelineError> {
    Ok(ClassNames {
        list: list.map(lists::class_names).transpose()?.unwrap_or_default(),
        table: table.map(lists::class_table).transpose()?.unwrap_or_default(),
    })
}

/// Removes all checkpoints of a run but the newest: a finished training needs no other, and a study would have hundreds of them.
fn keep_latest(run: &Path) -> std::io::Result<()> {
    let newest = fs::canonicalize(newest_weights(run))?;
    let mut links = Vec::new();
    for entry in fs::read_dir(run.join(CHECKPOINTS))? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_symlink() {
            links.push(path);
        } else if path.is_dir() && !newest.starts_with(fs::canonicalize(&path)?) {
            fs::remove_dir_all(&path)?;
        }
    }
    links.iter().filter(|link| !link.exists()).try_for_each(fs::remove_file)
}
