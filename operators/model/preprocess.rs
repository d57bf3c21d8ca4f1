//! How a picture becomes a tower's input.

use std::fmt;

use serde::Serialize;

/// How pictures are scaled to the tower's square.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Resize {
    /// Shorter side to `size`, then the centre square.
    Shortest,
    /// Both sides to `size`, proportions lost.
    Squash,
}

/// From decoded RGB to the tower's input. Interpolation is always bicubic with PIL's antialiasing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Preprocess {
    /// Side of the square, in pixels.
    pub size: u32,
    /// How the picture gets there.
    pub mode: Resize,
    /// Subtracted from values in 0..1, per channel.
    pub mean: [f64; 3],
    /// Divides what remains, per channel.
    pub std: [f64; 3],
}

impl Default for Preprocess {
    fn default() -> Self {
        Self {
            size: 224,
            mode: Resize::Shortest,
            mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            std: [0.268_629_54, 0.261_302_58, 0.275_777_11],
        }
    }
}

/// One line, part of an embedding's identity.
impl fmt::Display for Preprocess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            Resize::Shortest => "shortest",
            Resize::Squash => "squash",
        };
        write!(f, "{} px {mode} bicubic-antialias mean {:?} std {:?}", self.size, self.mean, self.std)
    }
}
