//! The trainer alone: steps on batches that it makes itself.
//!
//! Pictures are noise, captions have the lengths of captions of the web. Told are the step on batches that lie on the device, the same
//! with every batch coming from host memory as in a run, and the step that computes the captions' padding too; and how far the losses of
//! 20 steps of smaller batches are from those with padding, and from those in f32.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use serde::Serialize;
use tch::{Device, Tensor};
use trommel_bridge::{Attention, set_threads};
use trommel_core::hash::mix;
use trommel_embed::device;
use trommel_model::{Architecture, Model, Packing, weights};
use trommel_train::{
    Batch, Normalisation, Precision, Scheduler, Staged, TextPadding, TrainConfig, TrainError, Trainer,
};

use crate::trainer_setup::{model_on, multiplies_by_onednn};
use trommel_pipelines::error::PipelineError;

/// Steps before anything is timed: kernels are chosen, memory is taken, a card's clock rises.
const WARM_UP: usize = 5;
/// Steps whose losses are compared, and their samples at most: f32 is slow on a card.
const COMPARED: usize = 20;
const COMPARED_BATCH: usize = 128;
/// Batches that are timed, and that are compared; steps take them in turn.
const BATCHES: [u64; 2] = [2, 4];
/// Every 32nd of 10,000 captions of LAION by their number of tokens, both ends included: 15.5 on average.
const CAPTION_TOKENS: [u64; 33] = [
    3, 5, 6, 7, 7, 8, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 15, 15, 16, 17, 17, 18, 20, 21, 22, 25, 28, 32,
    40, 77,
];

/// Another way to compute the same: its name, and what it changes.
type Variant<'a> = (&'a str, &'a dyn Fn(&mut Model));

/// What is measured.
#[derive(Clone, Debug)]
pub struct TrainBench {
    /// open_clip's name of the model, or its JSON.
    pub model: String,
    /// Weights to start from.
    pub pretrained: Option<PathBuf>,
    /// Samples a step.
    pub batch: usize,
    /// What products are computed in.
    pub precision: Precision,
    /// `auto`, `cpu` or `cuda:N`.
    pub device: String,
    /// libtorch's threads.
    pub threads: usize,
    /// Seed of weights and batches.
    pub seed: u64,
    /// Steps timed, for each figure.
    pub steps: usize,
    /// On a card: with each attention that libtorch has for it, and patches by convolution.
    pub variants: bool,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct TrainFigures {
    /// Always `train`: which stage the report is of.
    pub stage: &'static str,
    /// Name of the model.
    pub model: String,
    /// Kind of device.
    pub device: String,
    /// The card's name, if there is one.
    pub card: Option<String>,
    /// What products were computed in.
    pub precision: Precision,
    /// Samples a step.
    pub batch: usize,
    /// Tokens of a caption, on average.
    pub caption_tokens: f64,
    /// Tokens of a caption that the text tower computes, on average; with padding it would be the context.
    pub computed_tokens: f64,
    /// Batches on the device.
    #[serde(flatten)]
    pub step: Rate,
    /// Every batch written and sent by another thread meanwhile, as in a run.
    pub with_uploads: Rate,
    /// Batches on the device, captions with their padding.
    pub padded: Rate,
    /// Computed otherwise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<(String, Result<Rate, String>)>,
    /// Losses of the compared steps.
    pub losses: Vec<f32>,
    /// Their largest difference to those with padding.
    pub padded_difference: f32,
    /// Their largest difference to those in f32; none where they are f32 themselves.
    pub f32_difference: Option<f32>,
}

/// How fast steps are.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rate {
    /// By the median step.
    pub samples_per_second: f64,
    /// The median step.
    pub median_seconds: f64,
    /// The slowest tenth begins here.
    pub slow_seconds: f64,
    /// Number of steps timed.
    pub steps: usize,
}

impl Rate {
    fn of(mut took: Vec<Duration>, batch: usize) -> Self {
        took.sort_unstable();
        let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64();
        let median_seconds = at(0.5);
        let samples_per_second = batch as f64 / median_seconds.max(1e-9);
        Self { samples_per_second, median_seconds, slow_seconds: at(0.9), steps: took.len() }
    }
}

