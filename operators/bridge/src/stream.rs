//! Streams and events of a card, pinned memory, asynchronous copies; on a CPU all of it is done when a call returns, so that one
//! structure serves both.
//!
//! ```
//! use tch::{Device, Kind};
//! use trommel_bridge::{Event, Stream, copy_async, pinned};
//!
//! let device = Device::Cpu;
//! let (upload, compute) = (Stream::new(device)?, Stream::new(device)?);
//! let mut uploaded = Event::new(device)?;
//! let (host, mut there) = (pinned(&[2, 3], Kind::Uint8, device)?, tch::Tensor::f_empty([2, 3], (Kind::Uint8, device))?);
//! {
//!     let _on = upload.enter()?;
//!     copy_async(&mut there, &host)?; // does not wait
//!     uploaded.record(&upload)?;
//! }
//! uploaded.block(&compute)?; // what is computed from now on sees the copy
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::ffi::c_int;
use std::marker::PhantomData;
use std::ptr::{NonNull, null_mut};

use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

use crate::BridgeError;
use crate::ffi::{self, check};

fn index_of(device: Device) -> Option<c_int> {
    match device {
        Device::Cuda(index) => c_int::try_from(index).ok(),
        _ => None,
    }
}

/// A queue of work on a device. Work on one stream is done in order, work on two at the same time.
#[derive(Debug)]
pub struct Stream(Option<NonNull<ffi::Stream>>);

// SAFETY: a stream is a name (a card and a number) that never changes; libtorch takes it from any thread.
unsafe impl Send for Stream {}

impl Stream {
    /// A stream of the device's own pool.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn new(device: Device) -> Result<Self, BridgeError> {
        Self::of_pool(device, false)
    }

    /// The same for many small kernels, each of which would otherwise wait for the large ones that were sent to other streams before it.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn urgent(device: Device) -> Result<Self, BridgeError> {
        Self::of_pool(device, true)
    }

    fn of_pool(device: Device, urgent: bool) -> Result<Self, BridgeError> {
        Self::made("stream", device, |index, out| {
            // SAFETY: the place outlives the call.
            unsafe { ffi::trommel_stream_new(index, c_int::from(urgent), out) }
        })
    }

    /// The stream that this thread's work goes to.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn current(device: Device) -> Result<Self, BridgeError> {
        Self::made("current stream", device, |index, out| {
            // SAFETY: the place outlives the call.
            unsafe { ffi::trommel_stream_current(index, out) }
        })
    }

    fn made(
        operation: &'static str,
        device: Device,
        make: impl FnOnce(c_int, *mut *mut ffi::Stream) -> *mut std::ffi::c_char,
    ) -> Result<Self, BridgeError> {
        let Some(index) = index_of(device) else { return Ok(Self(None)) };
        let mut stream = null_mut();
        // SAFETY: a message of the other side, or null.
        unsafe { check(operation, make(index, &raw mut stream)) }?;
        Ok(Self(NonNull::new(stream)))
    }

    /// Sends this thread's work here until the guard is dropped. Guards nest; drop them in reverse order.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn enter(&self) -> Result<OnStream<'_>, BridgeError> {
        let mut entered = null_mut();
        if let Some(stream) = self.0 {
            // SAFETY: a live stream, and a place that outlives the call.
            unsafe { check("stream", ffi::trommel_stream_enter(stream.as_ptr(), &raw mut entered)) }?;
        }
        Ok(OnStream { entered: NonNull::new(entered), _stream: PhantomData, _not_send: PhantomData })
    }

    /// Waits until all its work is done; keeps a core busy meanwhile.
    ///
    /// # Errors
    /// A kernel that failed, here or earlier.
    pub fn synchronize(&self) -> Result<(), BridgeError> {
        let Some(stream) = self.0 else { return Ok(()) };
        // SAFETY: a live stream.
        unsafe { check("synchronize", ffi::trommel_stream_synchronize(stream.as_ptr())) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(stream) = self.0 {
            // SAFETY: made by this crate, freed once. The queue itself is the pool's.
            unsafe { ffi::trommel_stream_free(stream.as_ptr()) };
        }
    }
}

