//! How far the work is: pairs to be compared, and pairs compared.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Counters of a running scan, for whoever shows them. A pair costs `2 dim` floating-point operations.
#[derive(Debug)]
pub struct Work {
    stage: Mutex<(String, Instant)>,
    planned: AtomicU64,
    done: AtomicU64,
    before: AtomicU64,
}

impl Default for Work {
    fn default() -> Self {
        let stage = Mutex::new((String::new(), Instant::now()));
        Self { stage, planned: AtomicU64::new(0), done: AtomicU64::new(0), before: AtomicU64::new(0) }
    }
}

/// How a stage stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// What is being done.
    pub stage: String,
    /// Pairs that it compares at most.
    pub planned_pairs: u64,
    /// Pairs that it has compared.
    pub done_pairs: u64,
    /// Seconds since it began.
    pub seconds: f64,
}

impl Work {
    /// A stage begins, which compares so many pairs.
    pub fn begin(&self, stage: impl Into<String>, planned_pairs: u64) {
        if let Ok(mut named) = self.stage.lock() {
            *named = (stage.into(), Instant::now());
        }
        self.before.fetch_add(self.done.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        self.planned.store(planned_pairs, Ordering::Relaxed);
    }

    /// So many pairs were compared.
    pub fn add(&self, pairs: u64) {
        self.done.fetch_add(pairs, Ordering::Relaxed);
    }

    /// Pairs compared in all stages.
    #[must_use]
    pub fn compared(&self) -> u64 {
        self.before.load(Ordering::Relaxed) + self.done.load(Ordering::Relaxed)
    }

    /// How the stage stands that is being done.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let (stage, seconds) = match self.stage.lock() {
            Ok(named) => (named.0.clone(), named.1.elapsed().as_secs_f64()),
            Err(_) => (String::new(), 0.0),
        };
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Standing { stage, seconds, planned_pairs: load(&self.planned), done_pairs: load(&self.done) }
    }
}
