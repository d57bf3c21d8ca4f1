//! The order of a run whose flags leave it open: lanes that follow the shards and the batch, windows that follow the batch
//! and the model's pictures. Never the machine, nor how many processes there are: a budget that this order does not fit in
//! is refused.

use std::collections::HashMap;

use trommel_core::text;
use trommel_dataflow::order::{OrderConfig, WindowBytes};
use trommel_shard::plan::{Plan, ShardRef};

use trommel_pipelines::error::PipelineError;

/// Lanes of a run whose shards allow for it: batches hold samples of so many shards.
const LANES: usize = 16;
/// A lane for as many samples of a large batch, about a rank's share of it: all ranks read, and few samples move.
const BATCH_SAMPLES_A_LANE: usize = 256;
/// Lanes of a live trainer: the last shards wait for as many more.
pub(crate) const LIVE_LANES: usize = 4;
/// Batches that a window holds: one neighbour in so many meets its neighbour again.
const WINDOW_BATCHES: usize = 8;
/// Samples of a window under small batches.
const WINDOW_SAMPLES: usize = 2048;
/// Bytes that a window is given for each sample beside its view: captions.
const CAPTION_BYTES: u64 = 1 << 10;

/// What the flags say of an order; what they leave open is worked out at the run's first start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrderFlags {
    /// Lanes that the shards of a pass are dealt to.
    pub lanes: Option<usize>,
    /// Kept samples that a window holds at most.
    pub window_samples: Option<usize>,
    /// Bytes that a window holds at most.
    pub window_bytes: Option<u64>,
    /// Seed of the permutations.
    pub seed: u64,
}

/// What an order is made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Shards of a pass.
    pub(crate) shards: usize,
    /// Samples of a batch.
    pub(crate) batch: usize,
    /// Bytes of a sample's view.
    pub(crate) view_bytes: u64,
}

impl OrderFlags {
    /// The order of a run that begins now.
    pub(crate) fn settle(&self, size: &Size) -> OrderConfig {
        let lanes = || LANES.max(size.batch / BATCH_SAMPLES_A_LANE).min(size.shards.max(1));
        let lanes = self.lanes.unwrap_or_else(lanes);
        let wanted = || WINDOW_SAMPLES.max(WINDOW_BATCHES.saturating_mul(size.batch));
        let window_samples = self.window_samples.unwrap_or_else(wanted);
        let sample = size.view_bytes + CAPTION_BYTES;
        let window_bytes = self.window_bytes.unwrap_or(window_samples as u64 * sample);
        OrderConfig { lanes, window_samples, window_bytes, window_counts: WindowBytes::Held, seed: self.seed }
    }

    /// What makes an order need less memory, where `lacking_bytes` of it are missing and nothing was trained in it yet.
    pub(crate) fn needing_less(&self, order: &OrderConfig, lacking_bytes: u64) -> String {
        let OrderConfig { lanes, window_samples: now, window_bytes, .. } = order;
        let room = window_bytes.saturating_sub(lacking_bytes.div_ceil(2)); // there are two windows
        let fit = u128::from(room) * *now as u128 / u128::from(*window_bytes).max(1);
        let window = match fit {
            _ if self.window_bytes.is_some() => "a smaller --window-bytes".to_owned(),
            0 => format!("a smaller --window than {now}"),
            fit => format!("--window {fit} instead of {now}"),
        };
        format!("{window}, or fewer --lanes than {lanes}, needs less and mixes less")
    }

    /// The order of a run that wrote none down: what its flags leave open had these values.
    pub(crate) fn or_default(&self) -> OrderConfig {
        let was = OrderConfig::default();
        OrderConfig {
            lanes: self.lanes.unwrap_or(was.lanes),
            window_samples: self.window_samples.unwrap_or(was.window_samples),
            window_bytes: self.window_bytes.unwrap_or(was.window_bytes),
            seed: self.seed,
            ..was
        }
    }

    /// Refuses flags that say another order than the one that a run was begun with.
    ///
    /// # Errors
    /// The first flag that differs, with both values.
    pub(crate) fn must_be(&self, begun: &OrderConfig) -> Result<(), PipelineError> {
        let flags = [
            ("--lanes", self.lanes.map(|lanes| lanes as u64), begun.lanes as u64),
            ("--window", self.window_samples.map(|samples| samples as u64), begun.window_samples as u64),
            ("--window-bytes", self.window_bytes, begun.window_bytes),
            ("--seed", Some(self.seed), begun.seed),
        ];
        match flags.into_iter().find(|(_, said, begun)| said.is_some_and(|said| said != *begun)) {
            None => Ok(()),
            Some((flag, said, begun)) => Err(PipelineError::usage(format!(
                "{flag} {}: this run was begun with {begun}, and its order stays; leave {flag} out, or take another --run",
                said.unwrap_or(0)
            ))),
        }
    }
}

