//! `trommel stream`: kept samples with their original bytes, for any trainer: as a tar on standard output, or as new shards.
//!
//! ```text
//! shards, in plan order ─▶ originals ─▶ kept by a split, a run, or the seeded hash ─▶ tar blocks ─┬─▶ standard output   stream/pipe.rs
//!                                                                                                 └─▶ new shards        stream/folder.rs
//! ```
//!
//! Nothing is decoded: a picture that nobody can decode passes as it is. What cannot be had ends it there (the same command tries again); a shard that
//! has changed since the split was made ends it before the sample in question. What was written before is whole and right in both cases.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde::Serialize;
use trommel_core::names::STDIN;
use trommel_core::notices::Notices;
use trommel_core::sample::SampleInfo;
use trommel_core::stop::Stop;
use trommel_core::wake::locked;
use trommel_decide::percent::Percent;
use trommel_decide::rule::Rule;
use trommel_select::membership::told::{not_in_split, not_judged, not_of_split};
use trommel_select::membership::{Kept, Membership, Picker};
use trommel_select::met::Met;
use trommel_shard::original::visit;
use trommel_shard::plan::{Plan, PlanOptions, ShardRef, expand};
use trommel_shard::reader::ReaderConfig;
use trommel_shard::samples::{Original, RepeatedMember};
use trommel_shard::store::Stores;

use crate::error::PipelineError;
use crate::failures::failed;
use crate::stray_files::beside;

mod coverage;
mod earlier;
mod folder;
mod pipe;
mod state;
mod task;

pub(crate) use coverage::by_keys_alone;
use coverage::{Turn, cover, refuse_other_name, stranger};
use task::{By, Task};

/// What decides who is kept.
#[derive(Clone, Debug, PartialEq)]
pub enum KeptBy {
    /// Whoever is in a split: a file of `trommel select`, a list, or a run folder.
    Split(PathBuf),
    /// A share, by the seeded hash of shard and key.
    Random {
        /// The share, in per cent.
        percent: Percent,
        /// Seed of the hash.
        seed: u64,
    },
}

impl KeptBy {
    /// What a rule keeps.
    ///
    /// # Errors
    /// A rule that names alone do not answer.
    pub fn rule(text: &str, seed: u64) -> Result<Self, PipelineError> {
        let rule: Rule = text.parse().map_err(PipelineError::usage)?;
        match rule.policy().share() {
            Some(percent) => Ok(Self::Random { percent, seed }),
            None => Err(PipelineError::usage(format!(
                "--rule {rule}: it needs scores, or the number of all samples: run `trommel prune`, then `trommel select RUN --rule '{rule}' -o \
                 s.parquet`, then `trommel stream --split s.parquet`"
            ))),
        }
    }
}

/// Where kept samples go.
#[derive(Clone, Debug, PartialEq)]
pub enum Out {
    /// Standard output.
    Pipe,
    /// New shards in a folder, each of so many samples.
    Shards(PathBuf, u64),
}

/// What is streamed, and where.
#[derive(Clone, Debug)]
pub struct StreamConfig {
    /// The shards, as arguments.
    pub shards: Vec<String>,
    /// What decides who is kept.
    pub kept_by: KeptBy,
    /// Standard output, or a folder of new shards.
    pub out: Out,
    /// Where shards are found and opened.
    pub stores: Stores,
}

/// What was streamed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StreamReport {
    /// Shards of the plan.
    pub shards: u64,
    /// Samples written, those of an earlier turn of the same command included.
    pub samples: u64,
    /// Of these, samples with a picture and a caption that open_clip reads: `--train-num-samples`.
    pub train_num_samples: u64,
    /// Bytes of tars written.
    pub bytes: u64,
    /// The new shards, in order; empty for standard output.
    pub written: Vec<String>,
    /// Their pattern, as trainers take it; `None` where there is none.
    pub pattern: Option<String>,
    /// What was lost, passed over, or renamed.
    pub notices: Notices,
}

