//! `trommel eval`: labelled pictures ─▶ decode ─▶ image tower ─▶ zero-shot accuracy; a linear probe; accuracy against similarity.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tch::Tensor;
use trommel_bridge::set_threads;
use trommel_core::notices::Notices;
use trommel_embed::device;
use trommel_evaluate::bins::{Bin, bins, spearman, spearman_of_bins};
use trommel_evaluate::probe::{Probe, ProbeConfig};
use trommel_evaluate::scores::{Accuracy, Guess, Shares};
use trommel_evaluate::zero_shot::{Classifier, DEFAULT_TEMPLATE};

use trommel_pipelines::error::PipelineError;
use trommel_pipelines::labelled::{ClassNames, LabelledPictures, PictureName, nothing};
use trommel_pipelines::lists;
use trommel_pipelines::nearest::{self, Near};

mod batches;
mod features;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod peers;
mod pictures;
pub mod retrieval;
mod views;

use self::features::Features;
use self::pictures::{Pictures, finite};

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
    /// A linear probe beside the zero-shot classifier.
    pub probe: Option<ProbeOn>,
    /// Where the similarity of each picture to its nearest training picture stands; see [`nearest::similarities`].
    pub nearest: Option<String>,
    /// `auto`, `cpu` or `cuda:N`.
    pub device: String,
    /// Threads of libtorch and of decoding, which take turns.
    pub threads: usize,
}

/// What a probe is fit on.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeOn {
    /// Labelled pictures of the same classes.
    pub data: PathBuf,
    /// So many of each class, drawn by a seeded hash of their keys; `None`: all.
    pub shots: Option<usize>,
    /// Seed of the draw.
    pub seed: u64,
    /// Inverse strength of the regularisation.
    pub c: f64,
}

/// How well a checkpoint tells the classes of labelled pictures.
#[derive(Clone, Debug, Serialize)]
pub struct EvalReport {
    /// Pictures judged.
    pub pictures: u64,
    /// Pictures that could not be decoded, or whose class nobody can tell.
    pub rejected: u64,
    /// Number of classes.
    pub classes: usize,
    /// Accuracy without any training on the classes.
    #[serde(flatten)]
    pub zero_shot: Shares,
    /// The linear probe.
    pub probe: Option<ProbeReport>,
    /// Accuracy against similarity.
    pub nearest: Option<NearestReport>,
    /// What was lost or passed over in the folders.
    pub notices: Notices,
}

/// A probe on the same pictures.
#[derive(Clone, Debug, Serialize)]
pub struct ProbeReport {
    /// Pictures that it was fit on.
    pub fit_on: u64,
    /// Of each class at most.
    pub shots: Option<usize>,
    /// Accuracy of the probe.
    #[serde(flatten)]
    pub accuracy: Shares,
    /// Steps of the fit.
    pub steps: usize,
    /// Whether it found the minimum.
    pub has_converged: bool,
}

/// Zero-shot accuracy against the similarity to the nearest training picture.
#[derive(Clone, Debug, Serialize)]
pub struct NearestReport {
    /// Bins, from the lowest.
    pub bins: Vec<Bin>,
    /// Spearman's rho of similarity and accuracy over bins of ten pictures and more; `None` of fewer than three of them.
    pub rho_bins: Option<f64>,
    /// Spearman's rho of similarity and being right (0 or 1) over pictures.
    pub rho_pictures: Option<f64>,
}

/// Evaluates.
///
/// # Errors
/// No such checkpoint, weights that do not fit the model, no picture that could be judged, another number of class names than of folders,
/// a picture that cannot be read, a picture whose similarity is not known.
pub fn evaluate(config: &EvalConfig) -> Result<EvalReport, PipelineError> {
    evaluate_each(config, &mut |_, _| {})
}