/// Measures the trainer.
///
/// # Errors
/// A model or a device that cannot be had; a loss that is not finite.
pub fn trainer(bench: &TrainBench) -> Result<TrainFigures, PipelineError> {
    let config = trommel_model::load(&bench.model).map_err(PipelineError::usage)?;
    let device = device::parse(&bench.device).map_err(PipelineError::usage)?;
    if bench.variants && device == Device::Cpu {
        return Err(PipelineError::usage("--variants: a training step has none on a CPU"));
    }
    set_threads(bench.threads);
    let weights = initial(bench, &config)?;
    let made = |batch: usize, batches| Made::new(bench, &config, &weights, device, batch, batches);
    let compared = made(bench.batch.min(COMPARED_BATCH), BATCHES[1])?;
    let losses = |precision, padding| compared.losses(compared.trainer(precision, padding)?);
    let own = losses(bench.precision, TextPadding::None)?;
    let furthest = |other: &[f32]| own.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let padded_difference = furthest(&losses(bench.precision, TextPadding::Full)?);
    let f32_difference = match bench.precision {
        Precision::F32 => None,
        Precision::Bf16 => Some(furthest(&losses(Precision::F32, TextPadding::None)?)),
    };
    let made = made(bench.batch, BATCHES[0])?;
    let padded = made.step(&mut made.trainer(bench.precision, TextPadding::Full)?)?;
    let mut trainer = made.trainer(bench.precision, TextPadding::None)?;
    let step = made.step(&mut trainer)?;
    let with_uploads = made.with_uploads(&mut trainer)?;
    let mut variants = Vec::new();
    if bench.variants {
        drop(trainer);
        let others: [Variant<'_>; 4] = [
            ("attention as libtorch chooses", &|model| model.towers_mut().attend_by(None)),
            ("attention by FlashAttention", &|model| model.towers_mut().attend_by(Some(Attention::Flash))),
            ("memory-efficient attention", &|model| model.towers_mut().attend_by(Some(Attention::Efficient))),
            ("patches by convolution", &|model| model.towers_mut().image_mut().multiply_patches(false)),
        ];
        for (name, change) in others {
            let other = made.trainer_of(bench.precision, TextPadding::None, change);
            let rate = other.and_then(|mut other| made.step(&mut other));
            variants.push((name.to_owned(), rate.map_err(|error| error.line())));
        }
    }
    let (caption_tokens, computed_tokens) = made.tokens();
    Ok(TrainFigures {
        stage: "train",
        model: config.name().to_owned(),
        device: device::kind(device).to_owned(),
        card: device::card(device),
        precision: bench.precision,
        batch: bench.batch,
        caption_tokens,
        computed_tokens,
        step,
        with_uploads,
        padded,
        variants,
        padded_difference,
        f32_difference,
        losses: own,
    })
}

/// The weights that all trainers start from.
fn initial(bench: &TrainBench, config: &Arc<dyn Architecture>) -> Result<Vec<(String, Tensor)>, PipelineError> {
    let model = Model::new(config, Device::Cpu).map_err(PipelineError::usage)?;
    match &bench.pretrained {
        Some(path) => weights::load(model.store(), &**config, path).map_err(PipelineError::usage)?,
        None => weights::init(model.store(), &**config, bench.seed).map_err(PipelineError::failed)?,
    }
    Ok(model.store().variables().into_iter().map(|(name, tensor)| (name, tensor.detach())).collect())
}

/// What the steps are made from.
struct Made<'a> {
    bench: &'a TrainBench,
    config: &'a Arc<dyn Architecture>,
    weights: &'a [(String, Tensor)],
    batches: Batches,
}

/// Batches in host memory.
struct Batches {
    device: Device,
    samples: usize,
    side: usize,
    context: usize,
    /// Pixels and tokens of each.
    all: Vec<(Vec<u8>, Vec<i64>)>,
}

impl Batches {
    /// One, as a run's assembler makes it.
    fn batch(&self, number: usize) -> Result<Batch, TrainError> {
        let (pixels, tokens) = &self.all[number % self.all.len()];
        let mut batch = Batch::writer(self.samples, self.side, self.context, self.device)?;
        for (pixels, tokens) in pixels.chunks_exact(self.side * self.side * 3).zip(tokens.chunks_exact(self.context)) {
            batch.push(pixels, tokens.iter().copied())?;
        }
        batch.finish()
    }
}

impl<'a> Made<'a> {
    fn new(
        bench: &'a TrainBench,
        config: &'a Arc<dyn Architecture>,
        weights: &'a [(String, Tensor)],
        device: Device,
        samples: usize,
        batches: u64,
    ) -> Result<Self, PipelineError> {
        let sizes = config.sizes();
        let (context, vocabulary) = (usize::try_from(sizes.text.tokens).unwrap_or(77), sizes.vocabulary);
        if vocabulary < 4 {
            return Err(PipelineError::usage("a vocabulary of at least 4 tokens is needed"));
        }
        let side = config.preprocess().size as usize;
        let bytes = samples * side * side * 3;
        let batch = |number: u64| {
            let salt = bench.seed.wrapping_mul(1000).wrapping_add(number) << 32;
            let mut pixels: Vec<u8> = (0..bytes.div_ceil(8) as u64).flat_map(|i| mix(salt + i).to_le_bytes()).collect();
            pixels.truncate(bytes);
            let tokens = (0..samples as u64).flat_map(|row| caption(mix(salt ^ row << 20), context, vocabulary));
            (pixels, tokens.collect())
        };
        let all = (0..batches).map(batch).collect();
        Ok(Self { bench, config, weights, batches: Batches { device, samples, side, context, all } })
    }

