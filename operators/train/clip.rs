//! open_clip's CLIP with its variables, as the trainer wants it.

use tch::{Device, Tensor, nn};

use super::batch::Normalisation;
use super::step::{Contrastive, Features};
use trommel_model::{Clip, ClipConfig, ModelError, PackedCaptions, Preprocess};

/// A [`Clip`] and the store that owns its variables.
#[derive(Debug)]
pub struct TrainedClip {
    store: nn::VarStore,
    clip: Clip,
}

impl TrainedClip {
    /// A model on `device`, its variables not yet loaded or initialised: do that on [`TrainedClip::store`].
    ///
    /// # Errors
    /// Memory for the variables cannot be had.
    pub fn new(config: &ClipConfig, device: Device) -> Result<Self, ModelError> {
        let store = nn::VarStore::new(device);
        let clip = Clip::new(&store.root(), config)?;
        Ok(Self { store, clip })
    }

    /// The variables, under open_clip's names.
    pub const fn store(&self) -> &nn::VarStore {
        &self.store
    }

    /// The variables, to load into.
    pub const fn store_mut(&mut self) -> &mut nn::VarStore {
        &mut self.store
    }

    /// The towers.
    pub const fn clip(&self) -> &Clip {
        &self.clip
    }

    /// The towers.
    pub const fn clip_mut(&mut self) -> &mut Clip {
        &mut self.clip
    }
}

impl Contrastive for TrainedClip {
    fn encode_image(&self, images: &Tensor) -> Features {
        Ok(self.clip.encode_image(images)?)
    }

    fn encode_text(&self, tokens: &Tensor) -> Features {
        Ok(self.clip.encode_text(tokens)?)
    }

    fn packs_captions(&self) -> bool {
        self.clip.packs_captions()
    }

    fn encode_captions(&self, captions: &PackedCaptions) -> Features {
        Ok(self.clip.encode_captions(captions)?)
    }

    fn logit_scale(&self) -> Tensor {
        self.clip.logit_scale.shallow_clone()
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.store.variables().into_iter().filter(|(_, tensor)| tensor.requires_grad()).collect()
    }
}

impl From<&Preprocess> for Normalisation {
    fn from(preprocess: &Preprocess) -> Self {
        Self { mean: preprocess.mean.map(|x| x as f32), std: preprocess.std.map(|x| x as f32) }
    }
}
