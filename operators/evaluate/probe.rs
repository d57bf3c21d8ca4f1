//! A linear probe: multinomial logistic regression on the frozen features, as Radford et al. 2021 fit it (section 3.2); the features are
//! those of the embedding space, as in the example of CLIP's README, where the paper takes those before the projection.
//!
//! ```text
//! minimise  mean over pictures of cross-entropy(x W + b, class)  +  |W|^2 / (2 C n)
//! ```
//!
//! That is scikit-learn's `LogisticRegression(C=C)`; the function is strictly convex in W, so its minimum does not depend on who finds
//! it. Here it is L-BFGS in f64 (Nocedal and Wright, algorithm 7.5) over blocks of rows. It stands here and not in a library since
//! ImageNet's million rows want libtorch's matrix products. Cost: two products a step; memory beside the features: the weights, twice
//! for each pair of the history.

use std::collections::VecDeque;

use tch::{Kind, Reduction, Tensor};

use trommel_model::ModelError;
use trommel_model::error::Op;

/// Rows that are multiplied at a time.
const BLOCK: i64 = 8192;
/// Pairs of steps and gradients that stand for the curvature.
const HISTORY: usize = 10;

/// How a probe is fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProbeConfig {
    /// Inverse strength of the regularisation: scikit-learn's C.
    pub c: f64,
    /// Most steps of the fit.
    pub steps: usize,
    /// Largest entry of the gradient at which the minimum is reached.
    pub tolerance: f64,
}

impl Default for ProbeConfig {
    /// CLIP's own C for its linear probe on ImageNet's features.
    fn default() -> Self {
        Self { c: 0.316, steps: 1000, tolerance: 1e-6 }
    }
}

/// A fitted probe.
#[derive(Debug)]
pub struct Probe {
    /// f64\[dim + 1, classes\]: weights, and the bias last.
    weights: Tensor,
    /// Steps that were taken.
    pub steps: usize,
    /// The gradient is within the tolerance.
    pub has_converged: bool,
}

impl Probe {
    /// Fits features f32\[n, dim\] to classes i64\[n\], each below `classes`.
    ///
    /// # Errors
    /// libtorch refuses.
    pub fn fit(features: &Tensor, labels: &Tensor, classes: i64, config: &ProbeConfig) -> Result<Self, ModelError> {
        let _no_grad = tch::no_grad_guard();
        let (n, dim) = features.size2().op("features", &[features])?;
        let objective = Objective { features, labels, penalty: 1.0 / (config.c * n.max(1) as f64) };
        let mut weights = Tensor::f_zeros([dim + 1, classes], (Kind::Double, features.device())).op("weights", &[])?;
        let (mut value, mut gradient) = objective.at(&weights)?;
        let mut history: VecDeque<(Tensor, Tensor, f64)> = VecDeque::new();
        for step in 0..config.steps {
            if largest(&gradient)? <= config.tolerance {
                return Ok(Self { weights, steps: step, has_converged: true });
            }
            let direction = direction(&gradient, &history)?;
            let slope = dot(&gradient, &direction)?;
            // Halved until the decrease is what the slope promises in part (Armijo).
            let mut length = if history.is_empty() { (1.0 / largest(&gradient)?).min(1.0) } else { 1.0 };
            let (next, next_value, next_gradient) = loop {
                let next = (&direction * length).f_add(&weights).op("step", &[])?;
                let (next_value, next_gradient) = objective.at(&next)?;
                if next_value <= value + 1e-4 * length * slope {
                    break (next, next_value, next_gradient);
                }
                length /= 2.0;
                if length < 1e-12 {
                    // Rounding hides what is left to gain.
                    return Ok(Self { weights, steps: step, has_converged: false });
                }
            };
            let (moved, turned) = (&next - &weights, &next_gradient - &gradient);
            let curvature = dot(&moved, &turned)?;
            if curvature > 0.0 {
                history.push_back((moved, turned, curvature));
                if history.len() > HISTORY {
                    history.pop_front();
                }
            }
            (weights, value, gradient) = (next, next_value, next_gradient);
        }
        let has_converged = largest(&gradient)? <= config.tolerance;
        Ok(Self { weights, steps: config.steps, has_converged })
    }

