//! The recipe: what is in the training hash. Where open_clip has a default, it is ours.

use serde::{Deserialize, Serialize};

use super::error::TrainError;

/// What matrix products are computed in. Weights, optimiser state, features' norms, logits and loss are f32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Everything in f32.
    F32,
    /// Autocast to bfloat16 on CPU and CUDA, as `--precision amp_bf16` does; needs no loss scaling. The default on every
    /// device, so that one configuration means one arithmetic wherever it runs. A CPU without bfloat16 instructions
    /// emulates it slowly: ask for `f32` there. The image tower's residual sums stay f32; open_clip's autocast has them in
    /// bfloat16.
    #[default]
    Bf16,
}

/// Which tokens the text tower computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextPadding {
    /// All of a caption's context. What checkpoints that say nothing were trained with.
    #[default]
    Full,
    /// Those up to the end token ([`trommel_model::PackedCaptions`]): the same features and gradients, summed in another order.
    /// Only a tower that is causal and read at the end token has it.
    None,
}

impl TextPadding {
    /// Left out of what is written: so a padded run has the training hash that it had before there was a choice.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    const fn is_full(&self) -> bool {
        matches!(self, Self::Full)
    }
}

/// How the learning rate goes on after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheduler {
    /// Half a cosine, to zero at the last step.
    #[default]
    Cosine,
    /// The peak rate, from the warm-up to the end.
    Const,
}

/// The recipe of a training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Samples a step, over all ranks and accumulation chunks.
    pub batch_samples: usize,
    /// Chunks that a rank's share of the batch is passed through the towers in. Saves memory, costs one more forward
    /// pass; must divide the batch. Default 1.
    #[serde(default = "one")]
    pub accumulation_chunks: usize,
    /// Peak learning rate. Default 5e-4.
    #[serde(default = "default_lr")]
    pub lr: f64,
    /// Decay of the first moment. Default 0.9.
    #[serde(default = "default_beta1")]
    pub beta1: f64,
    /// Decay of the second moment. Default 0.98 (open_clip's for ViTs).
    #[serde(default = "default_beta2")]
    pub beta2: f64,
    /// Added to the root of the second moment. Default 1e-6 (open_clip's for ViTs).
    #[serde(default = "default_eps")]
    pub eps: f64,
    /// Decoupled weight decay of matrices; gains, biases and the logit scale have none. Default 0.2.
    #[serde(default = "default_weight_decay")]
    pub weight_decay: f64,
    /// Steps over which the learning rate rises linearly. Default: open_clip's 10,000, but at most a tenth of the run
    /// (open_clip itself would end a shorter run before its peak). A number given here is used as it is, and refused if
    /// the run has no more steps than that.
    #[serde(default)]
    pub warmup_steps: Option<u64>,
    /// After the warm-up. Default cosine.
    #[serde(default)]
    pub scheduler: Scheduler,
    /// Largest L2 norm of all gradients; larger ones are scaled down to it. Default: no clipping.
    #[serde(default)]
    pub grad_clip_norm: Option<f64>,
    /// What the towers compute in. Default bf16.
    #[serde(default)]
    pub precision: Precision,
    /// Default full, in a configuration that says nothing; a new run has none where the model allows it.
    #[serde(default, skip_serializing_if = "TextPadding::is_full")]
    pub text_padding: TextPadding,
}

const fn one() -> usize {
    1
}
const fn default_lr() -> f64 {
    5e-4
}
const fn default_beta1() -> f64 {
    0.9
}
const fn default_beta2() -> f64 {
    0.98
}
const fn default_eps() -> f64 {
    1e-6
}
const fn default_weight_decay() -> f64 {
    0.2
}

impl TrainConfig {
    /// open_clip's recipe for a ViT at this global batch.
    #[must_use]
    pub const fn new(batch_samples: usize) -> Self {
        Self {
            batch_samples,
            accumulation_chunks: 1,
            lr: default_lr(),
            beta1: default_beta1(),
            beta2: default_beta2(),
            eps: default_eps(),
            weight_decay: default_weight_decay(),
            warmup_steps: None,
            scheduler: Scheduler::Cosine,
            grad_clip_norm: None,
            precision: Precision::Bf16,
            text_padding: TextPadding::None,
        }
    }

    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// Names the field, its value and what it must be.
    pub fn validate(&self) -> Result<(), TrainError> {
        let refuse = |text: String| Err(TrainError::Config(text));
        if self.batch_samples < 2 {
            return refuse(format!("a batch of {}: a contrastive loss needs 2 samples at least", self.batch_samples));
        }
        if self.accumulation_chunks == 0 || !self.batch_samples.is_multiple_of(self.accumulation_chunks) {
            return refuse(format!(
                "a batch of {} does not divide into {} chunks",
                self.batch_samples, self.accumulation_chunks
            ));
        }
        let positive = |name: &str, value: f64| {
            if value.is_finite() && value > 0.0 {
                Ok(())
            } else {
                refuse(format!("{name} is {value}, must be above 0"))
            }
        };
        positive("lr", self.lr)?;
        positive("eps", self.eps)?;
        if let Some(norm) = self.grad_clip_norm {
            positive("grad_clip_norm", norm)?;
        }
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            return refuse(format!("weight_decay is {}, must be 0 or above", self.weight_decay));
        }
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return refuse(format!("{name} is {beta}, must be in [0, 1)"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_constructor_and_unknown_fields_are_refused() {
        let parsed: TrainConfig = serde_json::from_str(r#"{"batch_samples": 256}"#).unwrap();
        // But for the padding, which was there before it was a choice.
        assert_eq!(parsed, TrainConfig { text_padding: TextPadding::Full, ..TrainConfig::new(256) });
        parsed.validate().unwrap();
        assert!(serde_json::from_str::<TrainConfig>(r#"{"batch_samples": 256, "lr_rate": 1}"#).is_err());
        let text = serde_json::to_string(&parsed).unwrap();
        assert_eq!(serde_json::from_str::<TrainConfig>(&text).unwrap(), parsed);
        assert!(!text.contains("padding"), "the training hash of padded runs stays: {text}");
        let text = serde_json::to_string(&TrainConfig::new(256)).unwrap();
        assert_eq!(serde_json::from_str::<TrainConfig>(&text).unwrap(), TrainConfig::new(256));
    }

    #[test]
    fn nonsense_is_refused() {
        let good = TrainConfig::new(8);
        for bad in [
            TrainConfig { batch_samples: 1, ..good.clone() },
            TrainConfig { accumulation_chunks: 3, ..good.clone() },
            TrainConfig { accumulation_chunks: 0, ..good.clone() },
            TrainConfig { lr: f64::NAN, ..good.clone() },
            TrainConfig { beta2: 1.0, ..good.clone() },
            TrainConfig { weight_decay: -0.1, ..good.clone() },
            TrainConfig { grad_clip_norm: Some(0.0), ..good.clone() },
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
    }
}
