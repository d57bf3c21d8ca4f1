//! AdamW over open_clip's two groups.

use tch::{Kind, Tensor};
use trommel_bridge as bridge;

use super::config::TrainConfig;
use super::error::TrainError;

/// Whether weight decay leaves a parameter alone: gains, biases, the logit scale, and whatever has fewer than two axes.
/// By name, as open_clip does it: `bn`, `ln`, `bias` or `logit_scale` anywhere in it.
#[must_use]
pub fn is_exempt(name: &str, axes: usize) -> bool {
    axes < 2 || ["bn", "ln", "bias", "logit_scale"].iter().any(|part| name.contains(part))
}

/// One group's tensors, in the order of the names.
#[derive(Debug, Default)]
struct Group {
    names: Vec<String>,
    params: Vec<Tensor>,
    exp_avgs: Vec<Tensor>,
    exp_avg_sqs: Vec<Tensor>,
    steps: Vec<Tensor>,
}

impl Group {
    fn push(&mut self, name: &str, param: &Tensor) -> Result<(), tch::TchError> {
        let zeros = || tch::no_grad(|| param.f_zeros_like());
        self.exp_avgs.push(zeros()?);
        self.exp_avg_sqs.push(zeros()?);
        self.steps.push(Tensor::f_zeros([0i64; 0], (Kind::Float, param.device()))?);
        self.params.push(param.shallow_clone());
        self.names.push(name.into());
        Ok(())
    }

    /// State under `kind.parameter` names.
    fn state(&self) -> impl Iterator<Item = (String, &Tensor)> {
        self.names.iter().enumerate().flat_map(|(i, name)| {
            [("exp_avg", &self.exp_avgs[i]), ("exp_avg_sq", &self.exp_avg_sqs[i]), ("step", &self.steps[i])]
                .map(|(kind, tensor)| (format!("{kind}.{name}"), tensor))
        })
    }
}

/// AdamW (Loshchilov and Hutter 2019): decoupled decay, bias correction, f32 moments beside the parameters.
#[derive(Debug)]
pub struct AdamW {
    pub(super) beta1: f64,
    pub(super) beta2: f64,
    pub(super) eps: f64,
    pub(super) weight_decay: f64,
    exempt: Group,
    decayed: Group,
}

impl AdamW {
    /// Moments of zero for each of `parameters`.
    ///
    /// # Errors
    /// Memory on the device cannot be had.
    pub fn new(config: &TrainConfig, parameters: &[(String, Tensor)]) -> Result<Self, TrainError> {
        let (mut exempt, mut decayed) = (Group::default(), Group::default());
        for (name, param) in parameters {
            let group = if is_exempt(name, param.dim()) { &mut exempt } else { &mut decayed };
            group.push(name, param).map_err(TrainError::torch("memory for the optimiser"))?;
        }
        let TrainConfig { beta1, beta2, eps, weight_decay, .. } = *config;
        Ok(Self { beta1, beta2, eps, weight_decay, exempt, decayed })
    }

    /// One step at learning rate `lr` from the gradients that the parameters hold; none where `skip`, f32\[\] on their device, is 1.
    ///
    /// # Errors
    /// libtorch refuses.
    pub fn step(&mut self, lr: f64, skip: &Tensor) -> Result<(), TrainError> {
        for (group, weight_decay) in [(&self.exempt, 0.0), (&self.decayed, self.weight_decay)] {
            let hyper = bridge::AdamW { lr, beta1: self.beta1, beta2: self.beta2, weight_decay, eps: self.eps };
            bridge::adamw_step(&group.params, &group.exp_avgs, &group.exp_avg_sqs, &group.steps, skip, &hyper)?;
        }
        Ok(())
    }

    /// Names of the parameters without and with decay.
    #[must_use]
    pub fn groups(&self) -> (&[String], &[String]) {
        (&self.exempt.names, &self.decayed.names)
    }

    /// All state: `exp_avg.NAME`, `exp_avg_sq.NAME` and `step.NAME` for each parameter.
    #[must_use]
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.exempt.state().chain(self.decayed.state()).map(|(name, tensor)| (name, tensor.shallow_clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_clips_groups() {
        for (name, axes, exempt) in [
            ("visual.conv1.weight", 4, false),
            ("visual.class_embedding", 1, true),
            ("visual.positional_embedding", 2, false),
            ("visual.ln_pre.weight", 1, true),
            ("transformer.resblocks.0.attn.in_proj_weight", 2, false),
            ("transformer.resblocks.0.attn.in_proj_bias", 1, true),
            ("token_embedding.weight", 2, false),
            ("text_projection", 2, false),
            ("logit_scale", 0, true),
        ] {
            assert_eq!(is_exempt(name, axes), exempt, "{name}");
        }
    }
}
