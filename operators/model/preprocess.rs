//! How a picture becomes a tower's input.

use std::fmt;

use serde::Serialize;
use tch::{Device, Kind, TchError, Tensor};

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

/// Mean and standard deviation where the pixels are: f32\[1, 3, 1, 1\] each.
#[derive(Debug)]
pub struct Normalise {
    mean: Tensor,
    std: Tensor,
}

impl Normalise {
    /// On `device`; of values in 0..1, per channel.
    ///
    /// # Errors
    /// No memory there.
    pub fn new(mean: &[f64; 3], std: &[f64; 3], device: Device) -> Result<Self, TchError> {
        let channels = |values: &[f64; 3]| {
            Tensor::f_from_slice(values)?.f_to_kind(Kind::Float)?.f_reshape([1, 3, 1, 1])?.f_to_device(device)
        };
        Ok(Self { mean: channels(mean)?, std: channels(std)? })
    }

    /// u8\[n, size, size, 3\] to f32\[n, 3, size, size\], in the order and the roundings that stored features of a CPU were made with.
    ///
    /// # Errors
    /// Another shape or device; no memory.
    pub fn planes(&self, pixels: &Tensor) -> Result<Tensor, TchError> {
        // Step by step and in place: what a chain of calls makes on its way would live until its end.
        let planes = pixels.f_permute([0, 3, 1, 2])?.f_contiguous()?;
        let mut images = planes.f_to_kind(Kind::Float)?;
        drop(planes);
        let _ = images.f_div_scalar_(255.0)?;
        let _ = images.f_sub_(&self.mean)?;
        let _ = images.f_div_(&self.std)?;
        Ok(images)
    }
}