/// Streams.
///
/// # Errors
/// No plan, no split, a shard that cannot be had or has changed, or an output that cannot be written. A reader of standard output that has gone is none.
pub fn stream(config: &StreamConfig, stop: &Stop) -> Result<StreamReport, PipelineError> {
    let plan = expand(&config.shards, &config.stores, &PlanOptions::default()).map_err(PipelineError::usage)?;
    let split = match &config.kept_by {
        KeptBy::Split(path) => Some(Membership::open(path).map_err(failed)?),
        KeptBy::Random { .. } => None,
    };
    let mut reading = ReaderConfig::default();
    if split.as_ref().is_some_and(|split| split.reading("repeated_members").is_some_and(|it| it == "reject")) {
        reading.group.repeated = RepeatedMember::Reject;
    }
    let mut notices = beside(&config.shards, &config.stores, &reading.group)?;
    notices.merge(&plan.losses());
    let of_others = split.as_ref().map_or(Ok(0), |split| cover(split, &plan, &config.out, &mut notices))?;
    let met = split.as_ref().and_then(Membership::met).map(|met| Arc::new(Mutex::new(met)));
    let alone = split.as_ref().and_then(|split| split.keys_alone().cloned());
    // A reader of standard output asks for each shard by itself; new shards are to hold all of the list.
    let keys = alone.filter(|_| config.out != Out::Pipe).map(|keys| keys.count()).transpose().map_err(failed)?;
    let sink: Box<dyn Sink> = match &config.out {
        Out::Pipe => Box::new(pipe::Pipe::open()?),
        Out::Shards(folder, samples) => Box::new(folder::Folder::open(
            folder,
            *samples,
            state::Made::of(&config.kept_by, split.as_ref(), &plan, *samples)?,
            plan.shards.iter().any(|shard| shard.url == STDIN),
        )?),
    };
    let mut stream = Stream { config, plan: &plan, split, met, reading, sink, stop, notices, read: 0 };
    let from = stream.sink.resume(&mut stream.notices);
    let unwritten = earlier::unwritten(&stream.notices);
    if let Some(met) = &stream.met {
        earlier::meet(&stream.sink.written(), stream.split.as_ref(), met)?;
    }
    match stream.run(from) {
        Ok(()) => {
            // A list of other shards is refused before anything says that the new ones are whole.
            let (absent, never_came) = match (&stream.met, &config.kept_by) {
                (Some(met), KeptBy::Split(path)) if config.out != Out::Pipe => {
                    Turn { path, keys, unwritten }.absent(&locked(met), &stream.notices)?
                }
                // One of many readers has a shard each, and no more of the list than that.
                (Some(met), KeptBy::Split(path)) if plan.len() > 1 => {
                    locked(met).note(path, &mut stream.notices).map_err(failed)?;
                    (Notices::default(), 0)
                }
                _ => (Notices::default(), 0),
            };
            if let Some(split) = &stream.split {
                split.refuse_more(stream.sink.samples(), of_others + never_came).map_err(failed)?;
            }
            if config.out == Out::Pipe && stream.sink.samples() == 0 && earlier::unwritten(&stream.notices) == 0 {
                let first = plan.shards.first().map_or("", |shard| shard.name.as_str());
                stream.notices.note("nothing_kept", "samples read of which none is kept", first, stream.read);
            }
            let mut report = stream.sink.finish(&plan, &stream.notices)?;
            report.notices.merge(&absent);
            Ok(report)
        }
        Err(Ended::ReaderGone) => Ok(StreamReport::default()),
        Err(Ended::Failed(error)) => Err(error),
    }
}

/// Where to go on: a shard's ordinal, and an index in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Cursor {
    ordinal: u64,
    index: u32,
}

/// Why a stream ends before its end.
enum Ended {
    /// Nobody reads standard output any more.
    ReaderGone,
    /// Something for people.
    Failed(PipelineError),
}

impl From<PipelineError> for Ended {
    fn from(error: PipelineError) -> Self {
        Self::Failed(error)
    }
}

/// Where kept samples go, one after the other.
trait Sink {
    /// Where an earlier turn has ended, with what it had to say.
    fn resume(&mut self, notices: &mut Notices) -> Cursor;

    /// The shards that an earlier turn has written.
    fn written(&self) -> Vec<PathBuf>;

    /// Samples that were written, by an earlier turn too.
    fn samples(&self) -> u64;

    /// Takes the next kept sample of a shard.
    fn add(&mut self, shard: &ShardRef, sample: &(&SampleInfo, Original), notices: &mut Notices) -> Result<(), Ended>;

    /// Takes that there are no more.
    fn finish(&mut self, plan: &Plan, notices: &Notices) -> Result<StreamReport, PipelineError>;
}

