//! A model's image tower as an encoder.

use std::fmt;

use tch::{Device, Kind, Tensor, nn};

use super::device;
use super::encoder::{EncoderConfig, ImageEncoder, Precision, Shape};
use super::pixels::{Patches, Planes};
use trommel_bridge::{Attention, has_onednn};
use trommel_model::{Architecture, ImageTower, ModelError, weights};

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
                packed: !on_card && !config.torchscript && config.precision == Precision::F32 && has_onednn(),
                throughout: on_card && config.precision == Precision::F16,
                attention: if hopper { Attention::Cudnn } else { Attention::Flash },
            }
        })
    }
}

/// For the numeric part, and for people: `patches by product, residual sum f16, Cudnn attention first`.
impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patches = if self.patches { "product" } else { "convolution" };
        let residual = if self.throughout { "as products" } else { "f32" };
        write!(f, "patches by {patches}, residual sum {residual}, {:?} attention first", self.attention)
    }
}

#[derive(Debug)]
enum Input {
    Planes(Planes),
    Patches(Patches),
}

/// A model's image tower alone; the text tower's weights are not loaded, nor part of the identity.
#[derive(Debug)]
pub struct TowerEncoder {
    tower: Box<dyn ImageTower>,
    input: Input,
    shape: Shape,
    _variables: nn::VarStore,
}

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
        Ok((Self { tower, input, shape, _variables: variables }, name))
    }
}

impl ImageEncoder for TowerEncoder {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn forward(&mut self, pixels: &Tensor) -> Result<Tensor, ModelError> {
        match &self.input {
            Input::Planes(planes) => self.tower.forward(&planes.of(pixels)?),
            Input::Patches(patches) => self.tower.forward_patches(patches.of(pixels)?, &patches.product),
        }
    }
}
