//! `trommel eval`: class folders, or CLIP_benchmark's tars ─▶ decode ─▶ image tower ─▶ zero-shot accuracy.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Serialize;
use trommel_core::notices::Notices;
use trommel_decode::view::{EvalView, ResizeMode, eval_view};
use trommel_decode::{Limits, decode_rgb};
use trommel_embed::device;
use trommel_evaluate::zero_shot::{Accuracy, Classifier, DEFAULT_TEMPLATE};
use trommel_model::preprocess::Resize;
use trommel_model::{Model, weights};

use trommel_pipelines::error::PipelineError;
use trommel_pipelines::labelled::{ClassNames, LabelledPictures};

/// Pictures a forward pass.
const BATCH: usize = 64;

/// What to evaluate on what.
#[derive(Clone, Debug)]
pub struct EvalConfig {
    /// A checkpoint's folder, or a file of weights.
    pub checkpoint: PathBuf,
    /// open_clip's name of the model, or its JSON.
    pub model: String,
    /// Class folders, or a set of CLIP_benchmark's.
    pub data: PathBuf,
    /// What the classes are called.
    pub classes: ClassNames,
    /// Templates with `{}` for the class; those of the set, or else the one default, where empty.
    pub templates: Vec<String>,
    /// `auto`, `cpu` or `cuda:N`.
    pub device: String,
    /// libtorch's threads.
    pub threads: usize,
}

/// The result.
#[derive(Clone, Debug, Serialize)]
pub struct EvalReport {
    /// Pictures judged.
    pub pictures: u64,
    /// Pictures that could not be decoded.
    pub rejected: u64,
    /// Classes.
    pub classes: usize,
    /// Share of first guesses that were right.
    pub top1: f64,
    /// Share of pictures whose class was among the first five guesses.
    pub top5: f64,
    /// What was lost or passed over in the folders.
    pub notices: Notices,
}

/// Zero-shot accuracy.
///
/// # Errors
/// No such checkpoint, weights that do not fit the model, no pictures, another number of class names than of folders,
/// a picture that cannot be read.
pub fn zero_shot(config: &EvalConfig) -> Result<EvalReport, PipelineError> {
    zero_shot_each(config, &mut |_, _| {})
}

/// As [`zero_shot`]; `each` hears of every picture by its place, the file or `TAR: KEY`, whether the first guess was right.
///
/// # Errors
/// As [`zero_shot`].
pub fn zero_shot_each(config: &EvalConfig, each: &mut dyn FnMut(&str, bool)) -> Result<EvalReport, PipelineError> {
    let architecture = trommel_model::load(&config.model).map_err(PipelineError::usage)?;
    let (preprocess, captions) = (architecture.preprocess(), architecture.captions().map_err(PipelineError::usage)?);
    let device = device::parse(&config.device).map_err(PipelineError::usage)?;
    let model = Model::new(&architecture, device).map_err(PipelineError::failed)?;
    weights::load(model.store(), &*architecture, &weights_file(&config.checkpoint)).map_err(PipelineError::usage)?;
    let mut labelled = LabelledPictures::find(&config.data, &config.classes)?;
    let names = labelled.class_names.clone();
    let given = if config.templates.is_empty() { &labelled.templates } else { &config.templates };
    let templates = if given.is_empty() { vec![DEFAULT_TEMPLATE.to_owned()] } else { given.clone() };
    tch::set_num_threads(i32::try_from(config.threads).unwrap_or(1));
    let classifier =
        Classifier::new(model.towers(), &*captions, &names, &templates, device).map_err(PipelineError::failed)?;
    let mode = match preprocess.mode {
        Resize::Shortest => ResizeMode::Shortest,
        Resize::Squash => ResizeMode::Squash,
    };
    let view = EvalView { size: preprocess.size, mode };
    let (mut sum, mut rejected, mut notices) = (Accuracy::default(), 0, Notices::default());
    let mut seen = HashSet::new();
    for name in names.iter().filter(|name| !seen.insert(name.as_str())) {
        notices.note("equal_class_names", "class names that other folders have too", name, 1);
    }
    let (mut pixels, mut labels, mut places): (Vec<u8>, Vec<usize>, Vec<String>) = Default::default();
    let mut flush = |pixels: &mut Vec<u8>, labels: &mut Vec<usize>, places: &mut Vec<String>| {
        if labels.is_empty() {
            return Ok(());
        }
        let ranks = classifier.judge(model.towers(), preprocess, pixels, labels).map_err(PipelineError::failed)?;
        for (place, rank) in places.iter().zip(ranks) {
            sum.add(rank);
            each(place, rank == Some(0));
        }
        pixels.clear();
        labels.clear();
        places.clear();
        Ok::<_, PipelineError>(())
    };
    let limits = Limits::default();
    labelled.each(&limits, &mut |place, content| {
        let judged = content.and_then(|(bytes, class)| {
            let picture = decode_rgb(&bytes, &limits).map_err(|error| error.to_string())?;
            eval_view(&picture, &view).map(|square| (square, class)).map_err(|error| error.to_string())
        });
        match judged {
            Ok((square, class)) => {
                pixels.extend_from_slice(&square);
                labels.push(class);
                places.push(place);
            }
            Err(why) => {
                rejected += 1;
                let text = "pictures that could not be decoded, left out";
                notices.loss("rejected", text, format!("{place}: {why}"), 1, 1);
            }
        }
        if labels.len() < BATCH { Ok(()) } else { flush(&mut pixels, &mut labels, &mut places) }
    })?;
    flush(&mut pixels, &mut labels, &mut places)?;
    notices.merge(&labelled.notices);
    #[expect(clippy::cast_precision_loss)]
    let top5 = sum.top5 as f64 / sum.total.max(1) as f64;
    Ok(EvalReport { pictures: sum.total, rejected, classes: names.len(), top1: sum.top1_share(), top5, notices })
}

/// A checkpoint's folder stands for the weights in it.
fn weights_file(path: &Path) -> PathBuf {
    let inside = path.join("open_clip_model.pt");
    if inside.is_file() { inside } else { path.to_path_buf() }
}
