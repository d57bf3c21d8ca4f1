//! Zero-shot classification as CLIP does it (Radford et al. 2021, section 3.1.4).
//!
//! ```text
//! class names x templates ─▶ text tower ─▶ normalise ─▶ mean over templates ─▶ normalise ─▶ classifier f32[dim, classes]
//! pictures ─▶ image tower ─▶ normalise ─▶ x classifier ─▶ largest = prediction
//! ```
//!
//! Invariants: no gradient is kept; the order of classes is the caller's. Cost: one text pass a template and class,
//! one image pass a picture.

use tch::{Device, Kind, Tensor};

use trommel_model::error::Op;
use trommel_model::loss::unit_rows;
use trommel_model::{Captions, ModelError, Preprocess, Towers};

/// Template used where none are given.
pub const DEFAULT_TEMPLATE: &str = "a photo of a {}.";

/// Text features of every class: f32\[embed_dim, classes\], unit columns.
#[derive(Debug)]
pub struct Classifier {
    weights: Tensor,
    device: Device,
}

/// Counts of a labelled set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accuracy {
    /// Pictures seen.
    pub total: u64,
    /// Pictures whose largest logit was their class.
    pub top1: u64,
    /// Pictures whose class was among the five largest.
    pub top5: u64,
}

impl Accuracy {
    /// Counts a picture whose class had this rank among the guesses, from 0; `None` where it was not among the first five.
    pub fn add(&mut self, rank: Option<usize>) {
        self.total += 1;
        self.top1 += u64::from(rank == Some(0));
        self.top5 += u64::from(rank.is_some());
    }

    /// Share of first guesses that were right, 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss)]
    pub fn top1_share(&self) -> f64 {
        self.top1 as f64 / self.total.max(1) as f64
    }
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
            let rows: Vec<i64> =
                templates.iter().flat_map(|template| captions.ids(&template.replace("{}", name))).collect();
            let count = i64::try_from(templates.len()).unwrap_or(0);
            let tokens = Tensor::f_from_slice(&rows)
                .and_then(|tokens| tokens.f_reshape([count, -1])?.f_to_device(device))
                .op("tokens", &[])?;
            let features = normalize(&towers.encode_text(&tokens)?)?;
            let mean =
                features.f_mean_dim([0i64].as_slice(), true, Kind::Float).op("mean over templates", &[&features])?;
            columns.push(normalize(&mean)?);
        }
        let weights = Tensor::f_cat(&columns, 0).and_then(|rows| rows.f_transpose(0, 1)).op("classifier", &[])?;
        Ok(Self { weights, device })
    }

    /// Judges a batch of views, u8\[n, size, size, 3\]: the rank of each one's class among the five guesses, from 0.
    ///
    /// # Errors
    /// libtorch refuses.
    pub fn judge(
        &self,
        towers: &dyn Towers,
        preprocess: &Preprocess,
        views: &[u8],
        classes: &[usize],
    ) -> Result<Vec<Option<usize>>, ModelError> {
        let _no_grad = tch::no_grad_guard();
        let (n, size) = (i64::try_from(classes.len()).unwrap_or(0), i64::from(preprocess.size));
        let images = pixels(views, [n, size, size, 3], preprocess, self.device)?;
        let features = normalize(&towers.encode_image(&images)?)?;
        let logits = features.f_matmul(&self.weights).op("logits", &[&features, &self.weights])?;
        let most = logits.size().get(1).copied().unwrap_or(1).min(5);
        let (_, best) = logits.f_topk(most, 1, true, true).op("topk", &[&logits])?;
        let best = best.f_to_device(Device::Cpu).op("copy", &[])?;
        let flat: Vec<i64> = Vec::try_from(best.reshape([-1])).op("copy", &[])?;
        let guesses = flat.chunks(usize::try_from(most).unwrap_or(1)).zip(classes);
        let rank =
            |(guesses, class): (&[i64], &usize)| guesses.iter().position(|guess| usize::try_from(*guess) == Ok(*class));
        Ok(guesses.map(rank).collect())
    }
}

fn normalize(features: &Tensor) -> Result<Tensor, ModelError> {
    unit_rows(features).op("normalize", &[features])
}

/// u8\[n, h, w, 3\] to f32\[n, 3, h, w\] with mean and std applied, on `device`.
fn pixels(views: &[u8], shape: [i64; 4], preprocess: &Preprocess, device: Device) -> Result<Tensor, ModelError> {
    let mean = Tensor::from_slice(&preprocess.mean).to_kind(Kind::Float).reshape([1, 3, 1, 1]).to_device(device);
    let std = Tensor::from_slice(&preprocess.std).to_kind(Kind::Float).reshape([1, 3, 1, 1]).to_device(device);
    Tensor::f_from_data_size(views, &shape, Kind::Uint8)
        .and_then(|raw| {
            let unit = raw.f_to_device(device)?.f_permute([0, 3, 1, 2])?.f_to_kind(Kind::Float)?.f_div_scalar(255.0)?;
            unit.f_sub(&mean)?.f_div(&std)
        })
        .op("pixels", &[])
}
