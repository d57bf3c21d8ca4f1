//! Bench: a stage alone, on what it makes itself.
//!
//! The embedder: views of noise in host memory, as decoders hand them over, to canonical vectors, through batch slots; beside it the
//! forward pass alone, on pixels that lie on the device. The first is what a run can reach, the second its limit. Both are told as the
//! median over batches, after a warm-up; and how far its vectors are from those of a CPU in f32.

use std::time::{Duration, Instant};

use serde::Serialize;
use tch::{Device, Kind, Tensor};
use trommel_bridge::{Attention, BridgeError, Event, Stream};
use trommel_core::hash::mix;
use trommel_dataflow::batch::Batched;
use trommel_embed::encoder::{self, EncoderConfig, EncoderPrecision, Form, ImageEncoder};
use trommel_embed::instances::Instances;
use trommel_embed::load::{Loaded, load};
use trommel_embed::slots::{Slots, canonical, depth_of};

use crate::embedder::settle;
use trommel_pipelines::config::EmbedderConfig;
use trommel_pipelines::error::PipelineError;

/// Batches before anything is timed: kernels are chosen, memory is taken, a card's clock rises.
const WARM_UP: usize = 5;
/// Batches timed at least.
const LEAST: usize = 5;
/// Views whose vectors are compared with a CPU's.
const COMPARED: usize = 16;

