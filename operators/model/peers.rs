//! Weights in all the forms that torch, open_clip and their users leave behind (`golden/checkpoints.py`), beside
//! open_clip's own `load_checkpoint`, where a Python that has both is named by `TROMMEL_PEERS`.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use super::clip::{Clip, ClipConfig};
use super::file::WeightsFile;
use super::{Packing, Towers, weights};
use trommel_core::causes::Causes;

/// What a script of `golden/` prints, given `folder`.
pub(crate) fn lines(script: &str, folder: &Path) -> Option<String> {
    let python = crate::skipped::peer("torch and open_clip")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(script);
    let mut make = Command::new(python);
    make.arg(script).arg(folder).env("OMP_NUM_THREADS", "1").env_remove("LD_LIBRARY_PATH");
    let made = make.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Some(String::from_utf8(made.stdout).unwrap())
}

/// Each of open_clip's own configurations is a model of as many parameters, or is refused by the name of a field.
#[test]
fn open_clips_configurations_are_read_or_refused_by_name() {
    let Some(text) = lines("configs.py", Path::new("/")) else { return };
    let (mut read, mut refused) = (0, 0);
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let file = line["file"].as_str().unwrap();
        match ClipConfig::load(file) {
            Ok(config) => {
                let ours = config.image_parameters() + config.text_parameters();
                assert_eq!(Some(ours), line["parameters"].as_i64(), "{file}");
                read += 1;
            }
            Err(error) => {
                let error = Causes(&error).to_string();
                assert!(error.contains("_cfg") || error.contains("init_logit_bias"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(read >= 31 && refused >= 100, "{read} read, {refused} refused");
}

#[test]
fn files_load_as_in_open_clip() {
    let folder = tempfile::tempdir().unwrap();
    let Some(text) = lines("checkpoints.py", folder.path()) else { return };
    let (mut read, mut refused) = (0, 0);
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let file = line["file"].as_str().unwrap();
        let config = ClipConfig::parse("small", &line["config"].to_string()).unwrap();
        let vs = VarStore::new(Device::Cpu);
        let _clip = Clip::new(&vs.root(), &config).unwrap();
        let loaded = weights::load(&vs, &config, &folder.path().join(file));
        if let Some(cause) = line["refused"].as_str() {
            let error = Causes(&loaded.unwrap_err()).to_string();
            assert!(error.contains(file) && error.contains(cause) && !error.contains('\n'), "{file}: {error}");
            refused += 1;
            continue;
        }
        loaded.unwrap();
        let expected = WeightsFile::open(&folder.path().join(line["expected"].as_str().unwrap())).unwrap();
        let ours = vs.variables();
        assert_eq!(expected.tensors.len(), ours.len(), "{file}");
        for stored in &expected.tensors {
            let (name, expected) = (&stored.name, expected.fetch(stored).unwrap());
            assert_eq!(expected.size(), ours[name].size(), "{file}: {name}");
            let distance = f64::try_from((&expected - &ours[name]).abs().max()).unwrap();
            let bound = if name.contains("positional_embedding") { 1e-6 } else { 0.0 };
            assert!(distance <= bound, "{file}: {name} differs by {distance:e}");
        }
        read += 1;
    }
    assert!(read >= 28 && refused >= 10, "{read} read, {refused} refused");
    assert!(!folder.path().join("ran").exists(), "a pickle's code was run");
}

pub(crate) fn numbers<T>(path: &Path, number: impl Fn([u8; 8]) -> T) -> Vec<T> {
    std::fs::read(path).unwrap().as_chunks().0.iter().map(|bytes| number(*bytes)).collect()
}

/// Without padding, features and every parameter's gradient are open_clip's with it: in f64 to rounding, in f32 to 1e-5 of
/// the largest.
#[test]
fn captions_without_padding_are_open_clips_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let Some(text) = lines("padding.py", folder.path()) else { return };
    let config = std::fs::read_to_string(folder.path().join("padding-small.json")).unwrap();
    let config = ClipConfig::parse("padding-small", &config).unwrap();
    let mut packed = 0;
    for (kind, bound) in [(Kind::Double, 1e-13), (Kind::Float, 1e-5)] {
        let mut vs = VarStore::new(Device::Cpu);
        let clip = Clip::new(&vs.root(), &config).unwrap();
        weights::load(&vs, &config, &folder.path().join("weights.pt")).unwrap();
        vs.set_kind(kind);
        let variables = vs.variables();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let place = |name: &str| folder.path().join(format!("{}.{name}", line["batch"]));
            let tokens: Vec<i64> = numbers(&place("tokens"), i64::from_le_bytes);
            let packing = Packing::of(&tokens, 77);
            packed += tokens.len() - packing.tokens();
            let features = clip.encode_captions(&packing.on(Device::Cpu).unwrap()).unwrap();
            variables.values().for_each(|variable| variable.shallow_clone().zero_grad());
            let by_feature = Tensor::from_slice(&numbers(&place("by_feature"), f64::from_le_bytes)).to_kind(kind);
            trommel_bridge::backward(&[features.shallow_clone()], &[by_feature.reshape(features.size())]).unwrap();
            let furthest = |name: &str, ours: &Tensor| {
                let theirs = Tensor::from_slice(&numbers(&place(name), f64::from_le_bytes));
                let ours = ours.to_kind(Kind::Double).reshape(-1);
                let distance = f64::try_from((ours - &theirs).abs().max()).unwrap();
                let largest = f64::try_from(theirs.abs().max()).unwrap();
                assert!(distance <= bound * largest.max(1.0), "{kind:?}, {line}: {name} differs by {distance:e}");
            };
            furthest("features", &features);
            let grads =
                line["files"].as_array().unwrap().iter().filter_map(|name| name.as_str()?.strip_prefix("grad."));
            let grads: Vec<&str> = grads.collect();
            assert_eq!(grads.len(), 3 * 12 + 5);
            grads.iter().for_each(|name| furthest(&format!("grad.{name}"), &variables[*name].grad()));
        }
    }
    assert!(packed > 10_000, "{packed} tokens left out");
}
