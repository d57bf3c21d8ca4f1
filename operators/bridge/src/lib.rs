//! All of Trommel's C++ against libtorch, behind safe Rust.
//!
//! tch's `autocast` does nothing on CPU, its `run_backward` takes no gradient, and it cannot write a nested state dict;
//! this crate adds those three, one fused optimiser step, a card's streams, events and pinned memory, and c10d: what several
//! processes need to train one model. An exception in libtorch becomes a [`BridgeError`] with libtorch's message; nothing unwinds
//! across the border.
//!
//! Autocast, gradient mode and the current stream are state of the calling thread, so are all guards of this crate: they are not
//! `Send`.

mod allocator;
mod attention;
mod autocast;
mod autograd;
mod ffi;
mod group;
mod host;
mod onednn;
mod pickle;
mod precision;
mod reducer;
mod stream;
mod threads;

#[cfg(test)]
mod group_tests;
#[cfg(test)]
#[path = "../../../tests/common/skipped.rs"]
mod skipped;

pub use allocator::keep_freed_memory;
pub use attention::attention_by;
pub use autocast::Autocast;
pub use autograd::{AdamW, adamw_step, backward, clip_grad_norm, zero_grad};
pub use group::{Group, Store, nccl_version};
pub use host::HostBytes;
pub use onednn::{After, PackedWeight, has_onednn, linear};
pub use pickle::{Value, write_pickle};
pub use precision::{pin_precision, reduced_precision};
pub use reducer::{Averaging, Reducer};
pub use stream::{Attention, Event, OnStream, Stream, copy_async, pinned, prefer_attention};
pub use threads::{on_one_thread, set_threads};

/// The libtorch that this crate is built for. Runs and checkpoints record it among their numerics, and go on with the same alone, unless
/// `--mix-numerics` accepts another.
pub const LIBTORCH: &str = "2.11.0";

/// What libtorch said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("libtorch, {operation}: {message}")]
pub struct BridgeError {
    /// What was asked of it.
    pub operation: &'static str,
    /// Its message, the trace left out.
    pub message: String,
}