/// What is measured.
#[derive(Clone, Debug)]
pub struct EmbedBench {
    /// The model that is measured.
    pub embedder: EmbedderConfig,
    /// `auto`, `cpu` or `cuda:N`.
    pub device: String,
    /// libtorch's threads.
    pub threads: usize,
    /// Batches on their way; `None`: as a run has them.
    pub in_flight: Option<usize>,
    /// Time for each of the two figures.
    pub seconds: f64,
    /// The other ways to compute the same as well.
    pub variants: bool,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct EmbedReport {
    /// Always `embed`: which stage the report is of.
    pub stage: &'static str,
    /// Name of the model.
    pub model: String,
    /// Device, card, precision, batch, form.
    pub numerics: serde_json::Value,
    /// As a run computes.
    #[serde(flatten)]
    pub figures: Figures,
    /// The other ways to compute the same, each with its figures or why there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Variant>,
}

/// One way to compute.
#[derive(Clone, Debug, Serialize)]
pub struct Variant {
    /// How it computes: precision and form.
    pub form: String,
    /// What was measured.
    #[serde(flatten)]
    pub figures: Option<Figures>,
    /// Why it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// Rates, and how far vectors are from a CPU's in f32.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figures {
    /// From host views to canonical vectors.
    pub samples_per_second: f64,
    /// The same over the whole time, not by the median batch.
    pub mean_samples_per_second: f64,
    /// The forward pass alone.
    pub forward_samples_per_second: f64,
    /// Batches timed, of the first figure.
    pub batches: usize,
    /// Slowest tenth of the batches over the median.
    pub spread: f64,
    /// Views of a batch.
    pub batch: usize,
    /// Batches on their way.
    pub in_flight: usize,
    /// Largest difference of a component of a canonical vector.
    pub largest_difference: f64,
    /// Lowest cosine between a vector and the CPU's.
    pub lowest_cosine: f64,
}

/// Measures the embedder.
///
/// # Errors
/// A model or a device that cannot be had.
pub fn embedder(bench: &EmbedBench) -> Result<EmbedReport, PipelineError> {
    let config = settle(&bench.embedder, &bench.device, bench.threads)?;
    let views = noise(&config)?;
    let exact = exact(&config, &views)?;
    let figures = figures(&config, bench, &views, &exact)?;
    let mut variants = Vec::new();
    for (precision, form) in if bench.variants { others(&config) } else { Vec::new() } {
        let other = EncoderConfig { precision, form: Some(form), ..config.clone() };
        let (figures, failed) = match self::figures(&other, bench, &views, &exact) {
            Ok(figures) => (Some(figures), None),
            Err(error) => (None, Some(error.line())),
        };
        variants.push(Variant { form: label(&other, form), figures, failed });
    }
    let (model, numerics) = (config.model.clone(), config.numerics());
    Ok(EmbedReport { stage: "embed", model, numerics, figures, variants })
}

/// What tells one way to compute from the others. A form's own text is part of what is recorded of a card, which packs nothing.
fn label(config: &EncoderConfig, form: Form) -> String {
    let weights = match (config.device, form.packed) {
        (Device::Cpu, true) => "packed weights, ",
        (Device::Cpu, false) => "weights as they are, ",
        _ => "",
    };
    format!("{:?}, {weights}{form}", config.precision)
}

/// Ways to compute the same that differ from the device's own in one respect.
fn others(config: &EncoderConfig) -> Vec<(EncoderPrecision, Form)> {
    let own = Form::of(config);
    let mut all = vec![(config.precision, Form { patches: !own.patches, ..own })];
    if own.packed {
        all.push((config.precision, Form { packed: false, ..own }));
    }
    if config.device != Device::Cpu {
        all.extend([Attention::Flash, Attention::Cudnn].map(|attention| (config.precision, Form { attention, ..own })));
    }
    if own.throughout {
        all.push((EncoderPrecision::F16Mixed, Form { throughout: false, ..own }));
    }
    all.retain(|(precision, form)| (*precision, *form) != (config.precision, own));
    all
}

/// Twice a batch of views, each in memory of its own.
fn noise(config: &EncoderConfig) -> Result<Vec<Vec<u8>>, PipelineError> {
    let model = trommel_model::load(&config.model).map_err(PipelineError::usage)?;
    let words = (3 * (model.preprocess().size as usize).pow(2)).div_ceil(8);
    let view = |number: u64| {
        let word = |i: usize| mix(number * words as u64 + i as u64).to_le_bytes();
        let mut bytes: Vec<u8> = (0..words).flat_map(word).collect();
        bytes.truncate(3 * (model.preprocess().size as usize).pow(2));
        bytes
    };
    Ok((0..2 * config.batch as u64).map(view).collect())
}

/// Vectors of the first views, by the CPU in f32.
fn exact(config: &EncoderConfig, views: &[Vec<u8>]) -> Result<Vec<Vec<f64>>, PipelineError> {
    let (batch, precision) = (COMPARED, EncoderPrecision::F32);
    let config = EncoderConfig { device: Device::Cpu, batch, precision, form: None, ..config.clone() };
    let mut encoder = load(&config).map_err(PipelineError::usage)?.encoder;
    let mut pixels = views[..views.len().min(COMPARED)].concat();
    pixels.resize(COMPARED * views[0].len(), 0);
    let features = encoder.encode(&pixels).map_err(PipelineError::failed)?;
    features.chunks(encoder.dim()).take(views.len()).map(vector).collect()
}

fn vector(feature: &[f32]) -> Result<Vec<f64>, PipelineError> {
    let canonical = canonical(feature).map_err(|why| PipelineError::failed(format!("a vector: {}", why.code)))?;
    Ok(canonical.into_iter().map(f64::from).collect())
}

fn figures(
    config: &EncoderConfig,
    bench: &EmbedBench,
    views: &[Vec<u8>],
    exact: &[Vec<f64>],
) -> Result<Figures, PipelineError> {
    let Loaded { mut encoder, instances, .. } = load(config).map_err(PipelineError::usage)?;
    let forward = forward(&mut *encoder, bench.seconds)?;
    let mut beside = match bench.in_flight {
        None if instances > 1 => Some(Instances::new(&*encoder, instances).map_err(PipelineError::failed)?),
        _ => None,
    };
    let in_flight = bench.in_flight.or(beside.as_ref().map(Instances::depth)).unwrap_or(depth_of(config.device));
    let mut slots = Slots::new(encoder, in_flight).map_err(PipelineError::failed)?;
    slots.send(&views[..exact.len().min(config.batch)]).map_err(PipelineError::failed)?;
    let dim = slots.encoder().dim();
    let found = slots.receive(|features| features.chunks(dim).map(vector).collect::<Result<Vec<_>, _>>());
    let found = found.map_err(PipelineError::failed)?.transpose()?.unwrap_or_default();
    let pairs = || found.iter().zip(exact).flat_map(|(a, b)| a.iter().zip(b));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let cosine = |(a, b): (&Vec<f64>, &Vec<f64>)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    let batches: Vec<&[Vec<u8>]> = views.chunks(config.batch).collect();
    let took = match &mut beside {
        Some(instances) => side_by_side(instances, &batches, bench.seconds)?,
        None => through(&mut slots, &batches, bench.seconds)?,
    };
    let per_second = |took: &[Duration]| config.batch as f64 / quantile(took, 0.5).as_secs_f64().max(1e-9);
    Ok(Figures {
        samples_per_second: per_second(&took),
        mean_samples_per_second: (took.len() * config.batch) as f64 / took.iter().sum::<Duration>().as_secs_f64(),
        forward_samples_per_second: per_second(&forward),
        batches: took.len(),
        spread: quantile(&took, 0.9).as_secs_f64() / quantile(&took, 0.5).as_secs_f64().max(1e-9),
        batch: config.batch,
        in_flight,
        largest_difference: pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f64::max),
        lowest_cosine: found.iter().zip(exact).map(cosine).fold(f64::INFINITY, f64::min),
    })
}

fn quantile(took: &[Duration], share: f64) -> Duration {
    let mut sorted = took.to_vec();
    sorted.sort_unstable();
    sorted.get(((sorted.len() as f64 - 1.0) * share).round() as usize).copied().unwrap_or_default()
}

