//! Batch slots: an encoder that takes the next batch while it computes the one before.
//!
//! ```text
//!  views ─▶ slot: u8[batch, size, size, 3] ─┬ upload stream ─▶ the same on the device ─┬ compute stream ─▶ features ─▶ f32[batch, dim] of
//!           (pinned memory beside a card)   └ event ──────────────────────────────────▶┘                             the slot, event
//! ```
//!
//! The thread that fills slots does not wait for the card: it copies a batch's views into a free slot, sends upload, forward pass
//! and download, each waiting for the one before on the card, and goes on. When the last event has passed, the slot's features lie in
//! host memory, are made canonical while the card computes the next slot, and the slot is free. On a CPU everything is done where it
//! is sent, in one slot.
//!
//! A view is copied once on the host, by this thread, into its slot: decoders hand over views of their own, because a picture that
//! fails, or that is pruned before it is embedded, must not leave a hole in a batch, and because they would have to wait for a slot.
//! The copy runs at memory speed (about 10 GB/s: 60,000 views of 240 pixels a second), and beside the card.
//!
//! Invariants:
//! 1. A slot is filled only after its features were read, so a batch never sees another's pixels.
//! 2. Rows that no view fills are black.
//! 3. Results come in the order in which batches were sent.

use std::collections::VecDeque;

use half::f16;
use tch::{Device, Kind, Tensor};

use super::encoder::{ImageEncoder, on_this_thread};
use trommel_bridge::{Event, Stream, copy_async, keep_freed_memory, pinned};
use trommel_columnar::canonical::canonicalise_into;
use trommel_core::causes::Causes;
use trommel_core::sample::Reason;
use trommel_dataflow::batch::Batched;
use trommel_decode::view_buffers;
use trommel_model::ModelError;
use trommel_model::error::Op;

/// An encoder with its slots.
pub struct Slots {
    encoder: Box<dyn ImageEncoder>,
    upload: Stream,
    compute: Stream,
    free: Vec<Slot>,
    /// Batches that the device works on, oldest first.
    flying: VecDeque<Slot>,
    depth: usize,
}

struct Slot {
    /// u8\[batch, size, size, 3\] in host memory.
    views: Tensor,
    /// The same where it is computed; on a CPU the same memory.
    there: Tensor,
    /// f32\[batch, dim\] in host memory.
    features: Tensor,
    uploaded: Event,
    done: Event,
    count: usize,
}

/// Batches on their way for a device: a card computes one while the next lies ready; a CPU is done when it is asked.
#[must_use]
pub const fn depth_of(device: Device) -> usize {
    if matches!(device, Device::Cpu) { 1 } else { 2 }
}

/// Bytes of host memory of `depth` slots.
#[must_use]
pub fn host_bytes(device: Device, depth: usize, batch: usize, view_bytes: u64, dim: usize) -> u64 {
    // libtorch's allocator of pinned memory takes powers of two.
    let taken = |bytes: u64| if matches!(device, Device::Cpu) { bytes } else { bytes.next_power_of_two() };
    depth as u64 * (taken(batch as u64 * view_bytes) + taken(batch as u64 * 4 * dim as u64))
}

fn refused(operation: &str, source: trommel_bridge::BridgeError) -> ModelError {
    ModelError::Bridge { place: operation.into(), source }
}

impl Slots {
    /// Takes `depth` slots, at least one.
    ///
    /// # Errors
    /// Memory that cannot be had on the host or on the card.
    pub fn new(encoder: Box<dyn ImageEncoder>, depth: usize) -> Result<Self, ModelError> {
        let depth = depth.max(1);
        let shape = encoder.shape();
        let device = shape.device;
        keep_freed_memory(device);
        let made = |error: trommel_bridge::BridgeError| refused("batch slots", error);
        // Weights were copied there on the stream of whoever loaded them.
        Stream::current(device).and_then(|loaded| loaded.synchronize()).map_err(made)?;
        let stream = || Stream::new(device).map_err(made);
        let (upload, compute) = (stream()?, stream()?);
        // Memory that another stream has let go of may still be read there: a slot's own stream is asked for it.
        let on_upload = upload.enter().map_err(made)?;
        let (batch, side) = (signed(shape.batch), i64::from(shape.size));
        let free = (0..depth).map(|_| {
            let views = pinned(&[batch, side, side, 3], Kind::Uint8, device).map_err(made)?;
            let there = match device {
                Device::Cpu => views.shallow_clone(),
                _ => Tensor::f_empty(views.size(), (Kind::Uint8, device)).op("batch slot", &[&views])?,
            };
            let features = pinned(&[batch, signed(shape.dim)], Kind::Float, device).map_err(made)?;
            let event = || Event::new(device).map_err(made);
            Ok(Slot { views, there, features, uploaded: event()?, done: event()?, count: 0 })
        });
        let free = free.collect::<Result<Vec<_>, ModelError>>()?;
        drop(on_upload);
        Ok(Self { upload, compute, free, flying: VecDeque::with_capacity(depth), depth, encoder })
    }

    /// The encoder that runs the batches.
    #[must_use]
    pub fn encoder(&self) -> &dyn ImageEncoder {
        &*self.encoder
    }

