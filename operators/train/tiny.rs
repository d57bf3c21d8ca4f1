//! A model of two small towers for the tests: enough to have every kind of parameter.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::Normalisation;
use super::batch::Batch;
use super::checkpoint::Checkpoints;
use super::config::{Precision, TrainConfig};
use super::sink::{Assembled, TrainSummary, TrainerConfig, run_trainer};
use super::step::{Contrastive, Features, Trainer};

/// Pixels along a picture's side.
pub const SIZE: usize = 8;
/// Tokens a caption.
pub const CONTEXT: usize = 6;
const VOCABULARY: i64 = 50;
const WIDTH: i64 = 24;
const EMBED: i64 = 16;

/// SplitMix64's output function.
pub const fn mix(x: u64) -> u64 {
    trommel_core::hash::mix(x.wrapping_add(0x9e37_79b9_7f4a_7c15))
}

/// FNV-1a of the text's bytes, 64 bits.
pub fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Value `index` of tensor `name`: uniform in [-1, 1), 24 bits.
pub fn uniform(name: &str, index: u64) -> f64 {
    (mix(fnv(name).wrapping_add(index)) >> 40) as f64 / f64::from(1u32 << 23) - 1.0
}

/// A linear image tower, a tower of token means with a gain, and a temperature.
#[derive(Debug)]
pub struct Tiny {
    named: Vec<(String, Tensor)>,
}

impl Tiny {
    /// Weights from the formula, the same at every call.
    pub fn new() -> Self {
        let tensor = |name: &str, shape: &[i64], scale: f64, offset: f64| {
            let count = shape.iter().product::<i64>() as u64;
            let values: Vec<f32> = (0..count).map(|i| (offset + scale * uniform(name, i)) as f32).collect();
            (name.to_string(), Tensor::from_slice(&values).reshape(shape).set_requires_grad(true))
        };
        let pixels = (3 * SIZE * SIZE) as i64;
        Self {
            named: vec![
                tensor("visual.conv1.weight", &[WIDTH, pixels], 0.1, 0.0),
                tensor("visual.proj", &[WIDTH, EMBED], 0.3, 0.0),
                tensor("token_embedding.weight", &[VOCABULARY, WIDTH], 0.5, 0.0),
                tensor("ln_final.weight", &[WIDTH], 0.1, 1.0),
                tensor("ln_final.bias", &[WIDTH], 0.1, 0.0),
                tensor("text_projection", &[WIDTH, EMBED], 0.3, 0.0),
                tensor("logit_scale", &[], 0.0, (1.0 / 0.07f64).ln()),
            ],
        }
    }

    /// The parameter of that name.
    pub fn get(&self, name: &str) -> &Tensor {
        self.named.iter().find(|(n, _)| n == name).map(|(_, t)| t).expect("a parameter of the tiny model")
    }
}

impl Contrastive for Tiny {
    fn encode_image(&self, images: &Tensor) -> Features {
        let hidden =
            images.f_flatten(1, -1)?.f_matmul(&self.get("visual.conv1.weight").f_transpose(0, 1)?)?.f_gelu("none")?;
        Ok(hidden.f_matmul(self.get("visual.proj"))?)
    }

    fn encode_text(&self, tokens: &Tensor) -> Features {
        let rows = Tensor::f_embedding(self.get("token_embedding.weight"), tokens, -1, false, false)?;
        let mean = rows.f_mean_dim([1i64].as_slice(), false, None::<Kind>)?;
        let (gain, bias) = (self.get("ln_final.weight"), self.get("ln_final.bias"));
        let normed = mean.f_layer_norm([WIDTH], Some(gain), Some(bias), 1e-5, false)?;
        Ok(normed.f_matmul(self.get("text_projection"))?)
    }

    fn logit_scale(&self) -> Tensor {
        self.get("logit_scale").shallow_clone()
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.named.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }
}

/// Batch `number`, the same at every call: the first pixels and tokens tell the pair's class.
pub fn batch(number: u64, samples: usize) -> Batch {
    rows(number, 0..samples)
}

/// Some rows of it.
pub fn rows(number: u64, range: Range<usize>) -> Batch {
    let (row, samples, mut pixels, mut tokens) = (SIZE * SIZE * 3, range.len(), Vec::new(), Vec::new());
    for sample in range.start as u64..range.end as u64 {
        let class = mix(number * 1000 + sample) % 40;
        pixels.extend((0..row as u64).map(|i| (mix(class * 997 + i / 12) >> 56) as u8));
        tokens.extend((0..CONTEXT as u64).map(|i| (mix(class * 31 + i) % VOCABULARY as u64) as i64));
    }
    Batch::new(samples, SIZE, CONTEXT, pixels, tokens).expect("shapes of the test's own")
}

/// A recipe for runs of a few steps.
pub fn config(samples: usize) -> TrainConfig {
    TrainConfig { lr: 1e-2, precision: Precision::F32, ..TrainConfig::new(samples) }
}

/// A trainer of the tiny model.
pub fn trainer(config: TrainConfig, total_steps: u64) -> Trainer<Tiny> {
    Trainer::new(Tiny::new(), config, total_steps, Normalisation::default(), Device::Cpu)
        .expect("a sound configuration")
}

/// The checkpoints of a run folder.
pub fn open(folder: &Path, keep: Option<usize>) -> Checkpoints {
    let hashes = BTreeMap::from([("training".to_string(), "abc".to_string())]);
    let checkpoints = Checkpoints::open(&folder.join("checkpoints"), "a run", keep).expect("works in the test");
    checkpoints.describing(hashes, String::new(), Vec::new())
}

/// Runs the tiny model, passes of 5 batches, until `stop_at` steps were handed out.
pub fn run_folder(folder: &Path, keep: Option<usize>, total: u64, stop_at: u64) -> TrainSummary {
    let checkpoints = open(folder, keep);
    let mut trainer = trainer(config(8), total);
    let found = checkpoints.newest().expect("works in the test");
    if let Some(found) = &found {
        checkpoints.restore(found, &mut trainer).expect("works in the test");
    }
    let mut number =
        found.as_ref().map_or(0, |found| found.state.position.cursor["batch"].as_u64().expect("works in the test"));
    assert_eq!(number, trainer.global_step());
    let mut run = TrainerConfig::new(folder.join("logs"));
    run.log_every_steps = 1;
    run.save_every = Some("4steps".parse().expect("works in the test"));
    let next = || {
        number += 1;
        (number <= stop_at).then_some(number - 1)
    };
    let assemble = |k: u64| {
        let (pass, turns, cursor) = ((k / 5) as u32, k % 5 * 8, json!({"batch": k + 1}));
        Ok(Assembled { batch: batch(k, 8), pass, turns, ends_pass: false, cursor, samples: vec![] })
    };
    run_trainer(&mut trainer, &run, &checkpoints, found.as_ref(), (next, || ()), assemble, |_| ())
        .expect("works in the test")
}
