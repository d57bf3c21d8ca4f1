//! `trommel stream`: kept samples with their original bytes, for any trainer: as a tar on standard output, or as new shards.
//!
//! ```text
//! shards, in plan order ─▶ originals ─▶ kept by a split, a run, or the seeded hash ─▶ tar blocks ─┬─▶ standard output   stream/pipe.rs
//!                                                                                                 └─▶ new shards        stream/folder.rs
//! ```
//!
//! Nothing is decoded: a picture that nobody can decode passes as it is. What cannot be had ends it there (the same command tries again); a shard that
//! has changed since the split was made ends it before the sample in question. What was written before is whole and right in both cases.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::Serialize;
use trommel_core::notices::Notices;
use trommel_core::sample::{SampleInfo, ShardOutcome};
use trommel_core::stop::Stop;
use trommel_core::wake::locked;
use trommel_decide::hash::random_hash;
use trommel_decide::percent::Percent;
use trommel_decide::rule::Rule;
use trommel_select::SelectError;
use trommel_select::membership::{Kept, Membership, Picker};
use trommel_select::met::Met;
use trommel_shard::original::{Visit, Visited, visit};
use trommel_shard::plan::{Plan, PlanOptions, ShardRef, expand, is_shard_name};
use trommel_shard::reader::ReaderConfig;
use trommel_shard::samples::{Group, Original, RepeatedMember, Want};
use trommel_shard::store::Stores;

use crate::error::PipelineError;
use crate::select::failed;

mod folder;
mod pipe;
mod state;

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
            None => Err(PipelineError::Usage(format!(
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
    let mut notices = plan.losses();
    if let Some(split) = &split {
        cover(split, &plan, &config.out, &mut notices)?;
    }
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
            plan.shards.iter().any(|shard| shard.url == "-"),
        )?),
    };
    let mut stream = Stream { config, plan: &plan, split, met, reading, sink, stop, notices };
    let from = stream.sink.resume(&mut stream.notices);
    match stream.run(from) {
        Ok(()) => {
            let mut report = stream.sink.finish(&plan, &stream.notices)?;
            let met = stream.met.filter(|_| config.out != Out::Pipe);
            if let (Some(met), KeptBy::Split(path)) = (met, &config.kept_by) {
                let turn = Turn { path, keys, whole: from == Cursor::default() };
                turn.absent(config, &locked(&met), &mut report)?;
            }
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
                            refuse_other_name(split, shard)?;
                            if let Some(why) = stranger(split, shard)? {
                                strangers += 1;
                                first.get_or_insert(why);
                                let text = "shards that the split was not made from, not read";
                                self.notices.note("not_of_split", text, &shard.name, 1);
                                continue;
                            }
                        }
                        let text = "shards of which the split keeps nothing, not read";
                        self.notices.note("not_in_split", text, &shard.name, 1);
                        continue;
                    }
                },
            };
            self.shard(shard, kept.as_ref(), first_index)?;
        }
        // An empty tar would say of all of them that nothing is kept.
        match first {
            Some(why) if strangers == self.plan.len() => Err(Ended::Failed(PipelineError::Usage(why))),
            _ => Ok(()),
        }
    }

    fn shard(&mut self, shard: &ShardRef, kept: Option<&Kept>, first: u32) -> Result<(), Ended> {
        let by = match (&self.config.kept_by, kept) {
            (KeptBy::Split(path), Some(kept)) => {
                By::Split(Picker::new(path, &shard.name, kept).after(self.met.clone()))
            }
            (KeptBy::Random { percent, seed }, _) => By::Random(*percent, *seed),
            (KeptBy::Split(_), None) => return Ok(()),
        };
        let identity = matches!(kept, Some(Kept::Uids(_)));
        let (sink, stop, notices) = (self.sink.as_mut(), self.stop, &mut self.notices);
        let mut task = Task { shard, by, identity, first, trouble: None, written: 0, sink, stop, notices };
        let visited = visit(&self.config.stores, shard, &self.reading, &mut task)?;
        task.end(visited, kept)
    }
}

/// Other names that a shard may have in a split: parts of its path.
fn other_names(shard: &ShardRef) -> impl Iterator<Item = &str> {
    // Longer ones are looked at in vain for each shard of which nothing is kept.
    const PARTS: usize = 4;
    let slashes = shard.url.rmatch_indices('/').map(|(at, _)| at + 1);
    slashes.chain([0]).take(PARTS).map(|at| &shard.url[at..])
}

