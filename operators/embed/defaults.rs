//! How an encoder computes where nobody says: the one place that decides.
//!
//! | device | precision | batch |
//! |--|--|--|
//! | CPU | f32 | 16 |
//! | a card | f16; f32 for TorchScript, whose code may not bear another | by tokens: 128 for ViT-B-16-plus-240, B-16 and L-14, 512 for B-32 |
//!
//! A CPU computes several batches side by side ([`super::instances`]).
//!
//! An H100 is busy in every layer with about 29,000 tokens a batch, whose residual sum just fits into its second-level cache: 7,499 views a
//! second of ViT-B-16-plus-240, and 7,308 with twice as many. Views and memory set the limits: at most 1,024 views, and no more than half of
//! the card's memory, the trainer may need the other.

use tch::Device;
use trommel_model::ModelSizes;

use super::encoder::{EncoderConfig, EncoderPrecision};
use super::load::footprint;

/// Tokens of a card's batch.
const TOKENS: f64 = 28_672.0;
/// Views of a card's batch, at most.
const MOST: usize = 1024;
/// Views of a CPU's batch. Part of the numeric identity of stored features.
const CPU_BATCH: usize = 16;
/// Fewer would let bits depend on neighbours.
const LEAST: usize = 8;

/// The precision where none is asked for.
#[must_use]
pub fn precision(device: Device, torchscript: bool) -> EncoderPrecision {
    if device == Device::Cpu || torchscript { EncoderPrecision::F32 } else { EncoderPrecision::F16 }
}

/// The batch of `config`'s model, device and precision where none is asked for; `card_bytes` is the card's memory.
#[must_use]
pub fn batch(model: &ModelSizes, config: &EncoderConfig, card_bytes: Option<u64>) -> usize {
    if config.device == Device::Cpu {
        return CPU_BATCH;
    }
    #[allow(clippy::cast_precision_loss, reason = "a few thousand tokens")]
    let views = TOKENS / model.image.tokens as f64;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 3 and 10")]
    let nearest = 1usize << (views.log2().round().clamp(3.0, 10.0) as u32);
    let fits = |batch: usize| {
        let bytes = footprint(model, &EncoderConfig { batch, ..config.clone() }, model.image.parameters);
        card_bytes.is_none_or(|card| bytes <= card / 2)
    };
    let mut batch = nearest.min(MOST);
    while batch > LEAST && !fits(batch) {
        batch /= 2;
    }
    batch
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::encoder_tests::config;

    #[test]
    fn the_table() {
        let of = |name: &str, device, card_bytes| {
            let model = trommel_model::load(name).unwrap().sizes();
            let precision = precision(device, false);
            (precision, batch(&model, &EncoderConfig { device, precision, ..config(name) }, card_bytes))
        };
        let (card, h100) = (Device::Cuda(0), Some(80 << 30));
        for name in ["ViT-B-16-plus-240", "ViT-B-32", "trommel-tiny-32"] {
            assert_eq!(of(name, Device::Cpu, None), (EncoderPrecision::F32, 16), "{name}");
        }
        let table = [
            ("ViT-B-16-plus-240", 128),
            ("ViT-B-16", 128),
            ("ViT-B-32", 512),
            ("ViT-L-14", 128),
            ("trommel-tiny-32", 1024),
        ];
        for (name, batch) in table {
            assert_eq!(of(name, card, h100), (EncoderPrecision::F16, batch), "{name}");
        }
        assert_eq!(of("ViT-B-16-plus-240", card, Some(4 << 30)).1, 64);
        assert_eq!(of("ViT-L-14", card, Some(1 << 30)).1, 8, "never fewer");
        assert_eq!(super::precision(card, true), EncoderPrecision::F32);
    }
}
