//! Which shards were taken in, in which order, and what became of them. The order gives them their ordinals, and is never changed.
//!
//! A shard whose content changes arrives again, under the same name and a new ordinal; the old one is superseded once the new one is judged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use trommel_core::notices::Notices;
use trommel_shard::plan::{Barren, Lost, Plan, ShardRef};
use trommel_shard::store::Stamp;

/// A shard's file as it was found. Another size or time of change is another content; so is another file in its place, or one that was written
/// and had its time set back, which only inode and change time tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// The URL or path that it is opened by.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its last change, nanoseconds since 1970; 0 where the store keeps no times.
    pub modified_ns: u64,
    /// The store's mark: of a local file its inode and the last change of that. `None` in what was noted before these were looked at:
    /// there size and time alone decide.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "inode")]
    pub stamp: Option<Stamp>,
}

impl Found {
    /// Whether it is the same content, wherever it lies.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        let stamps = self.stamp.as_ref().zip(other.stamp.as_ref());
        (self.bytes, self.modified_ns) == (other.bytes, other.modified_ns)
            && stamps.is_none_or(|(mine, its)| mine == its)
    }
}

/// One look at all prefixes.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Shards by name, in the order of the prefixes and of their names.
    pub shards: Vec<(String, Found)>,
    /// Names of those among them that are complete.
    pub complete: BTreeSet<String>,
    /// Shards that are gone with their statistics left.
    pub lost: Vec<Lost>,
    /// Folders and wildcards by which no shard is found.
    pub barren: Vec<Barren>,
    /// What was passed over on the way.
    pub passed_over: Notices,
    /// Lines about what cannot be looked at; whatever lies there is neither here nor gone.
    pub troubles: Vec<String>,
}

impl Look {
    /// What was found of each name.
    #[must_use]
    pub fn by_name(&self) -> BTreeMap<&str, &Found> {
        self.shards.iter().map(|(name, found)| (name.as_str(), found)).collect()
    }
}

/// A shard as it was when it was taken in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrival {
    /// Its number in the pool.
    pub ordinal: u64,
    /// Its stable name.
    pub name: String,
    /// Its file at that time.
    pub found: Found,
}

/// Something that happened to a shard, as the list of arrivals notes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// A shard was taken in.
    Arrived(Arrival),
    /// Its file changed while it was read: what was read is of no use.
    Torn(u64),
    /// Its file is gone, and that is to be followed.
    Gone(u64),
    /// It is there again as it was.
    Back(u64),
}

/// What a live trainer is to train on; all processes are told the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feed {
    /// Ordinals below it have come.
    pub shards: u64,
    /// Those among them that are not to be read.
    pub holes: Vec<u64>,
}

/// All that ever arrived, and what became of it.
#[derive(Clone, Debug, Default)]
pub struct Arrived {
    all: Vec<Arrival>,
    torn: BTreeSet<u64>,
    gone: BTreeSet<u64>,
    latest: BTreeMap<String, u64>,
}

impl Arrived {
    /// Takes an event in. Arrivals have their numbers from [`Arrived::numbered`].
    pub fn take(&mut self, event: Event) {
        match event {
            Event::Arrived(arrival) => {
                self.latest.insert(arrival.name.clone(), arrival.ordinal);
                self.all.push(arrival);
            }
            Event::Torn(ordinal) => _ = self.torn.insert(ordinal),
            Event::Gone(ordinal) => _ = self.gone.insert(ordinal),
            Event::Back(ordinal) => _ = self.gone.remove(&ordinal),
        }
    }

    /// Shards as the next ones that arrive, in this order.
    #[must_use]
    pub fn numbered(&self, shards: Vec<(String, Found)>) -> Vec<Event> {
        let numbered = (self.all.len() as u64..).zip(shards);
        numbered.map(|(ordinal, (name, found))| Event::Arrived(Arrival { ordinal, name, found })).collect()
    }

    /// Whether a shard's file was gone when last looked at.
    #[must_use]
    pub fn is_gone(&self, ordinal: u64) -> bool {
        self.gone.contains(&ordinal)
    }

    /// Whether a shard's file changed while it was read.
    #[must_use]
    pub fn is_torn(&self, ordinal: u64) -> bool {
        self.torn.contains(&ordinal)
    }

    /// All that ever arrived, by ordinal.
    #[must_use]
    pub fn all(&self) -> &[Arrival] {
        &self.all
    }

    /// The last arrival of each name.
    pub fn latest(&self) -> impl Iterator<Item = &Arrival> {
        self.latest.values().map(|&ordinal| &self.all[ordinal as usize])
    }

    /// The last arrival of a name.
    #[must_use]
    pub fn latest_of(&self, name: &str) -> Option<&Arrival> {
        self.latest.get(name).map(|&ordinal| &self.all[ordinal as usize])
    }

    /// Places where no shard is left of those that were there, each as a line. Whoever has removed them knows; here it looks like a disk
    /// that is not mounted.
    #[must_use]
    pub fn emptied(&self, look: &Look) -> Vec<String> {
        let there = look.by_name();
        let is_missing = |it: &&Arrival| !self.is_gone(it.ordinal) && !there.contains_key(it.name.as_str());
        let missing: Vec<&Arrival> = self.latest().filter(is_missing).collect();
        let is_emptied = |place: &&Barren| missing.iter().any(|it| place.would_find(&it.found.path));
        let mut places: Vec<String> = look.barren.iter().filter(is_emptied).map(Barren::to_string).collect();
        if places.is_empty() && there.is_empty() && !missing.is_empty() {
            places.push("what is watched".into());
        }
        let line =
            |place: String| format!("{place}: no shard is left, as of a disk that is not mounted; none is withdrawn");
        places.into_iter().map(line).collect()
    }

    /// Ordinals that should be judged: the last arrival of each name, unless it is gone or torn.
    #[must_use]
    pub fn wanted(&self) -> BTreeSet<u64> {
        self.latest.values().copied().filter(|at| !self.torn.contains(at) && !self.gone.contains(at)).collect()
    }

    /// Ordinals that should be shown, given those that are judged: of each name the last judged and sound arrival.
    #[must_use]
    pub fn live(&self, is_judged: impl Fn(u64) -> bool) -> BTreeSet<u64> {
        let mut live = BTreeMap::<&str, u64>::new();
        for arrival in &self.all {
            if is_judged(arrival.ordinal) && !self.torn.contains(&arrival.ordinal) {
                live.insert(&arrival.name, arrival.ordinal);
            }
        }
        // What is gone takes its older versions with it.
        live.into_iter().filter(|(name, _)| !self.gone.contains(&self.latest[*name])).map(|(_, at)| at).collect()
    }

    /// What a live trainer is to train on that has passed some shards. Of what it has begun and should not be read any more, it trains on
    /// nothing more.
    #[must_use]
    pub fn feed(&self, is_passed: impl Fn(u64) -> bool) -> Feed {
        let (wanted, all) = (self.wanted(), 0..self.all.len() as u64);
        Feed { shards: all.end, holes: all.filter(|at| !wanted.contains(at) && !is_passed(*at)).collect() }
    }

    /// The pool's plan: every arrival, at its ordinal.
    #[must_use]
    pub fn plan(&self) -> Arc<Plan> {
        let shard = |arrival: &Arrival| ShardRef {
            ordinal: arrival.ordinal,
            name: arrival.name.clone(),
            url: arrival.found.path.clone(),
            bytes: Some(arrival.found.bytes),
        };
        Arc::new(Plan { shards: self.all.iter().map(shard).collect(), ..Plan::default() })
    }
}
