//! `trommel demo`: all of it, small: synth ─▶ a trained embedder ─▶ radii ─▶ prune-and-train ─▶ zero-shot, and a picture.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use trommel_core::durable;
use trommel_core::stop::Stop;
use trommel_synth::{SynthConfig, write};
use trommel_train::checkpoint::MODEL_FILE;
use trommel_train::{Precision, TrainConfig};

use crate::embed;
use crate::eval::{EvalConfig, EvalReport, evaluate};
use crate::order_defaults::OrderFlags;
use crate::prune;
use crate::train::{RunLength, TrainReport, TrainRun, train_part};
use trommel_pipelines::benchmarks::NamedPath;
use trommel_pipelines::config::{EmbedderConfig, JudgeConfig, Machine};
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::labelled::ClassNames;
use trommel_pipelines::progress::Progress;
use trommel_pipelines::radii::{RadiiConfig, radii};
use trommel_pipelines::report;
use trommel_pipelines::training_folder::newest_weights;

/// Both the embedder and the trained model.
pub const MODEL: &str = "trommel-small-32";
const BENCHMARKS: [&str; 4] = ["photo", "sketch", "cartoon", "texture"];
/// Steps of the embedder's training, on everything.
const EMBEDDER_STEPS: u64 = 120;
/// Steps of the pruned run.
const STEPS: u64 = 100;
const BATCH: usize = 64;
/// Reference pictures a class: about as dense as the pool, so that a radius says something about it.
const REFERENCE_PICTURES: u32 = 400;

/// One benchmark's share in what was dropped.
#[derive(Clone, Debug, Serialize)]
pub struct DroppedBy {
    /// Name of the benchmark.
    pub benchmark: String,
    /// Samples over the radius of one of its points.
    pub dropped: u64,
    /// The others, rejects left out.
    pub kept: u64,
    /// Zero-shot accuracy on it, after training on what was kept.
    pub zero_shot: EvalReport,
}

/// What the demo found.
#[derive(Clone, Debug, Serialize)]
pub struct DemoReport {
    /// Each benchmark.
    pub benchmarks: Vec<DroppedBy>,
    /// Planted copies and all others, and how many of each were dropped.
    pub planted: report::PlantedCounts,
    /// The pruned training run.
    pub training: TrainReport,
    /// Seconds of each part, in order.
    pub seconds: Vec<(String, f64)>,
    /// Path of the picture, an SVG.
    pub picture: PathBuf,
}

