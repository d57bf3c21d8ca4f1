//! The embedder as a service of the process, fed by all workers through one batcher: a card's thread, or a CPU's instances.

use std::path::Path;
use std::sync::Mutex;

use half::f16;
use serde_json::json;
use trommel_core::credit::Credit;
use trommel_core::sample::{Identity, Reason};
use trommel_core::stop::Stop;
use trommel_core::wake::locked;
use trommel_dataflow::batch::{BatchConfig, BatchService};
use trommel_embed::encoder::{EncoderConfig, EncoderPrecision, Form, ImageEncoder};
use trommel_embed::instances::{self, Instances};
use trommel_embed::load::{Loaded, load};
use trommel_embed::slots::{Slots, depth_of};
use trommel_embed::{defaults, device};
use trommel_model::Preprocess;

use trommel_pipelines::benchmark_origin::products;
use trommel_pipelines::config::EmbedderConfig;
use trommel_pipelines::error::PipelineError;

/// What goes in is a view, u8\[size, size, 3\]; what comes out a canonical vector, or why there is none.
pub type EmbedService = BatchService<Vec<u8>, Result<Vec<f16>, Reason>>;

/// How an embedder computes: what its user asks for, and the device's defaults.
///
/// # Errors
/// Neither weights nor a seed, an unknown model or precision, a device that is not there.
pub fn settle(config: &EmbedderConfig, device: &str, threads: usize) -> Result<EncoderConfig, PipelineError> {
    if config.weights.is_none() && config.random_init.is_none() {
        let (name, flag) = (&config.name, config.weights_flag);
        // What open_clip does not know by its name is not published there either.
        let is_own = name.starts_with("trommel-") || Path::new(name).extension().is_some_and(|kind| kind == "json");
        let file = if is_own {
            "a checkpoint of your own, .safetensors or .pt: nobody publishes weights of it by this name".to_owned()
        } else {
            format!(
                "open_clip's .safetensors or .pt, which \
                 `python -c 'import open_clip; open_clip.create_model(\"{name}\", pretrained=TAG)'` downloads"
            )
        };
        return Err(PipelineError::usage(format!(
            "{name} needs weights: give {flag} FILE ({file}), or --random-init SEED"
        )));
    }
    let name = device;
    let device = device::parse(name).map_err(PipelineError::usage)?;
    let asked =
        config.precision.as_deref().map(str::parse::<EncoderPrecision>).transpose().map_err(PipelineError::usage)?;
    let precision = asked.unwrap_or_else(|| defaults::precision(device, config.torchscript));
    let mut settled = EncoderConfig {
        model: config.name.clone(),
        weights: config.weights.clone(),
        torchscript: config.torchscript,
        random_init: config.random_init,
        precision,
        batch: config.batch.unwrap_or_default(),
        device,
        threads,
        form: None,
    };
    if config.batch.is_none() {
        let model = trommel_model::load(&config.name).map_err(PipelineError::usage)?;
        let card = device::memory_of(name).map_err(PipelineError::usage)?;
        settled.batch = defaults::batch(&model.sizes(), &settled, card.map(|(_, bytes)| bytes));
    }
    Ok(settled)
}

/// A loaded embedder that waits for its thread.
pub struct Embedder {
    /// How it computes.
    pub config: EncoderConfig,
    /// Model, weights, preprocessing and decoder, as embeddings carry them.
    pub identity: Identity,
    /// How pictures become views.
    pub preprocess: Preprocess,
    /// Length of a vector.
    pub dim: usize,
    /// Bytes of weights and of a batch's activations, where it computes.
    pub bytes: u64,
    /// Bytes of batch slots in host memory.
    pub slot_bytes: u64,
    /// Whether it is slower than it would be by itself, for it was asked for plain products.
    pub is_slowed: bool,
    instances: usize,
    instance_bytes: u64,
    encoder: Mutex<Option<Box<dyn ImageEncoder>>>,
}

impl Embedder {
    /// What multiplies for its features, see [`products`].
    pub fn products(&self) -> Option<String> {
        products(&json!({ "numerics": self.config.numerics() }))
    }

    /// Loads the model. With `plain_products` a CPU computes as before oneDNN's products were asked: for a run that was begun so.
    ///
    /// # Errors
    /// An unknown model, weights that are missing or do not fit: one line that says how to get them.
    pub fn load(
        config: &EmbedderConfig,
        device: &str,
        threads: usize,
        plain_products: bool,
    ) -> Result<Self, PipelineError> {
        let mut config = settle(config, device, threads)?;
        let own = Form::of(&config);
        let is_slowed = plain_products && own.packed;
        if is_slowed {
            config.form = Some(Form { packed: false, ..own });
        }
        let loaded = load(&config).map_err(PipelineError::usage)?;
        let Loaded { encoder, identity, preprocess, form, bytes, slot_bytes, instances, instance_bytes } = loaded;
        config.form = Some(form);
        let dim = encoder.dim();
        let encoder = Mutex::new(Some(encoder));
        Ok(Self { config, identity, preprocess, dim, bytes, slot_bytes, is_slowed, instances, instance_bytes, encoder })
    }

    /// Computes as many batches side by side as `room_bytes` beside the first have room for; gives the bytes that they take.
    pub fn side_by_side(&mut self, room_bytes: u64) -> u64 {
        let fitting = instances::within(self.config.threads, self.instance_bytes + room_bytes, self.instance_bytes);
        self.instances = self.instances.min(fitting);
        (self.instances as u64 - 1) * self.instance_bytes
    }

    /// Moves the model to the threads that run it; `None` when that was done before.
    pub fn start(&self, credit: &Credit, stop: &Stop) -> Option<EmbedService> {
        let encoder = locked(&self.encoder).take()?;
        let gather = BatchConfig { batch: self.config.batch, ..BatchConfig::named("embed") };
        let (credit, stop) = (credit.clone(), stop.clone());
        let (depth, instances) = (depth_of(self.config.device), self.instances);
        Some(if instances > 1 {
            BatchService::spawn_batched(gather, credit, stop, move || Instances::new(&*encoder, instances))
        } else {
            BatchService::spawn_batched(gather, credit, stop, move || Slots::new(encoder, depth))
        })
    }
}
