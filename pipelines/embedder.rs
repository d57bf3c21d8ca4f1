//! The embedder as a service of the process: one thread, fed by all workers through one batcher.

use std::path::Path;

use half::f16;
use trommel_operators::dataflow::batch::{BatchConfig, BatchService};
use trommel_operators::dataflow::credit::Credit;
use trommel_operators::dataflow::stop::Stop;
use trommel_operators::embed::device;
use trommel_operators::embed::encoder::{self, EncoderConfig, ImageEncoder, Precision};
use trommel_operators::model::Preprocess;
use trommel_operators::sample::{Identity, Reason};

use crate::config::EmbedderConfig;
use crate::error::PipelineError;

/// What goes in is a view, u8\[size, size, 3\]; what comes out a canonical vector, or why there is none.
pub type EmbedService = BatchService<Vec<u8>, Result<Vec<f16>, Reason>>;

/// Everything about the embedder that is known before its thread runs.
#[derive(Clone, Debug)]
pub struct EmbedderPlan {
    /// Configuration for the thread that makes it.
    pub config: EncoderConfig,
    /// Who it is.
    pub identity: Identity,
    /// How pictures become views.
    pub preprocess: Preprocess,
    /// Bytes of weights and activations.
    pub bytes: u64,
}

/// Looks at the model's files and says who will embed.
///
/// # Errors
/// An unknown model, weights that are missing or do not fit: one line that says how to get them.
pub fn plan(config: &EmbedderConfig, device: &str, threads: usize) -> Result<EmbedderPlan, PipelineError> {
    if config.weights.is_none() && config.random_init.is_none() && !Path::new(&config.name).is_file() {
        return Err(PipelineError::Usage(format!(
            "{} has no weights here: give {} FILE (open_clip's .safetensors or .pt, e.g. from \
             `huggingface-cli download laion/CLIP-ViT-B-16-plus-240-laion400m_e32`), or --random-init SEED",
            config.name, config.weights_flag
        )));
    }
    let device = device::parse(device).map_err(PipelineError::usage)?;
    let precision: Precision = config.precision.parse().map_err(PipelineError::Usage)?;
    let encoder = EncoderConfig {
        model: config.name.clone(),
        weights: config.weights.clone(),
        random_init: config.random_init,
        precision,
        batch: config.batch,
        device,
        threads,
    };
    let about = encoder::describe(&encoder).map_err(PipelineError::usage)?;
    Ok(EmbedderPlan { config: encoder, identity: about.identity, preprocess: about.preprocess, bytes: about.bytes })
}

/// Starts the service.
pub fn start(plan: &EmbedderPlan, credit: &Credit, stop: &Stop) -> EmbedService {
    let config = plan.config.clone();
    let gather = BatchConfig { batch: plan.config.batch, ..BatchConfig::named("embed") };
    BatchService::spawn(gather, credit.clone(), stop.clone(), move || {
        let mut encoder = encoder::make(&config)?;
        Ok::<_, trommel_operators::model::ModelError>(move |views: Vec<Vec<u8>>| encoder::embed(&mut *encoder, &views))
    })
}