/// What stands for class folders where a pass permutes them. A folder's name is a label, so it is the size of its pictures, where no other has
/// the same.
pub(crate) fn folders_dealt_as(plan: &Plan) -> Vec<String> {
    let mut folders = HashMap::<Option<u64>, usize>::new();
    for shard in &plan.shards {
        *folders.entry(shard.bytes).or_default() += 1;
    }
    let dealt_as = |shard: &ShardRef| match shard.bytes {
        Some(bytes) if folders[&shard.bytes] == 1 => format!("{bytes} bytes"),
        _ => shard.name.clone(),
    };
    plan.shards.iter().map(dealt_as).collect()
}

/// One line on an order, for people.
pub(crate) fn describe(order: &OrderConfig, size: &Size) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let batches = order.window_samples as f64 / size.batch.max(1) as f64;
    let holds = match order.window_counts {
        WindowBytes::Held => "decoded views and captions",
        WindowBytes::EncodedAndView => "decoded views, counted with the encoded pictures",
    };
    let short = if batches < WINDOW_BATCHES as f64 { ", less than eight: a larger --window mixes better" } else { "" };
    format!(
        "order: {} shards in {} lanes; a shuffle window of up to {} samples ({batches:.1} batches{short}) holds at most {} \
         of {holds}",
        size.shards,
        order.lanes,
        order.window_samples,
        text::bytes(order.window_bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(shards: usize, batch: usize) -> Size {
        Size { shards, batch, view_bytes: 3 * 224 * 224 }
    }

    #[test]
    fn lanes_follow_shards_and_batch_and_windows_the_batch() {
        let settled = |size: Size| {
            let order = OrderFlags::default().settle(&size);
            (order.lanes, order.window_samples)
        };
        assert_eq!(settled(size(3, 16)), (3, 2048));
        assert_eq!(settled(size(1000, 16)), (16, 2048));
        assert_eq!(settled(size(1000, 4096)), (16, 8 * 4096));
        assert_eq!(settled(size(41_408, 32_768)), (128, 8 * 32_768));
        assert_eq!(settled(size(5, 32_768)).0, 5, "fewer shards than that");
        assert_eq!(settled(size(0, 16)).0, 1);
        let bytes = |view_bytes| OrderFlags::default().settle(&Size { view_bytes, ..size(1000, 4096) }).window_bytes;
        assert_eq!(bytes(3 * 32 * 32), 8 * 4096 * (3 * 32 * 32 + 1024));
    }

    /// Whoever takes the number that is named fits, and it is not much less than what fits.
    #[test]
    fn a_window_that_fits_is_named() {
        let flags = OrderFlags::default();
        let order = flags.settle(&size(1000, 4096));
        let two = |samples: usize| {
            2 * OrderFlags { window_samples: Some(samples), ..flags }.settle(&size(1000, 4096)).window_bytes
        };
        for lacking in [1, 1 << 20, 3 << 30] {
            let said = flags.needing_less(&order, lacking);
            let named: usize = said.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a number");
            let room = two(order.window_samples) - lacking;
            assert!(two(named) <= room && two(named + 2) > room, "{said}: {} of {room}", two(named));
        }
        let said = flags.needing_less(&order, 1 << 40);
        assert_eq!(said, "a smaller --window than 32768, or fewer --lanes than 16, needs less and mixes less");
    }

    #[test]
    fn what_flags_say_is_taken_and_afterwards_insisted_on() {
        const GIB: u64 = 1 << 30;
        let flags = OrderFlags { lanes: Some(6), window_bytes: Some(GIB), ..OrderFlags::default() };
        let order = flags.settle(&size(1000, 512));
        assert_eq!((order.lanes, order.window_samples, order.window_bytes), (6, 4096, GIB));
        assert!(flags.must_be(&order).is_ok() && OrderFlags::default().must_be(&order).is_ok());
        let said = OrderFlags { lanes: Some(8), ..flags }.must_be(&order).expect_err("another number").to_string();
        assert!(said.contains("--lanes 8") && said.contains("begun with 6"), "{said}");
    }
}
