//! The border: declarations of `cpp/`, and messages turned into errors.

use std::ffi::{CStr, c_char, c_double, c_int};

use tch::Tensor;
use torch_sys::C_tensor;

use crate::BridgeError;

/// A stack of values on the other side.
#[repr(C)]
pub struct Builder {
    _private: [u8; 0],
}

/// A client, or the server, of the ranks' table.
#[repr(C)]
pub struct Store {
    _private: [u8; 0],
}

/// Connected ranks.
#[repr(C)]
pub struct Group {
    _private: [u8; 0],
}

/// Parameters under a reducer.
#[repr(C)]
pub struct Reduced {
    _private: [u8; 0],
}

/// A queue of a card.
#[repr(C)]
pub struct Stream {
    _private: [u8; 0],
}

/// A point in a queue.
#[repr(C)]
pub struct Event {
    _private: [u8; 0],
}

/// What a thread goes back to when it leaves a stream.
#[repr(C)]
pub struct Entered {
    _private: [u8; 0],
}

/// Tensors by pointer, as tch holds them.
pub type Tensors = *const *const C_tensor;

unsafe extern "C" {
    fn trommel_free_error(text: *mut c_char);
    pub fn trommel_autocast_enter(device: c_int, enabled: *mut c_int, kind: *mut c_int) -> *mut c_char;
    pub fn trommel_autocast_leave(device: c_int, enabled: c_int, kind: c_int) -> *mut c_char;
    pub fn trommel_attention_by(
        q: *const C_tensor,
        k: *const C_tensor,
        v: *const C_tensor,
        causal: c_int,
        kernel: c_int,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub fn trommel_backward(tensors: Tensors, grads: Tensors, count: usize) -> *mut c_char;
    pub fn trommel_zero_grad(params: Tensors, count: usize) -> *mut c_char;
    pub fn trommel_clip_grad_norm(
        params: Tensors,
        count: usize,
        max: c_double,
        norm: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub fn trommel_adamw_step(
        params: Tensors,
        exp_avgs: Tensors,
        exp_avg_sqs: Tensors,
        steps: Tensors,
        count: usize,
        skip: *const C_tensor,
        lr: c_double,
        beta1: c_double,
        beta2: c_double,
        weight_decay: c_double,
        eps: c_double,
    ) -> *mut c_char;
    pub fn trommel_pickle_new(out: *mut *mut Builder) -> *mut c_char;
    pub fn trommel_pickle_free(builder: *mut Builder);
    pub fn trommel_pickle_none(builder: *mut Builder) -> *mut c_char;
    pub fn trommel_pickle_bool(builder: *mut Builder, value: c_int) -> *mut c_char;
    pub fn trommel_pickle_int(builder: *mut Builder, value: i64) -> *mut c_char;
    pub fn trommel_pickle_float(builder: *mut Builder, value: c_double) -> *mut c_char;
    pub fn trommel_pickle_string(builder: *mut Builder, text: *const c_char, size: usize) -> *mut c_char;
    pub fn trommel_pickle_tensor(builder: *mut Builder, tensor: *const C_tensor) -> *mut c_char;
    pub fn trommel_pickle_list(builder: *mut Builder, count: usize) -> *mut c_char;
    pub fn trommel_pickle_tuple(builder: *mut Builder, count: usize) -> *mut c_char;
    pub fn trommel_pickle_dict(builder: *mut Builder, pairs: usize) -> *mut c_char;
    pub fn trommel_pickle_write(builder: *mut Builder, path: *const c_char) -> *mut c_char;
    pub fn trommel_store_serve(
        host: *const c_char,
        socket: c_int,
        port: u16,
        size: usize,
        timeout_ms: i64,
        out: *mut *mut Store,
    ) -> *mut c_char;
    pub fn trommel_store_connect(
        host: *const c_char,
        port: u16,
        size: usize,
        timeout_ms: i64,
        out: *mut *mut Store,
    ) -> *mut c_char;
    pub fn trommel_store_free(store: *mut Store);
    pub fn trommel_group_gloo(
        store: *const Store,
        rank: c_int,
        size: c_int,
        host: *const c_char,
        timeout_ms: i64,
        out: *mut *mut Group,
    ) -> *mut c_char;
    pub fn trommel_group_nccl(
        store: *const Store,
        rank: c_int,
        size: c_int,
        device: c_int,
        timeout_ms: i64,
        library: *const c_char,
        out: *mut *mut Group,
    ) -> *mut c_char;
    pub fn trommel_nccl_version(library: *const c_char, version: *mut c_int) -> *mut c_char;
    pub fn trommel_group_free(group: *mut Group);
    pub fn trommel_group_timeout(group: *mut Group, timeout_ms: i64) -> *mut c_char;
    pub fn trommel_group_abort(group: *mut Group) -> *mut c_char;
    pub fn trommel_group_all_reduce(group: *mut Group, tensors: Tensors, count: usize, largest: c_int) -> *mut c_char;
    pub fn trommel_group_broadcast(group: *mut Group, tensors: Tensors, count: usize, root: c_int) -> *mut c_char;
    pub fn trommel_group_gather(group: *mut Group, rows: *const C_tensor, out: *mut *mut C_tensor) -> *mut c_char;
    pub fn trommel_reducer_new(
        params: Tensors,
        count: usize,
        group: *mut Group,
        bucket_bytes: usize,
        out: *mut *mut Reduced,
    ) -> *mut c_char;
    pub fn trommel_reducer_prepare(reduced: *mut Reduced) -> *mut c_char;
    pub fn trommel_reducer_finish(reduced: *mut Reduced) -> *mut c_char;
    pub fn trommel_reducer_seconds(reduced: *mut Reduced, all: *mut c_double, after: *mut c_double) -> *mut c_char;
    pub fn trommel_reducer_free(reduced: *mut Reduced);
    pub fn trommel_stream_new(index: c_int, urgent: c_int, out: *mut *mut Stream) -> *mut c_char;
    pub fn trommel_stream_current(index: c_int, out: *mut *mut Stream) -> *mut c_char;
    pub fn trommel_stream_free(stream: *mut Stream);
    pub fn trommel_stream_synchronize(stream: *const Stream) -> *mut c_char;
    pub fn trommel_stream_enter(stream: *const Stream, out: *mut *mut Entered) -> *mut c_char;
    pub fn trommel_stream_leave(entered: *mut Entered) -> *mut c_char;
    pub fn trommel_event_new(out: *mut *mut Event) -> *mut c_char;
    pub fn trommel_event_free(event: *mut Event);
    pub fn trommel_event_record(event: *mut Event, stream: *const Stream) -> *mut c_char;
    pub fn trommel_event_block(event: *const Event, stream: *const Stream) -> *mut c_char;
    pub fn trommel_event_query(event: *const Event, done: *mut c_int) -> *mut c_char;
    pub fn trommel_event_synchronize(event: *const Event) -> *mut c_char;
    pub fn trommel_pinned(shape: *const i64, dims: usize, kind: c_int, out: *mut *mut C_tensor) -> *mut c_char;
    pub fn trommel_copy_async(to: *mut C_tensor, from: *const C_tensor) -> *mut c_char;
    pub fn trommel_has_onednn(out: *mut c_int) -> *mut c_char;
    pub fn trommel_linear(
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub fn trommel_pack(weight: *const C_tensor, rows: i64, out: *mut *mut C_tensor) -> *mut c_char;
    pub fn trommel_packed_linear(
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        after: c_int,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub fn trommel_attention_order(order: *const i64, count: usize) -> *mut c_char;
    pub fn trommel_pin_precision() -> *mut c_char;
    pub fn trommel_precision(out: *mut c_int) -> *mut c_char;
}

/// Turns a message of the other side into an error.
///
/// # Safety
/// `text` is null or a message of this crate's C++, not yet freed.
pub unsafe fn check(operation: &'static str, text: *mut c_char) -> Result<(), BridgeError> {
    if text.is_null() {
        return Ok(());
    }
    // SAFETY: a message is a string ended by a zero byte, ours until it is freed below.
    let message = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    // Gloo begins with the place in its source.
    let message = match message.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((place, rest)) if place.contains(".cc:") => rest.to_string(),
        _ => message.into_owned(),
    };
    // SAFETY: freed once, by the side that allocated it.
    unsafe { trommel_free_error(text) };
    Err(BridgeError { operation, message })
}

/// The pointers of tensors, for the length of a call.
pub fn pointers(tensors: &[Tensor]) -> Vec<*const C_tensor> {
    tensors.iter().map(Tensor::as_ptr).collect()
}
