//! Folders and files that have a name: benchmarks and reference sets as they are given.
//!
//! What is embedded or written of them goes to a folder of that name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use trommel_core::names::{FOLDER_NAMES, is_folder_name, is_name};

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
    /// When either side is missing, or the name can be no column's or no folder's.
    pub fn parse(text: &str) -> Result<Self, PipelineError> {
        match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => {
                match is_name(name) && is_folder_name(name, &[]) {
                    true => Ok(Self { name: name.into(), path: path.into(), without: Vec::new() }),
                    false => Err(PipelineError::usage(format!("--benchmark {text}: {FOLDER_NAMES}"))),
                }
            }
            _ => Err(PipelineError::usage(format!("--benchmark {text}: write it as NAME=DIR"))),
        }
    }

    /// Parses reference sets, `[NAME=]DIR`: one without a name is called as its folder is.
    ///
    /// # Errors
    /// Two of one name; a name that can be no folder's, or a folder that has none (`/`).
    pub fn parse_references(texts: &[String]) -> Result<Vec<Self>, PipelineError> {
        let named = |text: &String| {
            let refused = |why: &str| PipelineError::usage(format!("--reference {text}: {why}"));
            let (name, path) = match text.split_once('=') {
                Some((name, path)) if !name.contains('/') && !Path::new(text).exists() => {
                    (Some(name.to_owned()).filter(|name| is_folder_name(name, &[])).ok_or(FOLDER_NAMES), path.into())
                }
                _ => (own_name(Path::new(text)).ok_or("it has no name of its own: write it as NAME=DIR"), text.into()),
            };
            Ok(Self { name: name.map_err(refused)?, path, without: Vec::new() })
        };
        Self::distinct(texts.iter().map(named).collect::<Result<_, PipelineError>>()?, "references")
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

/// What a folder or file is called; `None` where it has no name. `.` and `..` are called as the folders are that they lead to.
fn own_name(path: &Path) -> Option<String> {
    let last = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    if path.is_file() {
        return path.file_stem().map(|name| name.to_string_lossy().into_owned());
    }
    last(path).or_else(|| last(&path.canonicalize().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// `..=PICTURES` would be embedded into the folder above, and `a/b=PICTURES` into another one's.
    #[test]
    fn a_name_leads_to_a_folder_of_its_own() {
        for name in [".", "..", ".hidden", "a/b", "../up", "/", "a b"] {
            let text = format!("{name}=pictures");
            let error = NamedPath::parse_all(std::slice::from_ref(&text), &[]).unwrap_err().to_string();
            assert!(error.contains(&format!("--benchmark {text}: ")) && error.contains(FOLDER_NAMES), "{error}");
            if !name.contains('/') {
                let error = NamedPath::parse_references(&[text]).unwrap_err().to_string();
                assert!(error.contains(FOLDER_NAMES), "{error}");
            }
        }
        assert_eq!(NamedPath::parse("v2.1=pictures=x").unwrap().path, Path::new("pictures=x"));
    }

    #[test]
    fn a_reference_without_a_name_is_called_as_its_folder_is() {
        let folder = tempfile::tempdir().unwrap();
        let (inner, of) = (folder.path().join("my photos"), |path: &Path| path.display().to_string());
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(folder.path().join("rows.npy"), "").unwrap();
        let given = [inner.clone(), folder.path().join("rows.npy"), inner.join("../my photos/.")].map(|path| of(&path));
        let names = |given: &[String]| -> Vec<String> {
            NamedPath::parse_references(given).unwrap().into_iter().map(|named| named.name).collect()
        };
        assert_eq!(names(&given[..2]), ["my photos", "rows"]);
        assert_eq!(names(&given[2..]), ["my photos"]);
        let above = folder.path().canonicalize().unwrap();
        assert_eq!(names(&[of(&inner.join(".."))]), [above.file_name().unwrap().to_string_lossy()]);
        assert_eq!(names(&["set-2=elsewhere".into()]), ["set-2"]);
        let error = NamedPath::parse_references(&["/".into()]).unwrap_err().to_string();
        assert!(error.contains("NAME=DIR"), "{error}");
    }
}
