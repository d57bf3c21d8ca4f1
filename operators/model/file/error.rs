//! Why a file is none of weights that can be read.

use std::io;

use zip::result::ZipError;

use super::CODE_NOT_RUN;

/// What is wrong with a file of weights; the file itself is named by who opened it.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The elements of one tensor cannot be read.
    #[error("{name}")]
    Elements {
        /// The tensor's name.
        name: String,
        /// The system's error.
        source: io::Error,
    },
    /// The header of safetensors is no header.
    #[error("header of safetensors")]
    Header(#[source] serde_json::Error),
    /// The archive of `torch.save` is none, or not whole.
    #[error("its zip archive cannot be read, as when it is cut off")]
    Archive(#[source] ZipError),
    /// The pickle holds what no weights need.
    #[error("its pickle, byte {at}")]
    Pickle {
        /// Where the instruction begins that failed.
        at: usize,
        /// What is wrong with it.
        source: PickleError,
    },
    /// A TorchScript module that was read as data and did not serve.
    #[error("{}", CODE_NOT_RUN)]
    Script(#[source] Box<Self>),
    /// What stands there is nothing that this program takes for weights.
    #[error("{0}")]
    Unfit(String),
}

impl From<String> for FormatError {
    fn from(words: String) -> Self {
        Self::Unfit(words)
    }
}

impl From<&str> for FormatError {
    fn from(words: &str) -> Self {
        Self::Unfit(words.into())
    }
}

/// What an instruction of a pickle cannot do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    /// The bytes end inside of it.
    #[error("cut off")]
    Cut,
    /// It announces more than there is.
    #[error("{announced} bytes are announced, {left} are left")]
    Short {
        /// Bytes that it announces.
        announced: u64,
        /// Bytes up to the end.
        left: u64,
    },
    /// More values than any weights have.
    #[error("too many values")]
    TooMany,
    /// It names a function or class that is no data.
    #[error("holds {}, which is code or an object of somebody's class, and no weights; nothing of it was run", .0.escape_debug())]
    Code(String),
    /// A protocol of a later Python.
    #[error("protocol {0} is not known")]
    Protocol(u8),
    /// Nothing that `torch.save` writes.
    #[error("instruction {0:#04x} is not one of torch.save's")]
    Unknown(u8),
    /// It asks the memo for what nobody put there.
    #[error("place {0} of the memo is empty")]
    NotRemembered(u64),
    /// Values of another form than it needs.
    #[error("{0}")]
    Form(String),
}

impl From<&str> for PickleError {
    fn from(words: &str) -> Self {
        Self::Form(words.into())
    }
}
