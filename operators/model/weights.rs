//! Weights: read from open_clip's files, drawn from a seed, named by a fingerprint, written as safetensors.
//!
//! A file must hold exactly the model's tensors; `module.` (DistributedDataParallel), `_orig_mod.` (torch.compile) and
//! `text.` (open_clip's custom text towers) are stripped. A store that holds an image tower alone takes `visual.*` and
//! passes over the rest. Values are copied in as f32.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor, nn};
use trommel_core::durable;

use super::config::ClipConfig;
use super::error::{ModelError, Op};
use super::file::{CODE_NOT_RUN, Form, Stored, WeightsFile};
use super::positions;
use super::random::{Distribution, fill};

/// Buffers and notes of open_clip's and OpenAI's files that are no parameters here.
const IGNORED: [&str; 6] = [
    "attn_mask",
    "visual.attn_mask",
    "input_resolution",
    "context_length",
    "vocab_size",
    "transformer.embeddings.position_ids",
];

/// Notes that only OpenAI's own files hold.
const OPENAIS: [&str; 3] = ["input_resolution", "context_length", "vocab_size"];

/// Most positions that are interpolated: images of 4,000 pixels in patches of 16.
const MAX_POSITIONS: i64 = 1 << 16;

/// Problems of a file are named up to this many, then counted.
const PROBLEMS_SHOWN: usize = 8;