/// Runs the whole demo in `out`; a finished part is not done again.
///
/// # Errors
/// An unwritable folder; [`ErrorKind::Interrupted`](trommel_pipelines::error::ErrorKind::Interrupted) where it was stopped; whatever a part may end with.
pub fn demo(
    out: &Path,
    machine: &Machine,
    stop: &Stop,
    progress_of: &dyn Fn(&str) -> Arc<Progress>,
) -> Result<DemoReport, PipelineError> {
    let mut clock = Clock { last: Instant::now(), laps: Vec::new() };
    let data = out.join("data");
    let synth = SynthConfig { reference_pictures_per_class: REFERENCE_PICTURES, ..SynthConfig::default() };
    write(&data, &synth).map_err(PipelineError::usage)?;
    clock.lap("synth");

    let shards = vec![data.join("shards/*.tar").display().to_string()];
    let unpruned = TrainRun {
        judge: judge(&shards, &out.join("embedder"), machine),
        length: RunLength::Steps(EMBEDDER_STEPS),
        ..recipe(machine)
    };
    let trained = train_part(&unpruned, stop, "training the embedder", progress_of)?;
    let weights = trained.checkpoint.map(|folder| folder.join(MODEL_FILE));
    let weights = weights.unwrap_or_else(|| newest_weights(&out.join("embedder")));
    clock.lap("train the embedder");

    let embedder = EmbedderConfig { weights: Some(weights), random_init: None, ..embedder() };
    let mut sets = vec![("reference".to_owned(), data.join("reference"))];
    sets.extend(BENCHMARKS.map(|name| (name.to_owned(), data.join("benchmarks").join(name))));
    for (name, folder) in &sets {
        let config = JudgeConfig {
            embedder: embedder.clone(),
            always_embed: true,
            ..judge(&[folder.display().to_string()], &out.join("embedded").join(name), machine)
        };
        let mut embedded = prune::prune(&config, stop.clone(), &progress_of(&format!("embedding {name}")))?;
        PipelineError::if_not_whole(embedded.interrupted, &embedded.failed)?;
        embed::finish(&config, false, &mut embedded.notices)?;
    }
    clock.lap("embed reference and benchmarks");

    let named = |root: &str| {
        BENCHMARKS.map(|name| NamedPath { name: name.into(), path: out.join(root).join(name), without: Vec::new() })
    };
    radii(&RadiiConfig {
        references: NamedPath::parse_references(&[out.join("embedded/reference").display().to_string()])?,
        benchmarks: named("embedded").to_vec(),
        out: out.join("radii"),
        assume_model: None,
        round_as_stored: false,
        threads: machine.threads,
        memory_bytes: machine.memory_bytes,
    })?;
    clock.lap("radii");

    let run = out.join("run");
    let pruned = TrainRun {
        judge: JudgeConfig {
            benchmarks: named("radii").to_vec(),
            rule: Some("drop-over-radius".into()),
            embedder,
            ..judge(&shards, &run, machine)
        },
        length: RunLength::Steps(STEPS),
        ..recipe(machine)
    };
    let training = train_part(&pruned, stop, "pruning and training", progress_of)?;
    clock.lap("prune and train");

    let picture = out.join("demo.svg");
    let options =
        report::ReportOptions { truth: Some(data.join("truth.jsonl")), pairs_per_benchmark: 5, ..Default::default() };
    let gathered = report::gather(&run, &options)?;
    durable::write(&picture, report::picture(&gathered).as_bytes()).map_err(PipelineError::at(&picture))?;
    clock.lap("picture");

    let mut benchmarks = Vec::new();
    for count in &gathered.report.benchmarks {
        let zero_shot = evaluate(&EvalConfig {
            checkpoint: newest_weights(&run),
            model: MODEL.into(),
            data: data.join("benchmarks").join(&count.name),
            classes: ClassNames::default(),
            templates: Vec::new(),
            probe: None,
            nearest: None,
            device: machine.device.clone(),
            threads: machine.threads,
        })?;
        let kept = training.kept + training.dropped - count.removed;
        benchmarks.push(DroppedBy { benchmark: count.name.clone(), dropped: count.removed, kept, zero_shot });
    }
    clock.lap("zero-shot");
    let planted = gathered.planted.unwrap_or_default();
    Ok(DemoReport { benchmarks, planted, training, seconds: clock.laps, picture })
}

fn embedder() -> EmbedderConfig {
    EmbedderConfig {
        name: MODEL.into(),
        weights: None,
        random_init: Some(0),
        torchscript: false,
        assume_model: None,
        precision: Some("f32".into()),
        batch: Some(32),
        weights_flag: "--embedder-weights",
    }
}

fn judge(shards: &[String], run: &Path, machine: &Machine) -> JudgeConfig {
    JudgeConfig::keeping_all(shards.to_vec(), run.to_path_buf(), embedder(), machine.clone())
}

fn recipe(machine: &Machine) -> TrainRun {
    let mut recipe = TrainConfig::new(BATCH);
    recipe.lr = 1e-3;
    recipe.precision = Precision::F32;
    TrainRun {
        judge: judge(&[], Path::new(""), machine),
        decisions: None,
        split: None,
        model: MODEL.into(),
        pretrained: None,
        seed: 0,
        recipe,
        text_padding: None,
        length: RunLength::Steps(0),
        pass_samples: None,
        // The one that the readme's figures were measured in.
        order: OrderFlags { lanes: Some(4), window_samples: Some(2048), ..OrderFlags::default() },
        save_every: None,
        save_passes: true,
        keep_checkpoints: 3,
        extend: false,
        skip_failed: false,
        log_every_steps: 1000,
    }
}

/// Seconds of each part.
struct Clock {
    last: Instant,
    laps: Vec<(String, f64)>,
}

impl Clock {
    fn lap(&mut self, part: &str) {
        let now = Instant::now();
        self.laps.push((part.into(), (now - self.last).as_secs_f64()));
        self.last = now;
    }
}
