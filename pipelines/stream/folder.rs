//! Kept samples as new shards, with what trainers look for beside them.
//!
//! | file | for |
//! |---|---|
//! | `00000.tar` .. | any WebDataset reader |
//! | `00000_stats.json` .. | img2dataset's counts; the next turn of the same command |
//! | `sizes.json` | open_clip and DataComp: file name to samples; written last, so that where it is, all is there |
//! | `stream.json` | from what it was made |

use std::collections::{BTreeMap, HashSet};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use trommel_core::durable::{self, Aside};
use trommel_core::notices::Notices;
use trommel_core::out_folder::OutFolder;
use trommel_core::sample::SampleInfo;
use trommel_core::text::shell_word;
use trommel_shard::plan::{Plan, ShardRef};
use trommel_shard::promised::STATS_ENDING;
use trommel_shard::samples::Original;

use super::pipe::END;
use super::state::{self, Made, Progress, Stats};
use super::{Cursor, Ended, Sink, StreamReport, is_trainable, renamed};
use crate::error::PipelineError;

/// Bytes that are written at a time.
const BUFFER_BYTES: usize = 1 << 20;

pub(super) struct Folder {
    folder: PathBuf,
    shard_samples: u64,
    open: Option<Open>,
    /// Shards that are whole.
    done: Vec<Stats>,
    /// Locked as long as it is written; gone again where nothing is.
    _made: OutFolder,
}

/// The shard that is being written.
struct Open {
    path: PathBuf,
    out: BufWriter<Aside>,
    samples: u64,
    trainable: u64,
    bytes: u64,
    keys: HashSet<Vec<u8>>,
}

impl Folder {
    /// Opens a folder, alone. What came `from_stdin` cannot be told from other bytes, so nobody goes on with it.
    pub fn open(folder: &Path, shard_samples: u64, made: Made, from_stdin: bool) -> Result<Self, PipelineError> {
        let alone = OutFolder::locked(folder, ".stream.lock").map_err(PipelineError::at(folder))?;
        let mut alone = alone.ok_or_else(|| {
            PipelineError::failed(format!("{}: another `trommel stream` is writing there", folder.display()))
        })?;
        alone.goes_with(state::FILE).map_err(PipelineError::at(folder))?;
        made.settle(folder)?;
        let mut all = Self { folder: folder.into(), shard_samples, open: None, done: Vec::new(), _made: alone };
        while let Some(stats) = Stats::read(&all.shard(all.done.len()), &all.stats(all.done.len())) {
            all.done.push(stats);
        }
        if from_stdin && !all.done.is_empty() {
            let folder = folder.display();
            return Err(PipelineError::usage(format!(
                "{folder}: there are shards of an earlier turn, and standard input does not say whether it is the same; give another folder"
            )));
        }
        Ok(all)
    }

    fn shard(&self, number: usize) -> PathBuf {
        self.folder.join(name(number))
    }

    fn stats(&self, number: usize) -> PathBuf {
        self.folder.join(format!("{number:05}{STATS_ENDING}"))
    }

    /// Makes the open shard whole; the next one begins at `next`.
    fn close(&mut self, next: Cursor, notices: &Notices) -> Result<(), PipelineError> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let at = PipelineError::at(&open.path);
        open.out.write_all(&END).map_err(&at)?;
        let file = open.out.into_inner().map_err(|error| at(error.into_error()))?;
        file.commit().map_err(&at)?;
        let Open { samples, trainable, .. } = open;
        let bytes = open.bytes + END.len() as u64;
        let stats = Stats::new(samples, Progress { next, bytes, trainable, notices: notices.clone() });
        let path = self.stats(self.done.len());
        let text = serde_json::to_string_pretty(&stats).map_err(PipelineError::failed)? + "\n";
        durable::write(&path, text.as_bytes()).map_err(PipelineError::at(&path))?;
        tracing::info!(shard = %open.path.display(), samples, bytes, "written");
        self.done.push(stats);
        Ok(())
    }
}

fn name(number: usize) -> String {
    format!("{number:05}.tar")
}

impl Sink for Folder {
    fn resume(&mut self, notices: &mut Notices) -> Cursor {
        let Some(last) = self.done.last() else { return Cursor::default() };
        // What it says of the plan is in there too.
        *notices = last.trommel.notices.clone();
        last.trommel.next
    }

    fn written(&self) -> Vec<PathBuf> {
        (0..self.done.len()).map(|number| self.shard(number)).collect()
    }

    fn samples(&self) -> u64 {
        let open = self.open.as_ref().map_or(0, |open| open.samples);
        open + self.done.iter().map(|stats| stats.successes).sum::<u64>()
    }

    fn add(
        &mut self,
        shard: &ShardRef,
        (info, original): &(&SampleInfo, Original),
        notices: &mut Notices,
    ) -> Result<(), Ended> {
        if self.open.is_none() {
            let path = self.shard(self.done.len());
            let out = Aside::create(&path).map_err(PipelineError::at(&path))?;
            let out = BufWriter::with_capacity(BUFFER_BYTES, out);
            self.open = Some(Open { path, out, samples: 0, trainable: 0, bytes: 0, keys: HashSet::new() });
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        let other;
        let bytes = if open.keys.insert(original.key.clone()) {
            &original.bytes
        } else {
            let is_taken = |key: &[u8]| open.keys.contains(key);
            let Some((key, bytes)) = renamed(shard, info, original, notices, is_taken) else { return Ok(()) };
            open.keys.insert(key);
            other = bytes;
            &other
        };
        open.out.write_all(bytes).map_err(PipelineError::at(&open.path))?;
        open.samples += 1;
        open.bytes += bytes.len() as u64;
        open.trainable += u64::from(is_trainable(original));
        if open.samples >= self.shard_samples {
            let next = Cursor { ordinal: shard.ordinal, index: info.id.index.saturating_add(1) };
            self.close(next, notices)?;
        }
        Ok(())
    }

    fn finish(&mut self, plan: &Plan, notices: &Notices) -> Result<StreamReport, PipelineError> {
        self.close(Cursor { ordinal: plan.len() as u64, index: 0 }, notices)?;
        let sizes: BTreeMap<String, u64> = (0..).map(name).zip(self.done.iter().map(|stats| stats.successes)).collect();
        let path = self.folder.join("sizes.json");
        let text = serde_json::to_string(&sizes).map_err(PipelineError::failed)? + "\n";
        durable::write(&path, text.as_bytes()).map_err(PipelineError::at(&path))?;
        let range = match self.done.len() {
            0 => None,
            1 => Some(name(0)),
            many if many <= 100_000 => Some(format!("{{00000..{:05}}}.tar", many - 1)),
            // A range whose ends are of different lengths pads all to the longer one: two ranges.
            many => Some(format!(
                "{{00000..99999}}.tar::{}",
                self.folder.join(format!("{{100000..{}}}.tar", many - 1)).display()
            )),
        };
        let sum = |of: fn(&Stats) -> u64| self.done.iter().map(of).sum();
        Ok(StreamReport {
            shards: plan.len() as u64,
            samples: sum(|stats| stats.successes),
            train_num_samples: sum(|stats| stats.trommel.trainable),
            bytes: sum(|stats| stats.trommel.bytes),
            written: (0..self.done.len()).map(name).collect(),
            pattern: range.map(|range| shell_word(&self.folder.join(range).display().to_string())),
            notices: notices.clone(),
        })
    }
}
