//! `trommel why`: its flags, and what is done with them.

use std::path::{Path, PathBuf};

use clap::Args;
use trommel_core::text::thousands;
use trommel_pipelines::why::why;
use trommel_pipelines::why_all::{WhyAllReport, why_all};

use super::{print_json, print_line};
use crate::outcome::{Done, Outcome};
use crate::say::say;

/// The flags of `trommel why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// A run folder to look into
    pub run: PathBuf,
    /// A sample's key, or SHARD/KEY
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub key: Option<String>,
    /// Every sample that was trained on: a row a sample and pass with its step, in the order of training
    #[arg(long, requires = "out")]
    pub all: bool,
    /// Where the rows of --all go
    #[arg(short, long, value_name = "FILE.parquet", requires = "all", conflicts_with = "key")]
    pub out: Option<PathBuf>,
    /// Print rows as JSON lines; of --all what was written
    #[arg(long)]
    pub json: bool,
}

/// Prints the fate of every sample with the key, or writes the steps of all.
pub fn run(args: &WhyArgs) -> Outcome {
    if let (true, Some(out)) = (args.all, &args.out) {
        return all(args, out);
    }
    for (at, row) in why(&args.run, args.key.as_deref().unwrap_or_default())?.iter().enumerate() {
        if args.json {
            print_json(true, row)?;
        } else {
            let gap = if at > 0 { "\n" } else { "" };
            print_line(&format!("{gap}{row}"))?;
        }
    }
    Ok(Done::default())
}

fn all(args: &WhyArgs, out: &Path) -> Outcome {
    let report = why_all(&args.run, out)?;
    let WhyAllReport { file, rows, trained, left_over, skipped, not_yet, steps, batch, .. } = &report;
    let [rows, trained, left_over, skipped, not_yet, steps] =
        [rows, trained, left_over, skipped, not_yet, steps].map(|count| thousands(*count));
    say(format!(
        "{file}: {rows} rows: {trained} in the {steps} steps of {batch} that are done, {left_over} left over, {skipped} skipped, {not_yet} whose \
         turn has not come"
    ));
    let WhyAllReport { untold_samples: samples, untold_places: places, untold_because: because, .. } = &report;
    if let Some(why) = because {
        say(format!("  {} samples have no row: {why}", thousands(*samples)));
    }
    print_json(args.json, &report)?;
    let unfinished = (*places > 0).then(|| {
        format!(
            "who had {} places of the steps that are done cannot be told before the run has judged more",
            thousands(*places)
        )
    });
    Ok(Done { unfinished, ..Done::default() })
}