/// As [`evaluate`]; `each` hears of every picture what was guessed.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_each(
    config: &EvalConfig,
    each: &mut dyn FnMut(&PictureName, Guess),
) -> Result<EvalReport, PipelineError> {
    let device = device::parse(&config.device).map_err(PipelineError::usage)?;
    let similarities = config.nearest.as_deref().map(nearest::similarities).transpose()?;
    let mut labelled = LabelledPictures::find(&config.data, &config.classes)?;
    let (names, mut notices) = (labelled.class_names.clone(), Notices::default());
    let similarities = similarities.map(|(known, lost)| {
        notices.merge(&lost);
        known
    });
    let mut probed = config.probe.as_ref().map(|probe| fitting(probe, config, &names)).transpose()?;
    let templates = templates(&config.templates, labelled.templates.as_deref(), &mut notices)?;
    set_threads(config.threads);
    let pictures = Pictures::open(&config.model, &config.checkpoint, device, config.threads)?;
    let captions = pictures.architecture().captions().map_err(PipelineError::usage)?;
    let classifier =
        Classifier::new(pictures.towers(), &*captions, &names, &templates, device).map_err(PipelineError::failed)?;
    let mut seen = HashSet::new();
    for name in names.iter().filter(|name| !seen.insert(name.as_str())) {
        notices.note("equal_class_names", "class names that other folders have too", name, 1);
    }
    let probe = probed.as_mut().map(|(on, labelled)| fit(&pictures, on, labelled, &names, &mut notices)).transpose()?;

    let (mut sum, mut of_probe) = (Accuracy::of(names.len()), Accuracy::of(names.len()));
    let mut judged = Vec::new();
    let rejected =
        features::each(&pictures, &mut labelled, &mut |_, _| true, &mut notices, &mut |features: Features| {
            let logits = classifier.logits(&features.rows).map_err(PipelineError::failed)?;
            finite(&logits, "class names")?;
            sum.add(&logits, &features.classes).map_err(PipelineError::failed)?;
            if let Some((probe, _)) = &probe {
                let logits = probe.logits(&features.rows).map_err(PipelineError::failed)?;
                of_probe.add(&logits, &features.classes).map_err(PipelineError::failed)?;
            }
            judged.extend(features.names);
            Ok(())
        })?;
    notices.merge(&labelled.notices);
    if sum.total == 0 {
        return Err(nothing(&config.data, "no picture could be judged", &notices));
    }
    let text = "classes of which no picture was judged, each of them guessed all the same";
    note_empty("classes_without_picture", text, &names, |class| sum.classes[class].0 > 0, &mut notices);
    judged.iter().zip(&sum.guesses).for_each(|(picture, guess)| each(picture, *guess));
    let right: Vec<bool> = sum.guesses.iter().map(|guess| guess.is_right).collect();
    let nearest = similarities.map(|known| against(&known, &judged, &right, &mut notices)).transpose()?;
    let probe = probe.map(|(probe, fit_on)| ProbeReport {
        fit_on,
        shots: config.probe.as_ref().and_then(|probe| probe.shots),
        accuracy: of_probe.shares(),
        steps: probe.steps,
        has_converged: probe.has_converged,
    });
    Ok(EvalReport {
        pictures: sum.total,
        rejected,
        classes: names.len(),
        zero_shot: sum.shares(),
        probe,
        nearest,
        notices,
    })
}

/// Notes the classes that have nothing, with the first names.
fn note_empty(code: &str, text: &str, names: &[String], has: impl Fn(usize) -> bool, notices: &mut Notices) {
    let empty: Vec<&str> = (0..names.len()).filter(|class| !has(*class)).map(|class| names[class].as_str()).collect();
    notices.note(code, text, empty.iter().take(3).copied().collect::<Vec<_>>().join(", "), empty.len() as u64);
}

/// The templates that are given, or else those of the set's `own` file, or else the one default.
fn templates(given: &[String], own: Option<&Path>, notices: &mut Notices) -> Result<Vec<String>, PipelineError> {
    match own {
        Some(own) if given.is_empty() => return lists::templates(own),
        // The set's own once more are not others.
        Some(own) if lists::templates(own).is_ok_and(|own| own == given) => {}
        Some(own) => {
            let text = "templates of a set's own that are not read, for others are given in their place";
            notices.note("own_templates", text, own.display().to_string(), 1);
        }
        None if given.is_empty() => return Ok(vec![DEFAULT_TEMPLATE.to_owned()]),
        None => {}
    }
    Ok(given.to_vec())
}

/// The pictures of a probe, which have the same classes.
fn fitting<'a>(
    probe: &'a ProbeOn,
    config: &EvalConfig,
    names: &[String],
) -> Result<(&'a ProbeOn, LabelledPictures), PipelineError> {
    let labelled = LabelledPictures::find(&probe.data, &config.classes)?;
    if labelled.class_names != names {
        let differs = names.iter().zip(&labelled.class_names).find(|(a, b)| a != b);
        let differs = differs.map_or_else(String::new, |(a, b)| format!(" (first: `{b}` where `{a}` is due)"));
        return Err(PipelineError::usage(format!(
            "{} has {} classes, and {} has {}, or others{differs}",
            probe.data.display(),
            labelled.class_names.len(),
            config.data.display(),
            names.len()
        )));
    }
    Ok((probe, labelled))
}

