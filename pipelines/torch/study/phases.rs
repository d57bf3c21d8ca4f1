//! The phases up to the splits, in their order.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trommel_core::durable;
use trommel_core::notices::Notices;
use trommel_core::sample::NO_CAPTION;
use trommel_decide::benchmark::Benchmark;
use trommel_shard::samples::GroupConfig;
use trommel_synth::{SynthError, write};

use super::Study;
use super::config::{BenchmarkFile, RecipeFile, StudyFile, TEMPLATES, TEMPLATES_FILE};
use super::done::once;
use super::gaps::{SetGap, nearest, similarities};
use super::sets::{SetKind, TrainingSet, WantedSet, controls, pool_alone, select_once, wanted};
use super::trainings::{class_names, named_classes};
use crate::order_defaults::OrderFlags;
use crate::prune::prune;
use crate::radii::with_embedded;
use crate::run_setup::Input;
use crate::train::TrainRun;
use trommel_pipelines::benchmark_origin::BenchmarkOrigin;
use trommel_pipelines::benchmarks::{NamedPath, load_with_origin};
use trommel_pipelines::config::{EmbedderConfig, JudgeConfig, ReadingConfig};
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::inject::{InjectConfig, check_caption, inject};
use trommel_pipelines::labelled::{ClassNames, LabelledPictures};
use trommel_pipelines::lists;
use trommel_pipelines::nearest::Near;
use trommel_pipelines::radii::{RadiiConfig, radii};
use trommel_pipelines::select::LedgerReading;
use trommel_pipelines::training_folder::newest_weights;

/// The set that the reference is where it joins the pool.
const INJECTED: &str = "reference";

/// Benchmarks, and how each came to be.
pub(super) type WithOrigins = (Vec<Benchmark>, Vec<BenchmarkOrigin>);

/// The judged pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgedPool {
    /// Samples that could be judged.
    pub judged: u64,
    /// Of these, samples without a caption, which no trainer uses.
    pub captionless: u64,
    /// Samples that could not be judged.
    pub rejected: u64,
    /// What was lost of the shards, or passed over in them.
    pub notices: Notices,
}

