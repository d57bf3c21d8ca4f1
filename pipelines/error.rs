//! How a pipeline can end other than well: each maps to one exit status.

use std::path::Path;

use trommel_core::stop::Failure;

/// What went wrong, in one line for people.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// Wrong usage or input; nothing was begun (status 2).
    #[error("{0}")]
    Usage(String),
    /// Broken half-way; what is committed stays (status 1).
    #[error("{0}")]
    Failed(String),
    /// Another process of the run is not there (status 3); the same command resumes.
    #[error("{0}; the same command resumes")]
    Lost(String),
    /// Bytes that could not be had (status 3); the same command tries again.
    #[error("{0}; the same command tries again")]
    Unfinished(String),
    /// Stopped by a signal (status 3); the same command resumes.
    #[error("interrupted: the same command resumes")]
    Interrupted,
}

impl PipelineError {
    /// A usage error from anything printable.
    pub fn usage(error: impl std::fmt::Display) -> Self {
        Self::Usage(error.to_string())
    }

    /// A failure from anything printable.
    pub fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// A failure at a file or folder.
    pub fn at(path: &Path) -> impl Fn(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |error| Self::Failed(format!("{path}: {error}"))
    }

    /// The program's exit status.
    #[must_use]
    pub const fn status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed(_) => 1,
            Self::Lost(_) | Self::Unfinished(_) | Self::Interrupted => 3,
        }
    }
}

impl From<Failure> for PipelineError {
    fn from(failure: Failure) -> Self {
        if failure.is_input { Self::usage(failure) } else { Self::failed(failure) }
    }
}
