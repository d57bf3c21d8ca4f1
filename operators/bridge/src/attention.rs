//! Attention whose kernel is chosen call by call.

use std::ffi::c_int;
use std::ptr;

use tch::Tensor;

use crate::BridgeError;
use crate::ffi::{self, check};

/// Attention \[n, heads, tokens, d\] of shapes that change from call to call: on a card in half precision always FlashAttention 2, since
/// cuDNN would make a plan for every shape; elsewhere what libtorch chooses.
///
/// # Errors
/// Shapes or kinds that differ.
pub fn attention_of_any_shape(q: &Tensor, k: &Tensor, v: &Tensor, causal: bool) -> Result<Tensor, BridgeError> {
    let mut out = ptr::null_mut();
    // SAFETY: live tensors, and a place that outlives the call.
    unsafe {
        check(
            "attention",
            ffi::trommel_attention_of_any_shape(q.as_ptr(), k.as_ptr(), v.as_ptr(), c_int::from(causal), &raw mut out),
        )
    }?;
    // SAFETY: a tensor made on the other side, handed over.
    Ok(unsafe { Tensor::from_ptr(out) })
}
