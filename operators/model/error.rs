//! What can go wrong with a model, with the place where it did.

use std::path::{Path, PathBuf};

use tch::{TchError, Tensor};
use trommel_bridge::BridgeError;
use trommel_core::causes::Cause;

/// An error of the model or embed room.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The configuration cannot be read or asks for what is not supported.
    #[error("model {model}: {problem}")]
    Config {
        /// Name or path of the model.
        model: String,
        /// What cannot be read, or is not supported.
        problem: String,
    },
    /// A file of weights cannot be read, or does not fit the model.
    #[error("{}: {problem}", path.display())]
    Weights {
        /// The file of weights.
        path: PathBuf,
        /// What cannot be read, or does not fit.
        problem: String,
    },
    /// A file cannot be read or written, or its format is none.
    #[error("{}", path.display())]
    File {
        /// The file that was read or written.
        path: PathBuf,
        /// What the system says, or who reads the format.
        source: Cause,
    },
    /// The configuration is no JSON.
    #[error("model {model}: not JSON")]
    Json {
        /// Name or path of the model.
        model: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// libtorch refused an operation.
    #[error("{operation} of {shapes}: {message}")]
    Tensor {
        /// The operation, as open_clip's modules are named.
        operation: String,
        /// Kinds and shapes of the operands.
        shapes: String,
        /// libtorch's first line.
        message: String,
    },
    /// The device is not known, not there, or its libraries are not.
    #[error("device {device}: {problem}")]
    Device {
        /// What was asked for.
        device: String,
        /// What is not known, or not there.
        problem: String,
    },
    /// libtorch refused an operation of the bridge.
    #[error("{place}")]
    Bridge {
        /// The device, or what was being done.
        place: String,
        /// libtorch's message.
        source: BridgeError,
    },
}

impl ModelError {
    /// An error of the configuration.
    pub fn config(model: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Config { model: model.into(), problem: problem.into() }
    }

    /// Captions without their padding, given to a tower that needs it.
    pub(crate) fn padding(ids: &Tensor) -> Self {
        let message = "a tower without causal mask sees the padding".into();
        Self::Tensor { operation: "text".into(), shapes: shape_of(ids), message }
    }

    /// A file that cannot be read or written, or whose format is none.
    pub fn file(path: &Path, source: impl Into<Cause>) -> Self {
        Self::File { path: path.into(), source: source.into() }
    }

    /// An error of a file of weights.
    pub fn weights(path: &Path, problem: impl Into<String>) -> Self {
        Self::Weights { path: path.into(), problem: problem.into() }
    }
}

/// `f32[8, 3, 224, 224]`.
#[must_use]
pub fn shape_of(tensor: &Tensor) -> String {
    let kind = tensor.f_kind().map_or_else(|_| "?".into(), |kind| format!("{kind:?}"));
    format!("{kind}{:?}", tensor.size())
}

/// Puts operation and shapes on a libtorch error.
pub trait Op<T> {
    /// Names the operation and its operands; they are looked at only in case of an error.
    ///
    /// # Errors
    /// The same as before, with its place.
    fn op(self, operation: &str, operands: &[&Tensor]) -> Result<T, ModelError>;
}

impl<T> Op<T> for Result<T, TchError> {
    fn op(self, operation: &str, operands: &[&Tensor]) -> Result<T, ModelError> {
        self.map_err(|error| {
            let text = error.to_string();
            // libtorch appends its own stack; the first line says what happened.
            let message = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("no message").trim().to_string();
            let shapes = operands.iter().map(|t| shape_of(t)).collect::<Vec<_>>().join(", ");
            ModelError::Tensor { operation: operation.into(), shapes, message }
        })
    }
}
