//! The learning rate of each step, and the length of a run.

use std::f64::consts::PI;

use super::config::{Scheduler, TrainConfig};
use super::error::TrainError;

/// open_clip's default warm-up.
const WARMUP_STEPS: u64 = 10_000;

/// How long a run is: exactly one of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Optimiser steps.
    Steps(u64),
    /// Samples seen, counted again in each pass. The run ends with the first step that reaches them.
    Samples(u64),
    /// Passes over the data; needs to know how many batches a pass has.
    Passes(u32),
}

impl Length {
    /// Steps of the whole run, from its first step, resumed or not.
    ///
    /// # Errors
    /// A length of nothing; passes while the number of batches in one is not known.
    pub fn total_steps(self, batch_samples: usize, batches_a_pass: Option<u64>) -> Result<u64, TrainError> {
        let refuse = |text: &str| Err(TrainError::Config(text.into()));
        let steps = match self {
            Self::Steps(steps) => steps,
            Self::Samples(samples) => samples.div_ceil(batch_samples.max(1) as u64),
            Self::Passes(passes) => match batches_a_pass {
                Some(batches) => batches.saturating_mul(u64::from(passes)),
                None => {
                    return refuse(
                        "a schedule needs a length: how many samples a pass keeps is not known yet; give --steps or \
                         --samples instead of --passes",
                    );
                }
            },
        };
        if steps == 0 { refuse("a run of no step at all") } else { Ok(steps) }
    }
}

/// Along what a schedule runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// Steps: the run has so many.
    Steps(u64),
    /// The share of the passes that is gone, in raw samples. What a rule drops is gone as what it keeps, so the share is
    /// known before anything is judged; the number of steps is not, and the run ends with its passes.
    Passes {
        /// Passes of the run, at least 1.
        passes: u32,
        /// Raw samples of one, as far as anybody knows.
        pass_samples: u64,
    },
}

impl From<u64> for Course {
    fn from(steps: u64) -> Self {
        Self::Steps(steps)
    }
}

/// Where a run stands before a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stand {
    /// Number of finished steps.
    pub step: u64,
    /// The batch's pass, from 0.
    pub pass: u32,
    /// Raw samples of that pass that had their turn before the batch.
    pub turns: u64,
}

/// The learning rate as a function of the step, from 0.
///
/// `(s + 1) / w * lr` in the warm-up of `w` steps, then `lr / 2 * (1 + cos(pi (s - w) / (n - w)))` for a run of `n`.
/// In a run of passes `n` is the steps that all its samples would fill, and `s` is the share of them that is gone, times `n`: in the warm-up too, which would
/// otherwise take most of a run that keeps little, or never end.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    base_lr: f64,
    warmup_steps: u64,
    total_steps: u64,
    course: Course,
    scheduler: Scheduler,
}

impl Schedule {
    /// The configuration's schedule over a run's course.
    ///
    /// # Errors
    /// A warm-up, asked for in so many words, that the run would never leave; passes that fill no batch.
    pub fn new(config: &TrainConfig, course: impl Into<Course>) -> Result<Self, TrainError> {
        let course = course.into();
        let total_steps = match course {
            Course::Steps(steps) => steps,
            Course::Passes { passes, pass_samples } => {
                let batches = pass_samples / config.batch_samples.max(1) as u64;
                if batches == 0 {
                    let batch = config.batch_samples;
                    let text = format!("a pass of {pass_samples} samples does not fill one batch of {batch}");
                    return Err(TrainError::Config(text));
                }
                Length::Passes(passes).total_steps(config.batch_samples, Some(batches))?
            }
        };
        let warmup_steps = match config.warmup_steps {
            None => WARMUP_STEPS.min(total_steps / 10),
            Some(steps) if steps < total_steps => steps,
            Some(steps) => {
                return Err(TrainError::Config(format!(
                    "a warm-up of {steps} steps does not end within a run of {total_steps}; shorten it, or leave it out \
                     for a tenth of the run"
                )));
            }
        };
        Ok(Self { base_lr: config.lr, warmup_steps, total_steps, course, scheduler: config.scheduler })
    }

    /// Learning rate of the step that comes next.
    #[must_use]
    pub fn lr(&self, stand: Stand) -> f64 {
        let Stand { step, pass, turns } = stand;
        let at = match self.course {
            Course::Steps(_) => step as f64,
            Course::Passes { passes, pass_samples } => {
                let in_pass = turns.min(pass_samples) as f64 / pass_samples.max(1) as f64;
                (f64::from(pass) + in_pass) / f64::from(passes.max(1)) * self.total_steps as f64
            }
        };
        let warmup = self.warmup_steps as f64;
        if at < warmup {
            return self.base_lr * (at + 1.0).min(warmup) / warmup;
        }
        match self.scheduler {
            Scheduler::Const => self.base_lr,
            Scheduler::Cosine => {
                let length = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
                let gone = (at - warmup).clamp(0.0, length);
                0.5 * (1.0 + (PI * gone / length).cos()) * self.base_lr
            }
        }
    }