/// Copies a file's tensors into the model, whatever form of [`WeightsFile`] it has, one at a time.
///
/// As open_clip does: a `logit_scale` of shape \[1\] is taken for one of shape \[\], and positional embeddings of another
/// resolution or context length are interpolated, which is said.
///
/// # Errors
/// A file that cannot be read, or whose tensors are not exactly the model's: missing, unexpected and mis-shaped ones are
/// named.
pub fn load(vs: &nn::VarStore, config: &ClipConfig, path: &Path) -> Result<(), ModelError> {
    let mut missing: BTreeMap<String, Tensor> = vs.variables().into_iter().collect();
    let image_only = missing.keys().all(|name| name.starts_with("visual."));
    let mut problems = Vec::new();
    let file = WeightsFile::open(path)?;
    let _no_grad = tch::no_grad_guard();
    for stored in &file.tensors {
        let name = plain_name(&stored.name);
        let Some(mut variable) = missing.remove(name) else {
            let elsewhere = image_only && !name.starts_with("visual.");
            if !elsewhere && !IGNORED.contains(&name) {
                problems.push(format!("{} is not the model's", name.escape_debug()));
            }
            continue;
        };
        match fitted(&file, stored, name, &variable.size())? {
            Some(tensor) => variable.f_copy_(&tensor).op(&format!("load of {name}"), &[&variable, &tensor])?,
            None => problems.push(format!("{name} has shape {:?}, expected {:?}", stored.shape, variable.size())),
        }
    }
    problems.extend(missing.keys().map(|name| format!("{name} is missing")));
    if problems.is_empty() {
        if !config.quick_gelu && OPENAIS.iter().all(|note| file.tensors.iter().any(|stored| stored.name == *note)) {
            let (path, name) = (path.display(), &config.name);
            tracing::warn!(
                "{path}: OpenAI's weights need QuickGELU, and {name} computes GELU: name its -quickgelu, or set quick_gelu"
            );
        }
        return Ok(());
    }
    problems.sort();
    let more = problems.len().saturating_sub(PROBLEMS_SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    problems.truncate(PROBLEMS_SHOWN);
    let script = if file.form == Form::TorchScript { CODE_NOT_RUN } else { "" };
    Err(ModelError::weights(path, format!("does not fit the model: {}{more}{script}", problems.join("; "))))
}

/// The tensor in the variable's shape; `None` where it does not fit.
fn fitted(file: &WeightsFile, stored: &Stored, name: &str, shape: &[i64]) -> Result<Option<Tensor>, ModelError> {
    if stored.shape == shape {
        return file.fetch(stored).map(Some);
    }
    match (name, stored.shape.as_slice(), shape) {
        ("logit_scale", [1], []) => {
            let tensor = file.fetch(stored)?;
            tensor.f_reshape(shape).map(Some).op(name, &[&tensor])
        }
        ("visual.positional_embedding" | "positional_embedding", &[from, width], &[to, same])
            if width == same && (1..=MAX_POSITIONS).contains(&from) =>
        {
            let tensor = file.fetch(stored)?;
            let resized = if name == "positional_embedding" {
                Some(positions::text(&tensor, to)?)
            } else {
                positions::image(&tensor, (to - 1).isqrt())?
            };
            if resized.is_some() {
                tracing::warn!("{}: {name} is interpolated from {from} positions to {to}", file.path().display());
            }
            Ok(resized)
        }
        _ => Ok(None),
    }
}

/// All tensors of a file under their names.
///
/// # Errors
/// As for [`load`].
pub fn read(path: &Path) -> Result<BTreeMap<String, Tensor>, ModelError> {
    let file = WeightsFile::open(path)?;
    file.tensors.iter().map(|stored| Ok((stored.name.clone(), file.fetch(stored)?))).collect()
}

/// The name without what wrappers put before it.
fn plain_name(name: &str) -> &str {
    let mut name = name;
    while let Some(rest) = ["module.", "_orig_mod."].iter().find_map(|prefix| name.strip_prefix(prefix)) {
        name = rest;
    }
    name.strip_prefix("text.").unwrap_or(name)
}

/// Stores the weights of products (convolution, linear layers, projections) in a lower kind. Norms and embeddings
/// stay f32, and with them the residual sum: the towers then compute as under autocast.
///
/// # Errors
/// libtorch refuses a cast.
pub fn lower(vs: &mut nn::VarStore, kind: Kind) -> Result<(), ModelError> {
    const PRODUCTS: [&str; 5] = ["conv1", "attn", "mlp", "proj", "text_projection"];
    cast(vs, kind, |name| name.split('.').any(|part| PRODUCTS.contains(&part)))
}

/// Stores all of an image tower's weights in a lower kind, and with them its residual sum; libtorch's layer norms sum in f32 whatever
/// their input is. This is open_clip's `precision="fp16"`.
///
/// # Errors
/// libtorch refuses a cast.
pub fn lower_all(vs: &mut nn::VarStore, kind: Kind) -> Result<(), ModelError> {
    cast(vs, kind, |_| true)
}

fn cast(vs: &mut nn::VarStore, kind: Kind, is_wanted: impl Fn(&str) -> bool) -> Result<(), ModelError> {
    for (name, mut variable) in vs.variables().into_iter().filter(|(name, _)| is_wanted(name)) {
        let lowered = variable.f_to_kind(kind).op(&format!("cast of {name}"), &[&variable])?;
        variable.set_data(&lowered);
    }
    Ok(())
}

/// Draws all weights from open_clip's distributions: a function of seed and name alone.
///
/// # Errors
/// libtorch refuses a copy.
pub fn init(vs: &nn::VarStore, config: &ClipConfig, seed: u64) -> Result<(), ModelError> {
    let _no_grad = tch::no_grad_guard();
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(16));
    for (name, mut variable) in vs.variables() {
        let count = variable.numel();
        let values = fill(seed, &name, distribution(&name, &variable.size(), config), count, threads);
        let values =
            Tensor::f_from_slice(&values).and_then(|t| t.f_reshape(variable.size())).op("init", &[&variable])?;
        variable.f_copy_(&values).op(&format!("init of {name}"), &[&variable])?;
    }
    Ok(())
}

