//! Instances: batches that a CPU computes side by side, each on threads of its own, over the same weights.
//!
//! ```text
//!            ┌─▶ embed-0: a slot ─┐
//!  batches ──┤                    ├──▶ vectors, put in order again
//!            └─▶ embed-1: a slot ─┘
//! ```
//!
//! Threads that share one batch meet after each of its products. For a small model that costs more than the product, and where a decoder has taken a
//! core from one of them, the others wait with it. Threads that have a batch each meet nowhere.
//!
//! Invariants:
//! 1. Results come in the order in which batches were sent.
//! 2. A view's bits are those of one encoder with any number of threads: an instance computes the same full batches.
//! 3. Dropped, they finish the batch that they are at, and no other.
//!
//! Cost: the activations and the slot of one batch an instance; [`within`] bounds their number.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender};
use half::f16;

use super::encoder::ImageEncoder;
use super::slots::Slots;
use trommel_core::sample::Reason;
use trommel_dataflow::batch::Batched;
use trommel_model::ModelError;

/// Bytes that batches side by side may take at most: twice as much as the weights, and 256 MiB in any case.
#[must_use]
pub fn most_bytes(weights_bytes: u64) -> u64 {
    (2 * weights_bytes).max(256 << 20)
}

/// Batches that a CPU computes side by side within `room_bytes`: as many as keep all of its `threads` busy, one thread each where `batch_bytes` of each
/// batch allow it. There is always one.
#[must_use]
pub fn within(threads: usize, room_bytes: u64, batch_bytes: u64) -> usize {
    let room = room_bytes / batch_bytes.max(1);
    let bound = threads.min(usize::try_from(room).unwrap_or(usize::MAX)).max(1);
    (1..=bound).max_by_key(|count| (count * (threads / count), *count)).unwrap_or(1)
}

/// A batch's vectors, or what its thread panicked with.
type Outcome = Result<Vec<Result<Vec<f16>, Reason>>, Box<dyn Any + Send>>;
type Bell = Box<dyn Fn() + Send + Sync>;

/// Encoders over the same weights.
pub struct Instances {
    /// `None` once they are dropped.
    batches: Option<Sender<(u64, Vec<Vec<u8>>)>>,
    /// The other end of it, which takes back what nobody has begun.
    queue: Receiver<(u64, Vec<Vec<u8>>)>,
    done: Receiver<(u64, Outcome)>,
    /// Done before one that was sent earlier.
    early: BTreeMap<u64, Outcome>,
    bell: Arc<OnceLock<Bell>>,
    sent: u64,
    collected: u64,
    threads: Vec<JoinHandle<()>>,
}

impl Instances {
    /// `count` instances of an encoder that [has some](ImageEncoder::instance); its threads are divided among them.
    ///
    /// # Errors
    /// An encoder that has none; memory or a thread that cannot be had.
    pub fn new(encoder: &dyn ImageEncoder, count: usize) -> Result<Self, ModelError> {
        let shape = encoder.shape();
        let refused = |problem: String| ModelError::Device { device: format!("{:?}", shape.device), problem };
        let (batches, queue) = crossbeam_channel::unbounded::<(u64, Vec<Vec<u8>>)>();
        let (finished, done) = crossbeam_channel::unbounded();
        let bell = Arc::new(OnceLock::<Bell>::new());
        let mut threads = Vec::with_capacity(count);
        for at in 0..count.max(1) {
            let own = (shape.threads / count.max(1)).max(1);
            let instance = encoder.instance(own).ok_or_else(|| refused("the encoder cannot be shared".into()))?;
            let mut slots = Slots::new(instance, 1)?;
            let (queue, finished, bell) = (queue.clone(), finished.clone(), bell.clone());
            let serve = move || {
                for (number, views) in queue {
                    let outcome = catch_unwind(AssertUnwindSafe(|| {
                        slots.submit(views);
                        slots.collect()
                    }));
                    let _nobody_waits = finished.send((number, outcome));
                    if let Some(ring) = bell.get() {
                        ring();
                    }
                }
            };
            let spawned = thread::Builder::new().name(format!("embed-{at}")).spawn(serve);
            threads.push(spawned.map_err(|error| refused(format!("no thread to compute on: {error}")))?);
        }
        let (early, batches) = (BTreeMap::new(), Some(batches));
        Ok(Self { batches, queue, done, early, bell, sent: 0, collected: 0, threads })
    }
}

impl Batched<Vec<u8>, Result<Vec<f16>, Reason>> for Instances {
    /// Each has the next batch when it is done with the one before.
    fn depth(&self) -> usize {
        2 * self.threads.len()
    }

    fn width(&self) -> usize {
        self.threads.len()
    }

    fn rings(&mut self, bell: Bell) -> bool {
        self.bell.set(bell).is_ok()
    }

    fn submit(&mut self, views: Vec<Vec<u8>>) {
        if let Some(batches) = &self.batches {
            let _its_own_receiver_is_open = batches.send((self.sent, views));
            self.sent += 1;
        }
    }

    fn is_done(&mut self) -> bool {
        self.early.extend(self.done.try_iter());
        self.early.contains_key(&self.collected)
    }

    fn collect(&mut self) -> Vec<Result<Vec<f16>, Reason>> {
        loop {
            if let Some(outcome) = self.early.remove(&self.collected) {
                self.collected += 1;
                return outcome.unwrap_or_else(|payload| resume_unwind(payload));
            }
            let Ok((number, outcome)) = self.done.recv() else { return Vec::new() };
            self.early.insert(number, outcome);
        }
    }
}

impl Drop for Instances {
    fn drop(&mut self) {
        self.batches = None;
        while self.queue.try_recv().is_ok() {}
        for thread in self.threads.drain(..) {
            let _panics_are_caught_inside = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{most_bytes, within};

    #[test]
    fn all_threads_have_a_batch_and_memory_is_bounded() {
        let mib = 1 << 20;
        for (threads, weights, activations, expected) in [
            (1, 350 * mib, 44 * mib, 1),
            (2, 350 * mib, 44 * mib, 2),
            (2, 470 * mib, 305 * mib, 2),
            (16, 350 * mib, 44 * mib, 8), // fifteen would have room, and one core no work
            (6, 350 * mib, 160 * mib, 3), // four would leave two threads without work
            (7, 350 * mib, 160 * mib, 1), // four, three and two would leave some
            (64, mib, mib, 64),
            (2, mib, 300 * mib, 1),
            (0, mib, 0, 1),
        ] {
            assert_eq!(
                within(threads, most_bytes(weights), activations),
                expected,
                "{threads} {weights} {activations}"
            );
        }
    }
}
