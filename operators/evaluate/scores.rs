//! Guesses beside truth: top-1, top-5, mean over classes.

use serde::Serialize;
use tch::{Device, Tensor};
use trommel_model::ModelError;
use trommel_model::error::Op;

/// Counts of a labelled set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accuracy {
    /// Labelled pictures seen.
    pub total: u64,
    /// Pictures whose largest logit was their class.
    pub top1: u64,
    /// Pictures whose class was among the five largest.
    pub top5: u64,
    /// Of each class: pictures, and right first guesses.
    pub classes: Vec<(u64, u64)>,
    /// Of each picture, in the order in which they came.
    pub guesses: Vec<Guess>,
}

/// What was guessed of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guess {
    /// The class of the largest logit.
    pub class: usize,
    /// Whether that is its class.
    pub is_right: bool,
    /// Whether its class is among the five largest.
    pub is_among_five: bool,
}

/// Shares of a labelled set, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Shares {
    /// First guesses that were right.
    pub top1: f64,
    /// Pictures whose class was among the first five guesses.
    pub top5: f64,
    /// First guesses that were right in a class, the mean over classes that have pictures.
    pub mean_per_class: f64,
}

impl Accuracy {
    /// No pictures of so many classes.
    #[must_use]
    pub fn of(classes: usize) -> Self {
        Self { classes: vec![(0, 0); classes], ..Self::default() }
    }

    /// Counts logits \[n, classes\] against their classes. Equal logits are ranked as libtorch's `topk` ranks them.
    ///
    /// # Errors
    /// libtorch refuses.
    pub fn add(&mut self, logits: &Tensor, classes: &[usize]) -> Result<(), ModelError> {
        let most = logits.size().get(1).copied().unwrap_or(1).min(5);
        let (_, best) = logits.f_topk(most, 1, true, true).op("topk", &[logits])?;
        let best = best.f_to_device(Device::Cpu).op("copy", &[])?;
        let flat: Vec<i64> = Vec::try_from(best.reshape([-1])).op("copy", &[])?;
        for (guesses, class) in flat.chunks(usize::try_from(most).unwrap_or(1)).zip(classes) {
            let found = guesses.iter().position(|guess| usize::try_from(*guess) == Ok(*class));
            let right = found == Some(0);
            let first = guesses.first().and_then(|first| usize::try_from(*first).ok()).unwrap_or_default();
            self.total += 1;
            self.top1 += u64::from(right);
            self.top5 += u64::from(found.is_some());
            if let Some((all, rights)) = self.classes.get_mut(*class) {
                *all += 1;
                *rights += u64::from(right);
            }
            self.guesses.push(Guess { class: first, is_right: right, is_among_five: found.is_some() });
        }
        Ok(())
    }

    /// The same counts as shares, 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss)]
    pub fn shares(&self) -> Shares {
        let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        let seen: Vec<f64> =
            self.classes.iter().filter(|(all, _)| *all > 0).map(|(all, right)| share(*right, *all)).collect();
        Shares {
            top1: share(self.top1, self.total),
            top5: share(self.top5, self.total),
            mean_per_class: seen.iter().sum::<f64>() / seen.len().max(1) as f64,
        }
    }
}
