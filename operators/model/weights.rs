//! Weights: read from open_clip's files, drawn from a seed, named by a fingerprint.
//!
//! A file must hold exactly the model's tensors; `module.` (DistributedDataParallel) and `_orig_mod.` (torch.compile) are
//! stripped, and what else is written in other ways the model's family knows. A store that holds an image tower alone takes `visual.*` and
//! passes over the rest. Values are copied in as f32.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor, nn};
use trommel_core::cores;

use super::error::{ModelError, Op};
use super::family::Architecture;
use super::file::{CODE_NOT_RUN, Form, StoredTensor, WeightsFile};
use super::random::fill;

/// Problems of a file are named up to this many, then counted.
const PROBLEMS_SHOWN: usize = 8;

/// Copies a file's tensors into the model, whatever form of [`WeightsFile`] it has, one at a time.
///
/// As open_clip does: a scalar of shape \[1\] is taken for one of shape \[\], and positional embeddings of another
/// resolution or context length are interpolated where it interpolates them, which is said.
///
/// # Errors
/// A file that cannot be read, or whose tensors are not exactly the model's: missing, unexpected, repeated and mis-shaped ones
/// are named.
pub fn load(vs: &nn::VarStore, model: &dyn Architecture, path: &Path) -> Result<(), ModelError> {
    let mut missing: BTreeMap<String, Tensor> = vs.variables().into_iter().collect();
    let all: BTreeSet<String> = missing.keys().cloned().collect();
    let image_only = missing.keys().all(|name| name.starts_with("visual."));
    let mut problems = Vec::new();
    let file = WeightsFile::open(path)?;
    let _no_grad = tch::no_grad_guard();
    for stored in &file.tensors {
        let name = model.own_name(plain_name(&stored.name));
        let Some(mut variable) = missing.remove(name) else {
            if all.contains(name) {
                problems.push(format!("{} stands there twice", name.escape_debug()));
                continue;
            }
            let elsewhere = image_only && !name.starts_with("visual.");
            if !elsewhere && !model.is_note(name) {
                problems.push(format!("{} is not the model's", name.escape_debug()));
            }
            continue;
        };
        match fitted(model, &file, stored, name, &variable.size())? {
            Some(tensor) => variable.f_copy_(&tensor).op(&format!("load of {name}"), &[&variable, &tensor])?,
            None => problems.push(format!("{name} has shape {:?}, expected {:?}", stored.shape, variable.size())),
        }
    }
    // A model of the sigmoid goes on from one that was trained without, as in open_clip.
    if let Some(mut bias) = missing.remove("logit_bias") {
        tracing::warn!("{}: it holds no logit_bias: 0 is taken", path.display());
        let _zero = bias.f_zero_().op("logit_bias", &[])?;
    }
    problems.extend(missing.keys().map(|name| format!("{name} is missing")));
    if problems.is_empty() {
        if let Some(doubt) = model.doubt(&|name| file.tensors.iter().any(|stored| stored.name == name)) {
            tracing::warn!("{}: {doubt}", path.display());
        }
        return Ok(());
    }
    problems.sort();
    let more = problems.len().saturating_sub(PROBLEMS_SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    problems.truncate(PROBLEMS_SHOWN);
    let script = if file.form == Form::TorchScript { format!(" ({CODE_NOT_RUN})") } else { String::new() };
    Err(ModelError::weights(path, format!("does not fit the model: {}{more}{script}", problems.join("; "))))
}

/// The tensor in the variable's shape; `None` where it does not fit.
fn fitted(
    model: &dyn Architecture,
    file: &WeightsFile,
    stored: &StoredTensor,
    name: &str,
    shape: &[i64],
) -> Result<Option<Tensor>, ModelError> {
    if stored.shape == shape {
        return file.fetch(stored).map(Some);
    }
    if stored.shape == [1] && shape.is_empty() {
        let tensor = file.fetch(stored)?;
        return tensor.f_reshape(shape).map(Some).op(name, &[&tensor]);
    }
    let fitted = model.fitted(name, &stored.shape, shape, &|| file.fetch(stored))?;
    if fitted.is_some() {
        let rows = |shape: &[i64]| shape.iter().rev().nth(1).copied().unwrap_or(1);
        let (path, from, to) = (file.path().display(), rows(&stored.shape), rows(shape));
        tracing::warn!("{path}: {name} is interpolated from {from} positions to {to}");
    }
    Ok(fitted)
}

/// The name without what wrappers put before it.
fn plain_name(name: &str) -> &str {
    let mut name = name;
    while let Some(rest) = ["module.", "_orig_mod."].iter().find_map(|prefix| name.strip_prefix(prefix)) {
        name = rest;
    }
    name
}

/// Stores the weights of products (convolution, linear layers, projections) in a lower kind. Norms and embeddings
/// stay f32, and with them the residual sum: the towers then compute as under autocast.
///
/// # Errors
/// libtorch refuses a cast.
pub fn lower(vs: &mut nn::VarStore, model: &dyn Architecture, kind: Kind) -> Result<(), ModelError> {
    cast(vs, kind, |name| model.is_factor(name))
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
pub fn init(vs: &nn::VarStore, model: &dyn Architecture, seed: u64) -> Result<(), ModelError> {
    let _no_grad = tch::no_grad_guard();
    let threads = cores::usable().min(16);
    for (name, mut variable) in vs.variables() {
        let count = variable.numel();
        let values = fill(seed, &name, model.first_values(&name, &variable.size()), count, threads);
        let values =
            Tensor::f_from_slice(&values).and_then(|t| t.f_reshape(variable.size())).op("init", &[&variable])?;
        variable.f_copy_(&values).op(&format!("init of {name}"), &[&variable])?;
    }
    Ok(())
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
    Ok(format!("{:x}", hash.finalize()))
}

fn values(variable: &Tensor) -> Result<Vec<f32>, ModelError> {
    let flat = variable
        .f_detach()
        .and_then(|t| t.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?.f_reshape([-1]))
        .op("copy", &[variable])?;
    Vec::<f32>::try_from(&flat).op("copy", &[variable])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_that_a_file_has_twice_is_said_to_be_there_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let architecture = crate::load("trommel-tiny-32").unwrap();
        let model = crate::Model::new(&architecture, Device::Cpu).unwrap();
        model.store().save(&path).unwrap();
        load(model.store(), &*architecture, &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors = file.tensors();
        tensors.push(("module.logit_scale".into(), file.tensor("logit_scale").unwrap()));
        std::fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
        let said = load(model.store(), &*architecture, &path).unwrap_err().to_string();
        assert!(said.contains("logit_scale stands there twice") && !said.contains("not the model's"), "{said}");
    }
}
