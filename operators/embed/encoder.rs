//! Image encoders: views in, f32 features out, a full batch of one shape each time.
//!
//! A [`ClipEncoder`] is open_clip's image tower; a [`ScriptEncoder`] any TorchScript module from f32\[n, 3, size, size\] to
//! f32\[n, dim\]. Pixels travel to the device as u8; mean and std are applied there.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use half::f16;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor, nn};

use super::device;
use super::script::{ScriptEncoder, file_hash};
use trommel_columnar::canonical::canonicalise_into;
use trommel_core::sample::{Identity, Reason};
use trommel_decode::DECODER;
use trommel_model::error::Op;
use trommel_model::file::is_torchscript;
use trommel_model::random::mix;
use trommel_model::vision::VisionTransformer;
use trommel_model::{ClipConfig, ModelError, Preprocess, weights};

/// What products are computed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// f32 throughout.
    #[default]
    F32,
    /// Products in bf16; norms and the residual sum in f32.
    Bf16,
    /// Products in f16 with f32 accumulation (GPU); norms and the residual sum in f32.
    F16,
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" | "fp32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "f16" | "fp16" => Ok(Self::F16),
            other => Err(format!("precision `{other}`: write f32, bf16 or f16")),
        }
    }
}

impl Precision {
    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
            Self::F16 => Kind::Half,
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
    /// Where.
    pub device: Device,
    /// libtorch's threads.
    pub threads: usize,
}

impl EncoderConfig {
    /// The numeric part: recorded, and compared on resume.
    #[must_use]
    pub fn numerics(&self) -> Value {
        let mut numerics = json!({
            "device": device::kind(self.device),
            "precision": format!("{:?}", self.precision).to_lowercase(),
            "batch": self.batch,
            "libtorch": "2.11.0",
        });
        if let Some(card) = device::card(self.device) {
            numerics["card"] = card.into();
        }
        numerics
    }
}

/// A model from views to features.
pub trait ImageEncoder: Send {
    /// Length of a feature.
    fn dim(&self) -> usize;

    /// Side of a view in pixels.
    fn size(&self) -> u32;

    /// Rows of every batch.
    fn batch(&self) -> usize;

    /// Features f32\[batch, dim\] (not normalised) of views u8\[batch, size, size, 3\].
    ///
    /// # Errors
    /// libtorch refuses.
    fn encode(&mut self, views: &[u8]) -> Result<Vec<f32>, ModelError>;
}

/// An encoder, and what is known of it.
pub struct Loaded {
    /// Turns views into features.
    pub encoder: Box<dyn ImageEncoder>,
    /// Who it is.
    pub identity: Identity,
    /// How pictures become views.
    pub preprocess: Preprocess,
    /// Bytes of weights and of the activations of one batch, estimated from above.
    pub bytes: u64,
}

/// Loads the configured encoder.
///
/// # Errors
/// An unknown model, weights that are missing or do not fit, a device that is not there.
pub fn load(config: &EncoderConfig) -> Result<Loaded, ModelError> {
    let clip_config = ClipConfig::load(&config.model)?;
    let script = if config.torchscript { script(&clip_config, config)? } else { None };
    let is_script = script.is_some();
    let (mut encoder, hash, parameters): (Box<dyn ImageEncoder>, String, i64) = match script {
        Some((path, encoder)) => {
            let bytes = std::fs::metadata(path).map_or(0, |meta| meta.len());
            (Box::new(encoder), file_hash(path)?, i64::try_from(bytes / 4).unwrap_or(0))
        }
        None => {
            let (encoder, hash) = ClipEncoder::load(&clip_config, config)?;
            (Box::new(encoder), hash, clip_config.image_parameters())
        }
    };
    if config.device != Device::Cpu && !is_neighbour_free(&mut *encoder)? {
        let problem = "a view's features depend on the other views of its batch; decisions would not repeat".into();
        return Err(ModelError::Device { device: format!("{:?}", config.device), problem });
    }
    let (vision, batch) = (&clip_config.vision, config.batch as u64);
    let tokens = u64::try_from(vision.grid() * vision.grid() + 1).unwrap_or(0);
    // Widest moment of a block: the MLP's two hidden tensors beside the residual, twice for allocator slack.
    let row = tokens * u64::try_from(vision.width + 2 * vision.mlp_width()).unwrap_or(0) * 4 * 2;
    let attention = tokens * tokens * u64::try_from(vision.heads()).unwrap_or(0) * 4;
    // The pixels as f32, in the products' kind, and as the patches' product wants them.
    let pixels = 3 * 3 * 4 * u64::from(clip_config.preprocess.size).pow(2);
    let bytes = u64::try_from(parameters).unwrap_or(0) * 4 + batch * (row + attention + pixels);
    let architecture = if is_script { format!("torchscript:{}", clip_config.name) } else { clip_config.name.clone() };
    let identity = Identity {
        architecture,
        weights: hash,
        preprocessing: clip_config.preprocess.to_string(),
        decoder: DECODER.into(),
    };
    Ok(Loaded { encoder, identity, preprocess: clip_config.preprocess, bytes })
}

