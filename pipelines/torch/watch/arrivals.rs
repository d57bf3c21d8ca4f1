//! The list of arrivals as a file: `arrivals.jsonl`, one checked JSON line an event, appended and made durable before the shard is read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use trommel_core::durable::if_there;
use trommel_incremental::planner::{Arrived, Event};
use trommel_ledger::checked;
use trommel_ledger::storage::{Disk, Storage};

use trommel_pipelines::error::PipelineError;

/// One line of the list.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    schema: u32,
    event: Event,
}

/// Name of the list in the watch's folder.
const NAME: &str = "arrivals.jsonl";

/// Version of the list.
const SCHEMA_VERSION: u32 = 1;

/// What has arrived so far, and the file that says so.
pub struct Arrivals {
    path: PathBuf,
    /// Where this process writes it.
    file: Option<File>,
    list: Arrived,
}

impl Arrivals {
    /// Opens the list in a folder; a last line that was cut off is taken away.
    ///
    /// # Errors
    /// A list that cannot be read or written, or is damaged.
    pub fn open(folder: &Path) -> Result<Self, PipelineError> {
        let path = folder.join(NAME);
        let failed = PipelineError::at(&path);
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(&failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(&failed)?;
        let (list, whole_bytes) = listed(&path, &bytes)?;
        if whole_bytes < bytes.len() as u64 {
            file.set_len(whole_bytes).and_then(|()| file.sync_all()).map_err(&failed)?;
        }
        Disk.sync_dir(folder).map_err(&failed)?;
        Ok(Self { path: path.clone(), file: Some(file), list })
    }

    /// Reads the list that another process writes, or will begin.
    ///
    /// # Errors
    /// A list that cannot be read, or is damaged.
    pub fn follow(folder: &Path) -> Result<Self, PipelineError> {
        let path = folder.join(NAME);
        let bytes = if_there(fs::read(&path)).map_err(PipelineError::at(&path))?.unwrap_or_default();
        let (list, _) = listed(&path, &bytes)?;
        Ok(Self { path, file: None, list })
    }

    /// What the file says.
    #[must_use]
    pub const fn list(&self) -> &Arrived {
        &self.list
    }

    /// Appends events, in this order; durable when it returns.
    ///
    /// # Errors
    /// A list that cannot be written.
    pub fn note(&mut self, events: Vec<Event>) -> Result<(), PipelineError> {
        let mut bytes = Vec::new();
        for event in &events {
            let line = Line { schema: SCHEMA_VERSION, event: event.clone() };
            bytes.extend(checked::encode(&line).map_err(PipelineError::failed)?);
        }
        let written = match &mut self.file {
            Some(file) => file.write_all(&bytes).and_then(|()| file.sync_data()),
            None => Err(io::Error::other("another process writes it")),
        };
        let place = || format!("cannot write {}", self.path.display());
        written.map_err(|error| PipelineError::failed(error).within(place()))?;
        events.into_iter().for_each(|event| self.list.take(event));
        Ok(())
    }
}

/// What a list says, and up to which byte it is whole.
fn listed(path: &Path, bytes: &[u8]) -> Result<(Arrived, u64), PipelineError> {
    let found = checked::parse::<Line>(path, bytes, SCHEMA_VERSION).map_err(PipelineError::failed)?;
    let mut list = Arrived::default();
    for (number, line) in (1..).zip(found.lines) {
        let due = list.all().len() as u64;
        if let Event::Arrived(arrival) = &line.event
            && arrival.ordinal != due
        {
            let path = path.display();
            let what = format!("{path}: line {number}: ordinal {} where {due} is due", arrival.ordinal);
            return Err(PipelineError::failed(what));
        }
        list.take(line.event);
    }
    Ok((list, found.good_bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use trommel_incremental::planner::Found;

    use super::*;

    fn found(bytes: u64) -> Found {
        Found { path: "x".into(), bytes, modified_ns: 7, stamp: None }
    }

    /// Takes shards in; gives their ordinals.
    fn arrive(arrivals: &mut Arrivals, shards: &[(&str, u64)]) -> Vec<u64> {
        let before = arrivals.list().all().len();
        let shards = shards.iter().map(|&(name, bytes)| (name.to_owned(), found(bytes)));
        arrivals.note(arrivals.list().numbered(shards.collect())).unwrap();
        arrivals.list().all()[before..].iter().map(|arrival| arrival.ordinal).collect()
    }

    #[test]
    fn order_and_versions_survive_and_a_cut_line_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut arrivals = Arrivals::open(folder.path()).unwrap();
        assert_eq!(arrive(&mut arrivals, &[("b", 1), ("a", 2)]), [0, 1]);
        assert_eq!(arrive(&mut arrivals, &[("b", 3)]), [2]);
        let live = |arrivals: &Arrivals, judged: &[u64]| -> Vec<u64> {
            arrivals.list().live(|at| judged.contains(&at)).into_iter().collect()
        };
        assert_eq!(live(&arrivals, &[0, 1]), [0, 1]); // the old version stays until the new one is judged
        assert_eq!(live(&arrivals, &[0, 1, 2]), [1, 2]);
        arrivals.note(vec![Event::Torn(2)]).unwrap();
        assert_eq!(live(&arrivals, &[0, 1, 2]), [0, 1]);
        arrivals.note(vec![Event::Gone(1)]).unwrap();
        assert_eq!(live(&arrivals, &[0, 1, 2]), [0]);
        let path = folder.path().join("arrivals.jsonl");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend(b"{\"gone\":");
        std::fs::write(&path, bytes).unwrap();
        let mut again = Arrivals::open(folder.path()).unwrap();
        assert_eq!(live(&again, &[0, 1, 2]), [0]);
        again.note(vec![Event::Back(1)]).unwrap();
        let again = Arrivals::open(folder.path()).unwrap();
        assert_eq!((live(&again, &[0, 1, 2]), again.list().wanted().len()), (vec![0, 1], 1));
        assert_eq!(again.list().plan().shards[2].name, "b");
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        lines[1] = "{\"gone\":";
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        assert!(Arrivals::open(folder.path()).err().unwrap().to_string().contains("line 2"));
    }
}
