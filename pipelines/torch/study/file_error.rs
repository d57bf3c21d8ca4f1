//! What is wrong with a study's file.

use trommel_core::causes::Cause;

/// Why a file says no study. The place is a line, or a field as it is written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// No TOML, or a field that nobody knows or that is of another kind.
    #[error("{}{problem}", place(*line))]
    Form {
        /// The line, from 1, where the parser says one.
        line: Option<usize>,
        /// What the parser says.
        problem: String,
    },
    /// A field, or several, whose value cannot be meant.
    #[error("{field}: {wrong}")]
    Field {
        /// As it is written.
        field: String,
        /// What is wrong, or what it must be.
        wrong: String,
    },
    /// A recipe that trains nothing.
    #[error("{field}")]
    Recipe {
        /// The recipe's table.
        field: &'static str,
        /// What is wrong with it.
        source: Box<FileError>,
    },
    /// No length of a training, or more than one.
    #[error("a schedule needs a length: give one of steps, samples or passes")]
    Length,
    /// What the trainer or the maker of data says of its own settings.
    #[error(transparent)]
    Setting(Cause),
}

fn place(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!("line {line}: "))
}

impl FileError {
    /// A field whose value cannot be meant.
    pub(super) fn field(field: impl Into<String>, wrong: impl Into<String>) -> Self {
        Self::Field { field: field.into(), wrong: wrong.into() }
    }

    /// What another room says of its settings.
    pub(super) fn setting(cause: impl Into<Cause>) -> Self {
        Self::Setting(cause.into())
    }
}
