//! Samples that nobody may train on, by whatever they are called.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use trommel_core::wake::locked;

/// What a sample is called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Called<'a> {
    /// Its shard's name.
    pub(crate) shard: &'a str,
    /// Key of the sample, as its members are named.
    pub(crate) key: &'a str,
    /// Its uid, URL and sha256.
    pub(crate) others: [&'a Option<String>; 3],
}

impl Called<'_> {
    /// Whether a list has it.
    pub(crate) fn is_in(&self, words: &BTreeSet<String>) -> bool {
        !words.is_empty() && self.words_in(words).next().is_some()
    }

    /// The words of a list that name it: its key, `SHARD/KEY`, uid, URL or sha256.
    pub(crate) fn words_in<'w>(&self, words: &'w BTreeSet<String>) -> impl Iterator<Item = &'w String> {
        let long = || words.get(&format!("{}/{}", self.shard, self.key));
        let others = self.others.into_iter().flatten();
        words.get(self.key).into_iter().chain(long()).chain(others.filter_map(|name| words.get(name)))
    }
}

/// A list that may change while it is used; clones are the same list.
#[derive(Clone, Default)]
pub(crate) struct TakenDown(Arc<Mutex<Arc<BTreeSet<String>>>>);

impl TakenDown {
    /// Replaces the list.
    pub(crate) fn set(&self, words: &Arc<BTreeSet<String>>) {
        *locked(&self.0) = words.clone();
    }

    /// Whether a sample is on it.
    pub(crate) fn has(&self, sample: Called<'_>) -> bool {
        let words = locked(&self.0).clone();
        sample.is_in(&words)
    }
}
