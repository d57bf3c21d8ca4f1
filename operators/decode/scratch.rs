//! A bound on the memory that decoding takes at one time, over all threads of a run.
//!
//! A decoder needs several times its picture's size for a few milliseconds. Sizing that for the largest picture on every
//! thread would waste most of a machine, so large pictures share one allowance: a thread that wants more than is free
//! waits until another is done. Whoever holds a part of it never waits for anything else, so this cannot deadlock.

use std::cell::Cell;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use trommel_core::wake::locked;

/// A picture that needs no more than this does not ask.
pub(super) const FREE_BYTES: u64 = 8 << 20;

/// A thread keeps no buffer larger than this for its next picture.
pub(super) const SPARE_BYTES: u64 = 4 << 20;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A buffer of `bytes` whose content nobody knows: that of this thread's last picture, where it is given back.
pub(super) fn spare(bytes: usize) -> Vec<u8> {
    let mut buffer = SPARE.take();
    buffer.resize(bytes, 0);
    buffer
}

/// Gives a buffer back, for this thread's next picture.
pub(super) fn give_back(buffer: Vec<u8>) {
    if buffer.capacity() as u64 <= SPARE_BYTES {
        SPARE.set(buffer);
    }
}

/// The allowance; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    used_bytes: Mutex<u64>,
    freed: Condvar,
}

/// An allowance is no limit: two of the same limits are equal whoever shares them.
impl PartialEq for Scratch {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Scratch {}

/// A part of the allowance, returned on drop.
#[derive(Debug)]
pub(super) struct Share {
    of: Arc<Shared>,
    bytes: u64,
}

impl Scratch {
    /// Waits until `bytes` fit under `total` (or nothing else is out) and takes them.
    pub(super) fn take(&self, bytes: u64, total: u64) -> Option<Share> {
        if bytes <= FREE_BYTES {
            return None;
        }
        let mut used = locked(&self.shared.used_bytes);
        while *used > 0 && used.saturating_add(bytes) > total {
            used = self.shared.freed.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        *used += bytes;
        Some(Share { of: self.shared.clone(), bytes })
    }
}

impl Share {
    /// Gives back what is more than `bytes`.
    pub(super) fn shrink_to(&mut self, bytes: u64) {
        let more = self.bytes.saturating_sub(bytes);
        let mut used = locked(&self.of.used_bytes);
        *used = used.saturating_sub(more);
        drop(used);
        self.bytes -= more;
        self.of.freed.notify_all();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut used = locked(&self.of.used_bytes);
        *used = used.saturating_sub(self.bytes);
        drop(used);
        self.of.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use crate::{Limits, held};

    /// A picture goes on being there when it is decoded: its views are made of it.
    #[test]
    fn a_large_picture_keeps_its_part_until_it_is_let_go() {
        for (side, kept) in [(2000usize, Some(2000 * 2000 * 3)), (100, None)] {
            let file = [format!("P6\n{side} {side}\n255\n").into_bytes(), vec![7; side * side * 3]].concat();
            let read = held(&file, &Limits::default()).map(|(_, share)| share.map(|share| share.bytes));
            assert_eq!(read, Ok(kept));
        }
    }
}
