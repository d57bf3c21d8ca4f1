//! The embedder as a service of the process: one thread, fed by all workers through one batcher.

use std::sync::Mutex;

use half::f16;
use trommel_core::credit::Credit;
use trommel_core::sample::{Identity, Reason};
use trommel_core::stop::Stop;
use trommel_core::wake::locked;
use trommel_dataflow::batch::{BatchConfig, BatchService};
use trommel_embed::device;
use trommel_embed::encoder::{self, EncoderConfig, ImageEncoder, Loaded, Precision};
use trommel_model::Preprocess;

use trommel_pipelines::config::EmbedderConfig;
use trommel_pipelines::error::PipelineError;

/// What goes in is a view, u8\[size, size, 3\]; what comes out a canonical vector, or why there is none.
pub type EmbedService = BatchService<Vec<u8>, Result<Vec<f16>, Reason>>;

/// A loaded embedder that waits for its thread.
pub struct Embedder {
    /// How it computes.
    pub config: EncoderConfig,
    /// Who it is.
    pub identity: Identity,
    /// How pictures become views.
    pub preprocess: Preprocess,
    /// Length of a vector.
    pub dim: usize,
    /// Bytes of weights and activations.
    pub bytes: u64,
    encoder: Mutex<Option<Box<dyn ImageEncoder>>>,
}

impl Embedder {
    /// Loads the model.
    ///
    /// # Errors
    /// An unknown model, weights that are missing or do not fit: one line that says how to get them.
    pub fn load(config: &EmbedderConfig, device: &str, threads: usize) -> Result<Self, PipelineError> {
        if config.weights.is_none() && config.random_init.is_none() {
            return Err(PipelineError::Usage(format!(
                "{} needs weights: give {} FILE (open_clip's .safetensors or .pt, which \
                 `python -c 'import open_clip; open_clip.create_model(\"{}\", pretrained=TAG)'` downloads), or --random-init SEED",
                config.name, config.weights_flag, config.name
            )));
        }
        let device = device::parse(device).map_err(PipelineError::usage)?;
        let precision: Precision = config.precision.parse().map_err(PipelineError::Usage)?;
        let config = EncoderConfig {
            model: config.name.clone(),
            weights: config.weights.clone(),
            torchscript: config.torchscript,
            random_init: config.random_init,
            precision,
            batch: config.batch,
            device,
            threads,
        };
        let Loaded { encoder, identity, preprocess, bytes } = encoder::load(&config).map_err(PipelineError::usage)?;
        Ok(Self { config, identity, preprocess, dim: encoder.dim(), bytes, encoder: Mutex::new(Some(encoder)) })
    }

    /// Moves the model to its thread; `None` when that was done before.
    pub fn start(&self, credit: &Credit, stop: &Stop) -> Option<EmbedService> {
        let mut encoder = locked(&self.encoder).take()?;
        let gather = BatchConfig { batch: self.config.batch, ..BatchConfig::named("embed") };
        Some(BatchService::spawn(gather, credit.clone(), stop.clone(), move || {
            Ok::<_, std::convert::Infallible>(move |views: Vec<Vec<u8>>| encoder::embed(&mut *encoder, &views))
        }))
    }
}
