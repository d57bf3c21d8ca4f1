//! One look at a store: a folder is listed once, however many arguments and shards are looked for in it.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::store::{Entry, FileInfo, Store, StoreError, scheme};

/// So many names in one folder are looked up in its listing, where each look would be a journey.
const MANY: usize = 8;

/// What a plan is made from.
pub(crate) struct Look<'a> {
    store: &'a dyn Store,
    listed: RefCell<HashMap<String, Rc<Vec<Entry>>>>,
}

impl<'a> Look<'a> {
    /// A new look at `store`.
    pub(crate) fn at(store: &'a dyn Store) -> Self {
        Self { store, listed: RefCell::default() }
    }

    /// What lies in a folder, by name.
    pub(crate) fn list(&self, folder: &str) -> Result<Rc<Vec<Entry>>, StoreError> {
        let key = with_slash(folder);
        if let Some(entries) = self.listed.borrow().get(&key) {
            return Ok(entries.clone());
        }
        let mut entries = self.store.list(folder)?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let entries = Rc::new(entries);
        self.listed.borrow_mut().insert(key, entries.clone());
        Ok(entries)
    }

    /// What is at a URL.
    pub(crate) fn look(&self, url: &str) -> Result<FileInfo, StoreError> {
        let (folder, name) = url.split_at(folder_of(url).len());
        let listed = self.listed.borrow().get(folder).and_then(|entries| {
            let at = entries.binary_search_by(|entry| entry.name.as_str().cmp(name)).ok()?;
            entries[at].seen.clone()
        });
        listed.map_or_else(|| self.store.look(url), Ok)
    }

    /// What an entry of a folder's list is.
    pub(crate) fn look_closer(&self, url: &str, entry: &Entry) -> Result<FileInfo, StoreError> {
        entry.seen.clone().map_or_else(|| self.store.look(url), Ok)
    }

    /// Lists the folders of which many names will be looked at. What cannot be listed is asked for one by one.
    pub(crate) fn prepare(&self, urls: &[String]) {
        if urls.len() > MANY && scheme(&urls[0]).is_some() {
            for folder in urls.iter().map(|url| folder_of(url)).collect::<HashSet<_>>() {
                _ = self.list(folder);
            }
        }
    }

    /// Whether a file may be read.
    pub(crate) fn probe(&self, url: &str) -> Result<(), StoreError> {
        self.store.probe(url)
    }

    /// The store itself.
    pub(crate) const fn store(&self) -> &'a dyn Store {
        self.store
    }
}

/// A URL up to its last slash, that included; nothing for a name alone.
pub(crate) fn folder_of(url: &str) -> &str {
    &url[..url.rfind('/').map_or(0, |slash| slash + 1)]
}

/// A folder's URL as names are put behind it.
pub(crate) fn with_slash(folder: &str) -> String {
    if folder.is_empty() || folder.ends_with('/') { folder.to_owned() } else { format!("{folder}/") }
}
