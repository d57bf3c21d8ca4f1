//! `--config FILE.toml`: every name in it is a flag of the command; what stands on the command line wins.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::{ArgAction, CommandFactory};
use trommel_pipelines::error::PipelineError;

use crate::parsed::Cli;

/// The flag by which a command that reads its file again hears which of its options the file has given.
const FROM_CONFIG: &str = "from-config";
/// The flag that names the file of a command line.
const FLAG: &str = "--config";

/// What is wrong with a file of options.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    /// Two files are given.
    #[error("--config {first} and --config {second}: give one file")]
    Twice {
        /// The one that stands first.
        first: String,
        /// The one that stands behind it.
        second: String,
    },
    /// It cannot be read.
    #[error("cannot read {flag} {}", path.display())]
    Unread {
        /// The flag that names the file.
        flag: &'static str,
        /// The file of options.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is no TOML.
    #[error("{flag} {}", path.display())]
    Malformed {
        /// The flag that names the file.
        flag: &'static str,
        /// The file of options.
        path: PathBuf,
        /// Where, and why.
        source: Box<toml::de::Error>,
    },
    /// A name that is no flag of the command.
    #[error("{flag} {}: `{key}` is no option of `trommel {command}`", path.display())]
    Unknown {
        /// The flag that names the file.
        flag: &'static str,
        /// The file of options.
        path: PathBuf,
        /// The name as the file writes it.
        key: String,
        /// The command's name.
        command: String,
    },
    /// One option in two spellings: only one of them would count.
    #[error("{flag} {}: `{key}` stands there twice, as `{}` too", path.display(), key.replace('_', "-"))]
    Spelt {
        /// The flag that names the file.
        flag: &'static str,
        /// The file of options.
        path: PathBuf,
        /// The name as the file writes it the second time.
        key: String,
    },
    /// A list for a flag of which the last value alone would count.
    #[error("{flag} {}: `{key}` takes one value, and is given {count}", path.display())]
    Several {
        /// The flag that names the file.
        flag: &'static str,
        /// The file of options.
        path: PathBuf,
        /// The name as the file writes it.
        key: String,
        /// Values that it is given.
        count: usize,
    },
    /// `true` or `false` for a flag that takes a value.
    #[error("{flag} {}: `{key}` takes a value, and neither true nor false", path.display())]
    NoSwitch {
        /// The flag that names the file.
        flag: &'static str,
        /// The file of options.
        path: PathBuf,
        /// The name as the file writes it.
        key: String,
    },
    /// A value that no flag has.
    #[error("{flag} {}: `{key}` must be a string, a number, true, false, or a list of these", path.display())]
    Value {
        /// The flag that names the file.
        flag: &'static str,
        /// The file of options.
        path: PathBuf,
        /// The name as the file writes it.
        key: String,
    },
}

impl ConfigFileError {
    /// The same, where another flag names the file.
    #[must_use]
    pub fn by(mut self, named: &'static str) -> Self {
        match &mut self {
            Self::Twice { .. } => {}
            Self::Unread { flag, .. }
            | Self::Malformed { flag, .. }
            | Self::Unknown { flag, .. }
            | Self::Spelt { flag, .. }
            | Self::Several { flag, .. }
            | Self::NoSwitch { flag, .. }
            | Self::Value { flag, .. } => *flag = named,
        }
        self
    }
}

impl From<ConfigFileError> for PipelineError {
    fn from(error: ConfigFileError) -> Self {
        Self::usage(error)
    }
}

