//! Products of f32 on a CPU by oneDNN, with weights that lie as its kernels read them, or with gradients.
//!
//! libtorch's own go through MKL, which keeps its fastest kernels for processors of one maker: on an EPYC with AVX-512 these take half the
//! time.

use std::ffi::c_int;
use std::ptr;

use tch::Tensor;

use crate::BridgeError;
use crate::ffi::{self, check};

/// What oneDNN does to a product before it writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum After {
    /// Nothing but to add the bias.
    Nothing = 0,
    /// GELU by the error function.
    Gelu = 1,
    /// GELU by a tanh.
    GeluTanh = 2,
    /// `x * sigmoid(x)`.
    Silu = 3,
}

/// Whether libtorch was built with oneDNN.
#[must_use]
pub fn has_onednn() -> bool {
    let mut has: c_int = 0;
    // SAFETY: a place that outlives the call.
    unsafe { check("oneDNN", ffi::trommel_has_onednn(&raw mut has)) }.is_ok() && has != 0
}

/// f32\[.., in\] to `x W^T + bias`, f32\[.., out\], with gradients; all on the CPU.
///
/// # Errors
/// Shapes that do not fit.
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor, BridgeError> {
    let mut out = ptr::null_mut();
    // SAFETY: live tensors, and a place that outlives the call.
    unsafe { check("a product", ffi::trommel_linear(x.as_ptr(), weight.as_ptr(), bias.as_ptr(), &raw mut out)) }?;
    // SAFETY: a tensor made on the other side, handed over.
    Ok(unsafe { Tensor::from_ptr(out) })
}

/// A layer's weight as oneDNN reads it. For computing only: it has no gradient.
#[derive(Debug)]
pub struct PackedWeight(Tensor);

impl PackedWeight {
    /// Of f32\[out, in\] on the CPU, for inputs of `rows` rows. Others are computed too, slower.
    ///
    /// # Errors
    /// Another kind or device.
    pub fn new(weight: &Tensor, rows: i64) -> Result<Self, BridgeError> {
        let mut out = ptr::null_mut();
        // SAFETY: a live tensor, and a place that outlives the call.
        unsafe { check("packing a weight", ffi::trommel_pack(weight.as_ptr(), rows, &raw mut out)) }?;
        // SAFETY: a tensor made on the other side, handed over.
        Ok(Self(unsafe { Tensor::from_ptr(out) }))
    }

    /// f32\[.., in\] to `after(x W^T + bias)`, f32\[.., out\].
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn linear(&self, x: &Tensor, bias: &Tensor, after: After) -> Result<Tensor, BridgeError> {
        let mut out = ptr::null_mut();
        // SAFETY: live tensors, and a place that outlives the call.
        unsafe {
            let (x, weight, bias) = (x.as_ptr(), self.0.as_ptr(), bias.as_ptr());
            check("a product", ffi::trommel_packed_linear(x, weight, bias, after as c_int, &raw mut out))
        }?;
        // SAFETY: a tensor made on the other side, handed over.
        Ok(unsafe { Tensor::from_ptr(out) })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn far(a: &Tensor, b: &Tensor) -> f64 {
        assert_eq!(a.size(), b.size());
        (a - b).abs().max().double_value(&[])
    }

    /// Wider inputs than outputs and narrower ones, whole rows and batches of rows, an input that lies across: as libtorch does it.
    #[test]
    fn products_and_their_gradients_are_libtorchs() {
        tch::manual_seed(7);
        for (shape, outputs) in [(vec![33, 40], 24), (vec![5, 7, 24], 96), (vec![1, 3], 5)] {
            let inputs = *shape.last().unwrap();
            let leaf = |shape: &[i64]| Tensor::randn(shape, F32).set_requires_grad(true);
            let (x, weight, bias) = (leaf(&shape), leaf(&[outputs, inputs]), leaf(&[outputs]));
            let across = |x: &Tensor| x.flip([0]).transpose(0, -1).contiguous().transpose(0, -1);
            let of = |own: bool| {
                let x = across(&x);
                let y = if own { linear(&x, &weight, &bias).unwrap() } else { x.linear(&weight, Some(&bias)) };
                let leaves = [&x, &weight, &bias];
                let grads = Tensor::run_backward(&[(&y * &y).sum(Kind::Float)], &leaves, false, false);
                (y.detach(), grads)
            };
            let ((own, own_grads), (libtorchs, grads)) = (of(true), of(false));
            assert!(far(&own, &libtorchs) < 1e-4, "{shape:?}");
            for (own, libtorchs) in own_grads.iter().zip(&grads) {
                assert!(own.is_contiguous() && far(own, libtorchs) < 1e-3 * libtorchs.abs().max().double_value(&[]));
            }
        }
    }

    #[test]
    fn packed_weights_give_what_follows_the_product() {
        tch::manual_seed(8);
        let (x, weight, bias) =
            (Tensor::randn([2, 9, 24], F32), Tensor::randn([40, 24], F32), Tensor::randn([40], F32));
        let y = x.linear(&weight, Some(&bias));
        let packed = PackedWeight::new(&weight, 18).unwrap();
        for (after, due) in [
            (After::Nothing, y.shallow_clone()),
            (After::Gelu, y.gelu("none")),
            (After::GeluTanh, y.gelu("tanh")),
            (After::Silu, y.silu()),
        ] {
            assert!(far(&packed.linear(&x, &bias, after).unwrap(), &due) < 1e-4, "{after:?}");
        }
        assert!(packed.linear(&Tensor::randn([2, 25], F32), &bias, After::Nothing).is_err());
    }
}
