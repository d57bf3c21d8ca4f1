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
    let Some(path) = value_of(&words, "config") else { return Ok(args) };
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read --config {path}"))?;
    let table: toml::Table = text.parse().with_context(|| format!("--config {path}"))?;
    let cli = Cli::command();
    let name = words.get(1).cloned().unwrap_or_default();
    let Some(command) = cli.find_subcommand(&name) else { return Ok(args) };
    let mut merged = args.clone();
    for (key, value) in table {
        let flag = key.replace('_', "-");
        let known = command.get_arguments().any(|arg| arg.get_long() == Some(flag.as_str()));
        if !known || flag == "config" {
            bail!("--config {path}: `{key}` is no option of `trommel {name}`");
        }
        if has_flag(&words, &flag) {
            continue;
        }
        let values = match value {
            toml::Value::Array(values) => values,
            one => vec![one],
        };
        for value in values {
            match value {
                toml::Value::Boolean(true) => merged.push(format!("--{flag}").into()),
                toml::Value::Boolean(false) => {}
                toml::Value::String(text) => merged.push(format!("--{flag}={text}").into()),
                toml::Value::Integer(_) | toml::Value::Float(_) => merged.push(format!("--{flag}={value}").into()),
                _ => bail!("--config {path}: `{key}` must be a string, a number, true, false, or a list of these"),
            }
        }
    }
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

fn has_flag(words: &[String], flag: &str) -> bool {
    let exact = format!("--{flag}");
    let assigned = format!("--{flag}=");
    words.iter().any(|word| *word == exact || word.starts_with(&assigned))
}

fn value_of(words: &[String], flag: &str) -> Option<String> {
    let exact = format!("--{flag}");
    let assigned = format!("--{flag}=");
    words.iter().enumerate().find_map(|(at, word)| {
        if *word == exact { words.get(at + 1).cloned() } else { word.strip_prefix(&assigned).map(String::from) }
    })
}
