//! What the program does by itself, without the library that brings libtorch.

use crate::args::ModelCommand;
use crate::commands::{self, prune, radii};
use crate::launch::is_launched;
use crate::outcome::Outcome;
use crate::parsed::{Command, Parsed};

/// Runs a command; nothing where it needs a model.
pub fn run(Parsed { command, given, .. }: &Parsed) -> Option<Outcome> {
    match command {
        Command::Plain(command) => Some(commands::run(command, given)),
        // One of several processes is told by whoever watches the others.
        Command::Model(ModelCommand::Prune(args)) if !is_launched() => match prune::is_of_embeddings(args) {
            Ok(true) => Some(prune::run(args, given, None)),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        },
        Command::Model(ModelCommand::Radii(args)) => {
            match radii::config(args).and_then(|config| Ok((config.needs_embedder()?, config))) {
                Ok((true, _)) => None,
                Ok((false, config)) => Some(radii::run(args, &config, given)),
                Err(error) => Some(Err(error)),
            }
        }
        Command::Model(_) => None,
    }
}