impl Study<'_> {
    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.config.run.join(name)
    }

    /// Generates the data, where the file asks for them.
    pub(super) fn generate(&self) -> Result<(), PipelineError> {
        let Some(synth) = &self.file.generated else { return Ok(()) };
        let data = self.place("data");
        once(&self.place("data.json"), &json!(synth), || {
            tracing::info!("generating pictures into {}", data.display());
            let made = write(&data, synth).map_err(|error| match error {
                SynthError::Config { .. } | SynthError::Occupied { .. } => PipelineError::usage(error),
                other => PipelineError::failed(other),
            })?;
            let templates = data.join(TEMPLATES_FILE);
            durable::write(&templates, TEMPLATES.as_bytes()).map_err(PipelineError::at(&templates))?;
            Ok(made.samples)
        })
        .map(|_| ())
    }

    /// Adds the reference to the pool, where the file asks for it; with what was passed over in it.
    pub(super) fn inject(&mut self) -> Result<Notices, PipelineError> {
        let Some(caption) = &self.file.inject_reference else { return Ok(Notices::default()) };
        let config = InjectConfig {
            folder: self.file.reference.clone(),
            out: self.place("injected"),
            set: INJECTED.into(),
            caption: caption.clone(),
            classes: reference_class_names(&self.file)?,
            items: None,
            copies: 1,
            seed: 0,
            shard_samples: 10_000,
        };
        let of = json!([config.classes.list, config.classes.table]);
        let (_, notices): (u64, Notices) = once(&self.place("injected.json"), &of, || {
            let report = inject(&config)?;
            Ok((report.samples, report.notices))
        })?;
        self.file.pool.0.push(config.argument());
        Ok(notices)
    }

    /// Refuses, before anything is made, models that are not known or cannot be trained, and weights that are not there. Gives all that the
    /// models are configured with, by their fields.
    pub(super) fn check_models(&self) -> Result<Value, PipelineError> {
        let (file, embedder) = (&self.file, &self.file.embedder);
        embedder.weights.iter().try_for_each(|weights| there("embedder.weights", weights))?;
        let models = [("model", &file.model, true), ("embedder.model", &embedder.model, embedder.trained.is_some())];
        let mut recorded = json!({});
        for (name, model, is_trained) in models {
            let wrong = |error| PipelineError::usage(error).within(name);
            let model = trommel_model::load(model).map_err(wrong)?;
            // A model without a vocabulary embeds, and cannot be trained.
            if is_trained {
                model.captions().map_err(wrong)?;
            }
            recorded[name] = model.recorded();
        }
        Ok(recorded)
    }

    /// Refuses, before the first phase, what a later one would stumble over in the data.
    pub(super) fn check(&self) -> Result<(), PipelineError> {
        let file = &self.file;
        let field = |name: &str| {
            let name = name.to_owned();
            move |error: PipelineError| error.within(&name)
        };
        let pool = Input::find(&file.pool.0, &ReadingConfig::default().stores, &GroupConfig::default());
        let pool = pool.map_err(field("pool"))?;
        there("reference", &file.reference)?;
        if let Some(caption) = &file.inject_reference {
            check_caption(caption).map_err(field("inject_reference"))?;
            if matches!(pool, Input::Folders(_)) {
                let wrong = "inject_reference: the reference joins a pool of shards, and this pool is class folders";
                return Err(PipelineError::usage(wrong));
            }
            let classes = reference_class_names(file).map_err(field("reference_classnames"))?;
            LabelledPictures::find(&file.reference, &classes).map_err(field("reference"))?;
        }
        for (name, benchmark) in &file.benchmarks {
            let data = format!("benchmarks.{name}.data");
            there(&data, &benchmark.data)?;
            let named = |field: &str| format!("benchmarks.{name}.{field}");
            let classes = class_names(benchmark).map_err(field(&named("classnames")))?;
            let found = LabelledPictures::find(&benchmark.data, &classes);
            let found = found.map_err(field(&format!("benchmarks.{name}")))?;
            // Those that the trained models will be asked with: a set's own, unless others are given.
            let templates = benchmark.templates.as_deref().or(found.templates.as_deref());
            templates.map(lists::templates).transpose().map_err(field(&named("templates")))?;
        }
        Ok(())
    }

    /// The embedder with its weights: given, random, or trained on the whole pool; with what was lost of the pool then.
    pub(super) fn embedder(&self) -> Result<(EmbedderConfig, Notices), PipelineError> {
        let embedder = &self.file.embedder;
        let Some(recipe) = &embedder.trained else {
            return Ok((embedder.config(embedder.weights.clone()), Notices::default()));
        };
        let run = self.place("embedder");
        // Another `of` than that of older files, which kept the steps; the training is done, and is not done again.
        let notices = once(&self.place("embedder.json"), &json!("notices"), || {
            let training = self.training(&embedder.model, recipe, 0, run.clone())?;
            Ok(self.train(&training, "training the embedder")?.notices)
        })?;
        let weights = newest_weights(&run);
        Ok((embedder.config(Some(weights)), notices))
    }

    /// Embeds benchmarks and reference, and measures the radii; with what of the reference was lost.
    pub(super) fn radii(&self, embedder: &EmbedderConfig) -> Result<(WithOrigins, Notices), PipelineError> {
        let out = self.place("radii");
        let mut notices = once(&self.place("radii.json"), &json!(null), || {
            let pictures = |(name, of): (&String, &BenchmarkFile)| NamedPath {
                name: name.clone(),
                path: of.data.clone(),
                without: of.without.clone(),
            };
            let (name, path) = ("reference".to_owned(), self.file.reference.clone());
            let reference = NamedPath { name, path, without: Vec::new() };
            let config = RadiiConfig {
                references: vec![reference],
                benchmarks: self.file.benchmarks.iter().map(pictures).collect(),
                out: out.clone(),
                assume_model: None,
                round_as_stored: false,
                threads: self.config.machine.threads,
                memory_bytes: self.config.machine.memory_bytes,
            };
            let judge = self.judge(Vec::new(), out.clone(), embedder);
            let show = |name: &str| (self.progress_of)(&format!("embedding {name}"));
            let gaps = radii(&with_embedded(&config, &judge, self.stop, &show)?)?;
            Ok(gaps.into_iter().next().map(|gap| gap.notices).unwrap_or_default())
        })?;
        let radii = self.with_radii();
        Ok((radii.iter().map(|named| load_with_origin(named, &mut notices)).collect::<Result<_, _>>()?, notices))
    }

    /// The benchmarks with their radii.
    fn with_radii(&self) -> Vec<NamedPath> {
        let named =
            |name: &String| NamedPath { name: name.clone(), path: self.place("radii").join(name), without: Vec::new() };
        self.file.benchmarks.keys().map(named).collect()
    }

    /// Judges the pool once, against all benchmarks. Nothing is dropped: the splits say who is kept.
    pub(super) fn pool(&self, embedder: &EmbedderConfig) -> Result<JudgedPool, PipelineError> {
        once(&self.place("pool.json"), &json!(null), || {
            let judge = JudgeConfig {
                benchmarks: self.with_radii(),
                ..self.judge(self.file.pool.0.clone(), self.place("pool"), embedder)
            };
            let report = prune(&judge, self.stop.clone(), &(self.progress_of)("judging the pool"))?;
            PipelineError::if_not_whole(report.interrupted, &report.failed).map_err(|error| error.within("pool"))?;
            let captionless = report.remarks.get(NO_CAPTION).copied().unwrap_or(0);
            Ok(JudgedPool { judged: report.kept, captionless, rejected: report.rejected, notices: report.notices })
        })
    }

    /// Every training set from the one ledger.
    pub(super) fn splits(&self, pool: &JudgedPool) -> Result<Vec<TrainingSet>, PipelineError> {
        let machine = &self.config.machine;
        let reading =
            LedgerReading { seed: 0, memory_bytes: machine.memory_bytes, threads: machine.threads, tables: Vec::new() };
        let trainable = pool.judged - pool.captionless;
        let (run, folder) = (self.place("pool"), self.place("splits"));
        let reference = self.injected_shards()?;
        let select = |wanted: &[WantedSet], file: &str| {
            let (pool, seeds) = ((run.as_path(), pool.judged, trainable), &self.file.seeds);
            select_once(pool, &reference, wanted, seeds, (&folder, file), &reading)
        };
        let alone = pool_alone(&self.file).map(|set| select(&[set], "alone.json")).transpose()?.unwrap_or_default();
        let drawn_from = alone.first().map_or(pool.judged, |alone| alone.count);
        let mut sets = select(&wanted(&self.file, drawn_from)?, "splits.json")?;
        if self.file.controls {
            sets.extend(select(&controls(&sets, !alone.is_empty()), "controls.json")?);
        }
        sets.splice(1..1, alone);
        let batch = self.file.training.batch as u64;
        match sets.iter().find(|set| set.trainable < batch) {
            Some(set) => Err(PipelineError::usage(format!(
                "training.batch: {batch} samples, and of {} only {} can be trained on",
                set.name, set.trainable
            ))),
            None => Ok(sets),
        }
    }

    /// Names of the judged pool's shards that are the reference's.
    fn injected_shards(&self) -> Result<Vec<String>, PipelineError> {
        if self.file.inject_reference.is_none() {
            return Ok(Vec::new());
        }
        let folder = self.place("injected");
        let found = fs::read_dir(&folder).and_then(|entries| entries.collect::<std::io::Result<Vec<_>>>());
        let files = found.map_err(PipelineError::at(&folder))?.into_iter().map(|entry| entry.file_name());
        let tars = files.filter_map(|file| file.into_string().ok()).filter(|file| file.ends_with(".tar"));
        Ok(tars.map(|file| format!("{INJECTED}/{file}")).collect())
    }

    /// The similarity gaps of reference, pool, pruned sets and core set.
    pub(super) fn gaps(&self, sets: &[TrainingSet], benchmarks: &[Benchmark]) -> Result<Vec<SetGap>, PipelineError> {
        let of_radii =
            |benchmark: &Benchmark| SetGap::of("reference", benchmark, benchmark.radii.as_deref().unwrap_or_default());
        let mut gaps: Vec<SetGap> = benchmarks.iter().map(of_radii).collect();
        let measured = |kind: &SetKind| {
            matches!(
                kind,
                SetKind::Pool | SetKind::PoolAlone | SetKind::Pruned(_) | SetKind::PrunedCombined | SetKind::Core
            )
        };
        for set in sets.iter().filter(|set| measured(&set.kind)) {
            let split = set.split_of(0).map(|split| self.place("splits").join(&split.file));
            let file = self.place("splits").join(format!("{}.gap.json", set.name));
            gaps.extend(once(&file, &json!(set), || {
                let (pool, threads) = (self.place("pool"), self.config.machine.threads);
                let measured = similarities(&pool, split.as_deref(), benchmarks, threads, &|| {
                    PipelineError::if_ending(self.stop)
                })?;
                let of = |(benchmark, measured): (&Benchmark, Vec<f64>)| SetGap::of(&set.name, benchmark, &measured);
                Ok(benchmarks.iter().zip(measured).map(of).collect::<Vec<_>>())
            })?);
        }
        Ok(gaps)
    }

    /// By benchmark, each test picture's similarity to the pool.
    pub(super) fn nearest(
        &self,
        benchmarks: &[Benchmark],
        origins: &[BenchmarkOrigin],
    ) -> Result<Vec<Near>, PipelineError> {
        nearest(&self.place("pool"), benchmarks, origins)
    }

    /// What judges, or reads only.
    pub(super) fn judge(&self, shards: Vec<String>, run: PathBuf, embedder: &EmbedderConfig) -> JudgeConfig {
        JudgeConfig::keeping_all(shards, run, embedder.clone(), self.config.machine.clone())
    }

    /// A training on the whole pool, without a ledger yet.
    pub(super) fn training(
        &self,
        model: &str,
        recipe: &RecipeFile,
        seed: u64,
        run: PathBuf,
    ) -> Result<TrainRun, PipelineError> {
        let StudyFile { embedder, pool, .. } = &self.file;
        Ok(TrainRun {
            judge: self.judge(pool.0.clone(), run, &embedder.config(None)),
            decisions: None,
            split: None,
            model: model.to_owned(),
            pretrained: None,
            seed,
            recipe: recipe.config(),
            text_padding: None,
            length: recipe.length().map_err(PipelineError::usage)?,
            pass_samples: None,
            order: OrderFlags { lanes: recipe.lanes, window_samples: recipe.window, window_bytes: None, seed },
            save_every: None,
            // Only the last model is evaluated, and a pass over a small set is over in seconds.
            save_passes: false,
            keep_checkpoints: 1,
            extend: false,
            skip_failed: false,
            log_every_steps: 1000,
        })
    }
}

/// Refuses a path of the file at which nothing is.
fn there(name: &str, path: &Path) -> Result<(), PipelineError> {
    match path.exists() {
        true => Ok(()),
        false => Err(PipelineError::usage(format!("{name}: no such file or folder: {}", path.display()))),
    }
}

/// What a file says of the reference's classes, where it joins the pool.
fn reference_class_names(file: &StudyFile) -> Result<ClassNames, PipelineError> {
    named_classes(file.reference_classnames.as_deref(), file.reference_class_table.as_deref())
}
