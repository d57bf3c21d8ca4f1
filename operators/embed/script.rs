//! TorchScript image encoders. A module runs the code of whoever made the file: only where it is asked for.

use std::fs::File;
use std::path::Path;

use sha2::{Digest, Sha256};
use tch::{CModule, Kind, Tensor};

use super::encoder::{EncoderConfig, ImageEncoder, Shape, is_neighbour_free, on_this_thread};
use super::pixels::Planes;
use trommel_model::error::Op;
use trommel_model::{ModelError, Preprocess};

/// A TorchScript module: `encode_image` where it has that method, else `forward`.
///
/// Nothing is known of what it computes, so it is asked whether a view's bits depend on its neighbours (products of a few
/// rows do in libtorch); if so, views go through it one at a time, with a warning.
#[derive(Debug)]
pub struct ScriptEncoder {
    module: CModule,
    planes: Planes,
    shape: Shape,
    has_encode_image: bool,
    one_by_one: bool,
}

impl ScriptEncoder {
    /// Loads the module and tries it on one black batch, which tells the length of a feature.
    ///
    /// # Errors
    /// No TorchScript, or a module that does not give f32\[n, dim\].
    pub fn load(path: &Path, preprocess: &Preprocess, config: &EncoderConfig) -> Result<Self, ModelError> {
        let refused = |error: tch::TchError| ModelError::file(path, error);
        // The fuser rewrites the graph after some runs, and with it the bits.
        tch::jit::f_set_tensor_expr_fuser_enabled(false).map_err(refused)?;
        let mut module = CModule::load_on_device(path, config.device).map_err(refused)?;
        module.f_set_eval().map_err(refused)?;
        module.to(config.device, config.precision.kind(), false);
        let planes = Planes::new(preprocess, config.precision.kind(), config.device)?;
        let (size, batch) = (preprocess.size, config.batch);
        let shape = Shape { batch, size, dim: 0, device: config.device, threads: config.threads };
        let mut encoder = Self { module, planes, shape, has_encode_image: true, one_by_one: false };
        let (rows, side) = (i64::try_from(batch).unwrap_or(i64::MAX), i64::from(size));
        let _no_grad = on_this_thread(config.threads);
        let black = Tensor::f_zeros([rows, side, side, 3], (Kind::Uint8, config.device)).op("pixels", &[])?;
        let tried = encoder.forward(&black).or_else(|_| {
            encoder.has_encode_image = false;
            encoder.forward(&black)
        })?;
        match tried.size().as_slice() {
            &[n, dim] if n == rows && dim > 0 => encoder.shape.dim = usize::try_from(dim).unwrap_or(0),
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

    fn run(&self, pixels: &Tensor) -> Result<Tensor, ModelError> {
        if self.has_encode_image {
            self.module.method_ts("encode_image", &[pixels]).op("torchscript encode_image", &[pixels])
        } else {
            self.module.forward_ts(&[pixels]).op("torchscript forward", &[pixels])
        }
    }
}

impl ImageEncoder for ScriptEncoder {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn forward(&mut self, pixels: &Tensor) -> Result<Tensor, ModelError> {
        let planes = self.planes.of(pixels)?;
        if !self.one_by_one {
            return self.run(&planes);
        }
        let rows = i64::try_from(self.shape.batch).unwrap_or(i64::MAX);
        let features = (0..rows)
            .map(|row| self.run(&planes.f_narrow(0, row, 1).op("one view", &[&planes])?))
            .collect::<Result<Vec<_>, _>>()?;
        Tensor::f_cat(&features, 0).op("features", &[])
    }
}

/// Lower-case hex sha256 of a file.
pub(super) fn file_hash(path: &Path) -> Result<String, ModelError> {
    let mut hash = Sha256::new();
    let mut file = File::open(path).map_err(|error| ModelError::file(path, error))?;
    std::io::copy(&mut file, &mut hash).map_err(|error| ModelError::file(path, error))?;
    Ok(format!("{:x}", hash.finalize()))
}
