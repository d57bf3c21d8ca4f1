//! How many threads libtorch computes on: a number that each thread which asks for work has for itself.

/// Has libtorch compute on `threads` threads what the calling thread asks for; so do threads that begin from now on and ask for no number.
#[allow(clippy::disallowed_methods, reason = "the one place that may")]
pub fn set_threads(threads: usize) {
    // When a thread first looks at its number it takes over the process's last one. Without this look that would come after the line below, where another
    // thread may have set another number meanwhile, and the order of a sum would be decided by chance.
    tch::get_num_threads();
    tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX).max(1));
}

/// Has libtorch compute `work` on the calling thread alone; afterwards the thread's number is what it was.
pub fn on_one_thread<T>(work: impl FnOnce() -> T) -> T {
    struct Back(usize);
    impl Drop for Back {
        fn drop(&mut self) {
            set_threads(self.0);
        }
    }
    let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1);
    if threads <= 1 {
        return work();
    }
    let _back = Back(threads);
    set_threads(1);
    work()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::thread;

    use super::{on_one_thread, set_threads};

    #[test]
    fn a_number_is_the_threads_own() {
        let own = thread::spawn(|| {
            set_threads(3);
            thread::spawn(|| set_threads(1)).join().unwrap();
            tch::get_num_threads()
        });
        assert_eq!(own.join().unwrap(), 3);
    }

    #[test]
    fn what_one_thread_computes_leaves_the_number_as_it_was() {
        let own = thread::spawn(|| {
            set_threads(3);
            let within = on_one_thread(tch::get_num_threads);
            let failed = std::panic::catch_unwind(|| on_one_thread(|| panic!("planned")));
            (within, failed.is_err(), tch::get_num_threads())
        });
        assert_eq!(own.join().unwrap(), (1, true, 3));
    }
}
