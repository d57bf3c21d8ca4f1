//! The file that says what is studied: `FILE.toml`.
//!
//! ```
//! use trommel_pipelines_torch::study::config::StudyFile;
//! let file = StudyFile::parse(
//!     r#"
//!     pool = "laion/{00000..41407}.tar"
//!     reference = "imagenet/train"
//!     seeds = [0, 1, 2]
//!     model = "ViT-B-32"
//!
//!     [benchmarks.val]
//!     data = "imagenet/val"
//!     class_table = "imagenet_class_index.json"
//!
//!     [embedder]
//!     model = "ViT-B-16-plus-240"
//!     weights = "laion400m_e32.safetensors"
//!
//!     [training]
//!     batch = 4096
//!     passes = 32
//!
//!     [ladder]
//!     sizes = ["25 %", 100_000_000]
//!     "#,
//! )?;
//! assert_eq!(file.ladder.unwrap().sizes[0].of(1_001), 250);
//! let unknown = StudyFile::parse("pool = \"a.tar\"\nseed = 1\n").unwrap_err().to_string();
//! assert!(unknown.starts_with("line 2: unknown field `seed`"), "{unknown}");
//! # Ok::<(), trommel_pipelines_torch::study::file_error::FileError>(())
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use trommel_core::names::{FOLDER_NAMES, is_folder_name, is_name};
use trommel_synth::SynthConfig;

use self::places::GENERATED;
pub(super) use self::places::{TEMPLATES, TEMPLATES_FILE};
pub use self::recipe::RecipeFile;
pub use self::size::Size;
use super::file_error::FileError;
use trommel_pipelines::config::EmbedderConfig;
use trommel_pipelines::radii::BESIDE_BENCHMARKS;

mod places;
mod recipe;
mod size;

/// What is studied, and how. Paths are relative to the file's folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyFile {
    /// Shards to train on, as `trommel prune` takes them; those of `generated` where they are left out.
    #[serde(default)]
    pub pool: Words,
    /// The reference set: class folders, shards or embeddings.
    #[serde(default)]
    pub reference: PathBuf,
    /// The reference joins the pool, with this caption, `{class}` for the class: class folders then. Core set and ladder are drawn from the pool
    /// without it.
    #[serde(default)]
    pub inject_reference: Option<String>,
    /// Class names for that caption, in the order of the reference's sorted folders; the folders' own names where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_classnames: Option<PathBuf>,
    /// Class names for that caption, by folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_class_table: Option<PathBuf>,
    /// The benchmarks by their names.
    #[serde(default)]
    pub benchmarks: BTreeMap<String, BenchmarkFile>,
    /// Data of its own: pool, reference and benchmarks are generated first.
    #[serde(default)]
    pub generated: Option<SynthConfig>,
    /// The pruning model.
    pub embedder: EmbedderFile,
    /// The model that is trained: open_clip's name, or its JSON.
    pub model: String,
    /// The recipe that it is trained with on every training set.
    pub training: RecipeFile,
    /// Seeds of trainings and of random subsets: each set is trained once for each.
    #[serde(default = "three")]
    pub seeds: Vec<u64>,
    /// Trainings side by side, each with its share of threads and memory: pays where the model is too small to fill the machine.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub trainings_at_once: usize,
    /// Fixed sizes, nearest and farthest and random.
    #[serde(default)]
    pub ladder: Option<LadderFile>,
    /// Samples of the core set: those nearest to any benchmark.
    #[serde(default)]
    pub core: Option<Size>,
    /// Each pruned set and the core set gets one of as many samples, drawn at random: what its size alone costs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub controls: bool,
    /// Width of a bin of similarities (cosine), where accuracy is shown against them.
    #[serde(default = "bin")]
    pub similarity_bin: f64,
}

/// One word or several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "OneOrMore")]
pub struct Words(pub Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl From<OneOrMore> for Words {
    fn from(words: OneOrMore) -> Self {
        match words {
            OneOrMore::One(word) => Self(vec![word]),
            OneOrMore::More(words) => Self(words),
        }
    }
}

/// A benchmark: what pruning looks at, and what the trained models are judged by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchmarkFile {
    /// Class folders of pictures, or CLIP_benchmark's tars.
    pub data: PathBuf,
    /// Class names in the order of the sorted folders; the folders' own names where it is left out.
    #[serde(default)]
    pub classnames: Option<PathBuf>,
    /// Class names by folder.
    #[serde(default)]
    pub class_table: Option<PathBuf>,
    /// Templates with `{}` for the class.
    #[serde(default)]
    pub templates: Option<PathBuf>,
    /// Keys of its pictures that cannot be embedded and may be missing.
    #[serde(default)]
    pub without: Vec<String>,
}