    /// Steps after which the run ends; `None`: with its last pass.
    #[must_use]
    pub const fn last_step(&self) -> Option<u64> {
        match self.course {
            Course::Steps(steps) => Some(steps),
            Course::Passes { .. } => None,
        }
    }

    /// Steps of the warm-up.
    #[must_use]
    pub const fn warmup_steps(&self) -> u64 {
        self.warmup_steps
    }

    /// Steps of the whole run; of one that ends with its passes, those that all their samples would fill.
    #[must_use]
    pub const fn total_steps(&self) -> u64 {
        self.total_steps
    }

    /// A remark for the log when the default warm-up was shortened to fit the run.
    #[must_use]
    pub fn note(&self, config: &TrainConfig) -> Option<String> {
        (config.warmup_steps.is_none() && self.warmup_steps < WARMUP_STEPS).then(|| {
            format!(
                "warm-up shortened from {WARMUP_STEPS} to {} steps, a tenth of this run of {}",
                self.warmup_steps, self.total_steps
            )
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_then_cosine() {
        let config = TrainConfig { warmup_steps: Some(4), lr: 1.0, ..TrainConfig::new(8) };
        let schedule = Schedule::new(&config, 12_u64).unwrap();
        let at = |step| Stand { step, ..Stand::default() };
        let got: Vec<f64> = (0..13).map(|step| schedule.lr(at(step))).collect();
        assert_eq!(got[..5], [0.25, 0.5, 0.75, 1.0, 1.0]);
        assert!((got[8] - 0.5).abs() < 1e-12);
        assert!(got[12].abs() < 1e-12);
        assert!(got[4..].windows(2).all(|pair| pair[0] > pair[1]));
        let flat = TrainConfig { scheduler: Scheduler::Const, ..config };
        assert_eq!(Schedule::new(&flat, 12_u64).unwrap().lr(at(11)), 1.0);
    }

    #[test]
    fn passes_of_which_half_is_dropped_have_the_rates_of_whole_ones() {
        let config = TrainConfig { warmup_steps: Some(4), lr: 1.0, ..TrainConfig::new(8) };
        let whole = Schedule::new(&config, 40_u64).unwrap();
        let passes = Schedule::new(&config, Course::Passes { passes: 2, pass_samples: 160 }).unwrap();
        assert_eq!((passes.total_steps(), passes.last_step(), whole.last_step()), (40, None, Some(40)));
        // 10 batches a pass are kept of 20: each stands for two of the whole run's steps, of the warm-up as of what follows.
        for step in 0..20u64 {
            let stand = Stand { step, pass: (step / 10) as u32, turns: step % 10 * 16 };
            let expected = whole.lr(Stand { step: 2 * step, ..Stand::default() });
            assert!((passes.lr(stand) - expected).abs() < 1e-12, "{step}");
        }
        // Between two steps of the whole run: the warm-up ends at its peak.
        assert_eq!(passes.lr(Stand { step: 2, pass: 0, turns: 28 }), 1.0);
        let end = Stand { step: 20, pass: 1, turns: 160 };
        assert!(passes.lr(end).abs() < 1e-12);
        assert_eq!(passes.lr(Stand { turns: 9_999, ..end }), passes.lr(end), "more came than was known");
        let short = Schedule::new(&config, Course::Passes { passes: 2, pass_samples: 7 }).unwrap_err().to_string();
        assert!(short.contains("a pass of 7 samples does not fill one batch of 8"), "{short}");
    }

    #[test]
    fn the_default_warm_up_fits_the_run_and_says_so() {
        let config = TrainConfig::new(8);
        let short = Schedule::new(&config, 200_u64).unwrap();
        assert_eq!(short.warmup_steps(), 20);
        assert!(short.note(&config).unwrap().contains("20 steps"));
        let long = Schedule::new(&config, 1_000_000_u64).unwrap();
        assert_eq!((long.warmup_steps(), long.note(&config)), (10_000, None));
        assert_eq!(Schedule::new(&config, 5_u64).unwrap().lr(Stand::default()), config.lr);
        assert!(Schedule::new(&TrainConfig { warmup_steps: Some(200), ..config }, 200_u64).is_err());
    }

    #[test]
    fn a_run_has_a_length() {
        assert_eq!(Length::Steps(7).total_steps(32, None).unwrap(), 7);
        assert_eq!(Length::Samples(100).total_steps(32, None).unwrap(), 4);
        assert_eq!(Length::Passes(3).total_steps(32, Some(5)).unwrap(), 15);
        assert!(Length::Passes(3).total_steps(32, None).unwrap_err().to_string().contains("--steps"));
        assert!(Length::Steps(0).total_steps(32, None).is_err());
        assert!(Length::Passes(3).total_steps(32, Some(0)).is_err());
        assert!(Length::Passes(0).total_steps(32, Some(5)).is_err());
    }
}
