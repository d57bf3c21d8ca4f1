//! Flags of `trommel eval`.

use std::path::PathBuf;

use clap::Args;

use super::groups::{Compute, Output, share_in_percent};
use crate::wrong_value::WrongValue;

/// Flags of an evaluation by classes. What requires `--retrieval` must conflict with them too, as must what requires one of them with `--retrieval`: clap
/// asks for no flag that conflicts with one that is given.
const OF_CLASSES: [&str; 5] = ["classnames", "class_table", "templates", "probe", "nearest"];

/// `trommel eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// Checkpoint folder or weights file
    pub checkpoint: PathBuf,
    /// Class folders of pictures, or a set of CLIP_benchmark's: ROOT with classnames.txt and test/0.tar.., or ROOT/train; or as --retrieval says
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// open_clip's name of the model [default: the checkpoint's]
    #[arg(long)]
    pub model: Option<String>,
    /// Class names in the order of the folders (sorted, by number where all are numbers) or of the classes' numbers, one a line or a JSON list,
    /// none blank [default: classnames.txt of a set, the folders' names]
    #[arg(long, value_name = "FILE")]
    pub classnames: Option<PathBuf>,
    /// Class names by folder, FOLDER NAME a line or a JSON object: as many as there are, of which those with a folder are the classes; this or
    /// --classnames
    #[arg(long, value_name = "FILE", conflicts_with = "classnames")]
    pub class_table: Option<PathBuf>,
    /// Templates with `{}` or `{c}` for the class, one a line or a JSON list [default: those of a set, else one, `a photo of a {}.`]
    #[arg(long, value_name = "FILE")]
    pub templates: Option<PathBuf>,
    /// Labelled pictures of the same classes, to fit a linear probe on their features
    #[arg(long, value_name = "DIR")]
    pub probe: Option<PathBuf>,
    /// Fit it on K pictures of each class, drawn by a seeded hash [default: all]
    #[arg(long, value_name = "K", requires = "probe", conflicts_with = "retrieval", value_parser = clap::value_parser!(u16).range(1..))]
    pub shots: Option<u16>,
    /// Seed of the draw [default: 0]
    #[arg(long, requires = "shots", conflicts_with = "retrieval")]
    pub seed: Option<u64>,
    /// Inverse strength of the probe's regularisation, scikit-learn's C [default: 0.316, CLIP's]
    #[arg(long, value_name = "C", requires = "probe", conflicts_with = "retrieval", value_parser = positive)]
    pub probe_c: Option<f64>,
    /// Accuracy against each picture's similarity to its nearest training picture: a benchmark with radii, or RUN@NAME for the pool
    /// of a run that judged the benchmark NAME
    #[arg(long, value_name = "DIR|RUN@NAME")]
    pub nearest: Option<String>,
    /// Recall instead of classes: from pictures to captions and back. DIR is then a retrieval set of CLIP_benchmark's, pictures with captions beside
    /// them (.txt, a caption a line, else the json's), or shards
    #[arg(long, conflicts_with_all = OF_CLASSES)]
    pub retrieval: bool,
    /// The k of recall@k, with --retrieval; of equal scores the earlier one comes first
    #[arg(long, value_name = "K,..", requires = "retrieval", conflicts_with_all = OF_CLASSES, value_delimiter = ',', default_value = "1,5,10", value_parser = clap::value_parser!(u32).range(1..))]
    pub recall_k: Vec<u32>,
    /// Share of pictures that cannot be decoded, in percent, above which the exit status is 4
    #[arg(long, default_value_t = 5.0, value_parser = share_in_percent)]
    pub max_rejects: f64,
    #[command(flatten)]
    pub compute: Compute,
    #[command(flatten)]
    pub output: Output,
}

/// A number above 0.
fn positive(text: &str) -> Result<f64, WrongValue> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("write a number above 0".into()),
    }
}