/// Who embeds: known weights, random ones, or ones that are trained on the whole pool first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbedderFile {
    /// open_clip's name of the model, or its JSON.
    pub model: String,
    /// File of its weights; none where they are random.
    #[serde(default)]
    pub weights: Option<PathBuf>,
    /// Random weights from this seed.
    #[serde(default)]
    pub random_init: Option<u64>,
    /// Trained on the whole pool first, by this recipe.
    #[serde(default)]
    pub trained: Option<RecipeFile>,
    /// `f32`, `bf16`, `f16` or `f16-mixed`.
    #[serde(default)]
    pub precision: Option<String>,
    /// Samples a forward pass.
    #[serde(default)]
    pub batch: Option<usize>,
}

/// Sets of fixed sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LadderFile {
    /// Samples kept at each step.
    pub sizes: Vec<Size>,
    /// Benchmarks whose nearest and farthest samples are kept; all where it is left out.
    #[serde(default)]
    pub benchmarks: Option<Vec<String>>,
}

fn three() -> Vec<u64> {
    vec![0, 1, 2]
}

const fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
const fn is_one(number: &usize) -> bool {
    *number == 1
}

const fn bin() -> f64 {
    0.05
}

impl EmbedderFile {
    /// The embedder with the weights that it is to have.
    #[must_use]
    pub fn config(&self, weights: Option<PathBuf>) -> EmbedderConfig {
        EmbedderConfig {
            name: self.model.clone(),
            random_init: self.random_init.filter(|_| weights.is_none()),
            weights,
            torchscript: false,
            assume_model: None,
            precision: self.precision.clone(),
            batch: self.batch,
            weights_flag: "embedder.weights",
        }
    }
}

impl StudyFile {
    /// Reads a file's text.
    ///
    /// # Errors
    /// Where it is no TOML, has a field that nobody knows or one of another kind: with the line.
    pub fn parse(text: &str) -> Result<Self, FileError> {
        toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            let problem = error.message().lines().next().unwrap_or_default().to_owned();
            FileError::Form { line, problem }
        })
    }

    /// Refuses what the file alone shows to be wrong.
    ///
    /// # Errors
    /// Names the field, and what it must be.
    pub fn check(&self) -> Result<(), FileError> {
        let wrong = |field: &str, wrong: &str| Err(FileError::field(field, wrong));
        let own = !self.pool.0.is_empty() || !self.reference.as_os_str().is_empty() || !self.benchmarks.is_empty();
        match &self.generated {
            Some(_) if own => {
                return wrong("generated", "it makes pool, reference and benchmarks itself; leave these out");
            }
            Some(synth) => synth.validate().map_err(FileError::setting)?,
            None if self.pool.0.is_empty() => return wrong("pool", "which shards are trained on?"),
            None if self.reference.as_os_str().is_empty() => {
                return wrong("reference", "which set gives the radii?");
            }
            None if self.benchmarks.is_empty() => return wrong("benchmarks", "give one at least, [benchmarks.NAME]"),
            None => {}
        }
        if self.inject_reference.is_none()
            && (self.reference_classnames.is_some() || self.reference_class_table.is_some())
        {
            let both = "reference_classnames, reference_class_table";
            return wrong(both, "they are for the caption of inject_reference");
        }
        let is_wrong =
            |name: &&String| !is_name(name) || !is_folder_name(name, &BESIDE_BENCHMARKS) || *name == "combined";
        if let Some(name) = self.benchmarks.keys().find(is_wrong) {
            let field = format!("benchmarks.{name}");
            let others = BESIDE_BENCHMARKS.join(", ");
            return wrong(&field, &format!("{FOLDER_NAMES}, and not `combined`, nor one of {others}"));
        }
        let embedder = &self.embedder;
        let of = |field| move |error| FileError::Recipe { field, source: Box::new(error) };
        match (&embedder.weights, embedder.random_init, &embedder.trained) {
            (Some(_), None, None) | (None, Some(_), None) => {}
            (None, None, Some(recipe)) => recipe.check().map_err(of("embedder.trained"))?,
            _ => return wrong("embedder", "give one of weights, random_init or trained"),
        }
        self.training.check().map_err(of("training"))?;
        if self.seeds.is_empty() || self.seeds.iter().collect::<BTreeSet<_>>().len() < self.seeds.len() {
            return wrong("seeds", "give one at least, and none twice");
        }
        if self.trainings_at_once == 0 {
            return wrong("trainings_at_once", "one at least");
        }
        if !(self.similarity_bin > 0.0 && self.similarity_bin <= 2.0) {
            return wrong("similarity_bin", &format!("{} is no width of a bin of cosines", self.similarity_bin));
        }
        let ladder = self.ladder.iter().flat_map(|ladder| ladder.benchmarks.iter().flatten());
        let known = self.benchmark_names();
        match ladder.into_iter().find(|name| !known.contains(name)) {
            Some(name) => {
                wrong("ladder.benchmarks", &format!("there is no benchmark {name}; there are {}", known.join(", ")))
            }
            None => Ok(()),
        }
    }

    /// Names of the benchmarks, in order.
    #[must_use]
    pub fn benchmark_names(&self) -> Vec<String> {
        match self.generated {
            Some(_) => GENERATED.map(String::from).to_vec(),
            None => self.benchmarks.keys().cloned().collect(),
        }
    }
}
