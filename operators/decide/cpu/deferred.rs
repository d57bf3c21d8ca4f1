//! What takes long to make, and pays only once much is done with it: it is made when the work that went without it has taken about as long, so that nobody waits more than twice
//! as long as he would have to, however much is to come.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One thread makes it, while the others go on without.
#[derive(Debug)]
pub(super) struct Deferred<T> {
    /// Work to be done without it before.
    left: AtomicU64,
    made: OnceLock<T>,
    /// A thread has begun to make it.
    is_begun: AtomicBool,
}

impl<T> Deferred<T> {
    /// It is made once so much work is asked for.
    pub fn after(work: u64) -> Self {
        Self { left: AtomicU64::new(work), made: OnceLock::new(), is_begun: AtomicBool::new(false) }
    }

    /// What was made, if it was.
    pub fn made(&self) -> Option<&T> {
        self.made.get()
    }

    /// Whether a thread is making it now.
    pub fn is_being_made(&self) -> bool {
        self.made.get().is_none() && self.is_begun.load(Ordering::Relaxed)
    }

    /// What was made, or is made now, for who cannot go on without.
    pub fn at_once(&self, make: impl FnOnce() -> T) -> &T {
        self.made.get_or_init(make)
    }

    /// What was made, for so much work; if it is time for that, by `make`.
    pub fn get(&self, work: u64, make: impl FnOnce() -> T) -> Option<&T> {
        if let Some(made) = self.made.get() {
            return Some(made);
        }
        let less = |left: u64| (left > work).then(|| left - work);
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
            return None;
        }
        let is_anothers = self.is_begun.swap(true, Ordering::Relaxed);
        (!is_anothers).then(|| self.made.get_or_init(make))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_when_as_much_was_asked_for() {
        let deferred = Deferred::after(10);
        assert_eq!(deferred.get(4, || 'a'), None);
        assert_eq!(deferred.get(5, || 'b'), None);
        assert_eq!((deferred.get(1, || 'c'), deferred.made()), (Some(&'c'), Some(&'c')));
        assert_eq!(deferred.get(1, || 'd'), Some(&'c'));
        assert_eq!(Deferred::after(0).get(0, || 'e'), Some(&'e'));
    }

    #[test]
    fn the_others_go_on_while_one_makes_it() {
        let deferred = Deferred::after(0);
        let made = deferred.get(1, || {
            assert!(deferred.is_being_made());
            assert_eq!(deferred.get(1, || 'b'), None);
            'a'
        });
        assert_eq!((made, deferred.is_being_made()), (Some(&'a'), false));
    }
}
