//! Attention whose kernel is chosen call by call.

use std::ffi::c_int;
use std::ptr;

use tch::Tensor;

use crate::ffi::{self, check};
use crate::{Attention, BridgeError};

/// Attention \[n, heads, tokens, d\]: on a card in half precision by `kernel`, which may be FlashAttention or the memory-efficient one;
/// with another, and elsewhere, as libtorch chooses.
///
/// # Errors
/// Shapes or kinds that differ.
pub fn attention_by(
    kernel: Attention,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    causal: bool,
) -> Result<Tensor, BridgeError> {
    let (mut out, causal) = (ptr::null_mut(), c_int::from(causal));
    // SAFETY: live tensors, and a place that outlives the call.
    unsafe {
        let (q, k, v) = (q.as_ptr(), k.as_ptr(), v.as_ptr());
        check("attention", ffi::trommel_attention_by(q, k, v, causal, kernel as c_int, &raw mut out))
    }?;
    // SAFETY: a tensor made on the other side, handed over.
    Ok(unsafe { Tensor::from_ptr(out) })
}
