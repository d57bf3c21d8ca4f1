//! `trommel eval --retrieval`: captioned pictures ─▶ both towers ─▶ how often a right caption, or the right picture, is among the first k.
//!
//! A picture's captions are the lines of the text beside it (`.txt`, else the json's caption), as Python's `splitlines` tells them apart: what
//! CLIP_benchmark's retrieval sets hold. Whoever has no caption, or cannot be decoded, is no pair: it is left out of both sides, and lost.
//! Equal captions are embedded once, so that they tie.
//!
//! Memory: the features of all pictures and captions (twice one side while its products are made), the captions, and 16 Mi scores.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use tch::Tensor;
use trommel_bridge::set_threads;
use trommel_core::credit::Permit;
use trommel_core::credit::workspace::Workspace;
use trommel_core::notices::Notices;
use trommel_core::sample::{Encoded, Event, Sample, ShardOutcome};
use trommel_embed::device;
use trommel_evaluate::retrieval::{RecallAt, ranks, recall};
use trommel_evaluate::zero_shot::{normalize, text_features};
use trommel_model::ModelError;
use trommel_model::error::Op;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::labelled::nothing;
use trommel_pipelines::stray_files::beside;
use trommel_shard::classified::captioned;
use trommel_shard::folders::FolderReader;
use trommel_shard::plan::Plan;
use trommel_shard::reader::{Admitted, ReaderConfig, Request, ShardReader, ViewBytes};
use trommel_shard::samples::GroupConfig;
use trommel_shard::store::Stores;

use super::batches::{Batches, Looked};
use super::pictures::{BATCH, Pictures, finite};
use crate::run_setup::{Input, captions};

/// Scores that are held at a time: 64 MiB, and once more while they are copied.
const MOST_SCORES: usize = 16 << 20;

/// What to retrieve from what.
#[derive(Clone, Debug)]
pub struct RetrievalConfig {
    /// A checkpoint's folder, or a file of weights.
    pub checkpoint: PathBuf,
    /// open_clip's name of the model, or its JSON.
    pub model: String,
    /// A retrieval set of CLIP_benchmark's, a folder of pictures with their captions beside them, or shards.
    pub data: PathBuf,
    /// The k of recall@k.
    pub k: Vec<usize>,
    /// `auto`, `cpu` or `cuda:N`.
    pub device: String,
    /// Threads of libtorch and of decoding, which take turns.
    pub threads: usize,
}

/// How well pictures find their captions, and captions their pictures.
#[derive(Clone, Debug, Serialize)]
pub struct RetrievalReport {
    /// Pictures with captions.
    pub pictures: u64,
    /// Their captions.
    pub captions: u64,
    /// Of a picture, whether any of its captions is among the first k of all captions: CLIP_benchmark's `text_retrieval_recall@k`.
    pub image_to_text: Vec<RecallAt>,
    /// Of a caption, whether its picture is among the first k of all pictures: CLIP_benchmark's `image_retrieval_recall@k`.
    pub text_to_image: Vec<RecallAt>,
    /// What was lost or passed over.
    pub notices: Notices,
}

/// Retrieves captions by pictures, and pictures by captions.
///
/// # Errors
/// No such checkpoint, weights that do not fit the model or give features that are no numbers; no picture with a caption; bytes that cannot be had.
pub fn retrieve(config: &RetrievalConfig) -> Result<RetrievalReport, PipelineError> {
    let device = device::parse(&config.device).map_err(PipelineError::usage)?;
    let (reading, stores) = (ReaderConfig::default(), Stores::default());
    let (input, notices) = find(&config.data, &reading.group, &stores)?;
    set_threads(config.threads);
    let model = Pictures::open(&config.model, &config.checkpoint, device, config.threads)?;
    let tokenizer = model.architecture().captions().map_err(PipelineError::usage)?;

    let mut pairs = Pairs::of(input.plan().clone(), notices);
    let mut batches = Batches::of(&model);
    read(&input, &stores, &reading, &mut |item| match pairs.take(item)? {
        Some((captioned, encoded)) => pairs.settle(batches.add(captioned, encoded)?),
        None => Ok(()),
    })?;
    pairs.settle(batches.finish()?)?;
    let Pairs { pictures, own, captions, known, notices, .. } = pairs;
    if own.is_empty() {
        return Err(nothing(&config.data, "no picture with a caption could be read", &notices));
    }
    let mut texts = vec![String::new(); known.len()];
    known.into_iter().for_each(|(text, at)| texts[at] = text);
    let mut distinct = Vec::new();
    for texts in texts.chunks(BATCH) {
        let rows = text_features(model.towers(), &*tokenizer, texts, device).map_err(PipelineError::failed)?;
        distinct.extend(numbers(&rows, "captions")?);
    }
    let dim = distinct.len() / texts.len();
    let captions: Vec<f32> = captions.iter().flat_map(|at| &distinct[at * dim..(at + 1) * dim]).copied().collect();
    drop((distinct, texts));
    let owners: Vec<Range<usize>> =
        own.iter().enumerate().flat_map(|(at, own)| own.clone().map(move |_| at..at + 1)).collect();
    let mut report = RetrievalReport {
        pictures: own.len() as u64,
        captions: owners.len() as u64,
        image_to_text: recalls(config, &pictures, &captions, dim, &own)?,
        text_to_image: recalls(config, &captions, &pictures, dim, &owners)?,
        notices,
    };
    let all = config.k.iter().filter(|k| **k >= own.len());
    if let Some(k) = all.clone().min() {
        let text = "numbers k that reach all pictures: text to image is 100 % whatever the model";
        report.notices.note("k_reaches_all", text, format!("{k} of {}", own.len()), all.count() as u64);
    }
    Ok(report)
}

