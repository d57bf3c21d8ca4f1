//! Backward from given gradients, the gradients' norm, and the fused AdamW step.

use std::ptr;

use tch::Tensor;

use crate::BridgeError;
use crate::ffi::{self, check, pointers};

/// What one AdamW step needs besides tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Decoupled weight decay, times the learning rate.
    pub weight_decay: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
}

fn equal_lengths(operation: &'static str, lengths: &[usize]) -> Result<(), BridgeError> {
    if lengths.windows(2).all(|pair| pair[0] == pair[1]) {
        return Ok(());
    }
    Err(BridgeError { operation, message: format!("lists of {lengths:?} tensors") })
}

/// Adds the gradient of `sum_i <tensors[i], grads[i]>` to the gradients of the leaves that the tensors came from.
///
/// # Errors
/// Lists of different length, shapes that differ, a tensor without a graph.
pub fn backward(tensors: &[Tensor], grads: &[Tensor]) -> Result<(), BridgeError> {
    equal_lengths("backward", &[tensors.len(), grads.len()])?;
    let (t, g) = (pointers(tensors), pointers(grads));
    // SAFETY: pointers to live tensors, `t.len()` of each.
    unsafe { check("backward", ffi::trommel_backward(t.as_ptr(), g.as_ptr(), t.len())) }
}

/// Forgets the gradients of `params`: they are undefined afterwards, as after `zero_grad(set_to_none=True)`.
///
/// # Errors
/// What libtorch refuses.
pub fn zero_grad(params: &[Tensor]) -> Result<(), BridgeError> {
    let p = pointers(params);
    // SAFETY: pointers to live tensors.
    unsafe { check("zero_grad", ffi::trommel_zero_grad(p.as_ptr(), p.len())) }
}

/// The L2 norm of all gradients before clipping, f64\[\] on their device. With `max_norm`, scales them by
/// `min(1, max_norm / (norm + 1e-6))`, as `torch.nn.utils.clip_grad_norm_` does; a norm that is no number scales nothing. Waits
/// for no device.
///
/// # Errors
/// What libtorch refuses.
pub fn clip_grad_norm(params: &[Tensor], max_norm: Option<f64>) -> Result<Tensor, BridgeError> {
    let p = pointers(params);
    let mut norm = ptr::null_mut();
    // SAFETY: pointers to live tensors; `norm` outlives the call.
    unsafe {
        check(
            "clip_grad_norm",
            ffi::trommel_clip_grad_norm(p.as_ptr(), p.len(), max_norm.unwrap_or(0.0), &raw mut norm),
        )
    }?;
    // SAFETY: a tensor made on the other side, handed over.
    Ok(unsafe { Tensor::from_ptr(norm) })
}