/// The thread's work goes to a stream while this lives.
#[derive(Debug)]
#[must_use = "dropped at once, it has no effect"]
pub struct OnStream<'s> {
    entered: Option<NonNull<ffi::Entered>>,
    _stream: PhantomData<&'s Stream>,
    /// The current stream is the thread's.
    _not_send: PhantomData<*const ()>,
}

impl Drop for OnStream<'_> {
    fn drop(&mut self) {
        if let Some(entered) = self.entered {
            // SAFETY: made on this thread, freed once. Going back to what was current fails with nobody to tell.
            let _ = unsafe { check("stream", ffi::trommel_stream_leave(entered.as_ptr())) };
        }
    }
}

/// A point in a stream's work.
#[derive(Debug)]
pub struct Event(Option<NonNull<ffi::Event>>);

// SAFETY: libtorch's event may be used from any thread, one at a time: recording takes `&mut`.
unsafe impl Send for Event {}

impl Event {
    /// An event of which nothing is recorded: who waits for it goes on.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn new(device: Device) -> Result<Self, BridgeError> {
        if index_of(device).is_none() {
            return Ok(Self(None));
        }
        let mut event = null_mut();
        // SAFETY: the place outlives the call.
        unsafe { check("event", ffi::trommel_event_new(&raw mut event)) }?;
        Ok(Self(NonNull::new(event)))
    }

    /// Marks what was sent to `stream` so far.
    ///
    /// # Errors
    /// A stream of another device.
    pub fn record(&mut self, stream: &Stream) -> Result<(), BridgeError> {
        let (Some(event), Some(stream)) = (self.0, stream.0) else { return Ok(()) };
        // SAFETY: both live.
        unsafe { check("record", ffi::trommel_event_record(event.as_ptr(), stream.as_ptr())) }
    }

    /// Later work on `stream` waits for the mark; the calling thread does not.
    ///
    /// # Errors
    /// A stream of another device.
    pub fn block(&self, stream: &Stream) -> Result<(), BridgeError> {
        let (Some(event), Some(stream)) = (self.0, stream.0) else { return Ok(()) };
        // SAFETY: both live.
        unsafe { check("wait", ffi::trommel_event_block(event.as_ptr(), stream.as_ptr())) }
    }

    /// Whether the marked work is done.
    ///
    /// # Errors
    /// A kernel that failed.
    pub fn is_done(&self) -> Result<bool, BridgeError> {
        let Some(event) = self.0 else { return Ok(true) };
        let mut done = 0;
        // SAFETY: a live event, and a place that outlives the call.
        unsafe { check("query", ffi::trommel_event_query(event.as_ptr(), &raw mut done)) }?;
        Ok(done != 0)
    }

    /// Waits for the marked work; keeps a core busy meanwhile.
    ///
    /// # Errors
    /// A kernel that failed.
    pub fn synchronize(&self) -> Result<(), BridgeError> {
        let Some(event) = self.0 else { return Ok(()) };
        // SAFETY: a live event.
        unsafe { check("synchronize", ffi::trommel_event_synchronize(event.as_ptr())) }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if let Some(event) = self.0 {
            // SAFETY: made by this crate, freed once.
            unsafe { ffi::trommel_event_free(event.as_ptr()) };
        }
    }
}

/// An uninitialised tensor in host memory from which `device` can copy by itself: pinned for a card, plain for a CPU. `kind` is
/// f32 or u8.
///
/// # Errors
/// Memory that cannot be had, or another kind.
pub fn pinned(shape: &[i64], kind: Kind, device: Device) -> Result<Tensor, BridgeError> {
    let operation = "pinned memory";
    if index_of(device).is_none() {
        let said = |error: tch::TchError| BridgeError { operation, message: error.to_string() };
        return Tensor::f_empty(shape, (kind, Device::Cpu)).map_err(said);
    }
    let number = match kind {
        Kind::Uint8 => 0,
        Kind::Float => 6,
        _ => return Err(BridgeError { operation, message: format!("of {kind:?} is not asked for anywhere") }),
    };
    let mut tensor: *mut C_tensor = null_mut();
    // SAFETY: `shape.len()` numbers, and a place that outlives the call.
    unsafe { check(operation, ffi::trommel_pinned(shape.as_ptr(), shape.len(), number, &raw mut tensor)) }?;
    // SAFETY: a tensor that the other side made with `new`, as tch's own functions do; tch frees it.
    Ok(unsafe { Tensor::from_ptr(tensor) })
}

