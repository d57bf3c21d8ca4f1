//! A list of wakers: short callbacks that are run, outside of any lock, when something has changed.
//!
//! A waker must not block. It may be called spuriously, and once more while it is being removed.
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicUsize, Ordering};
//! use trommel_core::wake::Wakers;
//!
//! let (wakers, calls) = (Wakers::default(), Arc::new(AtomicUsize::new(0)));
//! let counted = calls.clone();
//! let registration = wakers.add(move || {
//!     counted.fetch_add(1, Ordering::Relaxed);
//! });
//! wakers.wake_all();
//! drop(registration); // from here on nothing is called
//! wakers.wake_all();
//! assert_eq!(calls.load(Ordering::Relaxed), 1);
//! ```

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

type Callback = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct List {
    next: u64,
    entries: Vec<(u64, Callback)>,
}

/// A shared list of callbacks.
#[derive(Clone, Default)]
pub struct Wakers {
    list: Arc<Mutex<List>>,
}

/// Keeps a callback in its list; dropping it takes the callback out.
#[must_use = "dropping the registration takes the waker out again"]
pub struct Registration {
    list: Weak<Mutex<List>>,
    id: u64,
}

impl Wakers {
    /// Adds a callback that is called at every [`wake_all`](Self::wake_all) while the registration lives.
    pub fn add(&self, waker: impl Fn() + Send + Sync + 'static) -> Registration {
        let mut list = locked(&self.list);
        let id = list.next;
        list.next += 1;
        list.entries.push((id, Arc::new(waker)));
        Registration { list: Arc::downgrade(&self.list), id }
    }

    /// Calls every registered callback. Call it without holding a lock that a callback may take.
    pub fn wake_all(&self) {
        let callbacks: Vec<Callback> = locked(&self.list).entries.iter().map(|(_, waker)| waker.clone()).collect();
        for waker in callbacks {
            waker();
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let Some(list) = self.list.upgrade() else { return };
        let mut removed = None;
        {
            let mut list = locked(&list);
            if let Some(at) = list.entries.iter().position(|(id, _)| *id == self.id) {
                removed = Some(list.entries.swap_remove(at));
            }
        }
        drop(removed); // what the callback holds is dropped outside the lock
    }
}

impl fmt::Debug for Wakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wakers").field("count", &locked(&self.list).entries.len()).finish()
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("id", &self.id).finish()
    }
}

/// A mutex's content, also after a panic elsewhere: our critical sections leave whole states behind.
pub fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
