//! What a training run needs beside the dataflow: model, length, checkpoint to continue from, rows to a batch, memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;
use sha2::{Digest, Sha256};
use tch::Device;
use trommel_bridge::{Attention, has_onednn};
use trommel_core::causes::Cause;
use trommel_core::notices::Notices;
use trommel_dataflow::order::{Cursor, Held, OrderConfig};
use trommel_decode::view::view_bytes;
use trommel_embed::device;
use trommel_ledger::run_folder::RunFolder;
use trommel_model::{Architecture, Captions, Model, ModelSizes, TowerSizes, weights};
use trommel_train::checkpoint::FoundCheckpoint;
use trommel_train::loss::LOGITS_AT_ONCE;
use trommel_train::to_order::{MAX_CAPTION_BYTES, TrainSample};
use trommel_train::{
    Assembled, Batch, Checkpoints, Contrastive, Course, Normalisation, Precision, Schedule, TextPadding, TrainConfig,
    Trainer,
};

use crate::order_defaults::Size;
use crate::ranks::group;
use crate::resume_check::{AskedRun, GoesOn};
use crate::run_setup::RunSetup;
use crate::train_run::{Setting, TrainRun};
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::memory::MemoryPlan;
use trommel_pipelines::phase::Phase;

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
    let mut model = model_on(architecture, device)?;
    let initial = match &run.pretrained {
        Some(path) => {
            weights::load(model.store(), &**architecture, path).map_err(PipelineError::usage)?;
            weights::fingerprint(model.store()).map_err(PipelineError::failed)?
        }
        None => {
            weights::init(model.store(), &**architecture, run.seed).map_err(PipelineError::failed)?;
            format!("seed:{}", run.seed)
        }
    };
    let total_steps = Schedule::new(&run.recipe, course).map_err(PipelineError::usage)?.total_steps();
    let threads = config.machine.threads;
    let numerics = BTreeMap::from([
        ("device".to_owned(), device::kind(device).to_owned()),
        ("ranks".to_owned(), together.ranks().to_string()),
        ("threads".to_owned(), threads.to_string()),
        ("libtorch".to_owned(), "2.11.0".to_owned()),
    ]);
    let card = device::card(device);
    let card = card.into_iter().flat_map(|card| [("card".to_owned(), card), ("tf32".to_owned(), "off".to_owned())]);
    let numerics: BTreeMap<_, _> = numerics.into_iter().chain(card).collect();
    let (checkpoints, found, recipe, training, notices, by_onednn) = together.in_turn(Phase::Checkpoints, || {
        let folder = config.run.join("checkpoints");
        // The hashes come below: what a run was begun with is among what they are made of.
        let (none, keep) = (BTreeMap::new, Some(run.keep_checkpoints));
        let checkpoints = Checkpoints::open(&folder, architecture.name(), none(), none(), keep);
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
    progress.steps.store(trainer.global_step(), Ordering::Relaxed);
    let beginning = json!({ "configuration": training, "threads": threads, "step": trainer.global_step() });
    together.agree(Phase::Training, &beginning)?; // nobody writes before all have read
    if let Some(cluster) = together.cluster() {
        trainer.join_ranks(group(together, cluster, device)?).map_err(PipelineError::usage)?;
    }
    Ok(Prepared { trainer, checkpoints, found, cursor, threads, notices })
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
        return Err(PipelineError::Usage(
            "--text-padding none: this model's text tower has no causal mask, it sees the padding".into(),
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
    size: usize,
    device: Device,
) -> Result<Assembled, Cause> {
    let ids: Vec<Vec<i64>> = rows.iter().map(|row| captions.ids(&row.sample.caption)).collect();
    let context = ids.first().map_or(0, Vec::len);
    let mut batch = Batch::writer(rows.len(), size, context, device)?;
    let mut keys = Vec::with_capacity(rows.len());
    for (Held { sample, .. }, ids) in rows.into_iter().zip(ids) {
        batch.push(&sample.view, ids)?;
        keys.push(format!("{}/{}", sample.id.ordinal, sample.id.index));
    }
    let batch = batch.finish()?;
    tracing::debug!(pass, samples = keys.join(" "), "batch");
    let cursor = serde_json::to_value(cursor)?;
    Ok(Assembled { batch, pass, turns, ends_pass, cursor, keys })
}

/// What a trainer takes, in bytes: estimated from above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TrainerMemory {
    /// Weights, gradients, both moments; with ranks the gradients on their way, with bf16 the weights' copies.
    weights: u64,
    /// What one forward pass of one chunk leaves for backward, pixels included.
    activations: u64,
    /// This rank's rows of the logits over the whole batch, or as many as are computed at once, both ways, and their gradients.
    logits: u64,
    /// Pictures, tokens and captions: a batch in the step, one ahead, and that one's views before they are gathered. Always in
    /// the process's own memory.
    batches: u64,
    /// The same batches on the card, where there is one.
    slots: u64,
}

impl TrainerMemory {
    /// For one of `ranks` ranks.
    pub(crate) fn of(model: &ModelSizes, recipe: &TrainConfig, ranks: usize) -> Self {
        let low = recipe.precision == Precision::Bf16;
        let parameters = model.image.parameters + model.text.parameters;
        let a_parameter = 16 + if low { 2 } else { 0 } + if ranks > 1 { 4 } else { 0 };
        // A token's bytes in one block. Of its width: the inputs of both norms in f32; both norms' outputs, q, k, v, what
        // attention mixed and its copy, and one for slack in the products' kind. Of the MLP's width: its hidden tensors.
        let product = if low { 2 } else { 4 };
        let tower = |of: &TowerSizes| {
            let token = (8 + 8 * product) * of.width + of.hidden * product * of.mlp_width + 4 * of.heads;
            // One block more: its gradients, while it goes backward.
            (of.layers + 1) * of.tokens * token
        };
        let (size, context) = (u64::from(model.view_px), model.text.tokens);
        // The pixels as f32, in the order of channels and as the patches' product wants them.
        let sample = tower(&model.image) + tower(&model.text) + 3 * 4 * 3 * size * size;
        let batch = recipe.batch_samples as u64;
        let rows = batch / ranks.max(1) as u64;
        let row = 3 * view_bytes(model.view_px) + 2 * 8 * context + MAX_CAPTION_BYTES as u64;
        Self {
            weights: parameters * a_parameter,
            activations: rows / recipe.accumulation_chunks.max(1) as u64 * sample,
            logits: LOGITS_COPIES * 4 * (rows * batch).min(LOGITS_AT_ONCE as u64),
            batches: rows * row,
            slots: 2 * rows * (view_bytes(model.view_px) + 2 * 8 * context),
        }
    }

    /// Sets it aside: models where they compute, batches here.
    pub(crate) fn take(self, memory: &mut MemoryPlan) {
        memory.take_device("weights and optimiser", self.weights);
        memory.take_device("activations", self.activations);
        memory.take_device("logits", self.logits);
        memory.take("batches", self.batches);
        if memory.card.is_some() {
            memory.take_device("batches", self.slots);
        }
    }
}

/// Matrices of the size of the logits that live at once: products, scaled, log-softmax both ways, gradients of these.
const LOGITS_COPIES: u64 = 8;

/// Sets the trainer's memory aside.
pub(crate) fn take_trainer(run: &TrainRun, judging: &mut RunSetup, model: &ModelSizes, ranks: usize) {
    TrainerMemory::of(model, &run.recipe, ranks).take(&mut judging.memory);
}

/// What the order is made for.
pub(crate) fn size_of(run: &TrainRun, judging: &RunSetup, shards: usize) -> Size {
    Size { shards, batch: run.recipe.batch_samples, view_bytes: judging.view_bytes().train }
}

/// What a window can hold at most: its bytes, or as many views and pictures.
pub(crate) fn window_most(order: &OrderConfig, judging: &RunSetup) -> u64 {
    order.window_bytes.min(order.window_samples as u64 * (judging.view_bytes().train + (256 << 10)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn recipe(batch: usize, precision: Precision) -> TrainConfig {
        let mut recipe = TrainConfig::new(batch);
        recipe.precision = precision;
        recipe
    }

    /// ViT-B-32 trains with 1,024 a card of 80 GiB on a machine of 24 GiB, and never did take the machine's memory.
    #[test]
    fn a_card_carries_the_trainer() {
        let model = trommel_model::load("ViT-B-32").unwrap().sizes();
        let plan = |batch: usize, total_bytes: u64| {
            let mut memory = MemoryPlan::new(12 << 30, true).on_card("cuda:0", total_bytes);
            TrainerMemory::of(&model, &recipe(batch, Precision::Bf16), 1).take(&mut memory);
            memory
        };
        let fits = plan(1024, 80 << 30);
        assert!(fits.credit_bytes().is_ok(), "{fits}; {}", fits.card.as_ref().unwrap());
        assert!(fits.minimum_bytes() < 4 << 30, "{fits}");
        let refusal = plan(32_768, 80 << 30).credit_bytes().expect_err("too much").to_string();
        assert!(refusal.starts_with("cuda:0 has 80.0 GiB") && refusal.contains("activations"), "{refusal}");
        // Without a card the same is the machine's.
        let mut here = MemoryPlan::new(12 << 30, true);
        TrainerMemory::of(&model, &recipe(1024, Precision::Bf16), 1).take(&mut here);
        assert!(here.credit_bytes().expect_err("too much").to_string().contains("--memory 12.0 GiB"));
    }

    #[test]
    fn large_batches_are_paid_for_by_their_rows_and_no_square_of_them() {
        let model = trommel_model::load("ViT-B-32").unwrap().sizes();
        let of = |batch, chunks, ranks| {
            let mut recipe = recipe(batch, Precision::F32);
            recipe.accumulation_chunks = chunks;
            TrainerMemory::of(&model, &recipe, ranks)
        };
        let (one, many, ranked) = (of(4096, 1, 1), of(16_384, 256, 1), of(16_384, 256, 4));
        assert_eq!(of(8192, 1, 1).logits, 4 * one.logits);
        assert_eq!(many.logits, 4 * one.logits, "no more than are computed at once");
        assert_eq!(many.batches, 4 * one.batches);
        assert_eq!(one.activations / 64, many.activations);
        assert_eq!((ranked.logits, ranked.batches), (many.logits, many.batches / 4));
        assert_eq!(of(4096, 1, 4).logits, one.logits / 4);
        // Two batches of pictures and their views: 16,384 of 224 x 224.
        assert!(many.batches > 3 * 16_384 * 224 * 224 * 3);
    }

    #[test]
    fn a_large_picture_is_paid_for_by_its_pixels() {
        let mut model = trommel_model::load("trommel-tiny-32").unwrap().sizes();
        let small = TrainerMemory::of(&model, &recipe(128, Precision::F32), 1).activations;
        model.view_px = 512;
        let large = TrainerMemory::of(&model, &recipe(128, Precision::F32), 1).activations;
        assert_eq!(large - small, 128 * 3 * 4 * 3 * (512 * 512 - 32 * 32));
    }
}
