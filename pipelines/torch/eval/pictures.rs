//! A checkpoint's model, as an evaluation uses it.

use std::path::Path;
use std::sync::Arc;

use tch::{Device, Tensor};
use trommel_bridge::keep_freed_memory;
use trommel_embed::encoder::packs_exactly;
use trommel_evaluate::zero_shot::features;
use trommel_model::error::Op;
use trommel_model::family::{Architecture, Towers};
use trommel_model::{Model, weights};

use trommel_pipelines::error::PipelineError;

use super::views::Viewer;
use crate::trained_model::{TrainedModel, weights_file};

/// Pictures, or texts, a forward pass.
pub(super) const BATCH: usize = 64;

/// A model that looks at pictures.
pub(super) struct Pictures {
    architecture: Arc<dyn Architecture>,
    model: Model,
    viewer: Viewer,
    device: Device,
}

impl Pictures {
    /// Opens a checkpoint; `threads` decode.
    ///
    /// # Errors
    /// No such model or weights, or weights that were trained as another one.
    pub fn open(model: &str, checkpoint: &Path, device: Device, threads: usize) -> Result<Self, PipelineError> {
        let architecture = trommel_model::load(model).map_err(PipelineError::usage)?;
        TrainedModel::of(checkpoint).map_or(Ok(()), |trained| trained.check(&*architecture))?;
        let mut model = Model::new(&architecture, device).map_err(PipelineError::failed)?;
        weights::load(model.store(), &*architecture, &weights_file(checkpoint)).map_err(PipelineError::usage)?;
        // Equal pictures must tie.
        if device == Device::Cpu && packs_exactly() {
            model.towers_mut().pack(BATCH as i64).map_err(PipelineError::failed)?;
        }
        keep_freed_memory(device);
        let viewer = Viewer::new(architecture.preprocess(), threads)?;
        Ok(Self { architecture, model, viewer, device })
    }

    /// Its architecture.
    pub fn architecture(&self) -> &dyn Architecture {
        &*self.architecture
    }

    /// The towers of the checkpoint's model.
    pub fn towers(&self) -> &dyn Towers {
        self.model.towers()
    }

    /// What makes views of encoded pictures, as the model wants them.
    pub const fn viewer(&self) -> &Viewer {
        &self.viewer
    }

    /// Features of so many views: f32\[n, dim\] on the CPU, not normalised.
    ///
    /// # Errors
    /// libtorch refuses, or features that are no numbers.
    pub fn features(&self, views: &[u8], n: usize) -> Result<Tensor, PipelineError> {
        let preprocess = self.architecture.preprocess();
        let features = features(self.towers(), preprocess, views, n, self.device).map_err(PipelineError::failed)?;
        finite(&features, "pictures")?;
        Ok(features)
    }
}

/// Refuses features that are no numbers: those would be before everything, or behind it.
///
/// # Errors
/// Such features `of` something, by its plural; libtorch refuses.
pub(super) fn finite(features: &Tensor, of: &str) -> Result<(), PipelineError> {
    let all = features.f_isfinite().and_then(|each| each.f_all()).and_then(bool::try_from);
    match all.op("finite", &[features]).map_err(PipelineError::failed)? {
        true => Ok(()),
        false => Err(PipelineError::failed(format!("features of {of} are not finite: the weights are spoilt"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use trommel_embed::encoder::{EncoderConfig, EncoderPrecision, Form};
    use trommel_embed::load::load;

    use super::*;

    /// Features are those that the embedder gives from the same weights, laid out or not, for a whole batch and for a few pictures.
    #[test]
    fn a_cpu_looks_through_packed_weights() {
        const MODEL: &str = "trommel-tiny-32";
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weights.safetensors");
        let architecture = trommel_model::load(MODEL).unwrap();
        let drawn = Model::new(&architecture, Device::Cpu).unwrap();
        weights::init(drawn.store(), &*architecture, 3).unwrap();
        drawn.store().save(&file).unwrap();

        let pictures = Pictures::open(MODEL, &file, Device::Cpu, 1).unwrap();
        let held = pictures.model.store().variables();
        let packed = held.iter().filter(|(name, _)| name.ends_with("c_fc.weight")).collect::<Vec<_>>();
        assert_eq!(packed.len(), 6, "the blocks of both towers");
        assert!(packed.iter().all(|(_, weight)| weight.numel() == 0) == packs_exactly());

        let views: Vec<u8> = (0..BATCH * 32 * 32 * 3).map(|at| (at * at / 97 % 251) as u8).collect();
        // Equal pictures tie, wherever they stand.
        let side = 32 * 32 * 3;
        let mut equal = views.clone();
        [13, BATCH - 1].iter().for_each(|at| equal.copy_within(..side, at * side));
        let rows = pictures.features(&equal, BATCH).unwrap();
        assert!([13, BATCH - 1].iter().all(|at| rows.get(*at as i64) == rows.get(0)));

        let config = EncoderConfig {
            model: MODEL.into(),
            weights: Some(file),
            torchscript: false,
            random_init: None,
            precision: EncoderPrecision::F32,
            batch: BATCH,
            device: Device::Cpu,
            threads: 1,
            form: None,
        };
        for packed in [packs_exactly(), false] {
            let form = Some(Form { packed, ..Form::of(&config) });
            let mut encoder = load(&EncoderConfig { form, ..config.clone() }).unwrap().encoder;
            let due = Tensor::from_slice(&encoder.encode(&views).unwrap()).view([BATCH as i64, -1]);
            for n in [BATCH, 3] {
                let found = pictures.features(&views[..n * 32 * 32 * 3], n).unwrap();
                let difference = (found - due.narrow(0, 0, n as i64)).abs().max().double_value(&[]);
                assert!(difference < 2e-6 * due.abs().max().double_value(&[]).max(1.0), "{packed} {n}: {difference}");
            }
        }
    }
}