/// Fits a probe; gives it with the number of its pictures.
fn fit(
    pictures: &Pictures,
    on: &ProbeOn,
    labelled: &mut LabelledPictures,
    names: &[String],
    notices: &mut Notices,
) -> Result<(Probe, u64), PipelineError> {
    let drawn = on.shots.map(|shots| features::draw(labelled, shots, on.seed)).transpose()?;
    let (mut rows, mut labels): (Vec<Tensor>, Vec<i64>) = Default::default();
    let mut wanted =
        |name: &str, class: usize| drawn.as_ref().is_none_or(|drawn| drawn.contains(&(class, name.to_owned())));
    let mut missing = drawn.clone().unwrap_or_default();
    features::each(pictures, labelled, &mut wanted, notices, &mut |features: Features| {
        rows.push(features.rows);
        labels.extend(features.classes.iter().map(|class| *class as i64));
        features.classes.into_iter().zip(features.names).for_each(|(class, picture)| {
            missing.remove(&(class, picture.in_set()));
        });
        Ok(())
    })?;
    // A class with a picture less than was asked for would be judged as if it had them all.
    if let Some((_, key)) = missing.iter().min() {
        return Err(PipelineError::usage(format!(
            "{}: --shots drew {key}, which cannot be decoded: mend it, or take it away",
            on.data.display()
        )));
    }
    notices.merge(&labelled.notices);
    if labels.is_empty() {
        return Err(nothing(&on.data, "no picture to fit a probe on could be decoded", notices));
    }
    let has: HashSet<i64> = labels.iter().copied().collect();
    let text = "classes of which the linear probe was fit on no picture";
    note_empty("probe_classes_without_picture", text, names, |class| has.contains(&(class as i64)), notices);
    let config = ProbeConfig { c: on.c, ..ProbeConfig::default() };
    let (rows, truth) = (Tensor::cat(&rows, 0), Tensor::from_slice(&labels));
    let probe = Probe::fit(&rows, &truth, names.len() as i64, &config).map_err(PipelineError::failed)?;
    if !probe.has_converged {
        let text = "steps after which the linear probe had not reached its minimum";
        notices.note("probe_not_converged", text, on.data.display().to_string(), probe.steps as u64);
    }
    Ok((probe, labels.len() as u64))
}

/// Accuracy against similarity; every picture needs a point of its own.
fn against(
    known: &Near,
    pictures: &[PictureName],
    right: &[bool],
    notices: &mut Notices,
) -> Result<NearestReport, PipelineError> {
    let point = |picture: &PictureName| known.find(picture.shard.as_deref(), &picture.key);
    let missing: Vec<&PictureName> = pictures.iter().filter(|picture| point(picture).is_none()).collect();
    if let Some(first) = missing.first() {
        let (missing, all, first) = (missing.len(), pictures.len(), first.in_set());
        return Err(PipelineError::usage(format!(
            "--nearest: {missing} of {all} pictures are not in it (first: {first})"
        )));
    }
    let points: Vec<usize> = pictures.iter().filter_map(point).collect();
    let mut judged = HashSet::new();
    if let Some((picture, _)) = pictures.iter().zip(&points).find(|(_, point)| !judged.insert(**point)) {
        let (key, second) = (&picture.key, picture.in_set());
        return Err(PipelineError::usage(format!(
            "--nearest: two pictures have the key {key}, and one point that does not say its shard (second: {second})"
        )));
    }
    let text = "points of --nearest whose pictures were not judged";
    let others: Vec<&str> = known.keys().filter(|(at, _)| !judged.contains(at)).map(|(_, key)| key).collect();
    let first = others.iter().min().copied().unwrap_or_default();
    notices.note("nearest_without_picture", text, first, others.len() as u64);
    let similarities: Vec<f64> = points.into_iter().map(|at| known.similarity(at)).collect();
    let counted = bins(similarities.iter().copied().zip(right.iter().copied()));
    let told = |bin: &Bin| (bin.low, bin.pictures, bin.right as f64 / bin.pictures as f64);
    let rights: Vec<f64> = right.iter().map(|right| f64::from(u8::from(*right))).collect();
    Ok(NearestReport {
        rho_bins: spearman_of_bins(counted.iter().map(told)),
        rho_pictures: spearman(&similarities, &rights),
        bins: counted,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Expected: scipy.stats.spearmanr over the bins, but for the one of nine pictures (with it 0.1), and over the pictures.
    #[test]
    fn accuracy_is_set_against_similarity_by_full_bins_and_by_pictures() {
        let (mut known, mut pictures, mut right) = (Vec::new(), Vec::new(), Vec::new());
        for (low, count, good) in [(0.5, 20, 0), (0.6, 20, 10), (0.7, 20, 5), (0.8, 20, 15), (0.9, 9, 0)] {
            for at in 0..count {
                let key = format!("{low}/{at}");
                known.push((None, key.clone(), low + 0.02));
                pictures.push(PictureName { place: key.clone(), key, shard: None });
                right.push(at < good);
            }
        }
        let report = against(&Near::of(known), &pictures, &right, &mut Notices::default()).unwrap();
        assert!((report.rho_bins.unwrap() - 0.8).abs() < 1e-12, "{:?}", report.rho_bins);
        assert!((report.rho_pictures.unwrap() - 0.251_062_987_193).abs() < 1e-9, "{:?}", report.rho_pictures);
    }
}
