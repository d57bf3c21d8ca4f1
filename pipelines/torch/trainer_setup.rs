//! What a training run needs beside the dataflow: model, length, checkpoint to continue from, rows to a batch, memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;
use sha2::{Digest, Sha256};
use tch::Device;
use trommel_bridge::{Attention, LIBTORCH, has_onednn};
use trommel_core::causes::Cause;
use trommel_core::notices::Notices;
use trommel_dataflow::order::{Cursor, Held, OrderConfig};
use trommel_decide::ShardNames;
use trommel_embed::device;
use trommel_ledger::run_folder::RunFolder;
use trommel_model::{Architecture, Captions, Model, weights};
use trommel_train::checkpoint::FoundCheckpoint;
use trommel_train::to_order::TrainSample;
use trommel_train::{
    Assembled, Batch, Checkpoints, Contrastive, Course, Normalisation, Precision, Schedule, TextPadding, TrainConfig,
    Trainer,
};

use crate::order_defaults::Size;
use crate::ranks::group;
use crate::resume_check::{AskedRun, GoesOn};
use crate::run_setup::RunSetup;
use crate::train_run::{Setting, TrainRun};
use crate::trained_model::weights_file;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::phase::Phase;
use trommel_pipelines::training_folder::CHECKPOINTS;

/// A trainer at its first step of this process.
pub(crate) struct Prepared {
    pub(crate) trainer: Trainer<Model>,
    pub(crate) checkpoints: Checkpoints,
    /// The checkpoint it continues from.
    pub(crate) found: Option<FoundCheckpoint>,
    /// Where the order continues.
    pub(crate) cursor: Option<Cursor>,
    /// libtorch's threads.
    pub(crate) threads: usize,
    /// What changes from this checkpoint on.
    pub(crate) notices: Notices,
}

/// Makes or restores the trainer, equal on all ranks.
pub(crate) fn prepare(
    setting: &Setting<'_>,
    run_folder: &RunFolder,
    (order, course): (&OrderConfig, Course),
) -> Result<Prepared, PipelineError> {
    let Setting { run, config, model: architecture, together, progress, .. } = setting;
    let device = device::parse(&config.machine.device).map_err(PipelineError::usage)?;
    let mut model = initial_model(run, architecture, device)?;
    let initial = match &run.pretrained {
        Some(_) => weights::fingerprint(model.store()).map_err(PipelineError::failed)?,
        None => format!("seed:{}", run.seed),
    };
    let total_steps = Schedule::new(&run.recipe, course).map_err(PipelineError::usage)?.total_steps();
    let threads = config.machine.threads;
    let numerics = BTreeMap::from([
        ("device".to_owned(), device::kind(device).to_owned()),
        ("ranks".to_owned(), together.ranks().to_string()),
        ("threads".to_owned(), threads.to_string()),
        ("libtorch".to_owned(), LIBTORCH.to_owned()),
    ]);
    let card = device::card(device);
    let card = card.into_iter().flat_map(|card| [("card".to_owned(), card), ("tf32".to_owned(), "off".to_owned())]);
    let vectors = device::vectors(device).map(|vectors| ("vectors".to_owned(), vectors.to_owned()));
    let numerics: BTreeMap<_, _> = numerics.into_iter().chain(card).chain(vectors).collect();
    let (checkpoints, found, recipe, training, notices, by_onednn) = together.in_turn(Phase::Checkpoints, || {
        let folder = config.run.join(CHECKPOINTS);
        // The hashes come below: what a run was begun with is among what they are made of.
        let checkpoints = Checkpoints::open(&folder, architecture.name(), Some(run.keep_checkpoints));
        let checkpoints = checkpoints.map_err(PipelineError::failed)?;
        let found = checkpoints.newest().map_err(PipelineError::usage)?;
        let mut numerics = numerics;
        if multiplies_by_onednn(device, run.recipe.precision, found.as_ref()) {
            numerics.insert("products".into(), "oneDNN".into());
        }
        let text_padding = text_padding(run.text_padding, found.as_ref(), &model)?;
        let recipe = TrainConfig { text_padding, ..run.recipe.clone() };
        let mut training = json!({
            "decisions": run_folder.decision_hash(), "order": order, "recipe": recipe, "steps": total_steps,
            "model": architecture.recorded(), "initial": initial, "view_seed": run.seed,
        });
        if let Course::Passes { pass_samples, .. } = course {
            training["pass_samples"] = json!(pass_samples);
            // Checkpoints without it are of a warm-up that counted steps, whatever share of the samples they were.
            training["warm_up"] = json!("along the passes");
        }
        let hashes = BTreeMap::from([
            ("decisions".to_owned(), run_folder.decision_hash().to_owned()),
            ("training".to_owned(), format!("{:x}", Sha256::digest(training.to_string().as_bytes()))),
        ]);
        let asked = AskedRun {
            hashes: &hashes,
            training: &training,
            numerics: &numerics,
            recipe: &recipe,
            steps: total_steps,
            ends_with_passes: matches!(course, Course::Passes { .. }),
            extend: run.extend,
            mix_numerics: config.mix_numerics,
        };
        let goes_on = found.as_ref().map_or_else(|| Ok(GoesOn::default()), |found| asked.compare(found))?;
        let mut extended = found.as_ref().map_or_else(Vec::new, |found| found.state.extended.clone());
        extended.extend(goes_on.extension);
        let by_onednn = numerics.contains_key("products");
        let checkpoints = checkpoints.computed_by(numerics).describing(hashes, training.to_string(), extended);
        Ok((checkpoints, found, recipe, training, goes_on.notices, by_onednn))
    })?;
    if together.rank() == 0 {
        notices.lines().for_each(|line| tracing::info!("{line}"));
    }
    if by_onednn {
        model.towers_mut().multiply_by_onednn();
    }
    let normalisation = Normalisation::from(architecture.preprocess());
    let mut trainer = Trainer::new(model, recipe, course, normalisation, device).map_err(PipelineError::usage)?;
    progress.steps_planned.store(total_steps, Ordering::Relaxed);
    let mut cursor: Option<Cursor> = None;
    if let Some(found) = &found {
        checkpoints.restore(found, &mut trainer).map_err(PipelineError::failed)?;
        cursor = serde_json::from_value(found.state.position.cursor.clone())
            .map_err(|error| PipelineError::failed(error).within(found.folder.display()))?;
        tracing::info!("continuing at step {} from {}", trainer.global_step(), found.folder.display());
        for skipped in &found.skipped {
            tracing::warn!("{skipped}");
        }
    }
    for steps in [&progress.steps, &progress.steps_resumed] {
        steps.store(trainer.global_step(), Ordering::Relaxed);
    }
    let beginning = json!({ "configuration": training, "threads": threads, "step": trainer.global_step() });
    together.agree(Phase::Training, &beginning)?; // nobody writes before all have read
    if let Some(cluster) = together.cluster() {
        trainer.join_ranks(group(together, cluster, device)?).map_err(PipelineError::usage)?;
    }
    Ok(Prepared { trainer, checkpoints, found, cursor, threads, notices })
}

