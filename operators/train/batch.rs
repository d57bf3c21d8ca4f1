//! What one step is fed: pixels and tokens as they come, normalised on the device.

use tch::{Device, Kind, Tensor};

use trommel_model::{PackedCaptions, Packing};

use super::config::TextPadding;
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
    /// CLIP's.
    #[allow(clippy::excessive_precision)]
    fn default() -> Self {
        Self { mean: [0.481_454_66, 0.457_827_5, 0.408_210_73], std: [0.268_629_54, 0.261_302_58, 0.275_777_11] }
    }
}

/// Captions on the device.
#[derive(Debug)]
pub enum Texts {
    /// i64\[n, context\].
    Padded(Tensor),
    /// Without their padding.
    Packed(PackedCaptions),
}

/// Pictures and captions of one step, row by row in the order's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// u8\[samples, size, size, 3\], RGB.
    pixels: Vec<u8>,
    /// i64\[samples, context\].
    tokens: Vec<i64>,
    samples: usize,
    size: usize,
    context: usize,
}

impl Batch {
    /// Checks the shapes.
    ///
    /// # Errors
    /// Lengths that are not `samples * size * size * 3` and `samples * context`.
    pub fn new(
        samples: usize,
        size: usize,
        context: usize,
        pixels: Vec<u8>,
        tokens: Vec<i64>,
    ) -> Result<Self, TrainError> {
        if samples == 0 || size == 0 || context == 0 {
            return Err(TrainError::Batch(format!("{samples} samples of {size} px and {context} tokens")));
        }
        if pixels.len() != samples * size * size * 3 || tokens.len() != samples * context {
            return Err(TrainError::Batch(format!(
                "{} bytes of pixels and {} tokens for {samples} samples of {size} px and {context} tokens",
                pixels.len(),
                tokens.len()
            )));
        }
        Ok(Self { pixels, tokens, samples, size, context })
    }

    /// Rows.
    #[must_use]
    pub const fn samples(&self) -> usize {
        self.samples
    }

    /// Rows `start..start + count` on the device: f32\[count, 3, size, size\] normalised, and their captions.
    ///
    /// # Errors
    /// Memory on the device cannot be had.
    pub fn rows(
        &self,
        start: usize,
        count: usize,
        device: Device,
        normalisation: &Normalisation,
        padding: TextPadding,
    ) -> Result<(Tensor, Texts), TrainError> {
        let (row, side) = (self.size * self.size * 3, self.size as i64);
        let pixels = &self.pixels[start * row..(start + count) * row];
        let tokens = &self.tokens[start * self.context..(start + count) * self.context];
        let channel = |values: &[f32; 3]| {
            Tensor::f_from_slice(values.as_slice()).and_then(|t| t.f_reshape([1, 3, 1, 1])).and_then(|t| t.f_to(device))
        };
        let images = || {
            // Step by step and in place: what a chain of calls makes on its way would live until its end.
            let raw = Tensor::f_from_data_size(pixels, &[count as i64, side, side, 3], Kind::Uint8)?.f_to(device)?;
            let planes = raw.f_permute([0, 3, 1, 2])?.f_contiguous()?;
            drop(raw);
            let mut images = planes.f_to_kind(Kind::Float)?;
            drop(planes);
            let _ = images.f_div_scalar_(255.0)?;
            let _ = images.f_sub_(&channel(&normalisation.mean)?)?;
            let _ = images.f_div_(&channel(&normalisation.std)?)?;
            Ok::<_, tch::TchError>(images)
        };
        let texts = || match padding {
            TextPadding::Full => {
                let ids = Tensor::f_from_slice(tokens)?.f_reshape([count as i64, self.context as i64])?;
                ids.f_to(device).map(Texts::Padded)
            }
            TextPadding::None => Packing::of(tokens, self.context).on(device).map(Texts::Packed),
        };
        Ok((
            images().map_err(TrainError::torch("pixels to the device"))?,
            texts().map_err(TrainError::torch("tokens to the device"))?,
        ))
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
        let (images, texts) = batch.rows(1, 1, Device::Cpu, &normalisation, TextPadding::Full).unwrap();
        let Texts::Padded(tokens) = texts else { panic!("{texts:?}") };
        assert_eq!(images.size(), [1, 3, 2, 2]);
        assert_eq!(Vec::<i64>::try_from(tokens.reshape([3])).unwrap(), [4, 5, 6]);
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
        assert!(Batch::new(2, 2, 3, vec![0; 24], vec![0; 7]).is_err());
        assert!(Batch::new(0, 2, 3, vec![], vec![]).is_err());
    }
}
