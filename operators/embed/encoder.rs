//! Image encoders: views in, f32 features out, a full batch of one shape each time.
//!
//! A [`TowerEncoder`] is a model's image tower; a [`ScriptEncoder`] any TorchScript module from
//! f32\[n, 3, size, size\] to f32\[n, dim\]. Pixels travel to the device as u8; mean and std are applied there.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::device;
use super::script::{ScriptEncoder, file_hash};
use super::slots;
use super::tower::{Form, TowerEncoder};
use trommel_bridge::{Attention, BridgeError, pin_precision, prefer_attention};
use trommel_core::hash::mix;
use trommel_core::sample::Identity;
use trommel_decode::DECODER;
use trommel_model::error::Op;
use trommel_model::file::is_torchscript;
use trommel_model::{Architecture, ModelError, Preprocess, Sizes};

/// What products are computed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// f32 throughout.
    #[default]
    F32,
    /// Products in bf16; norms and the residual sum in f32.
    Bf16,
    /// Products in f16, summed in f32; on a card everything else in f16 too, as open_clip's `fp16`: a residual sum in f32 moves 64
    /// bytes a value and block where this moves 36, and costs a seventh of the throughput (H100, ViT-B-16-plus-240: 6,293 for 7,308
    /// images a second; largest difference to f32 of a canonical vector 1.1e-4 for 1.9e-4).
    F16,
    /// Products in f16, summed in f32; norms and the residual sum in f32.
    F16Mixed,
}

/// What is no precision of an embedder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("precision `{0}`: write f32, bf16, f16 or f16-mixed")]
pub struct PrecisionError(String);

impl FromStr for Precision {
    type Err = PrecisionError;

    fn from_str(text: &str) -> Result<Self, PrecisionError> {
        match text {
            "f32" | "fp32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "f16" | "fp16" => Ok(Self::F16),
            "f16-mixed" => Ok(Self::F16Mixed),
            other => Err(PrecisionError(other.to_owned())),
        }
    }
}

impl Precision {
    /// What products are computed in.
    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
            Self::F16 | Self::F16Mixed => Kind::Half,
        }
    }

    /// Its name in the numeric part. On a CPU there is one f16, and its name is older than the other.
    const fn recorded(self, device: Device) -> &'static str {
        match (self, device) {
            (Self::F32, _) => "f32",
            (Self::Bf16, _) => "bf16",
            (_, Device::Cpu) => "f16",
            (Self::F16, _) => "f16, residual sum f16",
            (Self::F16Mixed, _) => "f16, residual sum f32",
        }
    }
}

/// Which encoder, and how it computes.
#[derive(Clone, Debug)]
pub struct EncoderConfig {
    /// open_clip's name of the architecture or its JSON: also says how pictures become views.
    pub model: String,
    /// Weights: safetensors, or a file of torch.
    pub weights: Option<PathBuf>,
    /// The file is a TorchScript module whose code is to be run in the model's place.
    pub torchscript: bool,
    /// Random weights from this seed, where there is no file.
    pub random_init: Option<u64>,
    /// What products are computed in.
    pub precision: Precision,
    /// Samples a forward pass, at least 8.
    pub batch: usize,
    /// Device that weights and batches lie on.
    pub device: Device,
    /// libtorch's threads.
    pub threads: usize,
    /// How the tower is computed; `None`: as the device is best at.
    pub form: Option<Form>,
}

impl EncoderConfig {
    /// The numeric part: recorded, and compared on resume.
    #[must_use]
    pub fn numerics(&self) -> Value {
        let mut numerics = json!({
            "device": device::kind(self.device),
            "precision": self.precision.recorded(self.device),
            "batch": self.batch,
            "libtorch": "2.11.0",
        });
        let form = Form::of(self);
        if form.packed {
            numerics["products"] = "oneDNN".into();
        }
        if let Some(card) = device::card(self.device) {
            numerics["card"] = card.into();
            numerics["tf32"] = "off".into();
            numerics["form"] = form.to_string().into();
        }
        numerics
    }
}

/// What an encoder takes and gives, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows of every batch.
    pub batch: usize,
    /// Side of a view in pixels.
    pub size: u32,
    /// Length of a feature.
    pub dim: usize,
    /// Where it computes.
    pub device: Device,
    /// libtorch's threads.
    pub threads: usize,
}

/// A model from views to features.
pub trait ImageEncoder: Send {
    /// What it takes and gives.
    fn shape(&self) -> Shape;

