//! Products of f32 on a CPU by oneDNN, with weights that lie as its kernels read them.

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

/// A layer's weight as oneDNN reads it. For computing only: it has no gradient.
#[derive(Debug)]
pub struct PackedWeight(Tensor);

impl PackedWeight {
    /// Whether libtorch was built with oneDNN.
    #[must_use]
    pub fn is_possible() -> bool {
        let mut has: c_int = 0;
        // SAFETY: a place that outlives the call.
        unsafe { check("oneDNN", ffi::trommel_has_packed(&raw mut has)) }.is_ok() && has != 0
    }

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
    pub fn linear(&self, x: &Tensor, bias: Option<&Tensor>, after: After) -> Result<Tensor, BridgeError> {
        let mut out = ptr::null_mut();
        let bias = bias.map_or(ptr::null(), Tensor::as_ptr);
        // SAFETY: live tensors, and a place that outlives the call.
        unsafe {
            let made = ffi::trommel_packed_linear(x.as_ptr(), self.0.as_ptr(), bias, after as c_int, &raw mut out);
            check("a product", made)
        }?;
        // SAFETY: a tensor made on the other side, handed over.
        Ok(unsafe { Tensor::from_ptr(out) })
    }
}
