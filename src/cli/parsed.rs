//! A command line, parsed. All lists of words become commands here: the program's own, what stands behind `trommel launch`, and the
//! options of a watch's trainer, which lie in a file.
//!
//! A command that runs a model is parsed twice by this function: by the program, which must know that it runs one, and by the library that
//! runs it (`src/torch/lib.rs`). Words cross from the one to the other, not the parsed value: program and library are two separate binaries,
//! often of two builds (who has the program from Python builds the library himself), and Rust lays a value out alike within one build only.
//! JSON instead would lose paths that are not UTF-8, and the last bit of a learning rate, by which a run may be resumed.

use std::ffi::OsString;

use clap::error::{ContextKind, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::args::ModelCommand;
use crate::commands::PlainCommand;
use crate::say::say;

/// Streams image-text shards through decode, CLIP embedding, similarity join and pruning, straight into a CLIP trainer.
#[derive(Debug, Parser)]
#[command(
    name = "trommel",
    version,
    args_override_self = true,
    after_help = "\
Exit status: 0 done; 1 failure; 2 wrong usage or input; 3 interrupted or shards unfinished (the same command resumes);
4 done, but more rejected or lost than --max-rejects.
TROMMEL_LOG=warn in the environment shows less of the log on standard error, TROMMEL_LOG=debug more [default: info]."
)]
pub struct Cli {
    /// The command with its flags.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of the program.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "made once")]
pub enum Command {
    /// Those that may run a model: the library that brings libtorch has them.
    #[command(flatten)]
    Model(ModelCommand),
    /// Those that need none: the program runs them itself.
    #[command(flatten)]
    Plain(PlainCommand),
}

/// What a command line asks for.
#[derive(Debug)]
pub struct Parsed<C = Command> {
    /// The command with its flags.
    pub command: C,
    /// Long names of the flags that stand there, in its `--config` or beside it. A default stands nowhere.
    pub given: Vec<String>,
    /// The flags that stand there more than once though their last value alone counts: `--rule <RULE>`.
    pub repeated: Vec<String>,
}

impl<C> Parsed<C> {
    /// Says of each flag that stands there more than once which one counts.
    pub fn tell_repeated(&self) {
        for flag in &self.repeated {
            say(format!("{flag} stands there more than once: the last one counts"));
        }
    }
}

impl Parsed {
    /// Parses words, the program's name first, into which a `--config` is merged by now.
    ///
    /// # Errors
    /// Help that is asked for, or wrong usage: clap's words for it.
    pub fn of(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let (cli, words) = (Cli::command(), words.into_iter().collect::<Vec<_>>());
        let mut matches = cli.clone().try_get_matches_from(&words)?;
        let (given, repeated) = (given(&cli, &matches), repeated(&cli, &words));
        let parsed = Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut cli.clone()))?;
        Ok(Self { command: parsed.command, given, repeated })
    }
}

/// What is wrong with words that nobody has typed as a command line: flag, value and reason, without usage and advice.
#[must_use]
pub fn in_a_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect::<Vec<_>>().join(" ");
    first.strip_prefix("error: ").map(str::to_owned).unwrap_or(first)
}

/// What a script's own flags override is no mistake, and must be said: of these words nothing else is passed over.
fn repeated(cli: &clap::Command, words: &[OsString]) -> Vec<String> {
    let (mut strict, mut repeated) = (cli.clone().args_override_self(false), Vec::new());
    // One is named at a time: once it may come again, the next one is.
    while let Some(flag) = first_repeated(&strict, words).filter(|flag| !repeated.contains(flag)) {
        let may_repeat = |arg: clap::Arg| {
            let id = arg.get_id().clone();
            if is_called(&arg, &flag) { arg.overrides_with(id) } else { arg }
        };
        strict = strict.mut_subcommands(|command| command.mut_args(may_repeat));
        repeated.push(flag);
    }
    repeated
}