/// Adds the file's options to the arguments, unless they already name them.
///
/// # Errors
/// A file that cannot be read, or says what is no option of the command.
pub fn merge(args: Vec<OsString>) -> Result<Vec<OsString>, ConfigFileError> {
    // What stands behind `launch` is merged by whoever runs it.
    if args.get(1).is_some_and(|name| name == "launch") {
        return Ok(args);
    }
    let words: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let mut paths = values_of(&words, "config");
    let Some(path) = paths.pop() else { return Ok(args) };
    if let Some(first) = paths.pop() {
        return Err(ConfigFileError::Twice { first, second: path });
    }
    let cli = Cli::command();
    let name = words.get(1).cloned().unwrap_or_default();
    let Some(command) = cli.find_subcommand(&name) else { return Ok(args) };
    let tells = command.get_arguments().any(|arg| arg.get_long() == Some(FROM_CONFIG));
    let mut added: Vec<OsString> = Vec::new();
    for (flag, short, values) in options(Path::new(&path), command)? {
        if has_flag(&words, &flag, short) {
            continue;
        }
        if tells {
            added.push(format!("--{FROM_CONFIG}={flag}").into());
        }
        for value in values {
            added.push(value.map_or_else(|| format!("--{flag}"), |text| format!("--{flag}={text}")).into());
        }
    }
    // Before whatever stands behind a `--`.
    let mut merged = args;
    merged.splice(2..2, added);
    Ok(merged)
}

/// The texts that a file has now for the options of a command; of a switch that is on, `true`.
///
/// # Errors
/// As [`merge`].
pub fn texts(file: &Path, command: &str) -> Result<BTreeMap<String, Vec<String>>, ConfigFileError> {
    let cli = Cli::command();
    let Some(command) = cli.find_subcommand(command) else { return Ok(BTreeMap::new()) };
    let texts =
        |values: Vec<Option<String>>| values.into_iter().map(|text| text.unwrap_or_else(|| "true".into())).collect();
    Ok(options(file, command)?.into_iter().map(|(flag, _, values)| (flag, texts(values))).collect())
}

/// A flag, its short form, and its values: none is a switch that is on.
type Given = (String, Option<char>, Vec<Option<String>>);

/// What a file says of a command's flags.
fn options(file: &Path, command: &clap::Command) -> Result<Vec<Given>, ConfigFileError> {
    let path = || file.to_path_buf();
    let text =
        fs::read_to_string(file).map_err(|source| ConfigFileError::Unread { flag: FLAG, path: path(), source })?;
    let malformed = |error| ConfigFileError::Malformed { flag: FLAG, path: path(), source: Box::new(error) };
    let table: toml::Table = text.parse().map_err(malformed)?;
    let mut options: Vec<Given> = Vec::new();
    for (key, value) in table {
        let flag = key.replace('_', "-");
        let known = command.get_arguments().find(|arg| arg.get_long() == Some(flag.as_str()));
        let Some(arg) = known.filter(|_| flag != "config" && flag != FROM_CONFIG) else {
            let command = command.get_name().to_owned();
            return Err(ConfigFileError::Unknown { flag: FLAG, path: path(), key, command });
        };
        if options.iter().any(|(other, ..)| *other == flag) {
            return Err(ConfigFileError::Spelt { flag: FLAG, path: path(), key });
        }
        let values = match value {
            toml::Value::Array(values) => values,
            one => vec![one],
        };
        let count = values.len();
        if count > 1 && !matches!(arg.get_action(), ArgAction::Append) {
            return Err(ConfigFileError::Several { flag: FLAG, path: path(), key, count });
        }
        let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
        let mut given = Vec::new();
        for value in values {
            match value {
                toml::Value::Boolean(_) if !is_switch => {
                    return Err(ConfigFileError::NoSwitch { flag: FLAG, path: path(), key });
                }
                toml::Value::Boolean(true) => given.push(None),
                toml::Value::Boolean(false) => {}
                toml::Value::String(text) => given.push(Some(text)),
                toml::Value::Integer(_) | toml::Value::Float(_) => given.push(Some(value.to_string())),
                _ => return Err(ConfigFileError::Value { flag: FLAG, path: path(), key }),
            }
        }
        options.push((flag, arg.get_short(), given));
    }
    Ok(options)
}

/// Words up to `--`, behind which nothing is a flag.
fn flags(words: &[String]) -> impl Iterator<Item = (usize, &String)> {
    words.iter().enumerate().take_while(|(_, word)| *word != "--")
}

