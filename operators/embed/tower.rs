//! A model's image tower as an encoder.

use std::sync::Arc;

use tch::{Kind, Tensor, nn};

use super::encoder::{EncoderConfig, Form, ImageEncoder, Shape};
use super::pixels::{Patches, Planes};
use trommel_model::{Architecture, ImageTower, ModelError, weights};

#[derive(Debug)]
enum Input {
    Planes(Planes),
    Patches(Patches),
}

/// A model's image tower alone; the text tower's weights are not loaded, nor part of the identity.
#[derive(Debug)]
pub struct TowerEncoder {
    tower: Arc<Tower>,
    shape: Shape,
}

/// What instances share.
#[derive(Debug)]
struct Tower {
    tower: Box<dyn ImageTower>,
    input: Input,
    _variables: nn::VarStore,
}

// SAFETY: a forward pass over planes reads tensors that nobody writes to any more, and libtorch lets several threads read a tensor.
// Over patches it writes to `Patches::rows`: `instance` gives no second encoder of those, so that one thread alone has them.
unsafe impl Sync for Tower {}

impl TowerEncoder {
    /// Loads or draws the weights; also gives their name in an identity.
    ///
    /// # Errors
    /// Weights that are missing or do not fit.
    pub fn load(model: &dyn Architecture, config: &EncoderConfig, form: Form) -> Result<(Self, String), ModelError> {
        let mut variables = nn::VarStore::new(config.device);
        let mut tower = model.image_tower(&variables.root())?;
        tower.multiply_patches(false); // of planes, which stay the reference; `Form::patches` are of pixels
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
        if form.packed {
            tower.pack(i64::try_from(config.batch).unwrap_or(i64::MAX))?;
        } else if form.folded {
            tower.fold_activation()?;
        }
        let products = config.precision.kind();
        let residual = if form.throughout { products } else { Kind::Float };
        let input = if form.patches {
            let place = (config.batch, config.device);
            Input::Patches(Patches::new(model.preprocess(), &*tower, (products, residual), place)?)
        } else {
            Input::Planes(Planes::new(model.preprocess(), products, config.device)?)
        };
        if form.throughout {
            weights::lower_all(&mut variables, products)?;
        } else if products != Kind::Float {
            weights::lower(&mut variables, model, products)?;
        }
        let shape = Shape {
            batch: config.batch,
            size: model.preprocess().size,
            dim: usize::try_from(model.sizes().embed_dim).unwrap_or(0),
            device: config.device,
            threads: config.threads,
        };
        Ok((Self { tower: Arc::new(Tower { tower, input, _variables: variables }), shape }, name))
    }
}

impl ImageEncoder for TowerEncoder {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn forward(&mut self, pixels: &Tensor) -> Result<Tensor, ModelError> {
        let Tower { tower, input, .. } = &*self.tower;
        match input {
            Input::Planes(planes) => tower.forward(&planes.of(pixels)?),
            Input::Patches(patches) => tower.forward_patches(patches.of(pixels)?, &patches.product),
        }
    }

    fn instance(&self, threads: usize) -> Option<Box<dyn ImageEncoder>> {
        let shares = matches!(self.tower.input, Input::Planes(_));
        shares.then(|| Box::new(Self { tower: self.tower.clone(), shape: Shape { threads, ..self.shape } }) as _)
    }
}