    /// Features \[batch, dim\] (not normalised, of any kind) of views u8\[batch, size, size, 3\], both on its device; does not wait
    /// for the device.
    ///
    /// # Errors
    /// libtorch refuses.
    fn forward(&mut self, pixels: &Tensor) -> Result<Tensor, ModelError>;

    /// Length of a feature.
    fn dim(&self) -> usize {
        self.shape().dim
    }

    /// Side of a view in pixels.
    fn size(&self) -> u32 {
        self.shape().size
    }

    /// Rows of every batch.
    fn batch(&self) -> usize {
        self.shape().batch
    }

    /// Features f32\[batch, dim\] of views u8\[batch, size, size, 3\], one batch after the other.
    ///
    /// # Errors
    /// libtorch refuses.
    fn encode(&mut self, views: &[u8]) -> Result<Vec<f32>, ModelError> {
        let shape = self.shape();
        let _no_grad = on_this_thread(shape.threads);
        let (batch, side) = (i64::try_from(shape.batch).unwrap_or(i64::MAX), i64::from(shape.size));
        let pixels = Tensor::f_from_data_size(views, &[batch, side, side, 3], Kind::Uint8)
            .and_then(|pixels| pixels.f_to_device(shape.device))
            .op("pixels", &[])?;
        let features = self.forward(&pixels)?;
        let flat = features
            .f_to_kind(Kind::Float)
            .and_then(|t| t.f_to_device(Device::Cpu)?.f_contiguous()?.f_reshape([-1]))
            .op("features", &[&features])?;
        Vec::<f32>::try_from(&flat).op("features", &[&features])
    }
}

/// An encoder, and what is known of it.
pub struct Loaded {
    /// Turns views into features.
    pub encoder: Box<dyn ImageEncoder>,
    /// Model, weights, preprocessing and decoder, as embeddings carry them.
    pub identity: Identity,
    /// How pictures become views.
    pub preprocess: Preprocess,
    /// How the tower is computed, with the attention that served.
    pub form: Form,
    /// Bytes of weights and of the activations of one batch, where it computes; estimated from above.
    pub bytes: u64,
    /// Bytes of batch slots in host memory.
    pub slot_bytes: u64,
}

/// Loads the configured encoder.
///
/// # Errors
/// An unknown model, weights that are missing or do not fit, a device that is not there.
pub fn load(config: &EncoderConfig) -> Result<Loaded, ModelError> {
    let model = trommel_model::load(&config.model)?;
    let (name, preprocess, sizes) = (model.name(), model.preprocess().clone(), model.sizes());
    let script = if config.torchscript { script(&*model, config)? } else { None };
    let is_script = script.is_some();
    let (mut encoder, hash, parameters): (Box<dyn ImageEncoder>, String, u64) = match script {
        Some((path, encoder)) => {
            let bytes = std::fs::metadata(path).map_or(0, |meta| meta.len());
            (Box::new(encoder), file_hash(path)?, bytes / 4)
        }
        None => {
            let (encoder, hash) = TowerEncoder::load(&*model, config, Form::of(config))?;
            (Box::new(encoder), hash, sizes.image.parameters)
        }
    };
    let mut form = Form::of(config);
    if config.device != Device::Cpu {
        form.attention = try_on_card(&mut *encoder, form.attention)?;
    }
    let bytes = footprint(&sizes, config, parameters);
    let view_bytes = 3 * u64::from(preprocess.size).pow(2);
    let slot_bytes =
        slots::host_bytes(config.device, slots::depth_of(config.device), config.batch, view_bytes, encoder.dim());
    let identity = Identity {
        architecture: if is_script { format!("torchscript:{name}") } else { name.to_owned() },
        weights: hash,
        preprocessing: preprocess.to_string(),
        decoder: DECODER.into(),
    };
    Ok(Loaded { encoder, identity, preprocess, form, bytes, slot_bytes })
}

/// Asks a card whether it computes what decisions can stand on. cuDNN's attention may be missing or refuse a shape that libtorch thought
/// it takes: then the others serve. Gives the one that is tried first from here on.
pub(super) fn try_on_card(encoder: &mut dyn ImageEncoder, attention: Attention) -> Result<Attention, ModelError> {
    let device = encoder.shape().device;
    let refused = |problem: String| ModelError::Device { device: format!("{device:?}"), problem };
    let settled = |error: BridgeError| refused(error.to_string());
    pin_precision().map_err(settled)?;
    prefer_attention(attention).map_err(settled)?;
    let (free, served) = match is_neighbour_free(encoder) {
        Ok(free) => (free, attention),
        Err(error) if attention == Attention::Flash => return Err(error),
        Err(error) => {
            tracing::warn!("{attention:?} attention fails on {device:?} ({error}): another serves");
            prefer_attention(Attention::Flash).map_err(settled)?;
            (is_neighbour_free(encoder)?, Attention::Flash)
        }
    };
    if free {
        return Ok(served);
    }
    Err(refused("a view's features depend on the other views of its batch; decisions would not repeat".into()))
}

