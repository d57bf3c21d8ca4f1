//! A model with its variables.

use std::sync::Arc;

use tch::{Device, nn};

use super::error::ModelError;
use super::family::{Architecture, Towers};

/// Towers, and the store that owns their variables.
#[derive(Debug)]
pub struct Model {
    architecture: Arc<dyn Architecture>,
    store: nn::VarStore,
    towers: Box<dyn Towers>,
}

impl Model {
    /// A model on `device`, its variables not yet loaded or initialised: do that on [`Model::store`].
    ///
    /// # Errors
    /// Memory for the variables cannot be had.
    pub fn new(architecture: &Arc<dyn Architecture>, device: Device) -> Result<Self, ModelError> {
        let store = nn::VarStore::new(device);
        let towers = architecture.towers(&store.root())?;
        Ok(Self { architecture: architecture.clone(), store, towers })
    }

    /// What it was built from.
    pub fn architecture(&self) -> &dyn Architecture {
        &*self.architecture
    }

    /// The variables, under open_clip's names.
    pub const fn store(&self) -> &nn::VarStore {
        &self.store
    }

    /// The towers, to compute with.
    pub fn towers(&self) -> &dyn Towers {
        &*self.towers
    }

    /// The towers, to change how they compute.
    pub fn towers_mut(&mut self) -> &mut dyn Towers {
        &mut *self.towers
    }
}