/// Copies `from` to `to` on the current stream. Where one of them is pinned and the other on a card this returns before the copy is
/// done: whoever writes to `from` or reads `to` on the host waits for an event first.
///
/// # Errors
/// Shapes that differ.
pub fn copy_async(to: &mut Tensor, from: &Tensor) -> Result<(), BridgeError> {
    // SAFETY: two live tensors.
    unsafe { check("copy", ffi::trommel_copy_async(to.as_mut_ptr(), from.as_ptr())) }
}

/// An implementation of attention on a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// Products and softmax one after the other.
    Math = 0,
    /// FlashAttention 2.
    Flash = 1,
    /// The memory-efficient one of xFormers.
    Efficient = 2,
    /// The fused attention of cuDNN.
    Cudnn = 3,
}

/// Has attention computed by `first` wherever it can be, else by the others in libtorch's order; holds for the whole process.
///
/// # Errors
/// What libtorch refuses.
pub fn prefer_attention(first: Attention) -> Result<(), BridgeError> {
    const OVERRIDABLE: i64 = 4;
    let order = [Attention::Flash, Attention::Efficient, Attention::Math, Attention::Cudnn];
    let rest = order.into_iter().filter(|other| *other != first);
    let order: Vec<i64> = [first].into_iter().chain(rest).map(|which| which as i64).chain([OVERRIDABLE]).collect();
    // SAFETY: `order.len()` numbers.
    unsafe { check("attention order", ffi::trommel_attention_order(order.as_ptr(), order.len())) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn on_a_cpu_all_is_done_when_a_call_returns() {
        let device = Device::Cpu;
        let (upload, compute) = (Stream::new(device).unwrap(), Stream::current(device).unwrap());
        let mut event = Event::new(device).unwrap();
        let mut host = pinned(&[4], Kind::Float, device).unwrap();
        let _ = host.f_fill_(3.0).unwrap();
        let mut there = Tensor::zeros([4], (Kind::Float, device));
        {
            let _on = upload.enter().unwrap();
            copy_async(&mut there, &host).unwrap();
            event.record(&upload).unwrap();
        }
        event.block(&compute).unwrap();
        event.synchronize().unwrap();
        upload.synchronize().unwrap();
        assert!(event.is_done().unwrap());
        assert_eq!(Vec::<f32>::try_from(&there).unwrap(), [3.0; 4]);
        assert!(copy_async(&mut there, &Tensor::zeros([5], (Kind::Float, device))).is_err());
    }

    /// No attention is lost from the order, whichever is first; the CPU's results do not depend on it.
    #[test]
    fn attention_is_computed_whichever_is_preferred() {
        let x = Tensor::arange(2 * 3 * 5 * 8, (Kind::Float, Device::Cpu)).reshape([2, 3, 5, 8]) / 100.0;
        let attend = || {
            Tensor::f_scaled_dot_product_attention(&x, &x, &x, None::<&Tensor>, 0.0, false, None::<f64>, false).unwrap()
        };
        let before = attend();
        for first in [Attention::Cudnn, Attention::Math, Attention::Efficient, Attention::Flash] {
            prefer_attention(first).unwrap();
            assert_eq!(attend(), before);
        }
    }

    /// The calls of a card's path, where there is one.
    #[test]
    fn a_machine_without_a_card_says_so() {
        if tch::Cuda::is_available() {
            return;
        }
        for error in [
            Stream::new(Device::Cuda(0)).unwrap_err(),
            Stream::urgent(Device::Cuda(0)).unwrap_err(),
            Stream::current(Device::Cuda(0)).unwrap_err(),
            Event::new(Device::Cuda(0)).unwrap_err(),
            pinned(&[1], Kind::Uint8, Device::Cuda(0)).unwrap_err(),
        ] {
            assert!(!error.message.is_empty(), "{error}");
        }
    }
}
