//! `--config FILE.toml`: every name in it is a flag of the command; what stands on the command line wins.

use std::ffi::OsString;
use std::fs;

use anyhow::{Context, Result, bail};
use clap::CommandFactory;
use clap::parser::ValueSource;
use trommel_pipelines::error::PipelineError;

use crate::args::Cli;

/// Adds the file's options to the arguments, unless they already name them.
pub fn merge(args: Vec<OsString>) -> Result<Vec<OsString>> {
    // What stands behind `launch` is merged by whoever runs it.
    if args.get(1).is_some_and(|name| name == "launch") {
        return Ok(args);
    }
    let words: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let mut paths = values_of(&words, "config");
    let Some(path) = paths.pop() else { return Ok(args) };
    if let Some(other) = paths.pop() {
        bail!("--config {other} and --config {path}: give one file");
    }
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read --config {path}"))?;
    let table: toml::Table = text.parse().with_context(|| format!("--config {path}"))?;
    let cli = Cli::command();
    let name = words.get(1).cloned().unwrap_or_default();
    let Some(command) = cli.find_subcommand(&name) else { return Ok(args) };
    let mut added: Vec<OsString> = Vec::new();
    for (key, value) in table {
        let flag = key.replace('_', "-");
        let known = command.get_arguments().find(|arg| arg.get_long() == Some(flag.as_str()));
        let Some(arg) = known.filter(|_| flag != "config") else {
            bail!("--config {path}: `{key}` is no option of `trommel {name}`");
        };
        if has_flag(&words, &flag, arg.get_short()) {
            continue;
        }
        let values = match value {
            toml::Value::Array(values) => values,
            one => vec![one],
        };
        for value in values {
            match value {
                toml::Value::Boolean(true) => added.push(format!("--{flag}").into()),
                toml::Value::Boolean(false) => {}
                toml::Value::String(text) => added.push(format!("--{flag}={text}").into()),
                toml::Value::Integer(_) | toml::Value::Float(_) => added.push(format!("--{flag}={value}").into()),
                _ => bail!("--config {path}: `{key}` must be a string, a number, true, false, or a list of these"),
            }
        }
    }
    // Before whatever stands behind a `--`.
    let mut merged = args;
    merged.splice(2..2, added);
    Ok(merged)
}

/// Long names of the flags that are given in `words`, which [`merge`] has made.
///
/// # Errors
/// Words that are no command line.
pub fn given(words: &[OsString]) -> Result<Vec<String>, PipelineError> {
    let usage = |error: &dyn std::fmt::Display| PipelineError::Usage(error.to_string());
    let cli = Cli::command();
    let matches = cli.clone().try_get_matches_from(words).map_err(|error| usage(&error))?;
    let Some((name, matches)) = matches.subcommand() else { return Ok(Vec::new()) };
    let arguments = cli.find_subcommand(name).into_iter().flat_map(clap::Command::get_arguments);
    let said = |arg: &&clap::Arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    Ok(arguments.filter(said).filter_map(|arg| arg.get_long().map(String::from)).collect())
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

    #[test]
    fn what_stands_on_the_command_line_wins_however_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        fs::write(&file, "out = \"file\"\nmodel = \"m\"\njson = true\nmax-rejects = 7\n").unwrap();
        let merged = |line: &str| {
            let line = format!("trommel embed {line}").replace('@', &file.display().to_string());
            merge(line.split_whitespace().map(OsString::from).collect()).map_err(|error| error.to_string())
        };
        let parsed = |line: &str| match crate::parse(&merged(line).unwrap()).unwrap() {
            crate::args::Command::Embed(args) => args,
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

    #[test]
    fn a_share_is_a_number_of_percent() {
        for (share, fine) in [("0", true), ("100", true), ("2.5", true), ("nan", false), ("-1", false), ("101", false)]
        {
            let words = ["trommel", "eval", "c", "--data", "d", &format!("--max-rejects={share}")].map(OsString::from);
            assert_eq!(Cli::command().try_get_matches_from(words).is_ok(), fine, "{share}");
        }
    }
}