fn has_flag(words: &[String], flag: &str, short: Option<char>) -> bool {
    let (exact, assigned) = (format!("--{flag}"), format!("--{flag}="));
    let is_short = |word: &String| short.is_some_and(|short| word.starts_with(&format!("-{short}")));
    flags(words).any(|(_, word)| *word == exact || word.starts_with(&assigned) || is_short(word))
}

fn values_of(words: &[String], flag: &str) -> Vec<String> {
    let (exact, assigned) = (format!("--{flag}"), format!("--{flag}="));
    let value = |(at, word): (usize, &String)| {
        if *word == exact { words.get(at + 1).cloned() } else { word.strip_prefix(&assigned).map(String::from) }
    };
    flags(words).filter_map(value).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::parsed::Parsed;

    #[test]
    fn what_stands_on_the_command_line_wins_however_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        fs::write(&file, "out = \"file\"\nmodel = \"m\"\njson = true\nmax-rejects = 7\n").unwrap();
        let merged = |line: &str| {
            let line = format!("trommel embed {line}").replace('@', &file.display().to_string());
            merge(line.split_whitespace().map(OsString::from).collect()).map_err(|error| error.to_string())
        };
        let parsed = |line: &str| match Parsed::of(merged(line).unwrap()).unwrap().command {
            crate::parsed::Command::Model(crate::args::ModelCommand::Embed(args)) => args,
            _ => unreachable!("it is embed"),
        };
        for line in
            ["-o line in --config @", "-oline --config=@ in", "--out line --config @ in", "--config @ -o line -- in"]
        {
            let args = parsed(line);
            let out = args.out.display().to_string();
            assert_eq!((out.as_str(), args.model.as_str(), args.input), ("line", "m", vec!["in".to_owned()]), "{line}");
            assert_eq!((args.output.json, args.reading.max_rejects), (true, 7.0), "{line}");
        }
        assert_eq!(parsed("--config @ in").out.display().to_string(), "file");
        assert_eq!(parsed("--config @ -- --config").input, ["--config"]);
        let said = merged("in --config @ --config other.toml").unwrap_err();
        assert!(said.contains("other.toml: give one file"), "{said}");
    }

    /// What the file says is taken, or refused by its name: nothing of it is passed over.
    #[test]
    fn nothing_that_a_file_says_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        let merged = |text: &str| {
            fs::write(&file, text).unwrap();
            let words = ["trommel".into(), "prune".into(), "--config".into(), file.clone().into_os_string()];
            merge(words.into()).map(|words| words.len() - 4).map_err(|error| error.to_string())
        };
        for (text, words) in
            [("json = true\nblur = false\n", 1), ("benchmark = [\"a=x\", \"b=y\"]\n", 2), ("rule = [\"near\"]", 1)]
        {
            assert_eq!(merged(text), Ok(words), "{text}");
        }
        for (text, due) in [
            ("max-rejects = 1\nmax_rejects = 2\n", "`max_rejects` stands there twice, as `max-rejects` too"),
            ("rule = [\"near\", \"far:5\"]\n", "`rule` takes one value, and is given 2"),
            ("rule = false\n", "`rule` takes a value, and neither true nor false"),
            ("benchmark = [true]\n", "`benchmark` takes a value, and neither true nor false"),
            ("sead = 1\n", "`sead` is no option of `trommel prune`"),
        ] {
            let said = merged(text).unwrap_err();
            assert!(said.ends_with(due) && said.starts_with("--config "), "{said}");
        }
    }

    #[test]
    fn a_share_is_a_number_of_percent() {
        for (share, fine) in [("0", true), ("100", true), ("2.5", true), ("nan", false), ("-1", false), ("101", false)]
        {
            let words = ["trommel", "eval", "c", "--data", "d", &format!("--max-rejects={share}")].map(OsString::from);
            assert_eq!(Cli::command().try_get_matches_from(words).is_ok(), fine, "{share}");
        }
    }
}