/// The TorchScript module; `None` where it cannot be run on pictures alone, as OpenAI's files on a CPU: the named
/// architecture then takes its tensors.
fn script<'c>(model: &ClipConfig, config: &'c EncoderConfig) -> Result<Option<(&'c Path, ScriptEncoder)>, ModelError> {
    let Some(path) = config.weights.as_deref() else {
        return Err(ModelError::config(&config.model, "--torchscript needs a file of weights"));
    };
    if !is_torchscript(path) {
        return Err(ModelError::weights(path, "--torchscript is given, and this is no TorchScript module"));
    }
    match ScriptEncoder::load(path, &model.preprocess, config) {
        Ok(encoder) => Ok(Some((path, encoder))),
        Err(error) => {
            let path = path.display();
            tracing::warn!("{path}: its code does not run ({error}); its tensors are taken for {}", model.name);
            Ok(None)
        }
    }
}

/// Canonical vectors of up to a batch of views; a short batch is padded with black views.
pub fn embed(encoder: &mut dyn ImageEncoder, views: &[Vec<u8>]) -> Vec<Result<Vec<f16>, Reason>> {
    let (batch, view) = (encoder.batch(), encoder.size() as usize * encoder.size() as usize * 3);
    let mut out = Vec::with_capacity(views.len());
    for chunk in views.chunks(batch) {
        let mut pixels = Vec::with_capacity(batch * view);
        for one in chunk {
            pixels.extend_from_slice(one);
        }
        pixels.resize(batch * view, 0);
        // A libtorch that refuses a batch of the agreed shape is no property of a sample: the service fails.
        let features = encoder.encode(&pixels).unwrap_or_else(|error| std::panic::panic_any(error.to_string()));
        out.extend(features.chunks_exact(encoder.dim()).take(chunk.len()).map(|row| {
            let mut vector = Vec::with_capacity(row.len());
            canonicalise_into(row, &mut vector).map_err(|why| Reason::new(why.code(), ""))?;
            Ok(vector)
        }));
    }
    out
}

/// Whether a view's features have the same bits at another place of the batch and beside other views. Tests hold this on
/// the CPU; other devices are asked at start.
///
/// # Errors
/// libtorch refuses.
pub fn is_neighbour_free(encoder: &mut dyn ImageEncoder) -> Result<bool, ModelError> {
    let (batch, dim) = (encoder.batch(), encoder.dim());
    let view = encoder.size() as usize * encoder.size() as usize * 3;
    let make = |number: usize| (0..view).map(move |i| (mix((number * view + i / 7) as u64) >> 56) as u8);
    let mut run = |numbers: &[usize]| encoder.encode(&numbers.iter().flat_map(|&n| make(n)).collect::<Vec<u8>>());
    let plain = run(&(0..batch).collect::<Vec<_>>())?;
    let turned = run(&(0..batch).map(|i| (i + 3) % batch).collect::<Vec<_>>())?;
    // Every second view stays, between strangers.
    let mixed = run(&(0..batch).map(|i| if i % 2 == 0 { i } else { batch + i }).collect::<Vec<_>>())?;
    let same = |a: &[f32], b: &[f32]| a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits()));
    let row = |features: &[f32], i: usize| features[i * dim..(i + 1) * dim].to_vec();
    Ok((0..batch).all(|i| {
        same(&row(&plain, (i + 3) % batch), &row(&turned, i)) && (i % 2 == 1 || same(&row(&plain, i), &row(&mixed, i)))
    }))
}

/// Mean and standard deviation on the device.
#[derive(Debug)]
pub(super) struct Normaliser {
    mean: Tensor,
    std: Tensor,
    shape: [i64; 4],
    device: Device,
    kind: Kind,
}

