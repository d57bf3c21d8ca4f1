//! One shard's samples, as they come, compared with what a split says of the shard.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use trommel_core::wake::locked;

use super::Kept;
use crate::SelectError;
use crate::met::Met;
use crate::uids;

/// Compares a shard's samples, which come in the order of their indices, with what a split says.
#[derive(Debug)]
pub struct Picker<'a> {
    split: Cow<'a, Path>,
    shard: Cow<'a, str>,
    kept: Cow<'a, Kept>,
    /// The next kept row, or the number of keys found.
    next: usize,
    found: HashSet<String>,
    /// Places of the keys that came, of this shard, and of those before where they are told.
    places: HashSet<u64>,
    met: Option<Arc<Mutex<Met>>>,
    /// A key alone that `met` has from another shard is refused.
    refuses_again: bool,
    /// Samples before this index were told to `met` by an earlier turn.
    first: u32,
    repeated_uids: u64,
    repeated_keys: u64,
}

impl<'a> Picker<'a> {
    /// Compares the samples of `shard`.
    #[must_use]
    pub fn new(split: &'a Path, shard: &'a str, kept: &'a Kept) -> Self {
        Self::with(Cow::Borrowed(split), Cow::Borrowed(shard), Cow::Borrowed(kept))
    }

    fn with(split: Cow<'a, Path>, shard: Cow<'a, str>, kept: Cow<'a, Kept>) -> Self {
        let (found, places) = Default::default();
        let (met, refuses_again, repeated_uids, repeated_keys) = (None, false, 0, 0);
        Self { split, shard, kept, next: 0, found, places, met, refuses_again, first: 0, repeated_uids, repeated_keys }
    }

    /// Notes which names have come. Keys that stood in shards before this one too are refused: of keys alone, who reads them is told all.
    #[must_use]
    pub fn after(self, met: Option<Arc<Mutex<Met>>>) -> Self {
        Self { met, refuses_again: true, ..self }
    }

    /// Notes which names have come, where a key that stood in a shard before is no more than counted: of several who share the shards each knows its
    /// own, and none would see a key of two who read one shard each.
    #[must_use]
    pub fn noting(self, met: Option<Arc<Mutex<Met>>>) -> Self {
        Self { met, refuses_again: false, ..self }
    }

    /// The same, where an earlier turn has noted the samples before an index.
    #[must_use]
    pub fn resumed_at(self, first: u32) -> Self {
        Self { first, ..self }
    }

    /// The same, for who holds the shard no longer than this.
    #[must_use]
    pub fn owning(split: PathBuf, shard: String, kept: Kept) -> Picker<'static> {
        Picker::with(Cow::Owned(split), Cow::Owned(shard), Cow::Owned(kept))
    }

    /// Whether a sample's uid must be known before it can be compared.
    #[must_use]
    pub fn needs_uids(&self) -> bool {
        matches!(self.kept.as_ref(), Kept::Uids(_))
    }

    /// Whether the next sample is kept; `uid` is asked for where the split needs uids.
    ///
    /// # Errors
    /// Another key than the split's at this index, or a uid that is missing or none.
    pub fn keeps(&mut self, index: u32, key: &str, uid: impl FnOnce() -> Option<String>) -> Result<bool, SelectError> {
        match self.kept.as_ref() {
            Kept::Rows(rows) => match rows.get(self.next) {
                Some(row) if row.index == index && row.key == key => {
                    self.next += 1;
                    Ok(true)
                }
                Some(row) if row.index <= index => Err(self.changed(format!(
                    "its sample {index} is `{key}`, and the split keeps `{}` as sample {}",
                    row.key, row.index
                ))),
                Some(_) | None => Ok(false),
            },
            Kept::Keys(keys) => Ok(keys.get(key).is_some_and(|key| {
                self.found.insert(key.clone());
                true
            })),
            Kept::Uids(list) => {
                let bad = |what: String| {
                    let (split, shard) = (self.split.display(), &self.shard);
                    SelectError::Input(format!("{split} is a list of uids, and sample {shard}/{key} {what}"))
                };
                let uid = uid().ok_or_else(|| bad("has none".into()))?;
                let number = uids::parse(&uid).ok_or_else(|| bad(format!("has the uid `{uid}`")))?;
                let places = list.places(number)?;
                self.repeated_uids += u64::from(places.end - places.start > 1);
                if let Some(met) = self.met.as_ref().filter(|_| !places.is_empty()) {
                    locked(met).first(places.start);
                }
                Ok(!places.is_empty())
            }
            Kept::KeysAlone(list) => {
                let Some(place) = list.place(key)? else { return Ok(false) };
                let before = self.met.as_ref().is_some_and(|met| !locked(met).first(place)) && index >= self.first;
                if self.places.insert(place) && !(before && self.refuses_again) {
                    self.repeated_keys += u64::from(before);
                    return Ok(true);
                }
                Err(SelectError::Input(format!(
                    "{}/{key}: another sample of this key came before, and {} says nothing but keys: it does not tell them apart",
                    self.shard,
                    self.split.display()
                )))
            }
        }
    }

    /// Whether no sample behind those that came can be kept.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match self.kept.as_ref() {
            Kept::Rows(rows) => self.next >= rows.len(),
            Kept::Keys(_) | Kept::Uids(_) | Kept::KeysAlone(_) => false,
        }
    }

    /// Kept samples that did not come; of uids nobody knows.
    #[must_use]
    pub fn missing(&self) -> u64 {
        match self.kept.as_ref() {
            Kept::Rows(rows) => rows.len().saturating_sub(self.next) as u64,
            Kept::Keys(keys) => keys.len().saturating_sub(self.found.len()) as u64,
            Kept::Uids(_) | Kept::KeysAlone(_) => 0,
        }
    }

    /// The shard has ended.
    ///
    /// # Errors
    /// Kept samples that did not come.
    pub fn finish(&self) -> Result<(), SelectError> {
        match self.kept.as_ref() {
            Kept::Rows(rows) => match rows.get(self.next) {
                None => Ok(()),
                Some(row) => Err(self
                    .changed(format!("it ends before `{}`, which the split keeps as sample {}", row.key, row.index))),
            },
            Kept::Keys(keys) => match keys.iter().filter(|key| !self.found.contains(key.as_str())).min() {
                None => Ok(()),
                Some(key) => Err(self.changed(format!(
                    "{} keys that the split keeps are not in it (first: `{key}`)",
                    keys.len() - self.found.len()
                ))),
            },
            Kept::Uids(_) | Kept::KeysAlone(_) => Ok(()),
        }
    }

    /// Samples whose uid stands in the list more than once.
    #[must_use]
    pub const fn repeated_uids(&self) -> u64 {
        self.repeated_uids
    }

    /// Samples that were kept by a key alone which has come before.
    pub(super) const fn repeated_keys(&self) -> u64 {
        self.repeated_keys
    }

    /// Whether it knows how many samples are due, and so misses those that do not come: no shard's statistics know better.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.kept.count().is_some()
    }

    /// Name of the shard.
    pub(super) fn shard(&self) -> &str {
        &self.shard
    }

    fn changed(&self, what: String) -> SelectError {
        SelectError::Changed(format!(
            "{}: {what}: it is not the shard that {} was made from",
            self.shard,
            self.split.display()
        ))
    }
}
