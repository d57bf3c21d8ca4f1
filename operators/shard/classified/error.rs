//! What can be wrong with a set of labelled pictures, and with one of its pictures.

use std::path::{Path, PathBuf};

use crate::class_names::BlankLine;
use crate::plan::PlanError;
use trommel_core::causes::Cause;
use trommel_core::sample::Reason;

/// Why a set cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ClassifiedError {
    /// A file of it cannot be had.
    #[error("{}", path.display())]
    Unavailable {
        /// The file that cannot be had.
        path: PathBuf,
        /// The system's error, or what misses the file.
        source: Cause,
    },
    /// A pattern that finds no tars.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A class without a name in its list of them.
    #[error("{}:{}", path.display(), source.line)]
    BlankName {
        /// The list of class names.
        path: PathBuf,
        /// The line, and why it is none.
        source: BlankLine,
    },
    /// It is another kind of set, or none.
    #[error("{}: {what}", path.display())]
    Malformed {
        /// The file that is not as it should be.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// Why a picture has no class, or is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Nothing says its class.
    #[error("no .cls beside it")]
    NoClass,
    /// What should be a class's number is none.
    #[error("`{0:.40}` is no class's number")]
    NoNumber(String),
    /// A number behind the last name.
    #[error("class {class}, and there are {names} names")]
    NoName {
        /// The class's number.
        class: usize,
        /// Names that there are.
        names: usize,
    },
    /// The sample is a reject.
    #[error("{0}")]
    Rejected(Reason),
}

/// A file that the system does not give.
pub(super) fn unavailable(path: &Path) -> impl Fn(std::io::Error) -> ClassifiedError {
    move |error| ClassifiedError::Unavailable { path: path.to_path_buf(), source: error.into() }
}
