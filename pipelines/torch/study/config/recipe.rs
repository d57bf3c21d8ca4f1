//! A recipe of a training, as the file has it.

use serde::{Deserialize, Serialize};
use trommel_train::{Length, Precision, Schedule, TrainConfig};

use crate::study::file_error::FileError;
use crate::train::RunLength;

/// A recipe, by the names of `trommel train`'s flags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeFile {
    /// Samples of a step, over all ranks.
    pub batch: usize,
    /// Length in optimiser steps.
    #[serde(default)]
    pub steps: Option<u64>,
    /// Length in samples trained on.
    #[serde(default)]
    pub samples: Option<u64>,
    /// Length in passes over the training set.
    #[serde(default)]
    pub passes: Option<u32>,
    /// Peak learning rate.
    #[serde(default)]
    pub lr: Option<f64>,
    /// AdamW's beta1, of the mean gradient.
    #[serde(default)]
    pub beta1: Option<f64>,
    /// AdamW's beta2, of the mean squared gradient.
    #[serde(default)]
    pub beta2: Option<f64>,
    /// AdamW's epsilon.
    #[serde(default)]
    pub eps: Option<f64>,
    /// AdamW's weight decay.
    #[serde(default)]
    pub wd: Option<f64>,
    /// Steps over which the learning rate rises.
    #[serde(default)]
    pub warmup: Option<u64>,
    /// Largest norm of the gradient.
    #[serde(default)]
    pub grad_clip_norm: Option<f64>,
    /// Parts that a batch is split into.
    #[serde(default)]
    pub accum_freq: Option<usize>,
    /// `f32` or `bf16`.
    #[serde(default)]
    pub precision: Option<Precision>,
    /// Lanes of the order.
    #[serde(default)]
    pub lanes: Option<usize>,
    /// Samples of a shuffle window.
    #[serde(default)]
    pub window: Option<usize>,
}

impl RecipeFile {
    /// Its fields as the trainer knows them.
    #[must_use]
    pub fn config(&self) -> TrainConfig {
        let mut recipe = TrainConfig::new(self.batch);
        let set = |to: &mut f64, from: Option<f64>| from.into_iter().for_each(|value| *to = value);
        set(&mut recipe.lr, self.lr);
        set(&mut recipe.beta1, self.beta1);
        set(&mut recipe.beta2, self.beta2);
        set(&mut recipe.eps, self.eps);
        set(&mut recipe.weight_decay, self.wd);
        recipe.warmup_steps = self.warmup;
        recipe.grad_clip_norm = self.grad_clip_norm;
        recipe.accumulation_chunks = self.accum_freq.unwrap_or(recipe.accumulation_chunks);
        recipe.precision = self.precision.unwrap_or(recipe.precision);
        recipe
    }

    /// Its length.
    ///
    /// # Errors
    /// None, or more than one.
    pub fn length(&self) -> Result<RunLength, FileError> {
        match (self.steps, self.samples, self.passes) {
            (Some(steps), None, None) => Ok(RunLength::Steps(steps)),
            (None, Some(samples), None) => Ok(RunLength::Samples(samples)),
            (None, None, Some(passes)) => Ok(RunLength::Passes(passes)),
            _ => Err(FileError::Length),
        }
    }

    pub(super) fn check(&self) -> Result<(), FileError> {
        let (length, config) = (Length::from(self.length()?), self.config());
        config.validate().map_err(FileError::setting)?;
        // How many batches a pass has is known when the sets are: one at least.
        let steps = length.total_steps(self.batch, Some(1)).map_err(FileError::setting)?;
        match length {
            Length::Steps(_) | Length::Samples(_) => {
                Schedule::new(&config, steps).map(|_| ()).map_err(FileError::setting)
            }
            Length::Passes(_) => Ok(()),
        }
    }
}