/// What `data` is, and what lies beside it.
fn find(data: &Path, reading: &GroupConfig, stores: &Stores) -> Result<(Input, Notices), PipelineError> {
    let arguments = match captioned(data)? {
        Some(shards) => shards.iter().map(|shard| shard.display().to_string()).collect(),
        None => vec![data.display().to_string()],
    };
    let input = Input::find(&arguments, stores, reading)?;
    if let Input::Folders(folders) = &input {
        captions(folders, &arguments)?;
    }
    // A set's tars are arguments of their own: what lies beside them is asked of its folder.
    let mut notices = beside(&[data.display().to_string()], stores, reading)?;
    notices.merge(&input.plan().losses());
    Ok((input, notices))
}

/// Recall of queries f32\[n, dim\] among points f32\[m, dim\].
fn recalls(
    config: &RetrievalConfig,
    queries: &[f32],
    points: &[f32],
    dim: usize,
    matches: &[Range<usize>],
) -> Result<Vec<RecallAt>, PipelineError> {
    let rows = |rows: &[f32]| Tensor::f_from_slice(rows)?.f_reshape([-1, i64::try_from(dim).unwrap_or(-1)]);
    let columns = rows(points).and_then(|points| points.f_transpose(0, 1)).op("points", &[]);
    let columns = columns.map_err(PipelineError::failed)?;
    let mut products = |queries: &[f32]| {
        let scores = rows(queries).and_then(|queries| queries.f_matmul(&columns)?.f_reshape([-1]));
        Vec::try_from(scores.op("products", &[&columns])?).op("copy", &[])
    };
    let ranks = ranks::<ModelError>(queries, points, dim, matches, MOST_SCORES, &mut products);
    let ranks = ranks.map_err(PipelineError::failed)?;
    Ok(config.k.iter().map(|k| recall(&ranks, *k)).collect())
}

/// Rows as numbers on this side.
fn numbers(rows: &Tensor, of: &str) -> Result<Vec<f32>, PipelineError> {
    finite(rows, of)?;
    let rows = rows.f_to_device(tch::Device::Cpu).and_then(|rows| rows.f_reshape([-1])).and_then(Vec::<f32>::try_from);
    rows.op("copy", &[]).map_err(PipelineError::failed)
}

/// Reads every shard, or class folder, to its end.
fn read(
    input: &Input,
    stores: &Stores,
    reading: &ReaderConfig,
    emit: &mut dyn FnMut(Admitted) -> Result<(), PipelineError>,
) -> Result<(), PipelineError> {
    let views = ViewBytes::default();
    let request = |ordinal| Request { pass: 0, ordinal, train_from: 0, replay: false };
    let mut admit = |_| Ok(Permit::free());
    match input {
        Input::Shards(plan) => {
            let reader = ShardReader::new(stores.clone(), plan.clone(), reading.clone(), views, None);
            plan.shards.iter().try_for_each(|shard| {
                reader.read_shard(&request(shard.ordinal), Workspace::unbounded(), &mut admit, emit)
            })
        }
        Input::Folders(folders) => {
            let reader = FolderReader::new(folders.clone(), views, None);
            let classes = &folders.plan.shards;
            classes.iter().try_for_each(|class| reader.read_class(&request(class.ordinal), &mut admit, emit))
        }
    }
}

/// What is said of a picture.
struct Captioned {
    place: String,
    captions: Vec<String>,
    /// Lines without a caption.
    empty: u64,
}

/// Pictures and their captions, as far as they have come.
struct Pairs {
    plan: Arc<Plan>,
    /// Unit rows f32\[pictures, dim\].
    pictures: Vec<f32>,
    /// Which captions belong to each picture.
    own: Vec<Range<usize>>,
    /// The text of each caption, by its number.
    captions: Vec<usize>,
    /// The texts and their numbers.
    known: HashMap<String, usize>,
    notices: Notices,
}

impl Pairs {
    fn of(plan: Arc<Plan>, notices: Notices) -> Self {
        let (pictures, own, captions, known) = Default::default();
        Self { plan, pictures, own, captions, known, notices }
    }

