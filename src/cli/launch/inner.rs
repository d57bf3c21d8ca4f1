//! The command that several processes run together: which may be one, and what it must not say.

use std::ffi::OsString;

use trommel_core::names::STDIN;
use trommel_pipelines::error::PipelineError;

use super::LaunchError;
use crate::args::ModelCommand;
use crate::config_file;
use crate::parsed::{Command, Parsed};

/// What stands behind `trommel launch`.
#[allow(clippy::large_enum_variant, reason = "made once")]
pub enum Inner {
    /// A command that may run a model.
    Command(Parsed<ModelCommand>),
    /// It was help, or wrong; that is said already, and this is the status.
    Said(u8),
}

/// Reads the inner command line as the processes will, its `--config` included, so that what is wrong is said once.
///
/// # Errors
/// A command that several processes cannot share, or wrong options in a file.
pub fn parse(words: &[OsString]) -> Result<Inner, PipelineError> {
    let words = words.strip_prefix(&[OsString::from("trommel")]).unwrap_or(words);
    let line = std::iter::once(OsString::from("trommel")).chain(words.iter().cloned()).collect();
    let Parsed { command, given, repeated } = match crate::parse(&config_file::merge(line)?) {
        Ok(parsed) => parsed,
        Err(status) => return Ok(Inner::Said(status)),
    };
    let Command::Model(command) = command else { return Err(refusal(words).into()) };
    spread(&command).ok_or_else(|| refusal(words))?.check()?;
    Ok(Inner::Command(Parsed { command, given, repeated }))
}

fn refusal(words: &[OsString]) -> LaunchError {
    let name = words.first().map(|word| word.to_string_lossy()).unwrap_or_default();
    LaunchError::Usage(if name == "launch" {
        "a `trommel launch` inside a `trommel launch`: leave one out".into()
    } else {
        format!("`trommel {name}` is one process's work: launch takes prune, embed, train and watch")
    })
}

/// A command that several processes can share, as far as it matters here.
pub struct Spread<'a> {
    shards: &'a [String],
    /// It is one slice of the plan.
    pub part: bool,
}

/// What of `command` matters; `None` for commands that work alone.
pub fn spread(command: &ModelCommand) -> Option<Spread<'_>> {
    let (shards, slice) = match command {
        ModelCommand::Prune(args) => (&args.shards, args.slice.part),
        ModelCommand::Embed(args) => (&args.input, args.slice.part),
        ModelCommand::Train(args) => (&args.shards, None),
        ModelCommand::Watch(args) => (&args.prefixes, None),
        ModelCommand::Radii(_)
        | ModelCommand::Eval(_)
        | ModelCommand::Bench(_)
        | ModelCommand::Launch(_)
        | ModelCommand::Study(_)
        | ModelCommand::Demo(_) => return None,
    };
    Some(Spread { shards, part: slice.is_some() })
}

impl Spread<'_> {
    /// Refuses what several processes cannot share.
    pub fn check(&self) -> Result<(), LaunchError> {
        if self.part {
            return Err(LaunchError::Usage(
                "--part is for tasks that know nothing of each other; processes of a launch share all shards".into(),
            ));
        }
        let is_stdin = |word: &str| word.rsplit('=').next() == Some(STDIN);
        if self.shards.iter().any(|shards| shards.split("::").any(is_stdin)) {
            return Err(LaunchError::Usage("`-` as SHARDS: standard input cannot be read by several processes".into()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> String {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        match parse(&words) {
            Err(error) => error.line(),
            Ok(Inner::Command(_)) => String::new(),
            Ok(Inner::Said(status)) => format!("status {status}"),
        }
    }

    #[test]
    fn what_can_be_launched() {
        for fine in [
            "prune a.tar --run r --rule random:1%",
            "trommel prune a.tar --run r",
            "embed a.tar -o o --model m",
            "train a.tar --run r --model m --batch 8 --steps 3",
        ] {
            assert_eq!(refused(fine), "", "{fine}");
        }
        for (line, part) in [
            ("launch --local 2 -- prune a --run r", "inside a `trommel launch`"),
            ("synth out", "`trommel synth` is one process's work"),
            ("why run key", "launch takes prune, embed, train and watch"),
            ("prune - --run r", "standard input"),
            ("prune a.tar::- --run r", "standard input"),
            ("prune name=- --run r", "standard input"),
            ("prune a.tar --run r --part 0/2", "--part"),
            ("prune a.tar --run r --config /nowhere/x.toml", "cannot read --config"),
        ] {
            let said = refused(line);
            assert!(said.contains(part) && !said.contains('\n'), "{line}: {said}");
        }
    }
}
