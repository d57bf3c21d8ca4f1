//! A thread beside a command's work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A thread that ends when this is dropped.
pub struct Beside {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Beside {
    /// Runs `work` until the flag that it is given is set. It waits by `park_timeout`, so that it is woken then.
    pub fn spawn(work: impl FnOnce(&AtomicBool) + Send + 'static) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let seen = done.clone();
        Self { done, thread: Some(std::thread::spawn(move || work(&seen))) }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
