//! Arrivals: which shards a watch has taken in, in which order. The order gives them their ordinals, and is never changed.
//!
//! `arrivals.jsonl`, one checked JSON line an event, appended and made durable before the shard is read. A shard whose content changes
//! arrives again, under the same name and a new ordinal; the old one is superseded once the new one is judged.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use trommel_ledger::checked;
use trommel_ledger::storage::{Disk, Storage};
use trommel_shard::plan::{Plan, ShardRef};

use super::sources::Found;
use trommel_pipelines::error::PipelineError;

/// A shard as it was when it was taken in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrival {
    /// Its number in the pool.
    pub ordinal: u64,
    /// Its stable name.
    pub name: String,
    /// What was found.
    pub found: Found,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Event {
    /// A shard was taken in.
    Arrived(Arrival),
    /// Its file changed while it was read: what was read is of no use.
    Torn(u64),
    /// Its file is gone, and that is to be followed.
    Gone(u64),
    /// It is there again as it was.
    Back(u64),
}

/// One line of the list.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    schema: u32,
    event: Event,
}

/// Version of the list.
const SCHEMA_VERSION: u32 = 1;

/// What has arrived so far.
pub struct Arrivals {
    path: PathBuf,
    file: File,
    all: Vec<Arrival>,
    torn: BTreeSet<u64>,
    gone: BTreeSet<u64>,
    latest: BTreeMap<String, u64>,
}

impl Arrivals {
    /// Opens the list in a folder; a last line that was cut off is taken away.
    ///
    /// # Errors
    /// A list that cannot be read or written, or is damaged.
    pub fn open(folder: &Path) -> Result<Self, PipelineError> {
        Self::read(folder, true)
    }

    /// Reads the list that another process writes.
    ///
    /// # Errors
    /// A list that cannot be read, or is damaged.
    pub fn follow(folder: &Path) -> Result<Self, PipelineError> {
        Self::read(folder, false)
    }

    fn read(folder: &Path, mends: bool) -> Result<Self, PipelineError> {
        let path = folder.join("arrivals.jsonl");
        let failed = PipelineError::at(&path);
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(&failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(&failed)?;
        let found = checked::parse::<Line>(&path, &bytes, SCHEMA_VERSION).map_err(PipelineError::failed)?;
        if mends && found.torn {
            file.set_len(found.good_bytes).and_then(|()| file.sync_all()).map_err(&failed)?;
        }
        Disk.sync_dir(folder).map_err(&failed)?;
        let mut this = Self {
            path: path.clone(),
            file,
            all: Vec::new(),
            torn: BTreeSet::new(),
            gone: BTreeSet::new(),
            latest: BTreeMap::new(),
        };
        for (number, line) in (1..).zip(found.lines) {
            if let Event::Arrived(arrival) = &line.event
                && arrival.ordinal != this.all.len() as u64
            {
                let (path, due) = (path.display(), this.all.len());
                let what = format!("{path}: line {number}: ordinal {} where {due} is due", arrival.ordinal);
                return Err(PipelineError::Failed(what));
            }
            this.take(line.event);
        }
        Ok(this)
    }

    fn take(&mut self, event: Event) {
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

    fn append(&mut self, events: Vec<Event>) -> Result<(), PipelineError> {
        let mut bytes = Vec::new();
        for event in &events {
            let line = Line { schema: SCHEMA_VERSION, event: event.clone() };
            bytes.extend(checked::encode(&line).map_err(PipelineError::failed)?);
        }
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        let place = || format!("cannot write {}", self.path.display());
        written.map_err(|error| PipelineError::failed(error).within(place()))?;
        events.into_iter().for_each(|event| self.take(event));
        Ok(())
    }

    /// Takes shards in, in this order; gives their ordinals.
    ///
    /// # Errors
    /// A list that cannot be written.
    pub fn arrive(&mut self, shards: Vec<(String, Found)>) -> Result<Vec<u64>, PipelineError> {
        let first = self.all.len() as u64;
        let numbered = shards.into_iter().zip(first..);
        let lines: Vec<Event> =
            numbered.map(|((name, found), ordinal)| Event::Arrived(Arrival { ordinal, name, found })).collect();
        let last = first + lines.len() as u64;
        self.append(lines)?;
        Ok((first..last).collect())
    }

    /// Marks shards whose file changed while it was read.
    ///
    /// # Errors
    /// A list that cannot be written.
    pub fn tear(&mut self, ordinals: Vec<u64>) -> Result<(), PipelineError> {
        if ordinals.is_empty() { Ok(()) } else { self.append(ordinals.into_iter().map(Event::Torn).collect()) }
    }

    /// Marks shards whose file is gone, and those that are back.
    ///
    /// # Errors
    /// A list that cannot be written.
    pub fn set_gone(&mut self, gone: &[u64], back: &[u64]) -> Result<(), PipelineError> {
        let lines: Vec<Event> =
            gone.iter().map(|&at| Event::Gone(at)).chain(back.iter().map(|&at| Event::Back(at))).collect();
        if lines.is_empty() { Ok(()) } else { self.append(lines) }
    }

    /// Whether a shard's file was gone when last looked at.
    #[must_use]
    pub fn is_gone(&self, ordinal: u64) -> bool {
        self.gone.contains(&ordinal)
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

    /// Ordinals that should be judged: the last arrival of each name, unless it is gone or torn.
    #[must_use]
    pub fn wanted(&self) -> BTreeSet<u64> {
        self.latest.values().copied().filter(|at| !self.torn.contains(at) && !self.gone.contains(at)).collect()
    }

    /// Ordinals that should be seen, given those that are judged: of each name the last judged and sound arrival.
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn found(bytes: u64) -> Found {
        Found { path: "x".into(), bytes, modified_ns: 7, stamp: None }
    }

    #[test]
    fn order_and_versions_survive_and_a_cut_line_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut arrivals = Arrivals::open(folder.path()).unwrap();
        assert_eq!(arrivals.arrive(vec![("b".into(), found(1)), ("a".into(), found(2))]).unwrap(), [0, 1]);
        assert_eq!(arrivals.arrive(vec![("b".into(), found(3))]).unwrap(), [2]);
        let live = |arrivals: &Arrivals, judged: &[u64]| -> Vec<u64> {
            arrivals.live(|at| judged.contains(&at)).into_iter().collect()
        };
        assert_eq!(live(&arrivals, &[0, 1]), [0, 1]); // the old version stays until the new one is judged
        assert_eq!(live(&arrivals, &[0, 1, 2]), [1, 2]);
        arrivals.tear(vec![2]).unwrap();
        assert_eq!(live(&arrivals, &[0, 1, 2]), [0, 1]);
        arrivals.set_gone(&[1], &[]).unwrap();
        assert_eq!(live(&arrivals, &[0, 1, 2]), [0]);
        let path = folder.path().join("arrivals.jsonl");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend(b"{\"gone\":");
        std::fs::write(&path, bytes).unwrap();
        let mut again = Arrivals::open(folder.path()).unwrap();
        assert_eq!(live(&again, &[0, 1, 2]), [0]);
        again.set_gone(&[], &[1]).unwrap();
        let again = Arrivals::open(folder.path()).unwrap();
        assert_eq!((live(&again, &[0, 1, 2]), again.wanted().len()), (vec![0, 1], 1));
        assert_eq!(again.plan().shards[2].name, "b");
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        lines[1] = "{\"gone\":";
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        assert!(Arrivals::open(folder.path()).err().unwrap().to_string().contains("line 2"));
    }
}
