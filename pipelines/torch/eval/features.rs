//! Pictures to image features, batch by batch.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tch::{Device, Tensor};
use trommel_bridge::{has_onednn, keep_freed_memory};
use trommel_core::causes::Cause;
use trommel_core::notices::Notices;
use trommel_decide::hash::random_hash;
use trommel_decode::Limits;
use trommel_evaluate::zero_shot::features;
use trommel_model::family::{Architecture, Towers};
use trommel_model::{Model, weights};

use trommel_pipelines::error::PipelineError;
use trommel_pipelines::labelled::{LabelledPictures, PictureName};

use super::views::Viewer;

/// Pictures, or texts, a forward pass.
pub(super) const BATCH: usize = 64;

/// Some pictures' features.
pub(super) struct Features {
    /// f32\[n, dim\], not normalised.
    pub rows: Tensor,
    /// Number of each one's class.
    pub classes: Vec<usize>,
    /// Their keys, as embedding the same folder gives them.
    pub keys: Vec<String>,
}

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
    /// No such model or weights, or weights of another one.
    pub fn open(model: &str, checkpoint: &Path, device: Device, threads: usize) -> Result<Self, PipelineError> {
        let architecture = trommel_model::load(model).map_err(PipelineError::usage)?;
        let mut model = Model::new(&architecture, device).map_err(PipelineError::failed)?;
        weights::load(model.store(), &*architecture, &weights_file(checkpoint)).map_err(PipelineError::usage)?;
        if device == Device::Cpu && has_onednn() {
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
    /// libtorch refuses.
    pub fn features(&self, views: &[u8], n: usize) -> Result<Tensor, PipelineError> {
        let preprocess = self.architecture.preprocess();
        features(self.towers(), preprocess, views, n, self.device).map_err(PipelineError::failed)
    }

    /// Gives the features of all pictures that are wanted by key and class, in their order; and how many could not be decoded, which are
    /// among the losses.
    ///
    /// # Errors
    /// A picture that cannot be read, libtorch refuses, or what `take` says.
    pub fn each(
        &self,
        labelled: &mut LabelledPictures,
        wanted: &mut dyn FnMut(&str, usize) -> bool,
        notices: &mut Notices,
        take: &mut dyn FnMut(Features) -> Result<(), PipelineError>,
    ) -> Result<u64, PipelineError> {
        let (waiting, pixels, classes, keys) = Default::default();
        let mut batches = Batches { model: self, waiting, pixels, classes, keys, rejected: 0, notices, take };
        labelled.each(self.viewer.limits(), wanted, &mut |seen, content| batches.add(seen, content))?;
        batches.decode()?;
        batches.flush()?;
        Ok(batches.rejected)
    }
}

/// Pictures on their way to features.
struct Batches<'a> {
    model: &'a Pictures,
    /// Encoded ones, with their names and classes.
    waiting: Vec<((PictureName, usize), Vec<u8>)>,
    /// Views whose features are not made yet.
    pixels: Vec<u8>,
    classes: Vec<usize>,
    keys: Vec<String>,
    rejected: u64,
    notices: &'a mut Notices,
    take: &'a mut dyn FnMut(Features) -> Result<(), PipelineError>,
}

impl Batches<'_> {
    fn add(&mut self, seen: PictureName, content: Result<(Vec<u8>, usize), Cause>) -> Result<(), PipelineError> {
        match content {
            Ok((bytes, class)) => self.waiting.push(((seen, class), bytes)),
            Err(why) => {
                // Losses are said in the order of the pictures.
                self.decode()?;
                self.reject(&seen, &why);
            }
        }
        if self.waiting.len() < BATCH { Ok(()) } else { self.decode() }
    }

    /// Decodes the pictures that wait, and makes the features of those of full batches.
    fn decode(&mut self) -> Result<(), PipelineError> {
        for ((seen, class), view) in self.model.viewer.views(&mut self.waiting) {
            match view {
                Ok(view) => {
                    self.pixels.extend_from_slice(&view);
                    self.classes.push(class);
                    self.keys.push(seen.key);
                }
                Err(why) => self.reject(&seen, &why),
            }
            if self.classes.len() == BATCH {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn reject(&mut self, seen: &PictureName, why: &Cause) {
        self.rejected += 1;
        let text = "pictures that could not be decoded, left out";
        self.notices.loss("rejected", text, format!("{}: {why}", seen.place), 1, 1);
    }

    fn flush(&mut self) -> Result<(), PipelineError> {
        if self.classes.is_empty() {
            return Ok(());
        }
        let rows = self.model.features(&self.pixels, self.classes.len())?;
        self.pixels.clear();
        let (classes, keys) = (std::mem::take(&mut self.classes), std::mem::take(&mut self.keys));
        (self.take)(Features { rows, classes, keys })
    }
}

/// The pictures of each class with the smallest hashes of (seed, class, key): exact, and the same whatever else is in the folder's class order.
///
/// # Errors
/// A folder that cannot be read, or a class that has fewer.
pub(super) fn draw(
    labelled: &mut LabelledPictures,
    shots: usize,
    seed: u64,
) -> Result<HashSet<(usize, String)>, PipelineError> {
    let mut classes: BTreeMap<usize, Vec<(u64, String)>> = BTreeMap::new();
    let names = labelled.class_names.clone();
    // Nothing is wanted yet: files are only listed.
    let mut list = |key: &str, class: usize| {
        let name = names.get(class).map_or("", String::as_str);
        classes.entry(class).or_default().push((random_hash(seed, name, key), key.to_owned()));
        false
    };
    let (before, limits) = (labelled.notices.clone(), Limits::default());
    labelled.each(&limits, &mut list, &mut |_, _| Ok(()))?;
    // The second time says it.
    labelled.notices = before;
    let mut drawn = HashSet::new();
    for (class, name) in names.iter().enumerate() {
        let mut all = classes.remove(&class).unwrap_or_default();
        if all.len() < shots {
            return Err(PipelineError::Usage(format!("--shots {shots}: class `{name}` has {} pictures", all.len())));
        }
        all.sort();
        drawn.extend(all.into_iter().take(shots).map(|(_, key)| (class, key)));
    }
    Ok(drawn)
}

/// A checkpoint's folder stands for the weights in it.
fn weights_file(path: &Path) -> PathBuf {
    let inside = path.join("open_clip_model.pt");
    if inside.is_file() { inside } else { path.to_path_buf() }
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
        weights::save(drawn.store(), &file, false).unwrap();

        let pictures = Pictures::open(MODEL, &file, Device::Cpu, 1).unwrap();
        let held = pictures.model.store().variables();
        let packed = held.iter().filter(|(name, _)| name.ends_with("c_fc.weight")).collect::<Vec<_>>();
        assert_eq!(packed.len(), 6, "the blocks of both towers");
        assert!(packed.iter().all(|(_, weight)| weight.numel() == 0) == has_onednn());

        let views: Vec<u8> = (0..BATCH * 32 * 32 * 3).map(|at| (at * at / 97 % 251) as u8).collect();
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
        for packed in [has_onednn(), false] {
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