/// One AdamW step, in place, on those of `params` that have a gradient. `steps` are f32 scalars that count each
/// parameter's steps, on its device. `skip`, f32\[\] there: 1 leaves everything as it is, 0 does not; nobody waits for its value.
///
/// # Errors
/// Lists of different length; tensors that differ in shape, kind or device.
pub fn adamw_step(
    params: &[Tensor],
    exp_avgs: &[Tensor],
    exp_avg_sqs: &[Tensor],
    steps: &[Tensor],
    skip: &Tensor,
    hyper: &AdamW,
) -> Result<(), BridgeError> {
    equal_lengths("adamw_step", &[params.len(), exp_avgs.len(), exp_avg_sqs.len(), steps.len()])?;
    let (p, m, v, t) = (pointers(params), pointers(exp_avgs), pointers(exp_avg_sqs), pointers(steps));
    // SAFETY: pointers to live tensors, `p.len()` of each.
    unsafe {
        check(
            "adamw_step",
            ffi::trommel_adamw_step(
                p.as_ptr(),
                m.as_ptr(),
                v.as_ptr(),
                t.as_ptr(),
                p.len(),
                skip.as_ptr(),
                hyper.lr,
                hyper.beta1,
                hyper.beta2,
                hyper.weight_decay,
                hyper.eps,
            ),
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;

    fn leaf(values: &[f32]) -> Tensor {
        Tensor::from_slice(values).set_requires_grad(true)
    }

    #[test]
    fn a_given_gradient_flows_back() {
        let x = leaf(&[1.0, 2.0, 3.0]);
        let y = &x * &x;
        backward(&[y], &[Tensor::from_slice(&[1.0f32, 10.0, 100.0])]).unwrap();
        let grad = Vec::<f32>::try_from(x.grad()).unwrap();
        assert_eq!(grad, [2.0, 40.0, 600.0]);
        zero_grad(&[x.shallow_clone()]).unwrap();
        assert!(!x.grad().defined());
    }

    #[test]
    fn an_exception_becomes_an_error() {
        let x = leaf(&[1.0, 2.0]);
        let error = backward(&[&x * 2.0], &[Tensor::from_slice(&[1.0f32, 2.0, 3.0])]).unwrap_err();
        assert!(error.message.contains("shape"), "{error}");
        let error = backward(&[x.detach()], &[Tensor::from_slice(&[1.0f32, 2.0])]).unwrap_err();
        assert!(error.message.contains("grad"), "{error}");
        assert!(backward(&[x], &[]).is_err());
    }

    #[test]
    fn the_norm_is_clipped() {
        let (x, y) = (leaf(&[0.0, 0.0]), leaf(&[0.0]));
        (&x * Tensor::from_slice(&[3.0f32, 0.0])).sum(Kind::Float).backward();
        (&y * 4.0).sum(Kind::Float).backward();
        let params = [x.shallow_clone(), y.shallow_clone(), leaf(&[1.0])];
        let clipped = |max| f64::try_from(clip_grad_norm(&params, max).unwrap()).unwrap();
        assert_eq!(clipped(None), 5.0);
        assert_eq!(clipped(Some(1.0)), 5.0);
        assert!((clipped(Some(10.0)) - 1.0).abs() < 1e-6);
        assert!((f64::try_from(y.grad()).unwrap() - 0.8).abs() < 1e-6);
    }

    #[test]
    fn a_norm_that_is_no_number_leaves_the_good_gradients_alone() {
        let (x, y) = (leaf(&[1.0]), leaf(&[1.0]));
        (&x * f64::NAN).sum(Kind::Float).backward();
        (&y * 4.0).sum(Kind::Float).backward();
        let norm = clip_grad_norm(&[x, y.shallow_clone()], Some(1.0)).unwrap();
        assert!(f64::try_from(norm).unwrap().is_nan());
        assert_eq!(f64::try_from(y.grad()).unwrap(), 4.0);
    }

    /// Against the definition, in f64.
    #[test]
    fn adamw_follows_its_definition() {
        let hyper = AdamW { lr: 0.01, beta1: 0.9, beta2: 0.98, weight_decay: 0.2, eps: 1e-6 };
        let mut expected: Vec<f64> = (0..37).map(|i| f64::from(i) * 0.1 - 1.5).collect();
        let start: Vec<f32> = expected.iter().map(|&x| x as f32).collect();
        let p = leaf(&start);
        let zeros = || Tensor::zeros([37], (Kind::Float, Device::Cpu));
        let (m, v, t) = ([zeros()], [zeros()], [Tensor::zeros([], (Kind::Float, Device::Cpu))]);
        let (mut em, mut ev) = (vec![0.0f64; 37], vec![0.0f64; 37]);
        for step in 1..=5i32 {
            let slope: Vec<f32> = (0..37).map(|i| ((i * step) % 7) as f32 - 3.0).collect();
            zero_grad(&[p.shallow_clone()]).unwrap();
            (&p * Tensor::from_slice(&slope)).sum(Kind::Float).backward();
            let before = p.copy();
            adamw_step(&[p.shallow_clone()], &m, &v, &t, &Tensor::from(1f32), &hyper).unwrap();
            assert_eq!(p, before, "a step that is skipped");
            adamw_step(&[p.shallow_clone()], &m, &v, &t, &Tensor::from(0f32), &hyper).unwrap();
            for i in 0..37 {
                let g = f64::from(slope[i]);
                expected[i] *= 1.0 - hyper.lr * hyper.weight_decay;
                em[i] = hyper.beta1 * em[i] + (1.0 - hyper.beta1) * g;
                ev[i] = hyper.beta2 * ev[i] + (1.0 - hyper.beta2) * g * g;
                let (c1, c2) = (1.0 - hyper.beta1.powi(step), 1.0 - hyper.beta2.powi(step));
                expected[i] -= hyper.lr * (em[i] / c1) / ((ev[i] / c2).sqrt() + hyper.eps);
            }
        }
        let got = Vec::<f32>::try_from(p.detach()).unwrap();
        for (got, expected) in got.iter().zip(&expected) {
            assert!((f64::from(*got) - expected).abs() < 2e-6, "{got} {expected}");
        }
        assert_eq!(f64::try_from(&t[0]).unwrap(), 5.0);
    }
}
