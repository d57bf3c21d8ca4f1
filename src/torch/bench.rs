//! `trommel bench`: one file a stage.

mod decode;
mod embed;
mod join;
mod train;

use trommel_cli::args::{BenchArgs, Stage};
use trommel_cli::outcome::Outcome;

/// One stage alone.
pub fn run(args: &BenchArgs) -> Outcome {
    match args.stage {
        Stage::Decode => decode::run(args),
        Stage::Embed => embed::run(args),
        Stage::Join => join::run(args),
        Stage::Train => train::run(args),
    }
}
