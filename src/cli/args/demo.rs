//! Flags of `trommel demo`.

use std::path::PathBuf;

use clap::Args;

use super::groups::{Machine, Output};

/// `trommel demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Folder for all of it
    #[arg(short, long, value_name = "DIR", default_value = "trommel-demo")]
    pub out: PathBuf,
    #[command(flatten)]
    pub machine: Machine,
    #[command(flatten)]
    pub output: Output,
}