    /// Takes what the reader gives; gives a picture that has captions.
    fn take(&mut self, item: Admitted) -> Result<Option<(Captioned, Bytes)>, PipelineError> {
        match item {
            Admitted::Sample(sample) => return Ok(self.captioned(sample)),
            Admitted::Event(Event::Fate(fate)) => {
                let why = fate.reason.as_ref().map(ToString::to_string).unwrap_or_default();
                let place = format!("{}: {why}", self.place(fate.info.id.ordinal, &fate.info.key));
                // Any other reject has a picture, and says itself what is wrong with it.
                let (code, text) = match fate.reason.as_ref().map(|reason| reason.code.as_str()) {
                    Some("no_image") | None => ("no_picture_read", "samples without a picture to read, left out"),
                    Some(_) => ("rejected_sample", "samples that could not be read, left out"),
                };
                self.notices.loss(code, text, place, 1, 1);
            }
            Admitted::Event(Event::End(end)) => match end.outcome {
                ShardOutcome::Unavailable(why) | ShardOutcome::Changed(why) => {
                    return Err(PipelineError::unfinished(why));
                }
                ShardOutcome::Complete(_) | ShardOutcome::Rejected(_) => self.notices.merge(&end.notices),
            },
            Admitted::Replayed(_) => {}
        }
        Ok(None)
    }

    fn captioned(&mut self, sample: Sample<Encoded>) -> Option<(Captioned, Bytes)> {
        let place = self.place(sample.info.id.ordinal, &sample.info.key);
        let lines = lines(sample.caption.as_deref().unwrap_or_default());
        let (captions, empty): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| !line.trim().is_empty());
        if captions.is_empty() {
            self.notices.loss("no_caption", "pictures without a caption, left out", place, 1, 1);
            return None;
        }
        Some((Captioned { place, captions, empty: empty.len() as u64 }, sample.payload.image))
    }

    /// Keeps the features of pictures, with their captions.
    fn settle(&mut self, looked: Vec<Looked<Captioned>>) -> Result<(), PipelineError> {
        for looked in looked {
            match looked {
                Looked::Rejected(Captioned { place, .. }, why) => {
                    let text = "pictures that could not be decoded, left out with their captions";
                    self.notices.loss("rejected", text, format!("{place}: {why}"), 1, 1);
                }
                Looked::Features(rows, pictures) => {
                    let rows = normalize(&rows).map_err(PipelineError::failed)?;
                    self.pictures.extend(numbers(&rows, "pictures")?);
                    pictures.into_iter().for_each(|picture| self.own(picture));
                }
            }
        }
        Ok(())
    }

    /// Notes the captions of the next picture.
    fn own(&mut self, Captioned { place, captions, empty }: Captioned) {
        self.notices.loss("empty_caption", "empty lines among captions, left out", place, empty, 0);
        let first = self.captions.len();
        for caption in captions {
            let next = self.known.len();
            self.captions.push(*self.known.entry(caption).or_insert(next));
        }
        self.own.push(first..self.captions.len());
    }

    fn place(&self, ordinal: u64, key: &str) -> String {
        let shard = self.plan.shard(ordinal).map_or("", |shard| shard.name.as_str());
        // A picture of a folder has the folder in its key.
        if key.starts_with(shard) { key.to_owned() } else { format!("{shard}: {key}") }
    }
}

/// Lines as Python's `splitlines` has them.
fn lines(text: &str) -> Vec<String> {
    let is_break =
        |c| matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let text = text.replace("\r\n", "\n");
    text.split_inclusive(is_break).map(|line| line.strip_suffix(is_break).unwrap_or(line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Tensor, lines, numbers};

    #[test]
    fn features_that_are_no_numbers_are_no_result() {
        let said = |row: &[f32]| numbers(&Tensor::from_slice(row), "captions").map_err(|error| error.to_string());
        assert_eq!(said(&[0.5, -1.0]), Ok(vec![0.5, -1.0]));
        for spoilt in [f32::NAN, f32::INFINITY] {
            assert_eq!(said(&[0.5, spoilt]), Err("features of captions are not finite: the weights are spoilt".into()));
        }
    }

    /// What Python 3.11 gives for the same texts.
    #[test]
    fn lines_are_pythons() {
        let cases: [(&str, &[&str]); 7] = [
            ("", &[]),
            ("a", &["a"]),
            ("a\n", &["a"]),
            ("a\n\nb\n\n", &["a", "", "b", ""]),
            ("a\r\nb\rc\n\rd", &["a", "b", "c", "", "d"]),
            (
                "a\u{b}b\u{c}c\u{1c}d\u{1d}e\u{1e}f\u{85}g\u{2028}h\u{2029}i",
                &["a", "b", "c", "d", "e", "f", "g", "h", "i"],
            ),
            ("\ta b \u{1f}\u{a0}c", &["\ta b \u{1f}\u{a0}c"]),
        ];
        for (text, due) in cases {
            assert_eq!(lines(text), due, "{text:?}");
        }
    }
}
