//! A shard that Python iterates over. Reading lets other threads of Python run.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use trommel_core::notices::Notices;
use trommel_core::sample::{Reason, SampleInfo, ShardOutcome};
use trommel_core::wake::locked;
use trommel_select::SelectError;
use trommel_select::membership::Picker;
use trommel_shard::original::{Groups, Visited};
use trommel_shard::plan::ShardRef;
use trommel_shard::reader::ReaderConfig;
use trommel_shard::samples::{Group, GroupConfig, Original, Want};
use trommel_shard::store::Store;

use crate::signals::raised;
use crate::split::{Split, of_split};
use crate::{Notice, STORES, listed};

/// One shard's samples, as dicts: all, or those that a split keeps. What cannot be read ends it: how it ended, `end()` says.
#[pyclass(frozen, module = "trommel._trommel")]
pub struct Shard {
    url: Py<PyString>,
    reading: Mutex<Reading>,
    given: AtomicU64,
}

#[pymethods]
impl Shard {
    #[new]
    #[pyo3(signature = (ordinal, name, url, bytes, split=None))]
    fn new(
        py: Python<'_>,
        ordinal: u64,
        name: String,
        url: String,
        bytes: Option<u64>,
        split: Option<Bound<'_, Split>>,
    ) -> PyResult<Self> {
        let (shard, split) = (ShardRef { ordinal, name, url: url.clone(), bytes }, split.as_ref().map(Bound::get));
        let reading = py.detach(|| Reading::open(&shard, split));
        raised()?;
        let reading = reading.map_err(of_split)?;
        Ok(Self { url: PyString::new(py, &url).unbind(), reading: Mutex::new(reading), given: AtomicU64::new(0) })
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    /// As webdataset makes it: a key that is no UTF-8 keeps its bytes as Python's file names do.
    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let next = py.detach(|| locked(&self.reading).next_sample());
        raised()?;
        let next = next.map_err(of_split)?;
        let Some(original) = next else { return Ok(None) };
        let dict = PyDict::new(py);
        dict.set_item(intern!(py, "__key__"), OsStr::from_bytes(&original.key))?;
        dict.set_item(intern!(py, "__url__"), &self.url)?;
        for (extension, data) in original.contents() {
            dict.set_item(extension, PyBytes::new(py, data))?;
        }
        self.given.fetch_add(1, Ordering::Relaxed);
        Ok(Some(dict))
    }

    /// Samples that were given so far.
    fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }

    /// Why the shard failed, if it did, in one word and in one line; and what was found in it.
    fn end(&self) -> (Option<&'static str>, String, Vec<Notice>) {
        let (outcome, notices) = locked(&self.reading).end();
        let (word, why) = match outcome {
            ShardOutcome::Unavailable(why) => (Some("unavailable"), why),
            ShardOutcome::Changed(why) => (Some("changed"), why),
            ShardOutcome::Rejected(_) | ShardOutcome::Complete(_) => {
                (notices.any_loss().then_some("damaged"), losses(&notices))
            }
        };
        (word, why, listed(&notices))
    }
}

/// The lines of what was lost.
fn losses(notices: &Notices) -> String {
    let mut losses = Notices::default();
    for (code, notice) in notices.iter().filter(|(_, notice)| notice.loss) {
        losses.loss(code, &notice.text, notice.first.clone(), notice.count, notice.lost_samples);
    }
    losses.lines().collect::<Vec<_>>().join("; ")
}

enum Reading {
    Open(Box<Open>),
    Ended(ShardOutcome, Notices),
}

struct Open {
    name: String,
    groups: Groups,
    picker: Option<Picker<'static>>,
    /// Samples that were wanted and cannot be given.
    rejects: Notices,
    /// How the shard ended, once it was read to its end.
    ended: Option<(ShardOutcome, Notices)>,
}

impl Reading {
    fn open(shard: &ShardRef, split: Option<&Split>) -> Result<Self, SelectError> {
        let (picker, config) = match split {
            None => (None, config()),
            Some(split) => {
                let membership = locked(&split.membership);
                let picker = membership
                    .shard(&shard.name)?
                    .map(|kept| Picker::owning(split.path.clone(), shard.name.clone(), kept).noting(split.met.clone()));
                match picker.filter(|picker| !picker.is_done()) {
                    Some(picker) => (Some(picker), split.config.clone()),
                    // Nothing of it is kept: it is not even opened.
                    None => {
                        let mut notices = Notices::default();
                        membership.note_unread(&shard.name, &mut notices)?;
                        return Ok(Self::Ended(ShardOutcome::Complete(None), notices));
                    }
                }
            }
        };
        Ok(match Groups::open(&*STORES, shard, &config) {
            Ok(groups) => {
                let (name, rejects) = (shard.name.clone(), Notices::default());
                Self::Open(Box::new(Open { name, groups, picker, rejects, ended: None }))
            }
            Err(Visited { outcome, is_cut, notices, .. }) => {
                let mut notices = match &picker {
                    Some(picker) => picker.ended(&outcome, is_cut, notices)?,
                    None => notices,
                };
                not_had(&mut notices, &shard.name, &outcome, picker.as_ref());
                Self::Ended(outcome, notices)
            }
        })
    }

