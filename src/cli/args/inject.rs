//! Flags of `trommel inject`.

use std::path::PathBuf;

use clap::Args;

use super::groups::percent;

/// `trommel inject`.
#[derive(Debug, Args)]
#[command(after_help = "\
What it writes is SHARDS like others:   trommel train 'laion/*.tar' 'reference=injected/*.tar' ..
In the ledger, injected samples bear the shard's name and the url injected:NAME/CLASS/FILE#COPY. A mix of exact numbers:
  trommel select RUN -o mix.parquet --rule '(random:90000 of not where:shard~reference/) or (random:10000 of where:shard~reference/)'")]
pub struct InjectArgs {
    /// Class folders of pictures, CLIP_benchmark's tars, or shards whose samples bear a class's number (.cls) with --classnames
    pub folder: PathBuf,
    /// Folder for the shards
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
    /// What the set is called in keys, uids and URLs (letters, digits, `_`, `-`) [default: the folder's name, which must be such a one]
    #[arg(long)]
    pub name: Option<String>,
    /// Caption, with the class where {class} stands
    #[arg(long, default_value = trommel_pipelines::inject::CAPTION)]
    pub caption: String,
    /// Class names in the order of the sorted folders, or of the numbers, one a line or a JSON list, none blank [default: the folders' names]
    #[arg(long, value_name = "FILE")]
    pub classnames: Option<PathBuf>,
    /// Class names by folder, FOLDER NAME a line or a JSON object: as many as there are, of which those with a folder are the classes
    #[arg(long, value_name = "FILE", conflicts_with = "classnames")]
    pub class_table: Option<PathBuf>,
    /// How many of the pictures, a number or a share (10%), drawn by --seed [default: all]
    #[arg(long, value_name = "N|P%")]
    pub items: Option<String>,
    /// Copies of each picture
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub copies: u32,
    /// Seed of the draw
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Samples of a shard
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub shard_samples: u32,
    /// Share of lost samples, in percent, above which the exit status is 4
    #[arg(long, default_value_t = 5.0, value_parser = percent)]
    pub max_rejects: f64,
    /// Print the result as one JSON line on stdout
    #[arg(long)]
    pub json: bool,
}
