//! Several processes of one run at a glance: the whole, and who is slowest.
//!
//! Process 0 hears the counters of all (with their heartbeats). [`Rates`] remembers the last minute of each, so that a process
//! that became slow shows, however fast it was before. [`Fleet`] is one look.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use trommel_cluster::{Counters, Peer};

use crate::gauges::{Values, key};
use crate::time_spent::clock;

/// Seconds that a rate looks back.
const WINDOW_SECONDS: f64 = 60.0;
/// Less than this says nothing about a rate: until then it is the one since the start.
const LEAST_SECONDS: f64 = 10.0;
/// Silence worth a word: heartbeats come every few seconds.
const SILENT: Duration = Duration::from_secs(5);

/// What is known of one process.
#[derive(Clone, Debug)]
pub struct PeerView {
    /// Number of the process, from 0.
    pub process: usize,
    /// Its counters, as last heard.
    pub counters: Counters,
    /// Time since then.
    pub since_heard: Duration,
    /// It has ended well.
    pub ended: bool,
}

impl From<Peer> for PeerView {
    fn from(peer: Peer) -> Self {
        let Peer { process, counters, since_heard, ended, .. } = peer;
        Self { process, counters, since_heard: since_heard.unwrap_or_default(), ended }
    }
}

impl PeerView {
    /// Its counters, and what is known about it from outside.
    #[must_use]
    pub fn all_counters(&self) -> Counters {
        let mut values = self.counters.0.clone();
        values.insert("trommel_process_silent_seconds".into(), self.since_heard.as_secs_f64());
        values.insert("trommel_process_ended".into(), f64::from(u8::from(self.ended)));
        Counters(values)
    }
}

/// One process in a [`Fleet`].
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Number of the process, from 0.
    pub process: usize,
    /// Samples it judged in this run.
    pub samples: f64,
    /// Shards it committed in this run.
    pub shards: f64,
    /// Samples a second over the last minute.
    pub samples_per_second: f64,
    /// The stage whose threads are busiest, and their share of the time since the run began.
    pub busiest: Option<(String, f64)>,
    /// Time since it was heard.
    pub since_heard: Duration,
    /// It has ended well.
    pub ended: bool,
}

impl Member {
    /// One line for a bar.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = format!("{:.1}/s, {} samples, {} shards", self.samples_per_second, self.samples, self.shards);
        if let Some((stage, share)) = &self.busiest {
            line += &format!(", {stage} {:.0} %", 100.0 * share);
        }
        if self.ended {
            line += ", done";
        } else if self.since_heard >= SILENT {
            line += &format!(", silent for {} s", self.since_heard.as_secs());
        }
        line
    }
}

/// One look at all processes.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// The processes, by number.
    pub members: Vec<Member>,
    /// Shards of the plan.
    pub planned_shards: f64,
    /// Shards done, by earlier runs and by this one.
    pub done_shards: f64,
    sums: Values,
    seconds: f64,
}

/// The last minute of each process.
#[derive(Debug, Default)]
pub struct Rates {
    seen: BTreeMap<usize, VecDeque<(f64, f64)>>,
}

impl Rates {
    /// Looks at `peers` now.
    pub fn look(&mut self, peers: &[PeerView]) -> Fleet {
        let mut fleet = Fleet {
            members: Vec::with_capacity(peers.len()),
            planned_shards: 0.0,
            done_shards: 0.0,
            sums: Values::new(),
            seconds: 0.0,
        };
        for peer in peers {
            let values = &peer.counters.0;
            for (key, value) in values {
                let sum = fleet.sums.entry(key.clone()).or_insert(0.0);
                // A plan, what earlier runs did and the steps of the one model are the same everywhere.
                let shared = key.starts_with("trommel_planned_") || key.starts_with("trommel_steps_");
                let shared = shared || key.starts_with("trommel_resumed_");
                *sum = if shared { sum.max(*value) } else { *sum + value };
            }
            let (seconds, samples) = (get(values, "trommel_running_seconds"), judged(values));
            fleet.seconds = fleet.seconds.max(seconds);
            fleet.members.push(Member {
                process: peer.process,
                samples,
                shards: get(values, "trommel_shards_total"),
                samples_per_second: self.rate(peer.process, seconds, samples),
                busiest: busiest(values, seconds),
                since_heard: peer.since_heard,
                ended: peer.ended,
            });
        }
        fleet.members.sort_by_key(|member| member.process);
        fleet.planned_shards = get(&fleet.sums, "trommel_planned_shards");
        fleet.done_shards = get(&fleet.sums, "trommel_resumed_shards") + get(&fleet.sums, "trommel_shards_total");
        fleet
    }