/// Tells what the split keeps of shards that are not given, where new shards are to hold all of it: a reader of standard output asks for each
/// shard by itself.
fn cover(split: &Membership, plan: &Plan, out: &Out, notices: &mut Notices) -> Result<(), PipelineError> {
    let shards: Vec<&str> = plan.shards.iter().map(|shard| shard.name.as_str()).collect();
    let others: Vec<&str> = plan.shards.iter().flat_map(other_names).collect();
    let is_pipe = *out == Out::Pipe;
    // A list of keys is read here for a pipe too: afterwards it knows where each shard's lines stand.
    if is_pipe && !split.lists_keys() {
        return Ok(());
    }
    let Some(coverage) = split.coverage(&shards, &others).map_err(failed)?.filter(|_| !is_pipe) else { return Ok(()) };
    if coverage.kept == 0 && coverage.absent > 0 {
        plan.shards.iter().try_for_each(|shard| refuse_other_name(split, shard))?;
        return Err(PipelineError::Usage(format!(
            "{}: none of its {} samples is of these shards: it names {} and not {}{}",
            split.path().display(),
            coverage.absent_samples,
            coverage.first,
            shards.first().unwrap_or(&""),
            by_keys_alone(&coverage.first)
        )));
    }
    let text = "samples that the split keeps of shards that are not given";
    notices.note("absent_shards", text, coverage.first, coverage.absent_samples);
    Ok(())
}

/// Why a shard that the split does not name is none of those that it was made from; `None` where that is not known.
fn stranger(split: &Membership, shard: &ShardRef) -> Result<Option<String>, PipelineError> {
    let (path, name) = (split.path().display(), &shard.name);
    if shard.url == "-" {
        return Ok(Some(format!(
            "{path} knows samples by their shards' names, and standard input has none: give the shard's file, or a list that needs no names (.npy of \
             uids, .keys)"
        )));
    }
    let Some(other) = split.first_shard().map_err(failed)? else { return Ok(None) };
    let is_other = is_shard_name(name) && !is_shard_name(&other) && other != "-";
    let stranger = is_other || split.leaves_out(name) == Some(false);
    Ok(stranger.then(|| format!("{path} was not made from {name}: it names {other}{}", by_keys_alone(&other))))
}

/// What leads from a split of stored embeddings to shards, where its first shard is none.
pub(crate) fn by_keys_alone(first: &str) -> &'static str {
    if is_shard_name(first) || first == "-" {
        return "";
    }
    "; what was selected from stored embeddings or folders is found in shards by keys alone: `trommel select RUN --rule R -o s.keys`, then \
     `trommel stream SHARDS --split s.keys`"
}

/// A turn of `stream` with a list that does not say where its samples stand, at its end.
struct Turn<'a> {
    /// Path of the list.
    path: &'a Path,
    /// How many keys there are, where it is one of keys alone.
    keys: Option<u64>,
    /// It has read all shards: no earlier turn of the same command has read some.
    whole: bool,
}

impl Turn<'_> {
    /// Tells which names of the list did not come; no key at all is no list of these shards.
    fn absent(&self, config: &StreamConfig, met: &Met, report: &mut StreamReport) -> Result<(), PipelineError> {
        let (path, lost) = (self.path.display(), report.notices.any_loss());
        let absent = match (self.whole, self.keys) {
            (true, _) => met.note(self.path, &mut report.notices).map_err(failed)?.count,
            (false, Some(keys)) => {
                let absent = keys.saturating_sub(report.samples + report.notices.lost_samples());
                let text = "keys of the list that are in none of these shards";
                report.notices.note("absent_keys", text, path.to_string(), absent);
                absent
            }
            (false, None) => {
                let text = "lists of uids of which those that no sample has were not counted, since an earlier turn of this command has read some of \
                            the shards";
                report.notices.note("absent_uids_unknown", text, path.to_string(), 1);
                0
            }
        };
        // Of a shard that could not be read nobody knows.
        if self.keys.is_some_and(|keys| absent > 0 && absent == keys) && !lost {
            let first = config.shards.first().map_or("", String::as_str);
            return Err(PipelineError::Usage(format!(
                "{path}: none of its {absent} keys is in these shards (first: {first})"
            )));
        }
        Ok(())
    }
}

/// Refuses a shard that the split has under another part of its path.
fn refuse_other_name(split: &Membership, shard: &ShardRef) -> Result<(), PipelineError> {
    for other in other_names(shard) {
        if other != shard.name && split.shard(other).map_err(failed)?.is_some() {
            let (path, name, url) = (split.path().display(), &shard.name, &shard.url);
            return Err(PipelineError::Usage(format!(
                "{path} has no shard {name}, but {other}, and {url} may be either: shards are known by their names; give SHARDS as the run was given \
                 them, or NAME=SHARDS, which puts NAME/ before each name"
            )));
        }
    }
    Ok(())
}

/// Who says whether a sample is kept.
enum By<'a> {
    Split(Picker<'a>),
    Random(Percent, u64),
}

/// One shard's reading.
struct Task<'a> {
    shard: &'a ShardRef,
    by: By<'a>,
    /// A sample's json must be read before anybody can say.
    identity: bool,
    /// Samples before this index were written by an earlier turn.
    first: u32,
    trouble: Option<SelectError>,
    /// Kept samples that came, those of an earlier turn included.
    written: u64,
    sink: &'a mut dyn Sink,
    stop: &'a Stop,
    notices: &'a mut Notices,
}

