//! Batches on their way to the device, beside the steps.
//!
//! ```text
//!  assembler's thread, stream of its own     k+1 ──copy──▶ slot B ─ event ─┐
//!  trainer's thread, its stream                  step k from slot A        └▶ step k+1 from slot B
//! ```
//!
//! On a CPU a batch is where it is computed with; nothing is copied.
//!
//! Invariants:
//! 1. A slot is written when the step that read it last is done: a step ends by reading its loss back, and gives the slot back then.
//! 2. There are as many slots as batches exist at once: two (see `sink`).

use std::sync::mpsc::{Receiver, Sender, channel};

use tch::{Device, Kind, TchError, Tensor};
use trommel_bridge::{Event, HostBytes, Stream, copy_async};
use trommel_model::{PackedCaptions, Packing};

use super::batch::Batch;
use super::config::TextPadding;
use super::error::TrainError;

/// Captions on the device.
#[derive(Debug)]
pub(super) enum Texts {
    /// i64\[n, context\].
    Padded(Tensor),
    /// Without their padding.
    Packed(PackedCaptions),
}

/// Device memory of one batch.
#[derive(Debug)]
struct Slot {
    /// u8\[samples, size, size, 3\].
    pixels: Tensor,
    /// i64, room for all tokens.
    numbers: Tensor,
    uploaded: Event,
}

/// A batch on the device, or on its way there. Lives as long as the step that reads it.
#[derive(Debug)]
pub struct Staged {
    /// u8\[samples, size, size, 3\].
    pub(super) pixels: Tensor,
    /// Chunk by chunk.
    pub(super) texts: Vec<Texts>,
    slot: Option<(Slot, Sender<Slot>)>,
}

impl Staged {
    /// What this thread sends to the device from now on finds the batch there.
    pub(super) fn arrive(&self, device: Device) -> Result<(), TrainError> {
        match &self.slot {
            Some((slot, _)) => Ok(slot.uploaded.block(&Stream::current(device)?)?),
            None => Ok(()),
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some((slot, home)) = self.slot.take() {
            // Nobody stages any more once the last batch is trained.
            let _no_stager = home.send(slot);
        }
    }
}

/// Sends batches to the device.
#[derive(Debug)]
pub struct Stager {
    device: Device,
    chunks: usize,
    padding: TextPadding,
    /// Stream of the uploads; `None` on a CPU.
    stream: Option<Stream>,
    free: Receiver<Slot>,
    home: Sender<Slot>,
}

impl Stager {
    pub(super) fn new(device: Device, chunks: usize, padding: TextPadding) -> Result<Self, TrainError> {
        let stream = matches!(device, Device::Cuda(_)).then(|| Stream::new(device)).transpose()?;
        let (home, free) = channel();
        Ok(Self { device, chunks, padding, stream, free, home })
    }

    /// Brings a batch to the device; returns before it is there.
    ///
    /// # Errors
    /// Memory cannot be had.
    pub fn stage(&mut self, batch: &Batch) -> Result<Staged, TrainError> {
        if !batch.samples().is_multiple_of(self.chunks) {
            let text = format!("{} samples do not divide into {} chunks", batch.samples(), self.chunks);
            return Err(TrainError::Batch(text));
        }
        let rows = batch.samples() / self.chunks;
        let packings: Vec<Packing> = match self.padding {
            TextPadding::Full => Vec::new(),
            TextPadding::None => {
                (0..self.chunks).map(|k| Packing::of(batch.tokens(k * rows, rows), batch.context())).collect()
            }
        };
        // All numbers of all chunks in one piece.
        let numbers: Vec<&[i64]> = match self.padding {
            TextPadding::Full => vec![batch.tokens(0, batch.samples())],
            TextPadding::None => packings.iter().map(Packing::numbers).collect(),
        };
        let ahead = TrainError::torch("tokens to the device");
        let Some(stream) = &self.stream else {
            let numbers = Tensor::f_from_slice(&numbers.concat());
            let texts = numbers.and_then(|numbers| self.texts(&numbers, &packings, batch)).map_err(ahead)?;
            return Ok(Staged { pixels: batch.pixels.shallow_clone(), texts, slot: None });
        };
        let _on = stream.enter()?;
        let mut slot = match self.free.try_recv() {
            Ok(slot) if slot.pixels.size() == batch.pixels.size() => slot,
            _ => Slot::new(batch, self.device)?,
        };
        copy_async(&mut slot.pixels, &batch.pixels)?;
        let count: usize = numbers.iter().map(|numbers| numbers.len()).sum();
        let mut host = HostBytes::new(8 * count, self.device)?;
        numbers.iter().try_for_each(|numbers| host.push(bytemuck::cast_slice(numbers)))?;
        let host = host.into_tensor()?;
        let view = || Ok((host.f_view_dtype(Kind::Int64)?, slot.numbers.f_narrow(0, 0, count as i64)?));
        let (host, mut there) = view().map_err(TrainError::torch("tokens to the device"))?;
        copy_async(&mut there, &host)?;
        slot.uploaded.record(stream)?;
        let texts = self.texts(&there, &packings, batch).map_err(ahead)?;
        Ok(Staged { pixels: slot.pixels.shallow_clone(), texts, slot: Some((slot, self.home.clone())) })
    }

    /// Each chunk's captions over the numbers on the device.
    fn texts(&self, numbers: &Tensor, packings: &[Packing], batch: &Batch) -> Result<Vec<Texts>, TchError> {
        if packings.is_empty() {
            let tokens = numbers.f_view([batch.samples() as i64, batch.context() as i64])?;
            return Ok(tokens.f_chunk(self.chunks as i64, 0)?.into_iter().map(Texts::Padded).collect());
        }
        let mut from = 0;
        let chunk = |packing: &Packing| {
            let count = packing.numbers().len() as i64;
            from += count;
            packing.placed(&numbers.f_narrow(0, from - count, count)?).map(Texts::Packed)
        };
        packings.iter().map(chunk).collect()
    }
}

impl Slot {
    fn new(batch: &Batch, device: Device) -> Result<Self, TrainError> {
        // An id and a position a token, and each row's end.
        let numbers = batch.samples() * (2 * batch.context() + 1);
        let made = || {
            let pixels = Tensor::f_empty(batch.pixels.size(), (Kind::Uint8, device))?;
            Ok((pixels, Tensor::f_empty([numbers as i64], (Kind::Int64, device))?))
        };
        let (pixels, numbers) = made().map_err(TrainError::torch("memory for a batch on the device"))?;
        Ok(Self { pixels, numbers, uploaded: Event::new(device)? })
    }
}
