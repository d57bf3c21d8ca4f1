//! What is, whatever is seen: what arrived, what is judged, what is shown, what could not be read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use trommel_shard::store::FileInfo;

use super::{Arrival, Arrived};
use crate::inputs::Inputs;

/// How a watch follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// One turn, then end; with a live trainer, when that is idle.
    pub once: bool,
    /// A shard whose file goes is withdrawn; otherwise what is known of it stays.
    pub withdraws_missing: bool,
    /// A shard without statistics is complete when it has not changed for so long.
    pub settle: Duration,
    /// Time between looks, and until a shard that could not be read is tried again.
    pub poll: Duration,
}

/// A shard whose bytes could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The reason, in one line.
    pub why: String,
    /// When it was tried last.
    pub when: Instant,
}

/// What tells that a file has changed, or what is read of a folder: by path, what the system says of each file.
pub type FileStamps = Vec<(PathBuf, FileInfo)>;

/// A benchmark as the user names it: pictures, perhaps, that are to be embedded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedBenchmark {
    /// The benchmark's name.
    pub name: String,
    /// The folder or file.
    pub path: PathBuf,
    /// Keys of its pictures that may be missing.
    pub without: Vec<String>,
    /// What lies there.
    pub stamps: FileStamps,
}

/// How the live trainer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trainer {
    /// Nobody trains, or the trainer has done all its steps.
    Absent,
    /// It is to be started when its inputs are in force.
    Due,
    /// It reads what comes.
    Runs,
}

/// The live trainer as one process sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Whether this process was told to stop, or to begin nothing new.
    pub stops: bool,
    /// Whether the trainer has ended by itself.
    pub has_ended: bool,
    /// Whether it can go on under the inputs in force, with what has come and gone.
    pub can_follow: bool,
}

/// What a watch was told to do by a signal; the later one of two counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Asked {
    /// Nothing: it goes on.
    #[default]
    Nothing,
    /// To begin nothing new.
    WindDown,
    /// To stop with what it has begun.
    Stop,
}

/// What is, whatever is seen.
pub struct State<'a> {
    /// How it follows.
    pub manner: &'a Manner,
    /// All that ever arrived.
    pub arrived: &'a Arrived,
    /// Whether the pool has a shard.
    pub is_judged: Box<dyn Fn(u64) -> bool + 'a>,
    /// Shards that could not be read when they were tried last.
    pub failed: &'a BTreeMap<u64, Failure>,
    /// What the last epoch shows, and what it decides by.
    pub inputs: &'a Inputs,
    /// Whether an epoch was made, or found to be as it is wanted, since the start.
    pub is_in_force: bool,
    /// Benchmarks that were embedded last, as they were named.
    pub embedded: &'a [NamedBenchmark],
    /// How the live trainer stands.
    pub trainer: Trainer,
}

impl State<'_> {
    /// Shards that should be judged and are not, among these arrivals; one that could not be read rests for a while.
    pub(super) fn unread_of(&self, arrived: &Arrived, now: Instant) -> Vec<u64> {
        let rests = |ordinal: &u64| {
            self.failed.get(ordinal).is_some_and(|it| now.saturating_duration_since(it.when) < self.manner.poll)
        };
        arrived.wanted().into_iter().filter(|at| !(self.is_judged)(*at) && !rests(at)).collect()
    }

    /// Whether something that has come is still to be read. What could not be read is tried again by the next start of a live trainer.
    #[must_use]
    pub fn has_unread(&self, now: Instant) -> bool {
        let is_open = |ordinal: u64| self.trainer == Trainer::Absent || !self.failed.contains_key(&ordinal);
        self.unread_of(self.arrived, now).into_iter().any(is_open)
    }

    /// Shards that are judged and not shown: their files may have changed while they were read. Not only the last of each name: where that
    /// is not judged yet, or turns out to be torn, the one before it would be shown.
    pub fn fresh(&self) -> impl Iterator<Item = &Arrival> {
        let shown: BTreeMap<&str, u64> = self.inputs.shards.iter().map(|(&at, shard)| (&*shard.name, at)).collect();
        let is_gone = |name: &str| self.arrived.latest_of(name).is_some_and(|it| self.arrived.is_gone(it.ordinal));
        let is_fresh = move |it: &&Arrival| {
            let is_later = shown.get(&*it.name).is_none_or(|&at| at < it.ordinal);
            is_later && (self.is_judged)(it.ordinal) && !self.arrived.is_torn(it.ordinal) && !is_gone(&it.name)
        };
        self.arrived.all().iter().filter(is_fresh)
    }

    /// Shards that are shown and not live, and those that are live and not shown.
    #[must_use]
    pub fn moves(&self) -> (Vec<u64>, Vec<u64>) {
        let (shown, live) = (&self.inputs.shards, self.arrived.live(&self.is_judged));
        let gone = shown.keys().copied().filter(|ordinal| !live.contains(ordinal)).collect();
        (gone, live.into_iter().filter(|ordinal| !shown.contains_key(ordinal)).collect())
    }
}