    /// Logits f64\[n, classes\] of features f32\[n, dim\].
    ///
    /// # Errors
    /// Another width, or libtorch refuses.
    pub fn logits(&self, features: &Tensor) -> Result<Tensor, ModelError> {
        logits(&features.f_to_kind(Kind::Double).op("features", &[features])?, &self.weights)
    }
}

/// `x W + b`, the last row of `weights` being b.
fn logits(rows: &Tensor, weights: &Tensor) -> Result<Tensor, ModelError> {
    let dim = weights.size()[0] - 1;
    rows.f_matmul(&weights.narrow(0, 0, dim))
        .and_then(|x| x.f_add(&weights.narrow(0, dim, 1)))
        .op("logits", &[rows, weights])
}

struct Objective<'a> {
    features: &'a Tensor,
    labels: &'a Tensor,
    /// `1 / (C n)`, before half the squared norm of the weights.
    penalty: f64,
}

impl Objective<'_> {
    /// Value and gradient. The bias is not regularised.
    fn at(&self, weights: &Tensor) -> Result<(f64, Tensor), ModelError> {
        let (n, dim) = self.features.size2().op("features", &[self.features])?;
        let w = weights.narrow(0, 0, dim);
        let mut gradient = weights.f_zeros_like().op("gradient", &[weights])?;
        let mut value = 0.0;
        for start in (0..n).step_by(usize::try_from(BLOCK).unwrap_or(1)) {
            let count = BLOCK.min(n - start);
            let rows = self.features.narrow(0, start, count).to_kind(Kind::Double);
            let labels = self.labels.narrow(0, start, count);
            let logs = logits(&rows, weights)?.f_log_softmax(1, Kind::Double).op("log_softmax", &[&rows])?;
            value +=
                logs.f_nll_loss(&labels, None::<&Tensor>, Reduction::Sum, -100).op("loss", &[&logs])?.double_value(&[]);
            let wrong = logs.exp().f_scatter_add(
                1,
                &labels.unsqueeze(1),
                &(labels.unsqueeze(1).ones_like().to_kind(Kind::Double) * -1.0),
            );
            let wrong = wrong.op("gradient", &[&logs])?;
            let _ = gradient.narrow(0, 0, dim).f_add_(&rows.tr().matmul(&wrong)).op("gradient", &[&rows])?;
            let summed = wrong.f_sum_dim_intlist([0i64].as_slice(), true, Kind::Double).op("gradient", &[&wrong])?;
            let _ = gradient.narrow(0, dim, 1).f_add_(&summed).op("gradient", &[&summed])?;
        }
        gradient /= n.max(1) as f64;
        let _ = gradient.narrow(0, 0, dim).f_add_(&(&w * self.penalty)).op("gradient", &[&w])?;
        Ok((value / n.max(1) as f64 + self.penalty / 2.0 * dot(&w, &w)?, gradient))
    }
}

/// Two-loop recursion: the inverse of the curvature seen so far, times the gradient, downhill.
fn direction(gradient: &Tensor, history: &VecDeque<(Tensor, Tensor, f64)>) -> Result<Tensor, ModelError> {
    let mut direction = gradient.neg();
    let mut shares = Vec::with_capacity(history.len());
    for (moved, turned, curvature) in history.iter().rev() {
        let share = dot(moved, &direction)? / curvature;
        direction -= turned * share;
        shares.push(share);
    }
    if let Some((_, turned, curvature)) = history.back() {
        direction *= curvature / dot(turned, turned)?;
    }
    for ((moved, turned, curvature), share) in history.iter().zip(shares.into_iter().rev()) {
        direction += moved * (share - dot(turned, &direction)? / curvature);
    }
    Ok(direction)
}

fn dot(a: &Tensor, b: &Tensor) -> Result<f64, ModelError> {
    a.f_mul(b).and_then(|product| product.f_sum(Kind::Double)).op("dot", &[a, b]).map(|sum| sum.double_value(&[]))
}

fn largest(gradient: &Tensor) -> Result<f64, ModelError> {
    gradient.f_abs().and_then(|abs| abs.f_max()).op("largest", &[gradient]).map(|most| most.double_value(&[]))
}
