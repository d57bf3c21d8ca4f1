//! Who embeds, and into which views pictures are decoded for it and for a trainer.

use std::sync::Arc;

use trommel_core::notices::Notices;
use trommel_decide::benchmark::Benchmark;
use trommel_decode::operator::DecodeConfig;
use trommel_decode::view::{EvalView, ResizeMode, TrainView};
use trommel_decode::{Decoder, Limits};
use trommel_model::Preprocess;
use trommel_model::preprocess::Resize;

use crate::embedder::Embedder;
use trommel_pipelines::begun_with::BegunWith;
use trommel_pipelines::benchmarks::and_benchmarks;
use trommel_pipelines::config::JudgeConfig;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::one_model::one_model;

/// The embedder, where a benchmark or the configuration asks for one. It goes on as the run was begun, and notes where that is another way than a
/// new run's.
///
/// # Errors
/// A model that cannot be loaded; benchmarks that were embedded by another one.
pub(super) fn embedder_of(
    config: &JudgeConfig,
    begun_with: &BegunWith,
    benchmarks: &[Arc<Benchmark>],
    notices: &mut Notices,
) -> Result<Option<Embedder>, PipelineError> {
    let embeds = config.always_embed || !benchmarks.is_empty();
    let (machine, plain) = (&config.machine, begun_with.plain_products.is_some());
    let load = || Embedder::load(&config.embedder, &machine.device, machine.threads, plain);
    let mut embedder = if embeds { Some(load()?) } else { None };
    if let Some(embedder) = &mut embedder {
        embedder.identity.decoder.clone_from(&begun_with.name);
    }
    if let Some(note) = &begun_with.note {
        notices.note("earlier_decoder", "runs that go on with the decoder they were begun with", note, 1);
    }
    let is_slowed = embedder.as_ref().is_some_and(|embedder| embedder.is_slowed);
    if let Some(plain) = begun_with.plain_products.as_ref().filter(|_| is_slowed) {
        plain.note(notices);
    }
    if let Some(embedder) = &embedder {
        let sets = and_benchmarks("this run", Some(&embedder.identity), benchmarks);
        one_model(&sets, config.embedder.assume_model.as_deref())?;
    }
    Ok(embedder)
}

/// The view that a model's preprocessing asks for.
pub(crate) fn view_of(preprocess: &Preprocess) -> EvalView {
    let mode = match preprocess.mode {
        Resize::Shortest => ResizeMode::Shortest,
        Resize::Squash => ResizeMode::Squash,
    };
    EvalView { size: preprocess.size, mode }
}

/// How pictures are decoded, and into which views: the embedder's, where there is one, and the trainer's.
pub(super) fn decode_config(
    config: &JudgeConfig,
    decoder: Decoder,
    embedder: Option<&Embedder>,
    train: Option<TrainView>,
) -> DecodeConfig {
    let eval = embedder.map(|embedder| view_of(&embedder.preprocess));
    let limits = Limits {
        decoder,
        load_truncated: config.reading.load_truncated,
        ..Limits::of_pixels(config.reading.max_pixels)
    };
    DecodeConfig { limits, eval, train }
}