/// What open_clip 3.3 draws a parameter from: `TextTransformer.init_parameters`, and PyTorch's defaults in the image tower.
#[allow(clippy::cast_precision_loss)]
fn distribution(name: &str, shape: &[i64], config: &ClipConfig) -> Distribution {
    let (vision, text) = (&config.vision, &config.text);
    let visual = name.starts_with("visual.");
    let (width, layers) = if visual { (vision.width, vision.layers) } else { (text.width, text.layers) };
    let (width, layers) = (width as f64, layers as f64);
    let fan_in = shape.iter().skip(1).product::<i64>().max(1) as f64;
    let is = |end: &str| name.ends_with(end);
    if name == "logit_scale" {
        return Distribution::Constant(config.init_logit_scale);
    }
    if is("in_proj_bias") || is("out_proj.bias") {
        return Distribution::Constant(0.0);
    }
    if name.contains("ln_") {
        return Distribution::Constant(if is(".weight") { 1.0 } else { 0.0 });
    }
    // nn.Linear's default bias follows the fan-in of its weight.
    if is("c_fc.bias") {
        return Distribution::Uniform(width.powf(-0.5));
    }
    if is("c_proj.bias") {
        let hidden = if visual { vision.mlp_width() } else { text.mlp_width() };
        return Distribution::Uniform((hidden as f64).powf(-0.5));
    }
    if visual {
        return match name.strip_prefix("visual.").unwrap_or(name) {
            "class_embedding" | "positional_embedding" | "proj" => Distribution::Normal(width.powf(-0.5)),
            _ if is("in_proj_weight") => Distribution::Uniform((6.0 / (4.0 * width)).sqrt()),
            _ => Distribution::Uniform(fan_in.powf(-0.5)),
        };
    }
    match name {
        "token_embedding.weight" => Distribution::Normal(0.02),
        "positional_embedding" => Distribution::Normal(0.01),
        "text_projection" => Distribution::Normal(width.powf(-0.5)),
        _ if is("in_proj_weight") => Distribution::Normal(width.powf(-0.5)),
        _ if is("c_fc.weight") => Distribution::Normal((2.0 * width).powf(-0.5)),
        _ => Distribution::Normal(width.powf(-0.5) * (2.0 * layers).powf(-0.5)),
    }
}

/// Lower-case hex sha256 over names, shapes and f32 values (little-endian) in name order.
///
/// # Errors
/// libtorch refuses a copy.
pub fn fingerprint(vs: &nn::VarStore) -> Result<String, ModelError> {
    let sorted: BTreeMap<String, Tensor> = vs.variables().into_iter().collect();
    let (mut hash, mut bytes) = (Sha256::new(), Vec::<u8>::new());
    for (name, variable) in &sorted {
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
        hash.update((variable.size().len() as u64).to_le_bytes());
        for side in variable.size() {
            hash.update(side.to_le_bytes());
        }
        // Many values a call: the hash of four bytes costs mostly the call.
        for values in values(variable)?.chunks(1 << 14) {
            bytes.resize(4 * values.len(), 0);
            for (four, value) in bytes.chunks_exact_mut(4).zip(values) {
                four.copy_from_slice(&value.to_le_bytes());
            }
            hash.update(&bytes);
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn values(variable: &Tensor) -> Result<Vec<f32>, ModelError> {
    let flat = variable
        .f_detach()
        .and_then(|t| t.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?.f_reshape([-1]))
        .op("copy", &[variable])?;
    Vec::<f32>::try_from(&flat).op("copy", &[variable])
}

/// Writes all variables as safetensors in `kind` (f32, or f16 for files that are shipped), aside first.
///
/// # Errors
/// The file system refuses.
pub fn save(vs: &nn::VarStore, path: &Path, half: bool) -> Result<(), ModelError> {
    let wrong = |problem: String| ModelError::weights(path, problem);
    let mut stored = Vec::new();
    for (name, variable) in vs.variables().into_iter().collect::<BTreeMap<_, _>>() {
        let shape: Vec<usize> = variable.size().iter().map(|side| usize::try_from(*side).unwrap_or(0)).collect();
        let values = values(&variable)?;
        let bytes: Vec<u8> = if half {
            values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect()
        } else {
            values.iter().flat_map(|value| value.to_le_bytes()).collect()
        };
        stored.push((name, shape, bytes));
    }
    let dtype = if half { Dtype::F16 } else { Dtype::F32 };
    let views = stored
        .iter()
        .map(|(name, shape, bytes)| {
            Ok((name.clone(), TensorView::new(dtype, shape.clone(), bytes).map_err(|e| wrong(e.to_string()))?))
        })
        .collect::<Result<Vec<_>, ModelError>>()?;
    let bytes = safetensors::serialize(views, None).map_err(|e| wrong(e.to_string()))?;
    durable::write(path, &bytes).map_err(|error| wrong(error.to_string()))
}