    /// Samples a second of `process`, which has judged `samples` in `seconds`.
    fn rate(&mut self, process: usize, seconds: f64, samples: f64) -> f64 {
        let seen = self.seen.entry(process).or_default();
        if seen.back().is_some_and(|(before, _)| *before > seconds) {
            seen.clear(); // it began anew
        }
        if seen.back().is_none_or(|(before, _)| *before < seconds) {
            seen.push_back((seconds, samples));
        }
        while seen.get(1).is_some_and(|(next, _)| *next <= seconds - WINDOW_SECONDS) {
            seen.pop_front();
        }
        let (since, before) = match seen.front() {
            Some(first) if seconds - first.0 >= LEAST_SECONDS => *first,
            _ => (0.0, 0.0),
        };
        (samples - before) / (seconds - since).max(1e-9)
    }
}

impl Fleet {
    /// The process with the least samples a second, where there are several and any judges at all.
    #[must_use]
    pub fn slowest(&self) -> Option<&Member> {
        let working = || self.members.iter().filter(|member| !member.ended);
        if working().count() < 2 || working().all(|member| member.samples_per_second <= 0.0) {
            return None;
        }
        working().min_by(|a, b| a.samples_per_second.total_cmp(&b.samples_per_second))
    }

    /// One line about the whole, which names the slowest and who is silent.
    #[must_use]
    pub fn line(&self) -> String {
        let sum = |name: &str| get(&self.sums, name);
        let fate = |status: &str| get(&self.sums, &key("trommel_samples_total", &[("status", status)]));
        let rate: f64 = self.members.iter().map(|member| member.samples_per_second).sum();
        let mut line = format!(
            "{}/{} shards, {} samples ({} kept, {} dropped, {} rejected), {rate:.0}/s",
            self.done_shards,
            self.planned_shards,
            judged(&self.sums),
            fate("kept"),
            fate("dropped"),
            fate("rejected")
        );
        if sum("trommel_planned_steps") > 0.0 {
            line += &format!(", step {}/{}", sum("trommel_steps_total"), sum("trommel_planned_steps"));
        }
        if let Some(left) = self.seconds_left() {
            line += &format!(", {} left", clock(left));
        }
        if let Some(slowest) = self.slowest() {
            line += &format!("; slowest of {}: ", self.members.len());
            line += &format!("process {} at {:.1}/s", slowest.process, slowest.samples_per_second);
        }
        for silent in self.members.iter().filter(|member| !member.ended && member.since_heard >= SILENT) {
            line += &format!("; process {} silent for {} s", silent.process, silent.since_heard.as_secs());
        }
        line
    }

    /// Estimate of what is left, by shards, or by steps where there is a trainer.
    #[must_use]
    pub fn seconds_left(&self) -> Option<f64> {
        let sum = |name: &str| get(&self.sums, name);
        let (done, all) = if sum("trommel_planned_steps") > 0.0 {
            let resumed = sum("trommel_resumed_steps");
            (sum("trommel_steps_total") - resumed, sum("trommel_planned_steps") - resumed)
        } else {
            (sum("trommel_shards_total"), self.planned_shards - sum("trommel_resumed_shards"))
        };
        (done > 0.0 && all >= done).then(|| self.seconds / done * (all - done))
    }
}

fn get(values: &Values, name: &str) -> f64 {
    values.get(name).copied().unwrap_or(0.0)
}

fn judged(values: &Values) -> f64 {
    let fates = ["kept", "dropped", "rejected"];
    fates.iter().map(|status| get(values, &key("trommel_samples_total", &[("status", status)]))).sum()
}

