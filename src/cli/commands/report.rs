//! `trommel report`: its flags, and what is done with them.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use trommel_core::durable::{self, Aside};
use trommel_core::out_folder::OutFolder;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::report::{ReportOptions, gather, page, picture, tables};

use crate::outcome::{Done, Outcome};
use crate::say::say;

/// `trommel report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// A run folder to show
    pub run: PathBuf,
    /// The page to write (.html), or the picture (.svg)
    #[arg(short, long, value_name = "FILE")]
    pub out: PathBuf,
    /// The page's tables too, as CSV and LaTeX
    #[arg(long, value_name = "DIR")]
    pub tables: Option<PathBuf>,
    /// Another run over the same shards, or a split of them: who changes sides
    #[arg(long, value_name = "RUN|SPLIT")]
    pub against: Option<PathBuf>,
    /// Pictures are blurred until somebody clicks on them, as they are where the run was given this flag
    #[arg(long)]
    pub blur: bool,
}

/// Pairs of pictures for each benchmark in the one picture, and on the page.
const PAIRS: (usize, usize) = (10, 20);

/// Writes the page, or with a name that ends in `.svg` the picture.
pub fn run(args: &ReportArgs) -> Outcome {
    let extension = args.out.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_lowercase();
    let drawn = match extension.as_str() {
        "svg" => true,
        "html" | "htm" => false,
        _ => {
            let out = args.out.display();
            return Err(PipelineError::usage(format!("-o {out}: name it .html (the page) or .svg (the picture)")));
        }
    };
    let pairs_per_benchmark = if drawn { PAIRS.0 } else { PAIRS.1 };
    if drawn && (args.blur || args.against.is_some()) {
        return Err(PipelineError::usage("--blur and --against are for the page; the picture has neither"));
    }
    let (blurred, against) = (args.blur, args.against.clone());
    let options = ReportOptions { pairs_per_benchmark, blurred, against, ..ReportOptions::default() };
    let gathered = gather(&args.run, &options)?;
    if drawn && gathered.report.blurred {
        let run = args.run.display();
        return Err(PipelineError::usage(format!(
            "{run}: its pictures are blurred until somebody clicks on them, which they cannot be in a picture: name it .html"
        )));
    }
    for trouble in &gathered.troubles {
        tracing::warn!("{trouble}");
    }
    // Both places are there, or nothing is written.
    let make = |folder: &PathBuf| OutFolder::make(folder).map_err(PipelineError::at(folder));
    let _made = args.tables.as_ref().map(make).transpose()?;
    let mut out = Aside::create(&args.out).map_err(PipelineError::at(&args.out))?;
    if let Some(folder) = &args.tables {
        let write = |name: String, text: String| {
            let path = folder.join(name);
            durable::write(&path, text.as_bytes()).map_err(PipelineError::at(&path))
        };
        for table in tables(&gathered) {
            write(format!("{}.csv", table.name), table.csv())?;
            write(format!("{}.tex", table.name), table.latex())?;
        }
        say(format!("wrote tables into {}", folder.display()));
    }
    let text = if drawn { picture(&gathered) } else { page(&gathered) };
    out.write_all(text.as_bytes()).and_then(|()| out.commit()).map_err(PipelineError::at(&args.out))?;
    say(format!("wrote {}", args.out.display()));
    Ok(Done::default())
}
