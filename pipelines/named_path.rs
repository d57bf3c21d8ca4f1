//! Folders and files that have a name: benchmarks and reference sets as they are given.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::error::PipelineError;

/// A named folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPath {
    /// Name of the benchmark or reference set.
    pub name: String,
    /// The folder or file.
    pub path: PathBuf,
    /// Keys of its pictures that could not be embedded and may be missing.
    pub without: Vec<String>,
}

impl NamedPath {
    /// Parses `NAME=DIR`.
    ///
    /// # Errors
    /// When either side is missing.
    pub fn parse(text: &str) -> Result<Self, PipelineError> {
        match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => {
                Ok(Self { name: name.into(), path: path.into(), without: Vec::new() })
            }
            _ => Err(PipelineError::usage(format!("--benchmark {text}: write it as NAME=DIR"))),
        }
    }

    /// Parses reference sets, `[NAME=]DIR`: one without a name is called as its folder is.
    ///
    /// # Errors
    /// Two of one name.
    pub fn parse_references(texts: &[String]) -> Result<Vec<Self>, PipelineError> {
        let named = |text: &String| {
            let path = Path::new(text);
            let last = if path.is_file() { path.file_stem() } else { path.file_name() };
            let own = || last.unwrap_or_default().to_string_lossy().into_owned();
            let (name, path) = match text.split_once('=') {
                Some((name, path)) if !name.contains('/') && !Path::new(text).exists() => {
                    (name.to_owned(), path.into())
                }
                _ => (own(), text.into()),
            };
            Self { name, path, without: Vec::new() }
        };
        Self::distinct(texts.iter().map(named).collect(), "references")
    }

    /// These, if no two have one name.
    fn distinct(all: Vec<Self>, what: &str) -> Result<Vec<Self>, PipelineError> {
        let mut names = BTreeSet::new();
        match all.iter().find(|named| !names.insert(named.name.as_str())) {
            Some(again) => {
                let wrong = format!("two {what} are called {}: give each a name of its own (NAME=DIR)", again.name);
                Err(PipelineError::usage(wrong))
            }
            None => Ok(all),
        }
    }

    /// Parses the `--benchmark`s, and gives each the `--benchmark-without NAME/KEY` that name it.
    ///
    /// # Errors
    /// One that is not of its form, or names no benchmark.
    pub fn parse_all(benchmarks: &[String], without: &[String]) -> Result<Vec<Self>, PipelineError> {
        let parsed = benchmarks.iter().map(|text| Self::parse(text)).collect::<Result<_, _>>()?;
        let mut all = Self::distinct(parsed, "benchmarks")?;
        for text in without {
            let of = |named: &&mut Self| text.split_once('/').is_some_and(|(name, _)| name == named.name);
            match (all.iter_mut().find(of), text.split_once('/')) {
                (Some(named), Some((_, key))) => named.without.push(key.to_owned()),
                _ => {
                    let wrong = format!("--benchmark-without {text}: no benchmark is called so; write it as NAME/KEY");
                    return Err(PipelineError::usage(wrong));
                }
            }
        }
        Ok(all)
    }
}