/// The model as a run begins with it.
///
/// # Errors
/// Weights that cannot be read, or are not the model's.
pub(crate) fn initial_model(
    run: &TrainRun,
    architecture: &Arc<dyn Architecture>,
    device: Device,
) -> Result<Model, PipelineError> {
    let model = model_on(architecture, device)?;
    match &run.pretrained {
        Some(path) => {
            weights::load(model.store(), &**architecture, &weights_file(path)).map_err(PipelineError::usage)?
        }
        None => weights::init(model.store(), &**architecture, run.seed).map_err(PipelineError::failed)?,
    }
    Ok(model)
}

/// A model on its device, computed as that is best at. Sequences of 50 tokens and fewer: on Hopper a step of ViT-B-32 in bf16 is 4 % faster
/// with the memory-efficient attention than with cuDNN's, 10 % than with FlashAttention.
pub(crate) fn model_on(architecture: &Arc<dyn Architecture>, device: Device) -> Result<Model, PipelineError> {
    let mut model = Model::new(architecture, device).map_err(PipelineError::usage)?;
    if device::compute_capability(device) == Some((9, 0)) {
        model.towers_mut().attend_by(Some(Attention::Efficient));
    }
    Ok(model)
}

/// Whether oneDNN multiplies: of f32 on a CPU, where it can; a run that was begun without it goes on without it.
pub(crate) fn multiplies_by_onednn(device: Device, precision: Precision, found: Option<&FoundCheckpoint>) -> bool {
    let begun_so = found.is_none_or(|found| found.state.numerics.contains_key("products"));
    device == Device::Cpu && precision == Precision::F32 && begun_so && has_onednn()
}

/// The padding of captions that a run trains with. One that was begun goes on as it was begun, be that before there was a choice;
/// a new one leaves it out where that is exact.
fn text_padding(
    asked: Option<TextPadding>,
    found: Option<&FoundCheckpoint>,
    model: &Model,
) -> Result<TextPadding, PipelineError> {
    let exact = model.packs_captions();
    if asked == Some(TextPadding::None) && !exact {
        return Err(PipelineError::usage(
            "--text-padding none: this model's text tower has no causal mask, it sees the padding",
        ));
    }
    let begun = found.map(|found| {
        let training: serde_json::Value = serde_json::from_str(&found.state.training).unwrap_or_default();
        serde_json::from_value(training["recipe"]["text_padding"].clone()).unwrap_or(TextPadding::Full)
    });
    let new = if exact { TextPadding::None } else { TextPadding::Full };
    Ok(asked.or(begun).unwrap_or(new))
}

/// Pictures and captions of this rank's rows.
pub(crate) fn assemble(
    (pass, turns, ends_pass): (u32, u64, bool),
    cursor: &Cursor,
    rows: Vec<Held<TrainSample>>,
    captions: &dyn Captions,
    names: &ShardNames,
    size: usize,
    device: Device,
) -> Result<Assembled, Cause> {
    let ids: Vec<Vec<i64>> = rows.iter().map(|row| captions.ids(&row.sample.caption)).collect();
    let context = ids.first().map_or(0, Vec::len);
    let mut batch = Batch::writer(rows.len(), size, context, device)?;
    let mut samples = Vec::with_capacity(rows.len());
    for (Held { sample, .. }, ids) in rows.into_iter().zip(ids) {
        batch.push(&sample.view, ids)?;
        samples.push(sample.id);
    }
    let batch = batch.finish()?;
    let places = || samples.iter().map(|id| format!("{}/{}", id.ordinal, id.index)).collect::<Vec<_>>().join(" ");
    tracing::debug!(pass, samples = places(), "batch");
    let samples = samples.iter().map(|id| (names(id.ordinal), id.index)).collect();
    let cursor = serde_json::to_value(cursor)?;
    Ok(Assembled { batch, pass, turns, ends_pass, cursor, samples })
}

/// What the order is made for.
pub(crate) fn size_of(run: &TrainRun, judging: &RunSetup, shards: usize) -> Size {
    Size { shards, batch: run.recipe.batch_samples, view_bytes: judging.view_bytes().train }
}

/// What a window can hold at most: its bytes, or as many views and pictures.
pub(crate) fn window_most(order: &OrderConfig, judging: &RunSetup) -> u64 {
    order.window_bytes.min(order.window_samples as u64 * (judging.view_bytes().train + (256 << 10)))
}
