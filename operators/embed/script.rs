//! TorchScript image encoders. A module runs the code of whoever made the file: only where it is asked for.

use std::fs::File;
use std::path::Path;

use sha2::{Digest, Sha256};
use tch::{CModule, Tensor};

use super::encoder::{EncoderConfig, ImageEncoder, Normaliser, features, is_neighbour_free, on_this_thread};
use trommel_model::error::Op;
use trommel_model::{ModelError, Preprocess};

/// A TorchScript module: `encode_image` where it has that method, else `forward`.
///
/// Nothing is known of what it computes, so it is asked whether a view's bits depend on its neighbours (products of a few
/// rows do in libtorch); if so, views go through it one at a time, with a warning.
#[derive(Debug)]
pub struct ScriptEncoder {
    module: CModule,
    normaliser: Normaliser,
    dim: usize,
    size: u32,
    batch: usize,
    threads: usize,
    has_encode_image: bool,
    one_by_one: bool,
}

impl ScriptEncoder {
    /// Loads the module and tries it on one black batch, which tells the length of a feature.
    ///
    /// # Errors
    /// No TorchScript, or a module that does not give f32\[n, dim\].
    pub fn load(path: &Path, preprocess: &Preprocess, config: &EncoderConfig) -> Result<Self, ModelError> {
        let refused = |error: tch::TchError| ModelError::weights(path, error.to_string());
        // The fuser rewrites the graph after some runs, and with it the bits.
        tch::jit::f_set_tensor_expr_fuser_enabled(false).map_err(refused)?;
        let mut module = CModule::load_on_device(path, config.device).map_err(refused)?;
        module.f_set_eval().map_err(refused)?;
        module.to(config.device, config.precision.kind(), false);
        let normaliser = Normaliser::new(preprocess, config)?;
        let (size, batch) = (preprocess.size, config.batch);
        let mut encoder = Self {
            module,
            normaliser,
            dim: 0,
            size,
            batch,
            threads: config.threads,
            has_encode_image: true,
            one_by_one: false,
        };
        let black = vec![0u8; batch * size as usize * size as usize * 3];
        let tried = encoder.run(&black).or_else(|_| {
            encoder.has_encode_image = false;
            encoder.run(&black)
        })?;
        match tried.size().as_slice() {
            &[n, dim] if usize::try_from(n) == Ok(batch) && dim > 0 => encoder.dim = usize::try_from(dim).unwrap_or(0),
            other => {
                let problem = format!("gives {other:?} for a batch of {batch}, expected [{batch}, dim]");
                return Err(ModelError::weights(path, problem));
            }
        }
        if !is_neighbour_free(&mut encoder)? {
            encoder.one_by_one = true;
            tracing::warn!(
                path = %path.display(),
                "features depend on the other views of a batch; encoding one view at a time, which is slower"
            );
        }
        Ok(encoder)
    }

    fn run(&self, views: &[u8]) -> Result<Tensor, ModelError> {
        let _no_grad = on_this_thread(self.threads);
        let pixels = self.normaliser.tensor(views)?;
        if self.one_by_one {
            let rows = i64::try_from(self.batch).unwrap_or(i64::MAX);
            let features = (0..rows)
                .map(|row| self.forward(&pixels.f_narrow(0, row, 1).op("one view", &[&pixels])?))
                .collect::<Result<Vec<_>, _>>()?;
            return Tensor::f_cat(&features, 0).op("features", &[]);
        }
        self.forward(&pixels)
    }

    fn forward(&self, pixels: &Tensor) -> Result<Tensor, ModelError> {
        if self.has_encode_image {
            self.module.method_ts("encode_image", &[pixels]).op("torchscript encode_image", &[pixels])
        } else {
            self.module.forward_ts(&[pixels]).op("torchscript forward", &[pixels])
        }
    }
}

impl ImageEncoder for ScriptEncoder {
    fn dim(&self) -> usize {
        self.dim
    }

    fn size(&self) -> u32 {
        self.size
    }

    fn batch(&self) -> usize {
        self.batch
    }

    fn encode(&mut self, views: &[u8]) -> Result<Vec<f32>, ModelError> {
        features(&self.run(views)?)
    }
}

/// Lower-case hex sha256 of a file.
pub(super) fn file_hash(path: &Path) -> Result<String, ModelError> {
    let mut hash = Sha256::new();
    let mut file = File::open(path).map_err(|error| ModelError::weights(path, error.to_string()))?;
    std::io::copy(&mut file, &mut hash).map_err(|error| ModelError::weights(path, error.to_string()))?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