    fn trainer(&self, precision: Precision, text_padding: TextPadding) -> Result<Trainer<Model>, PipelineError> {
        self.trainer_of(precision, text_padding, |_| ())
    }

    fn trainer_of(
        &self,
        precision: Precision,
        text_padding: TextPadding,
        change: impl FnOnce(&mut Model),
    ) -> Result<Trainer<Model>, PipelineError> {
        let mut model = model_on(self.config, self.batches.device)?;
        if multiplies_by_onednn(self.batches.device, precision, None) {
            model.towers_mut().multiply_by_onednn();
        }
        change(&mut model);
        let mut variables = model.store().variables();
        for (name, weight) in self.weights {
            let copied = variables.get_mut(name).map(|variable| tch::no_grad(|| variable.f_copy_(weight)));
            copied.transpose().map_err(PipelineError::failed)?;
        }
        let recipe = TrainConfig {
            precision,
            text_padding,
            // So small that losses tell of the arithmetic: Adam's first steps are as long for a gradient of rounding as for any other.
            lr: 1e-6,
            warmup_steps: Some(0),
            scheduler: Scheduler::Const,
            ..TrainConfig::new(self.batches.samples)
        };
        let normalisation = Normalisation::from(self.config.preprocess());
        Trainer::new(model, recipe, u64::MAX, normalisation, self.batches.device).map_err(PipelineError::usage)
    }

    /// All batches on the device.
    fn staged(&self, trainer: &Trainer<Model>) -> Result<Vec<Staged>, PipelineError> {
        let mut stager = trainer.stager().map_err(PipelineError::failed)?;
        let staged = |number| self.batches.batch(number).and_then(|batch| stager.stage(&batch));
        (0..self.batches.all.len()).map(staged).collect::<Result<_, _>>().map_err(PipelineError::failed)
    }

    /// Losses of a trainer's first steps.
    fn losses(&self, mut trainer: Trainer<Model>) -> Result<Vec<f32>, PipelineError> {
        let staged = self.staged(&trainer)?;
        let step = |number: usize| trainer.step_staged(&staged[number % staged.len()]).map(|step| step.loss);
        (0..COMPARED).map(step).collect::<Result<_, _>>().map_err(PipelineError::failed)
    }

    fn step(&self, trainer: &mut Trainer<Model>) -> Result<Rate, PipelineError> {
        let steps = self.bench.steps;
        let staged = self.staged(trainer)?;
        let mut took = Vec::with_capacity(steps);
        for number in 0..WARM_UP + steps {
            let began = Instant::now();
            trainer.step_staged(&staged[number % staged.len()]).map_err(PipelineError::failed)?;
            took.push(began.elapsed());
        }
        Ok(Rate::of(took.split_off(WARM_UP), self.batches.samples))
    }

    fn with_uploads(&self, trainer: &mut Trainer<Model>) -> Result<Rate, PipelineError> {
        let steps = self.bench.steps;
        let mut stager = trainer.stager().map_err(PipelineError::failed)?;
        let (sender, sent) = sync_channel(0);
        let took = std::thread::scope(|scope| {
            let made = &self.batches;
            scope.spawn(move || {
                for number in 0..WARM_UP + steps {
                    let staged = made.batch(number).and_then(|batch| stager.stage(&batch));
                    if sender.send(staged).is_err() {
                        return;
                    }
                }
            });
            let (mut took, mut last) = (Vec::with_capacity(steps), Instant::now());
            for staged in sent {
                trainer.step_staged(&staged?)?;
                took.push(last.elapsed());
                last = Instant::now();
            }
            Ok::<_, TrainError>(took)
        });
        let mut took = took.map_err(PipelineError::failed)?;
        Ok(Rate::of(took.split_off(WARM_UP), self.batches.samples))
    }

    /// Tokens of a caption, its own and those that are computed.
    fn tokens(&self) -> (f64, f64) {
        let captions = (self.batches.samples * self.batches.all.len()) as f64;
        let own = self.batches.all.iter().flat_map(|(_, tokens)| tokens).filter(|&&token| token != 0).count();
        let computed: usize =
            self.batches.all.iter().map(|(_, tokens)| Packing::of(tokens, self.batches.context).tokens()).sum();
        (own as f64 / captions, computed as f64 / captions)
    }
}

/// A caption of made-up words, as long as the web's are.
fn caption(seed: u64, context: usize, vocabulary: u64) -> impl Iterator<Item = i64> {
    let place = (seed % 32) as usize;
    let (from, to) = (CAPTION_TOKENS[place], CAPTION_TOKENS[place + 1]);
    let length = ((from + mix(seed) % (to - from).max(1)) as usize).clamp(2, context.max(2));
    let word = move |at: usize| match at {
        0 => vocabulary - 2,
        at if at + 1 < length => 1 + mix(seed ^ (at as u64) << 7) % (vocabulary - 3),
        at if at + 1 == length => vocabulary - 1,
        _ => 0,
    };
    (0..context).map(move |at| word(at) as i64)
}
