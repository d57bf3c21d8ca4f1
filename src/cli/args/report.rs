//! Flags of `trommel report`.

use std::path::PathBuf;

use clap::Args;

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