impl Normaliser {
    pub(super) fn new(preprocess: &Preprocess, config: &EncoderConfig) -> Result<Self, ModelError> {
        let row = |values: &[f64; 3]| {
            Tensor::f_from_slice(values)
                .and_then(|t| t.f_to_kind(Kind::Float)?.f_reshape([1, 3, 1, 1])?.f_to_device(config.device))
                .op("mean and std", &[])
        };
        let side = i64::from(preprocess.size);
        Ok(Self {
            mean: row(&preprocess.mean)?,
            std: row(&preprocess.std)?,
            shape: [i64::try_from(config.batch).unwrap_or(i64::MAX), side, side, 3],
            device: config.device,
            kind: config.precision.kind(),
        })
    }

    /// u8\[batch, size, size, 3\] to \[batch, 3, size, size\] in the encoder's precision.
    pub(super) fn tensor(&self, views: &[u8]) -> Result<Tensor, ModelError> {
        Tensor::f_from_data_size(views, &self.shape, Kind::Uint8)
            .and_then(|raw| {
                // Step by step and in place: what a chain of calls makes on its way would live until its end.
                let planes = raw.f_to_device(self.device)?.f_permute([0, 3, 1, 2])?.f_contiguous()?;
                drop(raw);
                let mut images = planes.f_to_kind(Kind::Float)?;
                drop(planes);
                let _ = images.f_div_scalar_(255.0)?;
                let _ = images.f_sub_(&self.mean)?;
                let _ = images.f_div_(&self.std)?;
                images.f_to_kind(self.kind)
            })
            .op("pixels", &[])
    }
}

pub(super) fn features(tensor: &Tensor) -> Result<Vec<f32>, ModelError> {
    let flat = tensor
        .f_to_kind(Kind::Float)
        .and_then(|t| t.f_to_device(Device::Cpu)?.f_contiguous()?.f_reshape([-1]))
        .op("features", &[tensor])?;
    Vec::<f32>::try_from(&flat).op("features", &[tensor])
}

/// open_clip's image tower alone; the text tower's weights are not loaded, nor part of the identity.
#[derive(Debug)]
pub struct ClipEncoder {
    tower: VisionTransformer,
    dim: i64,
    size: u32,
    _variables: nn::VarStore,
    normaliser: Normaliser,
    batch: usize,
    threads: usize,
}

impl ClipEncoder {
    /// Loads or draws the weights; also gives their name in an identity.
    ///
    /// # Errors
    /// Weights that are missing or do not fit.
    pub fn load(model: &ClipConfig, config: &EncoderConfig) -> Result<(Self, String), ModelError> {
        let mut variables = nn::VarStore::new(config.device);
        let tower = VisionTransformer::new(&variables.root().sub("visual"), model)?;
        let name = match (&config.weights, config.random_init) {
            (Some(path), _) => {
                weights::load(&variables, model, path)?;
                weights::fingerprint(&variables)?
            }
            (None, Some(seed)) => {
                weights::init(&variables, model, seed)?;
                format!("seed:{seed}")
            }
            (None, None) => return Err(ModelError::config(&config.model, "no weights and no seed")),
        };
        variables.freeze();
        if config.precision != Precision::F32 {
            weights::lower(&mut variables, config.precision.kind())?;
        }
        let normaliser = Normaliser::new(&model.preprocess, config)?;
        let (dim, size) = (model.embed_dim, model.preprocess.size);
        let (batch, threads) = (config.batch, config.threads);
        Ok((Self { tower, dim, size, _variables: variables, normaliser, batch, threads }, name))
    }
}

impl ImageEncoder for ClipEncoder {
    fn dim(&self) -> usize {
        usize::try_from(self.dim).unwrap_or(0)
    }

    fn size(&self) -> u32 {
        self.size
    }

    fn batch(&self) -> usize {
        self.batch
    }

    fn encode(&mut self, views: &[u8]) -> Result<Vec<f32>, ModelError> {
        let _no_grad = on_this_thread(self.threads);
        features(&self.tower.forward(&self.normaliser.tensor(views)?)?)
    }
}

/// libtorch's threads and gradient mode belong to the calling thread.
pub(super) fn on_this_thread(threads: usize) -> tch::NoGradGuard {
    tch::set_num_threads(i32::try_from(threads).unwrap_or(1));
    tch::no_grad_guard()
}
