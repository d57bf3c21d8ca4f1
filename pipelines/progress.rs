//! Counters of a running pipeline: written by the stages, read by whoever shows them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// What has happened so far. All counters only grow.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    /// Shards in the plan, this run's slice.
    pub shards_planned: AtomicU64,
    /// Shards that earlier runs had finished.
    pub shards_resumed: AtomicU64,
    /// Shards committed by this run.
    pub shards_committed: AtomicU64,
    /// Bytes of the plan's shards, where known.
    pub bytes_planned: AtomicU64,
    /// Bytes read.
    pub bytes_read: AtomicU64,
    /// Samples judged by this run and kept.
    pub kept: AtomicU64,
    /// Samples dropped.
    pub dropped: AtomicU64,
    /// Samples rejected.
    pub rejected: AtomicU64,
    /// Optimiser steps done.
    pub steps: AtomicU64,
    /// Optimiser steps wanted.
    pub steps_planned: AtomicU64,
    /// A line about what is going on, for example the last loss.
    pub note: Mutex<String>,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            shards_planned: AtomicU64::new(0),
            shards_resumed: AtomicU64::new(0),
            shards_committed: AtomicU64::new(0),
            bytes_planned: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            steps: AtomicU64::new(0),
            steps_planned: AtomicU64::new(0),
            note: Mutex::new(String::new()),
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

    /// One line for a log or a bar.
    #[must_use]
    pub fn line(&self) -> String {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let done = load(&self.shards_resumed) + load(&self.shards_committed);
        let judged = self.judged();
        #[expect(clippy::cast_precision_loss)]
        let rate = judged as f64 / self.seconds().max(1e-9);
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
            (load(&self.steps), load(&self.steps_planned))
        } else {
            (load(&self.shards_committed), load(&self.shards_planned).saturating_sub(load(&self.shards_resumed)))
        };
        #[expect(clippy::cast_precision_loss)]
        (done > 0 && all >= done).then(|| self.seconds() / done as f64 * (all - done) as f64)
    }
}

fn clock(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let seconds = seconds.round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}
