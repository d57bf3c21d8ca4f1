//! What one step is fed: pixels and tokens as they come, in memory that the device can take them from.

use tch::{Device, TchError, Tensor};
use trommel_bridge::HostBytes;
use trommel_model::preprocess::{Normalise, Preprocess};

use super::error::TrainError;

/// Mean and standard deviation of each channel, of pixels in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalisation {
    /// Red, green, blue.
    pub mean: [f32; 3],
    /// Red, green, blue.
    pub std: [f32; 3],
}

impl Default for Normalisation {
    /// CLIP's own constants.
    fn default() -> Self {
        (&Preprocess::default()).into()
    }
}

impl Normalisation {
    pub(super) fn on(&self, device: Device) -> Result<Normalise, TchError> {
        Normalise::new(&self.mean.map(f64::from), &self.std.map(f64::from), device)
    }
}

/// Pictures and captions of one step, row by row in the order's order.
#[derive(Debug)]
pub struct Batch {
    /// u8\[samples, size, size, 3\], RGB.
    pub(super) pixels: Tensor,
    /// i64\[samples, context\].
    tokens: Vec<i64>,
    samples: usize,
    context: usize,
}

impl Batch {
    /// A batch to be filled, in memory that `device` can copy from by itself.
    ///
    /// # Errors
    /// A batch of nothing; memory that cannot be had.
    pub fn writer(samples: usize, size: usize, context: usize, device: Device) -> Result<BatchWriter, TrainError> {
        if samples == 0 || size == 0 || context == 0 {
            return Err(TrainError::Batch(format!("{samples} samples of {size} px and {context} tokens")));
        }
        let pixels = HostBytes::new(samples * size * size * 3, device)?;
        Ok(BatchWriter { pixels, tokens: Vec::with_capacity(samples * context), samples, size, context })
    }

    /// Checks the shapes.
    ///
    /// # Errors
    /// Lengths that are not `samples * size * size * 3` and `samples * context`.
    #[allow(clippy::needless_pass_by_value)]
    pub fn new(
        samples: usize,
        size: usize,
        context: usize,
        pixels: Vec<u8>,
        tokens: Vec<i64>,
    ) -> Result<Self, TrainError> {
        let mut batch = Self::writer(samples, size, context, Device::Cpu)?;
        batch.push(&pixels, tokens.iter().copied())?;
        batch.finish()
    }

    /// Number of rows: pictures with their captions.
    #[must_use]
    pub const fn samples(&self) -> usize {
        self.samples
    }

    /// Tokens of a row.
    pub(super) const fn context(&self) -> usize {
        self.context
    }

    /// The tokens of `count` rows from `start`.
    pub(super) fn tokens(&self, start: usize, count: usize) -> &[i64] {
        &self.tokens[start * self.context..(start + count) * self.context]
    }
}

/// A batch that is being filled, row by row.
#[derive(Debug)]
pub struct BatchWriter {
    pixels: HostBytes,
    tokens: Vec<i64>,
    samples: usize,
    size: usize,
    context: usize,
}

impl BatchWriter {
    /// Adds u8\[size, size, 3\] and the caption's tokens, of one row or several.
    ///
    /// # Errors
    /// More pixels than the batch has room for.
    pub fn push(&mut self, pixels: &[u8], tokens: impl IntoIterator<Item = i64>) -> Result<(), TrainError> {
        self.tokens.extend(tokens);
        Ok(self.pixels.push(pixels)?)
    }

    /// The batch.
    ///
    /// # Errors
    /// Fewer or more pixels or tokens than its rows have.
    pub fn finish(self) -> Result<Batch, TrainError> {
        let row = self.size * self.size * 3;
        let Self { pixels, tokens, samples, size, context } = self;
        if pixels.len() != samples * row || tokens.len() != samples * context {
            let (pixels, tokens) = (pixels.len(), tokens.len());
            return Err(TrainError::Batch(format!(
                "{pixels} bytes of pixels and {tokens} tokens for {samples} samples of {size} px and {context} tokens"
            )));
        }
        let side = size as i64;
        let pixels = pixels.into_tensor()?.f_view([samples as i64, side, side, 3]);
        Ok(Batch { pixels: pixels.map_err(TrainError::torch("the batch's pixels"))?, tokens, samples, context })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_normalised_and_channels_come_first() {
        let pixels: Vec<u8> = (0..24).map(|i| i * 10).collect();
        let batch = Batch::new(2, 2, 3, pixels.clone(), vec![1, 2, 3, 4, 5, 6]).unwrap();
        let normalisation = Normalisation::default();
        let normalise = normalisation.on(Device::Cpu).unwrap();
        let images = normalise.planes(&batch.pixels.narrow(0, 1, 1)).unwrap();
        assert_eq!(images.size(), [1, 3, 2, 2]);
        assert_eq!(batch.tokens(1, 1), [4, 5, 6]);
        for (y, x, c) in [(0, 0, 0), (1, 0, 2), (1, 1, 1)] {
            let raw = f32::from(pixels[12 + (y * 2 + x) * 3 + c]);
            let expected = (raw / 255.0 - normalisation.mean[c]) / normalisation.std[c];
            let got = images.double_value(&[0, c as i64, y as i64, x as i64]) as f32;
            assert!((got - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn other_shapes_are_refused() {
        assert!(Batch::new(2, 2, 3, vec![0; 23], vec![0; 6]).is_err());
        assert!(Batch::new(2, 2, 3, vec![0; 25], vec![0; 6]).is_err());
        assert!(Batch::new(2, 2, 3, vec![0; 24], vec![0; 7]).is_err());
        assert!(Batch::new(0, 2, 3, vec![], vec![]).is_err());
    }
}
