//! Counters of a running pipeline: written by the stages, read by whoever shows them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

use trommel_cluster::Counters;

use crate::fleet::PeerView;
use crate::gauges::{Gauges, key};
use crate::time_spent::clock;

/// What has happened so far. All counters only grow.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    begun: OnceLock<Instant>,
    /// Shards in the plan, this run's slice.
    pub shards_planned: AtomicU64,
    /// Shards that earlier runs had finished.
    pub shards_resumed: AtomicU64,
    /// Shards committed by this run.
    pub shards_committed: AtomicU64,
    /// Bytes of the plan's shards, where known.
    pub bytes_planned: AtomicU64,
    /// Bytes that were read of the shards committed by this run.
    pub bytes_read: AtomicU64,
    /// Samples judged by this run and kept.
    pub kept: AtomicU64,
    /// Samples dropped.
    pub dropped: AtomicU64,
    /// Samples rejected.
    pub rejected: AtomicU64,
    /// Optimiser steps done, earlier runs' included.
    pub steps: AtomicU64,
    /// Optimiser steps that earlier runs had done.
    pub steps_resumed: AtomicU64,
    /// Optimiser steps wanted.
    pub steps_planned: AtomicU64,
    /// A line about what is going on, for example the last loss.
    pub note: Mutex<String>,
    /// How the stages stand.
    pub gauges: Gauges,
    /// How the other processes stand, where there are any.
    pub peers: PeersHook,
}

/// Whom to ask about all processes of a run; set once they have found each other.
#[derive(Default)]
pub struct PeersHook(OnceLock<Box<dyn Fn() -> Vec<PeerView> + Send + Sync>>);

impl PeersHook {
    /// From now on `ask` is asked, a few times a second; it answers for all processes, this one included. A second call
    /// changes nothing.
    pub fn set(&self, ask: impl Fn() -> Vec<PeerView> + Send + Sync + 'static) {
        let _first_wins = self.0.set(Box::new(ask));
    }

    /// All processes; `None` before [`set`](Self::set).
    #[must_use]
    pub fn ask(&self) -> Option<Vec<PeerView>> {
        self.0.get().map(|ask| ask())
    }
}

impl fmt::Debug for PeersHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PeersHook").field(&self.0.get().is_some()).finish()
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            begun: OnceLock::new(),
            shards_planned: AtomicU64::new(0),
            shards_resumed: AtomicU64::new(0),
            shards_committed: AtomicU64::new(0),
            bytes_planned: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            steps: AtomicU64::new(0),
            steps_resumed: AtomicU64::new(0),
            steps_planned: AtomicU64::new(0),
            note: Mutex::new(String::new()),
            gauges: Gauges::default(),
            peers: PeersHook::default(),
        }
    }
}

impl Progress {
    /// Samples judged so far.
    #[must_use]
    pub fn judged(&self) -> u64 {
        [&self.kept, &self.dropped, &self.rejected].iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
    }

    /// Seconds since the start.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// The first byte is read from now on: plan, benchmarks and model are there. A second call changes nothing.
    pub fn begin(&self) {
        let _first_wins = self.begun.set(Instant::now());
    }

    /// Seconds since [`begin`](Self::begin), 0 before it: what rates are of.
    #[must_use]
    pub fn working_seconds(&self) -> f64 {
        self.begun.get().map_or(0.0, |begun| begun.elapsed().as_secs_f64())
    }

    /// Seconds from the start to [`begin`](Self::begin); so far, before it.
    #[must_use]
    pub fn start_seconds(&self) -> f64 {
        self.begun.get().map_or_else(|| self.seconds(), |begun| (*begun - self.started).as_secs_f64())
    }

