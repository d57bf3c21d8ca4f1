//! A fixed set of threads for work that must not happen on a worker.
//!
//! Invariants: the queue is bounded and never blocks its sender; a job that panics harms neither its thread nor the
//! other jobs; when the last handle is dropped the queued jobs are finished and the threads end.
//!
//! ```
//! use trommel_dataflow::pool::Pool;
//!
//! let pool = Pool::new("sums", 2);
//! let (tell, told) = crossbeam_channel::bounded(1);
//! assert!(pool.try_submit(Box::new(move || drop(tell.send(1 + 1)))).is_ok());
//! assert_eq!(told.recv(), Ok(2));
//! ```

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Sender, TrySendError};
use thiserror::Error;

use trommel_core::stop::Stop;

/// A piece of work.
pub type Job = Box<dyn FnOnce() + Send>;

/// Queued jobs for each thread, beyond the one it works on.
const QUEUED_PER_THREAD: usize = 4;

/// Why a job has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobFault {
    /// The job panicked; its thread goes on.
    Panicked,
    /// What should have done it could not be made.
    NotMade,
    /// It gave another number of results than it was given inputs.
    WrongCount,
    /// The run stopped, or the thread that should have done it is gone.
    Stopped,
}

/// A job that gave no result. The ticket comes back with this in its place.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{job}: {message}")]
pub struct JobPanic {
    /// The stage that ran it.
    pub job: String,
    /// What kind of failure.
    pub fault: JobFault,
    /// The panic's own words, or what else is known.
    pub message: String,
}

impl JobPanic {
    /// From what `catch_unwind` caught.
    #[must_use]
    pub fn caught(job: &str, payload: &(dyn Any + Send)) -> Self {
        let words = payload.downcast_ref::<&str>().map(ToString::to_string);
        let words = words.or_else(|| payload.downcast_ref::<String>().cloned());
        let message = format!("panicked: {}", words.as_deref().unwrap_or("no message"));
        Self { job: job.into(), fault: JobFault::Panicked, message }
    }

    /// Of a stage that the system gives no thread to work on.
    pub(super) fn without_thread(job: &str, error: &io::Error) -> Self {
        Self { job: job.into(), fault: JobFault::NotMade, message: format!("the system gives it no thread: {error}") }
    }

    /// Of a job that gave `results` results for `inputs` inputs.
    pub(super) fn miscounted(job: &str, results: usize, inputs: usize) -> Self {
        Self {
            job: job.into(),
            fault: JobFault::WrongCount,
            message: format!("gave {results} results for {inputs} inputs"),
        }
    }
}

/// How a pool stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolGauge {
    /// Jobs that wait for a thread.
    pub queued: usize,
    /// Jobs being worked on.
    pub running: usize,
    /// Jobs finished since the pool was made.
    pub done: u64,
    /// Time spent in jobs, over all threads, in microseconds.
    pub busy_micros: u64,
}

#[derive(Default)]
struct Counters {
    running: AtomicUsize,
    done: AtomicU64,
    busy_micros: AtomicU64,
}

/// A fixed set of threads. Clones are the same threads.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    threads: usize,
    jobs: Sender<Job>,
    counters: Arc<Counters>,
    stop: Option<Stop>,
}

impl Pool {
    /// `threads` (at least 1) threads called `name-0`, `name-1`, ...
    #[must_use]
    pub fn new(name: &str, threads: usize) -> Self {
        Self::spawn(name, threads, None)
    }

    /// The same under a `stop`: after it operators submit nothing new, and a thread that the system refuses fails it.
    #[must_use]
    pub fn with_stop(name: &str, threads: usize, stop: &Stop) -> Self {
        Self::spawn(name, threads, Some(stop.clone()))
    }

    fn spawn(name: &str, threads: usize, stop: Option<Stop>) -> Self {
        let threads = threads.max(1);
        let (jobs, queue) = crossbeam_channel::bounded::<Job>(threads * QUEUED_PER_THREAD);
        let counters = Arc::new(Counters::default());
        for number in 0..threads {
            let (queue, counters) = (queue.clone(), counters.clone());
            let work = move || {
                for job in queue {
                    counters.running.fetch_add(1, Ordering::Relaxed);
                    let start = Instant::now();
                    if let Err(payload) = catch_unwind(AssertUnwindSafe(job)) {
                        tracing::error!(failure = %JobPanic::caught("pool", &*payload), "a job let a panic through");
                    }
                    let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
                    counters.busy_micros.fetch_add(micros, Ordering::Relaxed);
                    counters.running.fetch_sub(1, Ordering::Relaxed);
                    counters.done.fetch_add(1, Ordering::Relaxed);
                }
            };
            let job = format!("{name}-{number}");
            if let Err(error) = thread::Builder::new().name(job.clone()).spawn(work) {
                let failure = JobPanic::without_thread(&job, &error);
                match &stop {
                    Some(stop) => stop.fail(failure),
                    None => tracing::error!(%failure, "the pool has a thread less"),
                }
            }
        }
        Self { inner: Arc::new(Inner { name: name.into(), threads, jobs, counters, stop }) }
    }

    /// Hands a job over, if the queue has room.
    ///
    /// # Errors
    /// The job itself, when the queue is full.
    pub fn try_submit(&self, job: Job) -> Result<(), Job> {
        self.inner.jobs.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => job,
        })
    }

    /// The pool's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.inner.threads
    }

    /// The stop that it works under.
    #[must_use]
    pub fn stop(&self) -> Option<&Stop> {
        self.inner.stop.as_ref()
    }

    /// Its counts at this moment.
    #[must_use]
    pub fn gauge(&self) -> PoolGauge {
        self.inner.gauge()
    }

    /// A gauge that does not keep the threads alive.
    pub fn weak_gauge(&self) -> impl Fn() -> Option<PoolGauge> + Send + 'static {
        let inner = Arc::downgrade(&self.inner);
        move || inner.upgrade().map(|inner| inner.gauge())
    }
}

impl Inner {
    fn gauge(&self) -> PoolGauge {
        let counters = &self.counters;
        PoolGauge {
            queued: self.jobs.len(),
            running: counters.running.load(Ordering::Relaxed),
            done: counters.done.load(Ordering::Relaxed),
            busy_micros: counters.busy_micros.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("name", &self.name()).field("gauge", &self.gauge()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use crossbeam_channel::{RecvTimeoutError, bounded};

    use super::*;

    thread_local! {
        /// Dropped when the thread ends.
        static ALIVE: RefCell<Option<Sender<()>>> = const { RefCell::new(None) };
    }

    #[test]
    fn threads_end_with_the_last_handle() {
        let pool = Pool::with_stop("work", 2, &Stop::new());
        let (alive, ended) = bounded(1);
        // Both jobs wait for each other, so each has a thread of its own.
        let both = Arc::new(std::sync::Barrier::new(2));
        for _ in 0..2 {
            let (alive, both) = (alive.clone(), both.clone());
            let job = Box::new(move || {
                ALIVE.set(Some(alive));
                both.wait();
            });
            assert!(pool.try_submit(job).is_ok());
        }
        drop(alive);
        let second = pool.clone();
        drop(pool);
        assert_eq!(ended.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
        drop(second);
        assert_eq!(ended.recv_timeout(Duration::from_secs(60)), Err(RecvTimeoutError::Disconnected));
    }
}