    /// Sends a batch of at most [`ImageEncoder::batch`] views, each u8\[size, size, 3\].
    ///
    /// # Errors
    /// No free slot, too many views, a view of another size, or libtorch refuses.
    pub fn send<V: AsRef<[u8]>>(&mut self, views: &[V]) -> Result<(), ModelError> {
        let Some(mut slot) = self.free.pop() else {
            return Err(ModelError::Device { device: "batch slots".into(), problem: "none is free".into() });
        };
        let sent = self.launch(&mut slot, views);
        if sent.is_err() {
            let _said_already = self.upload.synchronize().and_then(|()| self.compute.synchronize());
            self.free.push(slot);
        } else {
            self.flying.push_back(slot);
        }
        sent
    }

    fn launch<V: AsRef<[u8]>>(&mut self, slot: &mut Slot, views: &[V]) -> Result<(), ModelError> {
        slot.fill(views)?;
        let failed = |error: trommel_bridge::BridgeError| refused("batch slot", error);
        if !matches!(self.encoder.shape().device, Device::Cpu) {
            let _on = self.upload.enter().map_err(failed)?;
            copy_async(&mut slot.there, &slot.views).map_err(failed)?;
            slot.uploaded.record(&self.upload).map_err(failed)?;
        }
        slot.uploaded.block(&self.compute).map_err(failed)?;
        let _on = self.compute.enter().map_err(failed)?;
        let _no_grad = on_this_thread(self.encoder.shape().threads);
        let features = self.encoder.forward(&slot.there)?;
        let features = features.f_to_kind(Kind::Float).and_then(|t| t.f_contiguous()).op("features", &[&features])?;
        copy_async(&mut slot.features, &features).map_err(failed)?;
        slot.done.record(&self.compute).map_err(failed)
    }

    /// Gives the features f32\[views, dim\] of the oldest batch to `read`; waits for them. `None`: none was sent.
    ///
    /// # Errors
    /// What failed on the card since it was sent.
    pub fn receive<R>(&mut self, read: impl FnOnce(&[f32]) -> R) -> Result<Option<R>, ModelError> {
        let Some(slot) = self.flying.pop_front() else { return Ok(None) };
        let done = slot.done.synchronize().map_err(|error| refused("batch", error));
        let dim = self.encoder.dim();
        let read = done.map(|()| read(&slot.read()[..slot.count * dim]));
        self.free.push(slot);
        read.map(Some)
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Slot {
    fn fill<V: AsRef<[u8]>>(&mut self, views: &[V]) -> Result<(), ModelError> {
        let shape = self.views.size();
        let (batch, view) = (shape[0] as usize, (shape[1] * shape[2] * shape[3]) as usize);
        if views.len() > batch || views.iter().any(|one| one.as_ref().len() != view) {
            let lengths: Vec<usize> =
                views.iter().map(|one| one.as_ref().len()).filter(|length| *length != view).collect();
            let message = format!("{} views, among them of {lengths:?} bytes instead of {view}", views.len());
            return Err(ModelError::Tensor { operation: "batch slot".into(), shapes: format!("{shape:?}"), message });
        }
        // SAFETY: a contiguous u8 tensor of batch * view bytes in host memory, which only this slot names, and which nothing on its
        // way reads: the slot was free.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.views.data_ptr().cast::<u8>(), batch * view) };
        for (place, one) in bytes.chunks_exact_mut(view).zip(views) {
            place.copy_from_slice(one.as_ref());
        }
        bytes[views.len() * view..].fill(0);
        self.count = views.len();
        Ok(())
    }

    fn read(&self) -> &[f32] {
        // SAFETY: a contiguous f32 tensor in host memory; who wrote to it is done.
        unsafe { std::slice::from_raw_parts(self.features.data_ptr().cast::<f32>(), self.features.numel()) }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // What is on its way reads and writes the slots' memory.
        let _at_the_end = self.upload.synchronize().and_then(|()| self.compute.synchronize());
    }
}

/// Views in, canonical vectors out, or why there is none.
impl Batched<Vec<u8>, Result<Vec<f16>, Reason>> for Slots {
    fn depth(&self) -> usize {
        self.depth
    }

    fn submit(&mut self, views: Vec<Vec<u8>>) {
        // A libtorch that refuses a batch of the agreed shape is no property of a sample: the service fails.
        self.send(&views).unwrap_or_else(|error| std::panic::panic_any(Causes(&error).to_string()));
        view_buffers::recycle(views);
    }

    fn is_done(&mut self) -> bool {
        // What went wrong is said by `collect`.
        self.flying.front().is_none_or(|slot| slot.done.is_done().unwrap_or(true))
    }

    fn collect(&mut self) -> Vec<Result<Vec<f16>, Reason>> {
        let dim = self.encoder.dim();
        let read = self.receive(|features| features.chunks_exact(dim).map(canonical).collect());
        read.unwrap_or_else(|error| std::panic::panic_any(Causes(&error).to_string())).unwrap_or_default()
    }
}

/// The canonical vector of a feature.
///
/// # Errors
/// A feature without a direction.
pub fn canonical(feature: &[f32]) -> Result<Vec<f16>, Reason> {
    let mut vector = Vec::with_capacity(feature.len());
    canonicalise_into(feature, &mut vector).map_err(|why| Reason::new(why.code(), ""))?;
    Ok(vector)
}
