//! What a trainer takes of the memory of the process and of a card, planned before the first byte is read.

use trommel_decode::view::{TrainView, view_bytes};
use trommel_model::{ModelSizes, TowerSizes};
use trommel_pipelines::memory::MemoryPlan;
use trommel_train::loss::LOGITS_AT_ONCE;
use trommel_train::to_order::MAX_CAPTION_BYTES;
use trommel_train::{Precision, TrainConfig};

/// A trainer, for whoever judges beside it.
pub(crate) struct Beside {
    /// How it sees pictures.
    pub(crate) view: TrainView,
    /// What it takes, before others are given what is left of a card.
    pub(crate) memory: TrainerMemory,
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
    /// Tokens and captions of a batch in the step and one ahead, and that one's views before they are gathered. Always in the process's own memory.
    batches: u64,
    /// Pictures of one of these batches. What a card copies from lies in pinned memory, which libtorch's allocator has in powers of two.
    pictures: u64,
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
        let row = view_bytes(model.view_px) + 2 * 8 * context + MAX_CAPTION_BYTES as u64;
        Self {
            weights: parameters * a_parameter,
            activations: rows / recipe.accumulation_chunks.max(1) as u64 * sample,
            logits: LOGITS_COPIES * 4 * (rows * batch).min(LOGITS_AT_ONCE as u64),
            batches: rows * row,
            pictures: rows * view_bytes(model.view_px),
            slots: 2 * rows * (view_bytes(model.view_px) + 2 * 8 * context),
        }
    }

    /// Sets it aside: models where they compute, batches here.
    pub(crate) fn take(self, memory: &mut MemoryPlan) {
        memory.take_device("weights and optimiser", self.weights);
        memory.take_device("activations", self.activations);
        memory.take_device("logits", self.logits);
        let pictures = if memory.card.is_some() { self.pictures.next_power_of_two() } else { self.pictures };
        memory.take("batches", self.batches + 2 * pictures);
        if memory.card.is_some() {
            memory.take_device("batches", self.slots);
        }
    }
}

/// Matrices of the size of the logits that live at once: products, scaled, log-softmax both ways, gradients of these.
const LOGITS_COPIES: u64 = 8;

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
        // 1,024 pictures of 224 x 224 take 147 MiB, and 256 where they are pinned.
        assert!(fits.minimum_bytes() > 1024 * 224 * 224 * 3 + (512 << 20), "{fits}");
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
        assert_eq!((many.batches, many.pictures), (4 * one.batches, 4 * one.pictures));
        assert_eq!(one.activations / 64, many.activations);
        assert_eq!((ranked.logits, ranked.batches), (many.logits, many.batches / 4));
        assert_eq!(of(4096, 1, 4).logits, one.logits / 4);
        // Two batches of pictures and their views: 16,384 of 224 x 224.
        assert!(many.batches + 2 * many.pictures > 3 * 16_384 * 224 * 224 * 3);
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
