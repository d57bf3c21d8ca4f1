//! Encoded pictures to image features, in full batches.

use bytes::Bytes;
use tch::Tensor;
use trommel_core::causes::Cause;

use trommel_pipelines::error::PipelineError;

use super::pictures::{BATCH, Pictures};

/// What became of pictures, each with what its giver knows of it.
pub(super) enum Looked<T> {
    /// A picture that cannot be decoded, and why.
    Rejected(T, Cause),
    /// f32\[n, dim\], not normalised: a row for each of the pictures.
    Features(Tensor, Vec<T>),
}

/// Pictures on their way to features. What becomes of them is given in their order, but that a rejected one does not wait for its batch.
pub(super) struct Batches<'m, T> {
    model: &'m Pictures,
    /// Encoded pictures that are not decoded yet.
    waiting: Vec<(T, Bytes)>,
    /// Views whose features are not made yet.
    pixels: Vec<u8>,
    /// What is known of those.
    known: Vec<T>,
}

impl<'m, T: Send> Batches<'m, T> {
    /// Batches for a model.
    pub const fn of(model: &'m Pictures) -> Self {
        Self { model, waiting: Vec::new(), pixels: Vec::new(), known: Vec::new() }
    }

    /// Adds an encoded picture; gives what became of those that waited, once they are enough to decode.
    ///
    /// # Errors
    /// libtorch refuses.
    pub fn add(&mut self, known: T, encoded: Bytes) -> Result<Vec<Looked<T>>, PipelineError> {
        self.waiting.push((known, encoded));
        if self.waiting.len() < BATCH { Ok(Vec::new()) } else { self.decode() }
    }

    /// Decodes the pictures that wait, and makes the features of full batches.
    ///
    /// # Errors
    /// libtorch refuses.
    pub fn decode(&mut self) -> Result<Vec<Looked<T>>, PipelineError> {
        let mut looked = Vec::new();
        for (known, view) in self.model.viewer().views(&mut self.waiting) {
            match view {
                Ok(view) => {
                    self.pixels.extend_from_slice(&view);
                    self.known.push(known);
                }
                Err(why) => looked.push(Looked::Rejected(known, why)),
            }
            if self.known.len() == BATCH {
                looked.push(self.features()?);
            }
        }
        Ok(looked)
    }

    /// Gives what becomes of the last pictures.
    ///
    /// # Errors
    /// libtorch refuses.
    pub fn finish(mut self) -> Result<Vec<Looked<T>>, PipelineError> {
        let mut looked = self.decode()?;
        if !self.known.is_empty() {
            looked.push(self.features()?);
        }
        Ok(looked)
    }

    /// Makes the features of the views that there are.
    fn features(&mut self) -> Result<Looked<T>, PipelineError> {
        let rows = self.model.features(&self.pixels, self.known.len())?;
        self.pixels.clear();
        Ok(Looked::Features(rows, std::mem::take(&mut self.known)))
    }
}
