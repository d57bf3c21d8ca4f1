//! `trommel inject`: its flags, and what is done with them.

use std::path::{Path, PathBuf};

use clap::Args;
use trommel_core::names::is_word;
use trommel_core::text::thousands;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::inject::{InjectConfig, inject};
use trommel_pipelines::labelled::ClassNames;
use trommel_pipelines::lists;

use super::{note_kept_seed, print_json};
use crate::args::share_in_percent;
use crate::environment;
use crate::outcome::{Done, Outcome, Read, tell};
use crate::say::say;

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
    #[arg(long, default_value_t = 5.0, value_parser = share_in_percent)]
    pub max_rejects: f64,
    /// Print the result as one JSON line on stdout
    #[arg(long)]
    pub json: bool,
}

/// Writes class folders as shards.
pub fn run(args: &InjectArgs, given: &[String]) -> Outcome {
    let mut made = inject(&config(args)?)?;
    note_kept_seed(&mut made.notices, given, args.items.is_some());
    say(format!(
        "{} samples in {} shards: {} of {} pictures, {} of each; as SHARDS: {}",
        thousands(made.samples),
        thousands(made.shards),
        thousands(made.items),
        thousands(made.pictures),
        if made.copies == 1 { "one copy".into() } else { format!("{} copies", made.copies) },
        made.argument
    ));
    tell(&made.notices);
    print_json(args.json, &made)?;
    let read = Read { rejected: 0, samples: made.pictures, shards: 0, notices: &made.notices };
    Ok(Done { too_many_rejects: read.too_many(args.max_rejects), ..Done::default() })
}

/// The set's name where none is given: that of its folder, `.` and links resolved as far as they have no name of their own.
fn of_folder(folder: &Path) -> Result<String, PipelineError> {
    let whole = if folder.file_name().is_none() { folder.canonicalize().ok() } else { None };
    let name = whole.as_deref().unwrap_or(folder).file_name().unwrap_or_default().to_string_lossy().into_owned();
    match is_word(&name) {
        true => Ok(name),
        false => Err(PipelineError::usage(format!(
            "{}: give the set a name by --name (letters, digits, `_` and `-`): it stands in keys, and the last word of this path, `{name}`, cannot",
            folder.display()
        ))),
    }
}

fn config(args: &InjectArgs) -> Result<InjectConfig, PipelineError> {
    let folder = environment::named(&args.folder)?;
    Ok(InjectConfig {
        set: args.name.clone().map_or_else(|| of_folder(&folder), Ok)?,
        folder,
        out: args.out.clone(),
        caption: args.caption.clone(),
        classes: ClassNames {
            list: args.classnames.as_deref().map(lists::class_names).transpose()?.unwrap_or_default(),
            table: args.class_table.as_deref().map(lists::class_table).transpose()?.unwrap_or_default(),
        },
        items: args.items.as_deref().map(str::parse).transpose()?,
        copies: args.copies,
        seed: args.seed,
        shard_samples: args.shard_samples,
    })
}
