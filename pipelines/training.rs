//! What a training run needs beside the dataflow: model, length, checkpoint to continue from, rows to a batch, memory.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde_json::json;
use sha2::{Digest, Sha256};
use trommel_operators::dataflow::order::{Cursor, OrderConfig};
use trommel_operators::embed::device;
use trommel_operators::ledger::run_folder::RunFolder;
use trommel_operators::model::{ClipConfig, Tokenizer, weights};
use trommel_operators::notices::Notices;
use trommel_operators::train::checkpoint::Found;
use trommel_operators::train::clip::TrainedClip;
use trommel_operators::train::share::Row;
use trommel_operators::train::{Assembled, Batch, Checkpoints, Course, Normalisation, Schedule, TrainConfig, Trainer};

use crate::config::JudgeConfig;
use crate::decision::hex;
use crate::error::PipelineError;
use crate::goes_on::{Asked, GoesOn};
use crate::judging::Judging;
use crate::order_defaults::Size;
use crate::progress::Progress;
use crate::ranks::group;
use crate::together::Together;
use crate::train::TrainRun;

/// A trainer at its first step of this process.
pub(crate) struct Prepared {
    pub(crate) trainer: Trainer<TrainedClip>,
    pub(crate) checkpoints: Checkpoints,
    /// The checkpoint it continues from.
    pub(crate) found: Option<Found>,
    /// Where the order continues.
    pub(crate) cursor: Option<Cursor>,
    /// libtorch's threads.
    pub(crate) threads: i32,
    /// What changes from this checkpoint on.
    pub(crate) notices: Notices,
}

/// Makes or restores the trainer, equal on all ranks.
pub(crate) fn prepare(
    run: &TrainRun,
    config: &JudgeConfig,
    clip_config: &ClipConfig,
    together: &Together,
    folder: &RunFolder,
    (order, course): (&OrderConfig, Course),
    progress: &Progress,
) -> Result<Prepared, PipelineError> {
    let device = device::parse(&config.machine.device).map_err(PipelineError::usage)?;
    let model = TrainedClip::new(clip_config, device).map_err(PipelineError::usage)?;
    let initial = match &run.pretrained {
        Some(path) => {
            weights::load(model.store(), clip_config, path).map_err(PipelineError::usage)?;
            weights::fingerprint(model.store()).map_err(PipelineError::failed)?
        }
        None => {
            weights::init(model.store(), clip_config, run.seed).map_err(PipelineError::failed)?;
            format!("seed:{}", run.seed)
        }
    };
    let total_steps = Schedule::new(&run.recipe, course).map_err(PipelineError::usage)?.total_steps();
    let mut training = json!({
        "decisions": folder.decision_hash(), "order": order, "recipe": run.recipe, "steps": total_steps,
        "model": clip_config, "initial": initial, "view_seed": run.seed,
    });
    if let Course::Passes { pass_samples, .. } = course {
        training["pass_samples"] = json!(pass_samples);
    }
    let hashes = BTreeMap::from([
        ("decisions".to_owned(), folder.decision_hash().to_owned()),
        ("training".to_owned(), hex(&Sha256::digest(training.to_string().as_bytes()))),
    ]);
    let threads = i32::try_from(config.machine.threads).unwrap_or(1);
    let numerics = BTreeMap::from([
        ("device".to_owned(), device::kind(device).to_owned()),
        ("ranks".to_owned(), together.ranks().to_string()),
        ("threads".to_owned(), threads.to_string()),
        ("libtorch".to_owned(), "2.11.0".to_owned()),
    ]);
    let card = device::card(device).map(|card| ("card".to_owned(), card));
    let numerics: BTreeMap<_, _> = numerics.into_iter().chain(card).collect();
    let asked = Asked {
        hashes: &hashes,
        training: &training,
        numerics: &numerics,
        recipe: &run.recipe,
        steps: total_steps,
        ends_with_passes: matches!(course, Course::Passes { .. }),
        extend: run.extend,
        mix_numerics: config.mix_numerics,
    };
    let (checkpoints, found, notices) = together.in_turn("checkpoints", || {
        let folder = config.run.join("checkpoints");
        let (hashes, numerics) = (hashes.clone(), numerics.clone());
        let checkpoints = Checkpoints::open(&folder, &clip_config.name, hashes, numerics, Some(run.keep_checkpoints));
        let checkpoints = checkpoints.map_err(PipelineError::failed)?;
        let found = checkpoints.newest().map_err(PipelineError::usage)?;
        let goes_on = found.as_ref().map_or_else(|| Ok(GoesOn::default()), |found| asked.compare(found))?;
        let mut extended = found.as_ref().map_or_else(Vec::new, |found| found.state.extended.clone());
        extended.extend(goes_on.extension);
        Ok((checkpoints.describing(training.to_string(), extended), found, goes_on.notices))
    })?;
    if together.rank() == 0 {
        notices.lines().for_each(|line| tracing::info!("{line}"));
    }
    let normalisation = Normalisation::from(&clip_config.preprocess);
    let mut trainer =
        Trainer::new(model, run.recipe.clone(), course, normalisation, device).map_err(PipelineError::usage)?;
    progress.steps_planned.store(total_steps, Ordering::Relaxed);
    let mut cursor: Option<Cursor> = None;
    if let Some(found) = &found {
        checkpoints.restore(found, &mut trainer).map_err(PipelineError::failed)?;
        cursor = serde_json::from_value(found.state.position.cursor.clone())
            .map_err(|error| PipelineError::Failed(format!("{}: {error}", found.folder.display())))?;
        tracing::info!("continuing at step {} from {}", trainer.global_step(), found.folder.display());
        for skipped in &found.skipped {
            tracing::warn!("{skipped}");
        }
    }
    progress.steps.store(trainer.global_step(), Ordering::Relaxed);
    let beginning = json!({ "configuration": training, "threads": threads, "step": trainer.global_step() });
    together.agree("training", &beginning)?; // nobody writes before all have read
    if let Some(cluster) = together.cluster() {
        trainer.join_ranks(group(together, cluster, device)?).map_err(PipelineError::usage)?;
    }
    Ok(Prepared { trainer, checkpoints, found, cursor, threads, notices })
}

