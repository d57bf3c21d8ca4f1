//! Weights: read from open_clip's files, drawn from a seed, named by a fingerprint, written as safetensors.
//!
//! A file must hold exactly the model's tensors; `module.` (DistributedDataParallel) and `_orig_mod.` (torch.compile) are
//! stripped. Values are copied in as f32.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor, nn};

use super::config::ClipConfig;
use super::error::{ModelError, Op};
use super::random::{Distribution, fill};

/// Buffers of open_clip's files that are no parameters here.
const IGNORED: [&str; 2] = ["attn_mask", "visual.attn_mask"];

/// Copies a file's tensors into the model: `.safetensors`, or a state dict of `torch.save` (`.pt`, `.bin`).
///
/// # Errors
/// A file that cannot be read, or whose tensors are not exactly the model's: missing, unexpected and mis-shaped ones are
/// named.
pub fn load(vs: &nn::VarStore, path: &Path) -> Result<(), ModelError> {
    let mut found = BTreeMap::new();
    for (name, tensor) in read(path)? {
        let bare = name.strip_prefix("module.").unwrap_or(&name);
        let bare = bare.strip_prefix("_orig_mod.").unwrap_or(bare);
        if !IGNORED.contains(&bare) {
            found.insert(bare.to_owned(), tensor);
        }
    }
    let mut problems = Vec::new();
    let _no_grad = tch::no_grad_guard();
    for (name, mut variable) in vs.variables() {
        match found.remove(&name) {
            None => problems.push(format!("{name} is missing")),
            Some(tensor) if tensor.size() != variable.size() => {
                problems.push(format!("{name} has shape {:?}, expected {:?}", tensor.size(), variable.size()));
            }
            Some(tensor) => variable
                .f_copy_(&tensor.f_to_kind(Kind::Float).op("load", &[&tensor])?)
                .op(&format!("load of {name}"), &[&variable])?,
        }
    }
    problems.extend(found.keys().map(|name| format!("{name} is not the model's")));
    if problems.is_empty() {
        return Ok(());
    }
    problems.sort();
    let more = if problems.len() > 5 { format!(" and {} more", problems.len() - 5) } else { String::new() };
    problems.truncate(5);
    Err(ModelError::weights(path, format!("does not fit the model: {}{more}", problems.join("; "))))
}

fn read(path: &Path) -> Result<Vec<(String, Tensor)>, ModelError> {
    let wrong = |problem: String| ModelError::weights(path, problem);
    let mut head = [0u8; 2];
    {
        use std::io::Read;
        let mut file = File::open(path).map_err(|error| wrong(error.to_string()))?;
        file.read_exact(&mut head).map_err(|error| wrong(error.to_string()))?;
    }
    if &head == b"PK" {
        return trommel_bridge::read_state_dict(path).map_err(|error| wrong(error.to_string()));
    }
    let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| wrong(format!("neither safetensors nor a state dict of torch.save: {error}")))?;
    file.tensors().into_iter().map(|(name, view)| Ok((name, tensor(&view).map_err(&wrong)?))).collect()
}

fn tensor(view: &TensorView<'_>) -> Result<Tensor, String> {
    let kind = match view.dtype() {
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::F64 => Kind::Double,
        Dtype::I64 => Kind::Int64,
        other => return Err(format!("holds tensors of {other:?}")),
    };
    let shape = view.shape().iter().map(|side| i64::try_from(*side).map_err(|e| e.to_string())).collect::<Result<Vec<_>, _>>()?;
    Tensor::f_from_data_size(view.data(), &shape, kind).map_err(|error| error.to_string())
}

/// Draws all weights from open_clip's distributions: a function of seed and name alone.
///
/// # Errors
/// libtorch refuses a copy.
pub fn init(vs: &nn::VarStore, config: &ClipConfig, seed: u64) -> Result<(), ModelError> {
    let _no_grad = tch::no_grad_guard();
    for (name, mut variable) in vs.variables() {
        let count = usize::try_from(variable.numel()).unwrap_or(0);
        let values = fill(seed, &name, distribution(&name, &variable.size(), config), count, 2);
        let values = Tensor::f_from_slice(&values).and_then(|t| t.f_reshape(variable.size())).op("init", &[&variable])?;
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
    let mut hash = Sha256::new();
    for (name, variable) in &sorted {
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
        hash.update((variable.size().len() as u64).to_le_bytes());
        for side in variable.size() {
            hash.update(side.to_le_bytes());
        }
        for value in values(variable)? {
            hash.update(value.to_le_bytes());
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
        .map(|(name, shape, bytes)| Ok((name.clone(), TensorView::new(dtype, shape.clone(), bytes).map_err(|e| wrong(e.to_string()))?)))
        .collect::<Result<Vec<_>, ModelError>>()?;
    let bytes = safetensors::serialize(views, None).map_err(|e| wrong(e.to_string()))?;
    let aside = path.with_extension("tmp");
    let write = || {
        let mut file = File::create(&aside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&aside, path)
    };
    write().map_err(|error| wrong(error.to_string()))
}
