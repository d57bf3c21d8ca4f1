//! Which encoder it is, and whether it computes what decisions can stand on.

use std::path::Path;

use tch::Device;

use super::encoder::{EncoderConfig, EncoderPrecision, Form, ImageEncoder, is_neighbour_free};
use super::script::{ScriptEncoder, file_hash};
use super::tower::TowerEncoder;
use super::{instances, slots};
use trommel_bridge::{Attention, BridgeError, pin_precision, prefer_attention};
use trommel_core::causes::Causes;
use trommel_core::sample::Identity;
use trommel_decode::DECODER;
use trommel_model::file::is_torchscript;
use trommel_model::{Architecture, ModelError, ModelSizes, Preprocess};

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
    /// Bytes of weights and of a batch's activations, where they are computed; estimated from above.
    pub bytes: u64,
    /// Bytes of batch slots in host memory.
    pub slot_bytes: u64,
    /// Batches that may be computed side by side: more than one on a CPU alone.
    pub instances: usize,
    /// Bytes of each of them beyond the first.
    pub instance_bytes: u64,
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
    let weights = footprint(&sizes, &EncoderConfig { batch: 0, ..config.clone() }, parameters);
    let activations = footprint(&sizes, config, parameters) - weights;
    let is_shared = config.device == Device::Cpu && encoder.instance(1).is_some();
    let room = instances::most_bytes(weights);
    let side_by_side = if is_shared { instances::within(config.threads, room, activations) } else { 1 };
    let view_bytes = 3 * u64::from(preprocess.size).pow(2);
    let depth = slots::depth_of(config.device);
    let slot_bytes = slots::host_bytes(config.device, depth, config.batch, view_bytes, encoder.dim());
    let identity = Identity {
        architecture: if is_script { format!("torchscript:{name}") } else { name.to_owned() },
        weights: hash,
        preprocessing: preprocess.to_string(),
        decoder: DECODER.into(),
    };
    Ok(Loaded {
        encoder,
        identity,
        preprocess,
        form,
        bytes: weights + activations,
        slot_bytes,
        instances: side_by_side,
        instance_bytes: activations + slot_bytes,
    })
}

/// Asks a card whether it computes what decisions can stand on. cuDNN's attention may be missing or refuse a shape that libtorch thought
/// it takes, and an attention may compute a view by its neighbours: then FlashAttention is tried. Gives the one that is tried first from
/// here on.
pub(super) fn try_on_card(encoder: &mut dyn ImageEncoder, attention: Attention) -> Result<Attention, ModelError> {
    let device = encoder.shape().device;
    let settled = |source: BridgeError| ModelError::Bridge { place: format!("device {device:?}"), source };
    pin_precision().map_err(settled)?;
    prefer_attention(attention).map_err(settled)?;
    let first = is_neighbour_free(encoder);
    match &first {
        Ok(true) => return Ok(attention),
        _ if attention == Attention::Flash => {}
        Ok(false) => tracing::warn!("with {attention:?} attention on {device:?} {DEPENDS}: another is tried"),
        Err(error) => {
            tracing::warn!("{attention:?} attention fails on {device:?} ({}): another is tried", Causes(error));
        }
    }
    let free = if attention == Attention::Flash {
        first?
    } else {
        prefer_attention(Attention::Flash).map_err(settled)?;
        is_neighbour_free(encoder)?
    };
    if free {
        return Ok(Attention::Flash);
    }
    let problem = format!("{DEPENDS}; decisions would not repeat");
    Err(ModelError::Device { device: format!("{device:?}"), problem })
}

/// What is wrong with an encoder that decisions cannot stand on.
const DEPENDS: &str = "a view's features depend on the other views of its batch";

/// Bytes of weights, activations and pixels of one batch where it is computed, from above.
pub fn footprint(model: &ModelSizes, config: &EncoderConfig, parameters: u64) -> u64 {
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
    let product = if config.precision == EncoderPrecision::F32 { 4 } else { 2 };
    let residual = if config.precision == EncoderPrecision::F16 { 2 } else { 4 };
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
    if config.precision == EncoderPrecision::F16Mixed && config.device != Device::Cpu {
        let own = "a TorchScript module says itself what it adds up in: f16-mixed is for the others, say f16";
        return Err(ModelError::weights(path, own));
    }
    match ScriptEncoder::load(path, model.preprocess(), config) {
        Ok(encoder) => Ok(Some((path, encoder))),
        Err(error) => {
            let (path, why) = (path.display(), Causes(&error));
            tracing::warn!("{path}: its code does not run ({why}); its tensors are taken for {}", model.name());
            Ok(None)
        }
    }
}