/// Pictures and captions of this rank's rows.
pub(crate) fn assemble(
    (pass, turns): (u32, u64),
    cursor: &Cursor,
    rows: Vec<Row>,
    tokenizer: &Tokenizer,
    size: usize,
    context: usize,
) -> Result<Assembled, String> {
    let samples = rows.len();
    let mut pixels = Vec::with_capacity(samples * size * size * 3);
    let mut tokens = Vec::with_capacity(samples * context);
    let mut keys = Vec::with_capacity(samples);
    for (sample, _reserve) in rows {
        pixels.extend_from_slice(&sample.view);
        let ids = tokenizer.encode(&sample.caption);
        tokens.extend(ids.iter().copied().map(i64::from).chain(std::iter::repeat(0)).take(context));
        keys.push(format!("{}/{}", sample.id.ordinal, sample.id.index));
    }
    let batch = Batch::new(samples, size, context, pixels, tokens).map_err(|error| error.to_string())?;
    let cursor = serde_json::to_value(cursor).map_err(|error| error.to_string())?;
    Ok(Assembled { batch, pass, turns, cursor, keys })
}

/// Bytes of weights, gradients and both moments, and of the activations that one forward pass leaves for backward.
pub(crate) fn trainer_bytes(config: &ClipConfig, recipe: &TrainConfig, ranks: usize) -> u64 {
    let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
    let parameters = unsigned(config.image_parameters() + config.text_parameters());
    let tower = |layers: i64, tokens: u64, width: i64, mlp: i64, heads: i64| {
        // A block keeps about 12 rows of its width, 3 of the MLP's, and two attention maps.
        let token = 12 * unsigned(width) + 3 * unsigned(mlp) + 2 * unsigned(heads) * tokens;
        unsigned(layers) * tokens * token * 4
    };
    let (vision, text) = (&config.vision, &config.text);
    let patches = unsigned(vision.grid() * vision.grid()) + 1;
    let sample = tower(vision.layers, patches, vision.width, vision.mlp_width(), vision.heads())
        + tower(text.layers, unsigned(text.context_length), text.width, text.mlp_width(), text.heads);
    let rows = (recipe.batch_samples / recipe.accumulation_chunks.max(1) / ranks) as u64;
    parameters * 16 + rows * sample
}

/// Sets the trainer's memory aside.
pub(crate) fn take_trainer(run: &TrainRun, judging: &mut Judging, config: &ClipConfig, ranks: usize) {
    judging.memory.take("trainer", trainer_bytes(config, &run.recipe, ranks));
}

/// What the order is made for, and the memory that is left for it.
pub(crate) fn size_of(run: &TrainRun, judging: &mut Judging, shards: usize, processes: usize) -> Size {
    let free_bytes = judging.memory.budget_bytes.saturating_sub(judging.memory.minimum_bytes());
    let (batch, view_bytes) = (run.recipe.batch_samples, judging.view_bytes().train);
    Size { shards, processes, batch, view_bytes, free_bytes, lane_bytes: judging.lane_bytes() }
}

/// What a window can hold at most: its bytes, or as many views and pictures.
pub(crate) fn window_most(order: &OrderConfig, judging: &Judging) -> u64 {
    order.window_bytes.min(order.window_samples as u64 * (judging.view_bytes().train + (256 << 10)))
}