/// Time from one end of a batch to the next while `begin` and `end` are called in turn, `ahead` batches apart.
fn paced<S>(
    state: &mut S,
    (ahead, seconds): (usize, f64),
    mut begin: impl FnMut(&mut S, usize) -> Result<(), PipelineError>,
    mut end: impl FnMut(&mut S, usize) -> Result<(), PipelineError>,
) -> Result<Vec<Duration>, PipelineError> {
    let (mut took, mut started, mut last) = (Vec::new(), Instant::now(), Instant::now());
    for number in 0.. {
        begin(state, number)?;
        let Some(done) = (number + 1).checked_sub(ahead) else { continue };
        end(state, done)?;
        let now = Instant::now();
        match done.cmp(&WARM_UP) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => started = now,
            std::cmp::Ordering::Greater => took.push(now - last),
        }
        last = now;
        if took.len() >= LEAST.max(ahead) && (now - started).as_secs_f64() >= seconds {
            (done + 1..=number).try_for_each(|rest| end(state, rest))?;
            break;
        }
    }
    Ok(took)
}

/// The forward pass alone, with the next one sent before the one before is done.
fn forward(encoder: &mut dyn ImageEncoder, seconds: f64) -> Result<Vec<Duration>, PipelineError> {
    let shape = encoder.shape();
    let failed = |error: BridgeError| PipelineError::failed(error);
    let side = i64::from(shape.size);
    let size = [i64::try_from(shape.batch).unwrap_or(i64::MAX), side, side, 3];
    let pixels = Tensor::f_full(size, 77, (Kind::Uint8, shape.device)).map_err(PipelineError::failed)?;
    let stream = Stream::current(shape.device).map_err(failed)?;
    let mut events = vec![Event::new(shape.device).map_err(failed)?, Event::new(shape.device).map_err(failed)?];
    let ahead = depth_of(shape.device);
    let begin = |events: &mut Vec<Event>, number: usize| {
        let _no_grad = encoder::on_this_thread(shape.threads);
        let _features = encoder.forward(&pixels).map_err(PipelineError::failed)?;
        events[number % 2].record(&stream).map_err(failed)
    };
    paced(&mut events, (ahead, seconds), begin, |events, number| events[number % 2].synchronize().map_err(failed))
}

/// Views to canonical vectors, as the embedder's service does it.
fn through(slots: &mut Slots, batches: &[&[Vec<u8>]], seconds: f64) -> Result<Vec<Duration>, PipelineError> {
    let ahead = slots.depth();
    let begin =
        |slots: &mut Slots, number: usize| slots.send(batches[number % batches.len()]).map_err(PipelineError::failed);
    let end = |slots: &mut Slots, _| {
        let dim = slots.encoder().dim();
        let vectors = slots.receive(|features| features.chunks(dim).map(canonical).filter(Result::is_ok).count());
        match vectors.map_err(PipelineError::failed)? {
            Some(_) => Ok(()),
            None => Err(PipelineError::failed("no batch came back")),
        }
    };
    paced(slots, (ahead, seconds), begin, end)
}

/// The same by a CPU's instances. They end at about the same time, so each batch is given its share of the time of so many.
fn side_by_side(
    instances: &mut Instances,
    batches: &[&[Vec<u8>]],
    seconds: f64,
) -> Result<Vec<Duration>, PipelineError> {
    let (ahead, count) = (instances.depth(), instances.width());
    let begin = |instances: &mut Instances, number: usize| {
        instances.submit(batches[number % batches.len()].to_vec());
        Ok(())
    };
    let end = |instances: &mut Instances, _| match instances.collect().is_empty() {
        true => Err(PipelineError::failed("no batch came back")),
        false => Ok(()),
    };
    let took = paced(instances, (ahead, seconds), begin, end)?;
    let share = |together: &[Duration]| together.iter().sum::<Duration>() / u32::try_from(count).unwrap_or(1);
    Ok(took.chunks_exact(count).map(share).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a CPU two ways differ in the weights alone, and their rows in nothing else.
    #[test]
    fn every_variant_has_a_label_of_its_own() {
        for device in [Device::Cpu, Device::Cuda(0)] {
            let config = EncoderConfig {
                model: "trommel-tiny-32".into(),
                weights: None,
                torchscript: false,
                random_init: Some(0),
                precision: EncoderPrecision::F32,
                batch: 8,
                device,
                threads: 1,
                form: None,
            };
            let own = Form::of(&config);
            let mut labels = vec![label(&config, own)];
            for (precision, form) in others(&config) {
                labels.push(label(&EncoderConfig { precision, ..config.clone() }, form));
            }
            let count = labels.len();
            assert!(count > 1, "{labels:?}");
            assert_eq!(labels[0].contains("packed weights"), own.packed, "{labels:?}");
            labels.sort();
            labels.dedup();
            assert_eq!(labels.len(), count, "{labels:?}");
        }
    }
}
