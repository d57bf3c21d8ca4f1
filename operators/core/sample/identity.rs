//! Who made an embedding.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who made an embedding: equal or refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// open_clip's name of the architecture, or `torchscript`, or the name given by `--assume-model`.
    pub architecture: String,
    /// Lower-case hex sha256 over the weights: names, shapes and f32 values in name order; `seed:N` for random ones.
    pub weights: String,
    /// Size, resize mode, interpolation, mean, std: one line.
    pub preprocessing: String,
    /// Decoder and resizer with versions: `libjpeg-turbo + image 0.25.8 + tiff 0.10.3 + trommel-resize 1`.
    pub decoder: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} weights {} ({}; {})", self.architecture, self.weights, self.preprocessing, self.decoder)
    }
}