/// Whether a flag is the one that clap shows as `--rule <RULE>`; one that is not built yet cannot be shown.
fn is_called(arg: &clap::Arg, shown: &str) -> bool {
    let name = shown.split_once(' ').map_or(shown, |(name, _)| name);
    let long = arg.get_long().is_some_and(|long| name.strip_prefix("--") == Some(long));
    long || arg.get_short().is_some_and(|short| name == format!("-{short}"))
}

fn first_repeated(strict: &clap::Command, words: &[OsString]) -> Option<String> {
    let error = strict.clone().try_get_matches_from(words).err()?;
    let flag = error.get(ContextKind::InvalidArg).filter(|_| error.kind() == ErrorKind::ArgumentConflict)?;
    Some(flag.to_string())
}

fn given(cli: &clap::Command, matches: &ArgMatches) -> Vec<String> {
    let Some((name, matches)) = matches.subcommand() else { return Vec::new() };
    let arguments = cli.find_subcommand(name).into_iter().flat_map(clap::Command::get_arguments);
    let said = |arg: &&clap::Arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    arguments.filter(said).filter_map(|arg| arg.get_long().map(String::from)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_default_is_not_given() {
        let words = |line: &str| line.split_whitespace().map(OsString::from).collect::<Vec<_>>();
        let parsed = Parsed::of(words("trommel eval c --data d --max-rejects=5 --json")).unwrap();
        assert_eq!(parsed.given, ["data", "max-rejects", "json"]);
        let Command::Model(ModelCommand::Eval(args)) = parsed.command else { unreachable!("it is eval") };
        assert_eq!((args.max_rejects, args.compute.device.as_str()), (5.0, "auto"));
        assert!(Parsed::of(words("trommel eval c")).unwrap_err().use_stderr());
        assert!(!Parsed::of(words("trommel eval --help")).unwrap_err().use_stderr());
    }

    /// Also where clap knows no rule of it: there the usage is written by hand.
    #[test]
    fn usage_names_what_a_command_needs() {
        let mut cli = Cli::command();
        cli.build();
        let mut usage = |name: &str| cli.find_subcommand_mut(name).unwrap().render_usage().to_string();
        for (name, due) in [
            ("prune", "--rule <RULE>"),
            ("train", "<--steps <STEPS>|--samples <SAMPLES>|--passes <PASSES>>"),
            ("watch", "<--rule <RULE>|--split <NAME=RULE>>"),
            ("stream", "<--split <FILE>|--run <RUN>|--rule <random:P%>>"),
        ] {
            assert!(usage(name).contains(due), "{}", usage(name));
        }
        for command in cli.get_subcommands_mut() {
            let usage = command.render_usage().to_string();
            let needed = command.get_arguments().filter(|arg| arg.is_required_set()).filter_map(clap::Arg::get_long);
            needed.for_each(|flag| assert!(usage.contains(&format!("--{flag} ")), "--{flag} is missing: {usage}"));
        }
    }

    #[test]
    fn a_flag_whose_last_value_alone_counts_is_told() {
        let repeated = |line: &str| {
            let words = line.split_whitespace().map(OsString::from).collect::<Vec<_>>();
            Parsed::of(words).unwrap().repeated
        };
        let prune = "trommel prune a.tar --run r --benchmark a=x --benchmark b=y --rule near";
        assert!(repeated(prune).is_empty());
        assert_eq!(repeated(&format!("{prune} --rule far:5")), ["--rule <RULE>"]);
        assert_eq!(repeated(&format!("{prune} --rule=near --json")), ["--rule <RULE>"]);
        assert_eq!(
            repeated(&format!("{prune} --json --rule=near --seed 1 --seed 2 --json --seed 3")),
            ["--rule <RULE>", "--seed <SEED>", "--json"]
        );
        assert!(repeated("trommel embed in -o out --model m -- --model").is_empty());
    }
}