/// Bytes of weights, activations and pixels of one batch where it is computed, from above.
pub fn footprint(model: &Sizes, config: &EncoderConfig, parameters: u64) -> u64 {
    let (tower, batch) = (&model.image, config.batch as u64);
    let (tokens, hidden, width) = (tower.tokens, 2 * tower.mlp_width, tower.width);
    let view = 3 * u64::from(model.view_px).pow(2);
    let scores = tokens * tokens * tower.heads * 4;
    // Widest moment of a block: the MLP's two hidden tensors beside the residual, twice for allocator slack.
    if config.device == Device::Cpu {
        let row = tokens * (width + hidden) * 4 * 2;
        // The pixels as f32, in the products' kind, and as the patches' product wants them.
        return parameters * 4 + batch * (row + scores + 3 * 4 * view);
    }
    let product = if config.precision == Precision::F32 { 4 } else { 2 };
    let residual = if config.precision == Precision::F16 { 2 } else { 4 };
    let row = tokens * (2 * width * residual + hidden * product) * 2;
    // Weights are lowered there, one after the other; pixels lie there as u8, a slot each, and once as patches.
    let pixels = slots::depth_of(config.device) as u64 * view + 2 * product * view;
    parameters * (4 + product) + batch * (row + scores + pixels)
}

/// The TorchScript module; `None` where it cannot be run on pictures alone, as OpenAI's files on a CPU: the named
/// architecture then takes its tensors.
fn script<'c>(
    model: &dyn Architecture,
    config: &'c EncoderConfig,
) -> Result<Option<(&'c Path, ScriptEncoder)>, ModelError> {
    let Some(path) = config.weights.as_deref() else {
        return Err(ModelError::config(&config.model, "--torchscript needs a file of weights"));
    };
    if !is_torchscript(path) {
        return Err(ModelError::weights(path, "--torchscript is given, and this is no TorchScript module"));
    }
    match ScriptEncoder::load(path, model.preprocess(), config) {
        Ok(encoder) => Ok(Some((path, encoder))),
        Err(error) => {
            let path = path.display();
            tracing::warn!("{path}: its code does not run ({error}); its tensors are taken for {}", model.name());
            Ok(None)
        }
    }
}

/// Whether a view's features have the same bits at another place of the batch and beside other views. Tests hold this on
/// the CPU; other devices are asked at start.
///
/// # Errors
/// libtorch refuses.
pub fn is_neighbour_free(encoder: &mut dyn ImageEncoder) -> Result<bool, ModelError> {
    let (batch, dim) = (encoder.batch(), encoder.dim());
    let view = encoder.size() as usize * encoder.size() as usize * 3;
    // In a large batch they come again: making views would take longer than computing them.
    let distinct = batch.min(61);
    let made: Vec<Vec<u8>> = (0..2 * distinct)
        .map(|number| (0..view).map(|i| (mix((number * view + i / 7) as u64) >> 56) as u8).collect())
        .collect();
    let mut pixels = Vec::with_capacity(batch * view);
    let mut run = |number: &dyn Fn(usize) -> usize| {
        pixels.clear();
        (0..batch).for_each(|i| pixels.extend_from_slice(&made[number(i)]));
        encoder.encode(&pixels)
    };
    let plain = run(&|i| i % distinct)?;
    let turned = run(&|i| (i + 3) % batch % distinct)?;
    // Every second view stays, between strangers.
    let mixed = run(&|i| i % distinct + distinct * (i % 2))?;
    let same = |a: &[f32], b: &[f32]| a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits()));
    let row = |features: &[f32], i: usize| features[i * dim..(i + 1) * dim].to_vec();
    Ok((0..batch).all(|i| {
        same(&row(&plain, (i + 3) % batch), &row(&turned, i)) && (i % 2 == 1 || same(&row(&plain, i), &row(&mixed, i)))
    }))
}

/// libtorch's threads wherever nothing else is said: on threads that begin from now on, and on the calling one.
pub fn on_new_threads(threads: usize) {
    tch::set_num_threads(i32::try_from(threads).unwrap_or(1));
}

/// libtorch's threads and gradient mode belong to the calling thread.
pub fn on_this_thread(threads: usize) -> tch::NoGradGuard {
    on_new_threads(threads);
    tch::no_grad_guard()
}