struct Stream<'a> {
    config: &'a StreamConfig,
    plan: &'a Plan,
    split: Option<Membership>,
    /// Which keys alone have come.
    met: Option<Arc<Mutex<Met>>>,
    reading: ReaderConfig,
    sink: Box<dyn Sink>,
    stop: &'a Stop,
    notices: Notices,
    /// Samples that were asked for, kept or not.
    read: u64,
}

impl Stream<'_> {
    fn run(&mut self, from: Cursor) -> Result<(), Ended> {
        let (mut strangers, mut first) = (0, None);
        for shard in self.plan.shards.iter().skip(usize::try_from(from.ordinal).unwrap_or(usize::MAX)) {
            let first_index = if shard.ordinal == from.ordinal { from.index } else { 0 };
            let kept = match &self.split {
                None => None,
                Some(split) => match split.shard(&shard.name).map_err(failed)? {
                    Some(kept) if kept.count() != Some(0) => Some(kept),
                    none => {
                        if none.is_none() {
                            if split.had_not_judged(&shard.name) {
                                not_judged(&mut self.notices, &shard.name);
                                continue;
                            }
                            refuse_other_name(split, shard)?;
                            if let Some(why) = stranger(split, shard)? {
                                strangers += 1;
                                first.get_or_insert(why);
                                not_of_split(&mut self.notices, &shard.name);
                                continue;
                            }
                        }
                        not_in_split(&mut self.notices, &shard.name, 1);
                        continue;
                    }
                },
            };
            self.shard(shard, kept.as_ref(), first_index)?;
        }
        // An empty tar would say of all of them that nothing is kept.
        match first {
            Some(why) if strangers == self.plan.len() => Err(Ended::Failed(PipelineError::usage(why))),
            _ => Ok(()),
        }
    }

    fn shard(&mut self, shard: &ShardRef, kept: Option<&Kept>, first: u32) -> Result<(), Ended> {
        let by = match (&self.config.kept_by, kept) {
            (KeptBy::Split(path), Some(kept)) => {
                By::Split(Picker::new(path, &shard.name, kept).after(self.met.clone()).resumed_at(first))
            }
            (KeptBy::Random { percent, seed }, _) => By::Random(*percent, *seed),
            (KeptBy::Split(_), None) => return Ok(()),
        };
        let identity = matches!(kept, Some(Kept::Uids(_)));
        let (sink, stop, notices, read) = (self.sink.as_mut(), self.stop, &mut self.notices, &mut self.read);
        let mut task = Task { shard, by, identity, first, trouble: None, sink, stop, notices, read };
        let visited = visit(&self.config.stores, shard, &self.reading, &mut task)?;
        task.end(visited)
    }
}

/// A sample's key for the place of a reader who cannot tell two of one key apart: `PLACE-KEY`, the folder in front. What was
/// written by this program may have such keys already: then with a number, the first that is free.
fn unique_key(shard: &ShardRef, info: &SampleInfo, key: &[u8], is_taken: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let base = key.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let (folder, base) = key.split_at(base);
    let place = format!("{:05}-{:06}-", shard.ordinal, info.id.index);
    let mut unique = [folder, place.as_bytes(), base].concat();
    let mut number = 1;
    while is_taken(&unique) {
        unique = [folder, place.as_bytes(), format!("{number}-").as_bytes(), base].concat();
        number += 1;
    }
    unique
}

/// The sample under a key of its own, which is told: the key and the bytes.
fn renamed(
    shard: &ShardRef,
    info: &SampleInfo,
    original: &Original,
    notices: &mut Notices,
    is_taken: impl Fn(&[u8]) -> bool,
) -> Option<(Vec<u8>, Vec<u8>)> {
    let place = format!("{}/{}", shard.name, info.key);
    let key = unique_key(shard, info, &original.key, is_taken);
    let Some(bytes) = original.renamed(&key) else {
        notices.loss("not_renamed", "samples stored with holes, of whose key there is another one", place, 1, 1);
        return None;
    };
    let text = "samples renamed, since another one of their key stands beside them";
    notices.note("renamed", text, format!("{place} is {}", String::from_utf8_lossy(&key)), 1);
    Some((key, bytes))
}

/// Whether open_clip reads a sample: a picture and a caption.
fn is_trainable(original: &Original) -> bool {
    let has = |wanted: &[&str]| original.members.iter().any(|(extension, _)| wanted.contains(&extension.as_str()));
    has(&["jpg", "png", "jpeg", "webp"]) && has(&["txt"])
}
