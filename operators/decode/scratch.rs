//! A bound on the memory that decoding takes at one time, over all threads.
//!
//! A decoder needs several times its picture's size for a few milliseconds. Sizing that for the largest picture on every
//! thread would waste most of a machine, so large pictures share one allowance: a thread that wants more than is free
//! waits until another is done. Whoever holds a part of it never waits for anything else, so this cannot deadlock.

use std::sync::{Condvar, Mutex, PoisonError};

use trommel_core::wake::locked;

/// A picture that needs no more than this does not ask.
pub(super) const FREE_BYTES: u64 = 8 << 20;

static USED: Mutex<u64> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// A part of the allowance, returned on drop.
#[derive(Debug)]
pub(super) struct Share(u64);

/// Waits until `bytes` fit under `total` (or nothing else is out) and takes them.
pub(super) fn take(bytes: u64, total: u64) -> Share {
    if bytes <= FREE_BYTES {
        return Share(0);
    }
    let mut used = locked(&USED);
    while *used > 0 && used.saturating_add(bytes) > total {
        used = FREED.wait(used).unwrap_or_else(PoisonError::into_inner);
    }
    *used += bytes;
    Share(bytes)
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.0 > 0 {
            let mut used = locked(&USED);
            *used = used.saturating_sub(self.0);
            drop(used);
            FREED.notify_all();
        }
    }
}