    fn next_sample(&mut self) -> Result<Option<Original>, SelectError> {
        let Self::Open(open) = self else { return Ok(None) };
        match open.next_sample() {
            Err(SelectError::Changed(why)) => {
                let ((_, mut notices), outcome) = (open.left(), ShardOutcome::Changed(why));
                not_had(&mut notices, &open.name, &outcome, open.picker.as_ref());
                *self = Self::Ended(outcome, notices);
                Ok(None)
            }
            Ok(None) => {
                let (outcome, notices) = open.ended.take().unwrap_or_else(|| open.left());
                *self = Self::Ended(outcome, notices);
                Ok(None)
            }
            next => next,
        }
    }

    fn end(&self) -> (ShardOutcome, Notices) {
        match self {
            Self::Open(open) => open.left(),
            Self::Ended(outcome, notices) => (outcome.clone(), notices.clone()),
        }
    }
}

impl Open {
    /// Whether nothing behind what was read can be wanted.
    fn is_done(&self) -> bool {
        self.picker.as_ref().is_some_and(Picker::is_done)
    }

    fn next_sample(&mut self) -> Result<Option<Original>, SelectError> {
        let by_uid = self.picker.as_ref().is_some_and(Picker::needs_uids);
        while !self.is_done() {
            let (picker, mut failed) = (&mut self.picker, None);
            let group = self.groups.next_group(&mut |index, name| {
                let kept = match picker {
                    Some(picker) if !by_uid => picker.keeps(index, &String::from_utf8_lossy(name), || None),
                    _ => Ok(true),
                };
                if !kept.unwrap_or_else(|error| failed.replace(error).is_some()) {
                    return Want::Place;
                }
                Want::Original { identity: by_uid }
            });
            if let Some(error) = failed {
                return Err(error);
            }
            match group {
                Some(Group::Original(info, original)) => {
                    if !self.keeps(&info, by_uid)? {
                        continue;
                    }
                    match ungiven(&original) {
                        None => return Ok(Some(original)),
                        Some(reason) => self.reject(&info, &reason),
                    }
                }
                // A reject whose uid nobody knows may be one that the split keeps.
                Some(Group::Rejected(info, reason)) => {
                    if info.uid.is_none() || self.keeps(&info, by_uid)? {
                        self.reject(&info, &reason);
                    }
                }
                Some(Group::Place(_) | Group::Sample(_)) => {}
                None => {
                    let (picker, store): (_, &dyn Store) = (self.picker.as_ref(), &*STORES);
                    let counts = picker.is_some_and(Picker::counts);
                    let Visited { outcome, is_cut, notices, .. } = self.groups.end((!counts).then_some(store), false);
                    let mut notices = match picker {
                        Some(picker) => picker.ended(&outcome, is_cut, notices)?,
                        None => notices,
                    };
                    notices.merge(&self.rejects);
                    not_had(&mut notices, &self.name, &outcome, picker);
                    self.ended = Some((outcome, notices));
                    break;
                }
            }
        }
        Ok(None)
    }

    /// Whether a sample is kept that had to be read to know that.
    fn keeps(&mut self, info: &Arc<SampleInfo>, by_uid: bool) -> Result<bool, SelectError> {
        match &mut self.picker {
            Some(picker) if by_uid => picker.keeps(info.id.index, &info.key, || info.uid.clone()),
            _ => Ok(true),
        }
    }

    fn reject(&mut self, info: &SampleInfo, Reason { code, detail }: &Reason) {
        let place = format!("{}/{}: {detail}", self.name, info.key);
        self.rejects.loss(&format!("sample_{code}"), &format!("samples rejected ({code})"), place, 1, 1);
    }

    /// What is known of it where it is left early.
    fn left(&self) -> (ShardOutcome, Notices) {
        let Visited { outcome, mut notices, .. } = self.groups.end(None, true);
        notices.merge(&self.rejects);
        (outcome, notices)
    }
}

/// Counts a shard that is not read to its end, with the samples that its split misses by it. Whoever reads on has lost them.
fn not_had(notices: &mut Notices, shard: &str, outcome: &ShardOutcome, picker: Option<&Picker<'_>>) {
    let (code, text, why) = match outcome {
        ShardOutcome::Unavailable(why) => ("shard_unavailable", "shards that could not be had", why),
        ShardOutcome::Changed(why) => ("shard_changed", "shards that have changed", why),
        ShardOutcome::Rejected(_) | ShardOutcome::Complete(_) => return,
    };
    // Both say themselves which shard it is, by its name or by its URL.
    let place = if why.contains(shard) { why.clone() } else { format!("{shard}: {why}") };
    notices.loss(code, text, place, 1, picker.map_or(0, Picker::missing));
}

/// Why a sample cannot stand in a dict.
fn ungiven(original: &Original) -> Option<Reason> {
    // What webdataset puts beside the members.
    const RESERVED: [&str; 2] = ["__key__", "__url__"];
    if original.is_sparse {
        return Some(Reason::new("sparse_member", "a member is stored with holes"));
    }
    let (name, _) = original.contents().find(|(extension, _)| RESERVED.contains(extension))?;
    Some(Reason::new("reserved_member", format_args!("a member is called {name}")))
}

/// Samples may have more members than those that are judged: frames of a film.
fn config() -> ReaderConfig {
    let group = GroupConfig { max_members: 4096, max_extension_bytes: 1 << 20, ..GroupConfig::default() };
    ReaderConfig { group, ..ReaderConfig::default() }
}
