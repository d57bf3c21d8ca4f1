//! Image encoders: views in, f32 features out, a full batch of one shape each time.
//!
//! A `TowerEncoder` is a model's image tower; a `ScriptEncoder` any TorchScript module from
//! f32\[n, 3, size, size\] to f32\[n, dim\]. Pixels travel to the device as u8; mean and std are applied there.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::device;
use trommel_bridge::{Attention, LIBTORCH, has_onednn, set_threads};
use trommel_core::hash::mix;
use trommel_model::ModelError;
use trommel_model::error::Op;

/// What products are computed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncoderPrecision {
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

impl FromStr for EncoderPrecision {
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

impl EncoderPrecision {
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

/// How the tower is computed. A run goes on as it was begun, so that its features are of one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// The patch embedding as one product of patches that normalisation writes, instead of a convolution of planes.
    pub patches: bool,
    /// An activation of several passes over the hidden values in one, its factor in the weights.
    pub folded: bool,
    /// Products by oneDNN, from weights in its own layout.
    pub packed: bool,
    /// All weights and the residual sum in the products' kind.
    pub throughout: bool,
    /// Whose attention a card tries first.
    pub attention: Attention,
}

impl Form {
    /// What is asked for, or else what the device is best at.
    #[must_use]
    pub fn of(config: &EncoderConfig) -> Self {
        config.form.unwrap_or_else(|| {
            let on_card = config.device != Device::Cpu;
            // On others cuDNN's is the slower one.
            let hopper = device::compute_capability(config.device) == Some((9, 0));
            Self {
                patches: on_card,
                folded: on_card,
                packed: !on_card && !config.torchscript && config.precision == EncoderPrecision::F32 && packs_exactly(),
                throughout: on_card && config.precision == EncoderPrecision::F16,
                attention: if hopper { Attention::Cudnn } else { Attention::Flash },
            }
        })
    }
}

/// Whether oneDNN is there and sums up every row of a product alike, wherever it stands. Without AVX-512 it does not: a view's bits would depend on its place in the batch, its
/// neighbours and the number of threads.
#[must_use]
pub fn packs_exactly() -> bool {
    #[cfg(target_arch = "x86_64")]
    return has_onednn() && is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    has_onednn()
}

/// For the numeric part, and for people: `patches by product, residual sum f16, Cudnn attention first`.
impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patches = if self.patches { "product" } else { "convolution" };
        let residual = if self.throughout { "as products" } else { "f32" };
        write!(f, "patches by {patches}, residual sum {residual}, {:?} attention first", self.attention)
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
    pub precision: EncoderPrecision,
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
            "libtorch": LIBTORCH,
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

    /// Another encoder over the same weights, for a thread of its own with `threads` of libtorch's; `None` where a forward pass
    /// changes what the encoder holds.
    fn instance(&self, threads: usize) -> Option<Box<dyn ImageEncoder>> {
        let _ = threads;
        None
    }

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

/// libtorch's threads and gradient mode belong to the calling thread.
pub fn on_this_thread(threads: usize) -> tch::NoGradGuard {
    set_threads(threads);
    tch::no_grad_guard()
}