/// The stage whose threads are busiest, with their share of `seconds`.
fn busiest(values: &Values, seconds: f64) -> Option<(String, f64)> {
    let shares = values.iter().filter_map(|(name, busy)| {
        let stage = name.strip_prefix("trommel_stage_busy_seconds_total{stage=\"")?.strip_suffix("\"}")?;
        let threads = get(values, &key("trommel_stage_threads", &[("stage", stage)])).max(1.0);
        Some((stage.to_owned(), busy / threads / seconds.max(1e-9)))
    });
    shares.max_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, share)| *share > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(process: usize, seconds: f64, kept: f64, shards: f64) -> PeerView {
        let values = [
            ("trommel_running_seconds".to_owned(), seconds),
            (key("trommel_samples_total", &[("status", "kept")]), kept),
            (key("trommel_stage_busy_seconds_total", &[("stage", "decode")]), seconds),
            (key("trommel_stage_threads", &[("stage", "decode")]), 2.0),
            (key("trommel_stage_busy_seconds_total", &[("stage", "join")]), 0.1),
            ("trommel_planned_shards".to_owned(), 10.0),
            ("trommel_resumed_shards".to_owned(), 2.0),
            ("trommel_shards_total".to_owned(), shards),
        ];
        PeerView { process, counters: Counters(values.into()), since_heard: Duration::ZERO, ended: false }
    }

    #[test]
    fn the_whole_is_the_sum_and_the_slowest_is_named() {
        let fleet = Rates::default().look(&[peer(0, 10.0, 300.0, 3.0), peer(1, 10.0, 100.0, 1.0)]);
        assert_eq!(
            fleet.line(),
            "6/10 shards, 400 samples (400 kept, 0 dropped, 0 rejected), 40/s, 10 s left; \
             slowest of 2: process 1 at 10.0/s"
        );
        assert_eq!(fleet.members[0].line(), "30.0/s, 300 samples, 3 shards, decode 50 %");
    }

    #[test]
    fn what_is_left_of_a_resumed_run_follows_from_its_own_steps() {
        let steps = [("planned_steps", 1000.0), ("resumed_steps", 900.0), ("steps_total", 950.0)];
        let mut peers = [peer(0, 10.0, 300.0, 3.0), peer(1, 10.0, 100.0, 1.0)];
        for peer in &mut peers {
            peer.counters.0.extend(steps.map(|(name, value)| (format!("trommel_{name}"), value)));
        }
        assert_eq!(Rates::default().look(&peers).seconds_left(), Some(10.0));
    }

    #[test]
    fn a_process_that_became_slow_shows_after_a_minute() {
        let mut rates = Rates::default();
        for second in 0..=100 {
            let seconds = f64::from(second);
            rates.look(&[peer(0, seconds, 100.0 * seconds, 0.0), peer(1, seconds, 10.0 * seconds, 0.0)]);
        }
        // From here on process 0 stands still.
        let fleet = rates.look(&[peer(0, 161.0, 10_000.0, 0.0), peer(1, 161.0, 1_610.0, 0.0)]);
        assert_eq!(fleet.slowest().map(|member| (member.process, member.samples_per_second)), Some((0, 0.0)));
        assert_eq!(fleet.members[1].samples_per_second, 10.0);
    }

    #[test]
    fn one_process_and_processes_that_ended_are_not_the_slowest() {
        let mut rates = Rates::default();
        assert_eq!(rates.look(&[peer(0, 10.0, 1.0, 0.0)]).slowest(), None);
        let mut ended = peer(1, 10.0, 0.0, 0.0);
        ended.ended = true;
        let fleet = rates.look(&[peer(0, 10.0, 1.0, 0.0), ended, peer(2, 10.0, 3.0, 0.0)]);
        assert_eq!(fleet.slowest().map(|member| member.process), Some(0));
        assert_eq!(rates.look(&[peer(3, 5.0, 0.0, 0.0), peer(4, 5.0, 0.0, 0.0)]).slowest(), None, "nobody judges");
    }

    #[test]
    fn silence_is_told_and_a_fresh_start_has_a_fresh_rate() {
        let mut rates = Rates::default();
        rates.look(&[peer(0, 90.0, 900.0, 0.0)]);
        let mut again = peer(0, 2.0, 8.0, 0.0);
        again.since_heard = Duration::from_secs(7);
        let fleet = rates.look(&[again]);
        assert_eq!(fleet.members[0].samples_per_second, 4.0);
        assert!(fleet.line().ends_with("; process 0 silent for 7 s"), "{}", fleet.line());
    }
}