    /// This process's numbers, its gauges' included: what process 0 and `/metrics` are told.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let mut values = self.gauges.read();
        for (name, value) in [
            ("trommel_running_seconds", self.seconds()),
            ("trommel_planned_shards", load(&self.shards_planned)),
            ("trommel_planned_bytes", load(&self.bytes_planned)),
            ("trommel_planned_steps", load(&self.steps_planned)),
            ("trommel_resumed_shards", load(&self.shards_resumed)),
            ("trommel_resumed_steps", load(&self.steps_resumed)),
            ("trommel_shards_total", load(&self.shards_committed)),
            ("trommel_read_bytes_total", load(&self.bytes_read)),
            ("trommel_steps_total", load(&self.steps)),
        ] {
            values.insert(name.to_owned(), value);
        }
        for (status, counter) in [("kept", &self.kept), ("dropped", &self.dropped), ("rejected", &self.rejected)] {
            values.insert(key("trommel_samples_total", &[("status", status)]), load(counter));
        }
        Counters(values)
    }

    /// The numbers of all processes, by process; of this one alone where there are no others.
    #[must_use]
    pub fn all_counters(&self) -> Vec<(usize, Counters)> {
        match self.peers.ask() {
            Some(peers) => peers.iter().map(|peer| (peer.process, peer.all_counters())).collect(),
            None => vec![(0, self.counters())],
        }
    }

    /// One line for a log or a bar.
    #[must_use]
    pub fn line(&self) -> String {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let done = load(&self.shards_resumed) + load(&self.shards_committed);
        let judged = self.judged();
        #[expect(clippy::cast_precision_loss)]
        let rate = judged as f64 / self.working_seconds().max(1e-9);
        let mut line = format!(
            "{done}/{} shards, {judged} samples ({} kept, {} dropped, {} rejected), {rate:.0}/s",
            load(&self.shards_planned),
            load(&self.kept),
            load(&self.dropped),
            load(&self.rejected),
        );
        if load(&self.steps_planned) > 0 {
            line += &format!(", step {}/{}", load(&self.steps), load(&self.steps_planned));
        }
        if let Some(left) = self.seconds_left() {
            line += &format!(", {} left", clock(left));
        }
        if let Ok(note) = self.note.lock()
            && !note.is_empty()
        {
            line += &format!(", {note}");
        }
        line
    }

    /// Estimate of what is left, once there is a finished shard or step to go by.
    #[must_use]
    pub fn seconds_left(&self) -> Option<f64> {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (done, all) = if load(&self.steps_planned) > 0 {
            let resumed = load(&self.steps_resumed);
            (load(&self.steps).saturating_sub(resumed), load(&self.steps_planned).saturating_sub(resumed))
        } else {
            (load(&self.shards_committed), load(&self.shards_planned).saturating_sub(load(&self.shards_resumed)))
        };
        #[expect(clippy::cast_precision_loss)]
        (done > 0 && all >= done).then(|| self.working_seconds() / done as f64 * (all - done) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Loading a model took most of a short run, and its rate was that of a slow one.
    #[test]
    fn rates_leave_the_start_out() {
        let progress = Progress::default();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(progress.working_seconds(), 0.0);
        progress.begin();
        progress.begin();
        let (working, start) = (progress.working_seconds(), progress.start_seconds());
        assert!(start >= 0.02);
        assert!(working + start <= progress.seconds());
        assert_eq!(start, progress.start_seconds());
    }

    /// Steps of earlier runs took none of this one's time: with them a resumed run was always nearly over.
    #[test]
    fn what_is_left_of_a_resumed_run_follows_from_its_own_steps() {
        let progress = Progress::default();
        progress.steps_planned.store(1000, Ordering::Relaxed);
        for steps in [&progress.steps, &progress.steps_resumed] {
            steps.store(900, Ordering::Relaxed);
        }
        progress.begin();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(progress.seconds_left(), None);
        progress.steps.store(902, Ordering::Relaxed);
        // 98 steps are left, each as long as one of the two.
        let left = progress.seconds_left().expect("there are steps to go by");
        assert!((49.0 * 0.02..=49.0 * progress.working_seconds()).contains(&left), "{left}");
    }
}
