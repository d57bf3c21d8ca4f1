//! Zero-shot classification as CLIP does it (Radford et al. 2021, section 3.1.4).
//!
//! ```text
//! class names x templates ─▶ text tower ─▶ normalise ─▶ mean over templates ─▶ normalise ─▶ classifier f32[dim, classes]
//! pictures ─▶ image tower ─▶ normalise ─▶ x classifier ─▶ largest = prediction
//! ```
//!
//! Invariants: no gradient is kept; the order of classes is the caller's. Cost: one text pass a template and class
//! (of the words alone, where the tower does not look at the padding), one image pass a picture.

use tch::{Device, Kind, Tensor};

use trommel_model::error::Op;
use trommel_model::loss::unit_rows;
use trommel_model::preprocess::Normalise;
use trommel_model::{Captions, ModelError, Packing, Preprocess, Towers};

/// Template used where none are given.
pub const DEFAULT_TEMPLATE: &str = "a photo of a {}.";

/// Text features of every class: f32\[embed_dim, classes\], unit columns.
#[derive(Debug)]
pub struct Classifier {
    weights: Tensor,
    device: Device,
}

impl Classifier {
    /// Embeds each class name in each template (`{}` is the name) and averages.
    ///
    /// # Errors
    /// libtorch refuses.
    pub fn new(
        towers: &dyn Towers,
        captions: &dyn Captions,
        class_names: &[String],
        templates: &[String],
        device: Device,
    ) -> Result<Self, ModelError> {
        let _no_grad = tch::no_grad_guard();
        let mut columns = Vec::with_capacity(class_names.len());
        for name in class_names {
            let texts: Vec<String> = templates.iter().map(|template| template.replace("{}", name)).collect();
            let features = text_features(towers, captions, &texts, device)?;
            let mean =
                features.f_mean_dim([0i64].as_slice(), true, Kind::Float).op("mean over templates", &[&features])?;
            columns.push(normalize(&mean)?);
        }
        let weights = Tensor::f_cat(&columns, 0).and_then(|rows| rows.f_transpose(0, 1)).op("classifier", &[])?;
        Ok(Self { weights, device })
    }

    /// Logits f32\[n, classes\] of image features f32\[n, dim\]: cosines to each class.
    ///
    /// # Errors
    /// libtorch refuses.
    pub fn logits(&self, features: &Tensor) -> Result<Tensor, ModelError> {
        let _no_grad = tch::no_grad_guard();
        let features = normalize(&features.f_to_device(self.device).op("features", &[features])?)?;
        features.f_matmul(&self.weights).op("logits", &[&features, &self.weights])
    }
}

/// Features of some texts: f32\[n, dim\] on the device, unit rows.
///
/// # Errors
/// libtorch refuses.
pub fn text_features(
    towers: &dyn Towers,
    captions: &dyn Captions,
    texts: &[impl AsRef<str>],
    device: Device,
) -> Result<Tensor, ModelError> {
    let _no_grad = tch::no_grad_guard();
    let ids: Vec<i64> = texts.iter().flat_map(|text| captions.ids(text.as_ref())).collect();
    if towers.packs_captions() {
        let packing = Packing::of(&ids, ids.len() / texts.len().max(1));
        return normalize(&towers.encode_captions(&packing.on(device).op("tokens", &[])?)?);
    }
    let count = i64::try_from(texts.len()).unwrap_or(0);
    let tokens = Tensor::f_from_slice(&ids)
        .and_then(|tokens| tokens.f_reshape([count, -1])?.f_to_device(device))
        .op("tokens", &[])?;
    normalize(&towers.encode_text(&tokens)?)
}

/// Features of views u8\[n, size, size, 3\]: f32\[n, dim\] on the CPU, not normalised.
///
/// # Errors
/// libtorch refuses.
pub fn features(
    towers: &dyn Towers,
    preprocess: &Preprocess,
    views: &[u8],
    n: usize,
    device: Device,
) -> Result<Tensor, ModelError> {
    let _no_grad = tch::no_grad_guard();
    let (n, size) = (i64::try_from(n).unwrap_or(0), i64::from(preprocess.size));
    let images = Normalise::new(&preprocess.mean, &preprocess.std, device)
        .and_then(|normalise| {
            normalise.planes(&Tensor::f_from_data_size(views, &[n, size, size, 3], Kind::Uint8)?.f_to_device(device)?)
        })
        .op("pixels", &[])?;
    let features = towers.encode_image(&images)?;
    features.f_to_device(Device::Cpu).and_then(|rows| rows.f_to_kind(Kind::Float)).op("features", &[])
}

/// Unit rows of features.
///
/// # Errors
/// libtorch refuses.
pub fn normalize(features: &Tensor) -> Result<Tensor, ModelError> {
    unit_rows(features).op("normalize", &[features])
}