impl Visit for Task<'_> {
    type Error = Ended;

    fn want(&mut self, index: u32, key: &[u8]) -> Want {
        let identity = self.identity;
        if identity {
            return Want::Original { identity };
        }
        let key = String::from_utf8_lossy(key);
        let kept = match &mut self.by {
            By::Random(percent, seed) => percent.takes(random_hash(*seed, &self.shard.name, &key)),
            By::Split(picker) => picker.keeps(index, &key, || None).unwrap_or_else(|error| {
                self.trouble = Some(error);
                false
            }),
        };
        let is_new = index >= self.first;
        self.written += u64::from(kept && !is_new);
        if kept && is_new { Want::Original { identity } } else { Want::Place }
    }

    fn take(&mut self, group: Group) -> Result<ControlFlow<()>, Ended> {
        if let Some(error) = self.trouble.take() {
            return Err(Ended::Failed(failed(error)));
        }
        if self.stop.is_requested() || self.stop.is_winding_down() {
            return Err(Ended::Failed(PipelineError::Interrupted));
        }
        match group {
            Group::Place(_) | Group::Sample(_) => {}
            Group::Rejected(info, reason) => {
                if let (By::Split(picker), Some(uid)) = (&mut self.by, info.uid.as_ref())
                    && !picker.keeps(info.id.index, &info.key, || Some(uid.clone())).map_err(failed)?
                {
                    return Ok(ControlFlow::Continue(()));
                }
                let place = format!("{}/{}: {reason}", self.shard.name, info.key);
                // An earlier turn has told of those before.
                let new = u64::from(info.id.index >= self.first);
                self.notices.loss("not_written", "samples that cannot be written as they stand", place, new, new);
                self.written += 1;
            }
            Group::Original(info, original) => {
                let kept = match &mut self.by {
                    By::Split(picker) if self.identity => {
                        picker.keeps(info.id.index, &info.key, || info.uid.clone()).map_err(failed)?
                    }
                    By::Split(_) | By::Random(..) => true,
                };
                if kept && info.id.index >= self.first {
                    self.sink.add(self.shard, &(&info, original), self.notices)?;
                }
                self.written += u64::from(kept);
            }
        }
        let done = matches!(&self.by, By::Split(picker) if picker.is_done());
        Ok(if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
}

impl Task<'_> {
    /// The shard has ended.
    fn end(self, visited: Visited, kept: Option<&Kept>) -> Result<(), Ended> {
        let Visited { outcome, is_cut, mut notices, .. } = visited;
        let name = &self.shard.name;
        let rejected = match outcome {
            ShardOutcome::Unavailable(why) => return Err(Ended::Failed(PipelineError::Unfinished(why))),
            ShardOutcome::Changed(why) => return Err(Ended::Failed(PipelineError::Failed(why))),
            ShardOutcome::Rejected(reason) => Some(reason),
            ShardOutcome::Complete(_) => None,
        };
        if let By::Split(picker) = &self.by {
            let times = picker.repeated_uids();
            self.notices.note(
                "repeated_uids",
                "samples whose uid stands in the list several times, written once",
                name,
                times,
            );
            match (&rejected, picker.finish()) {
                // What the split keeps of it is lost, and no more.
                (Some(reason), Err(_)) => {
                    notices = Notices::default();
                    let text = format!("shards rejected ({})", reason.code);
                    let lost = kept.and_then(Kept::count).unwrap_or(1);
                    notices.loss(
                        &format!("shard_{}", reason.code),
                        &text,
                        format!("{name}: {}", reason.detail),
                        1,
                        lost,
                    );
                }
                (None, Err(_)) if is_cut => {
                    let missing = kept.and_then(Kept::count).unwrap_or(0).saturating_sub(self.written);
                    let text = "shards cut off before all samples that the split keeps of them";
                    notices.loss("cut_before_kept", text, name, 1, missing);
                }
                (None, Err(error)) => return Err(Ended::Failed(failed(error))),
                (_, Ok(())) => {}
            }
        }
        self.notices.merge(&notices);
        Ok(())
    }
}

/// A sample's key for the place of a reader who cannot tell two of one key apart: `PLACE-KEY`, the folder in front.
fn unique_key(shard: &ShardRef, info: &SampleInfo) -> String {
    let (folder, base) = info.key.rfind('/').map_or(("", info.key.as_str()), |slash| info.key.split_at(slash + 1));
    format!("{folder}{:05}-{:06}-{base}", shard.ordinal, info.id.index)
}

/// The sample under a key of its own, which is told.
fn renamed(shard: &ShardRef, info: &SampleInfo, original: &Original, notices: &mut Notices) -> Option<Vec<u8>> {
    let key = unique_key(shard, info);
    let place = format!("{}/{}", shard.name, info.key);
    let renamed = original.renamed(key.as_bytes());
    if renamed.is_some() {
        let text = "samples renamed, since another one of their key stands beside them";
        notices.note("renamed", text, format!("{place} is {key}"), 1);
    } else {
        notices.loss("not_renamed", "samples stored with holes, of whose key there is another one", place, 1, 1);
    }
    renamed
}

/// Whether open_clip reads a sample: a picture and a caption.
fn is_trainable(original: &Original) -> bool {
    let has = |wanted: &[&str]| original.members.iter().any(|(extension, _)| wanted.contains(&extension.as_str()));
    has(&["jpg", "png", "jpeg", "webp"]) && has(&["txt"])
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
