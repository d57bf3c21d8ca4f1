//! A store in memory: a second one beside the local one, in one file and one line where it is registered. Tests put their shards here.
//!
//! It has no folders, as object stores have none: a name with a slash in it makes what stands before the slash look like one.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::sync::{Arc, Mutex};

use trommel_core::wake::locked;

use super::{ByteSource, Entry, EntryKind, FileInfo, Stamp, Store, StoreError};

/// Files by their URLs. Clones are the same store.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    files: Arc<Mutex<BTreeMap<String, Object>>>,
}

#[derive(Clone, Debug)]
struct Object {
    bytes: Arc<[u8]>,
    /// How many files were put before.
    version: u64,
}

impl Memory {
    /// A store with these files.
    #[must_use]
    pub fn of<U: Into<String>, B: AsRef<[u8]>>(files: impl IntoIterator<Item = (U, B)>) -> Self {
        let this = Self::default();
        files.into_iter().for_each(|(url, bytes)| this.put(url, bytes));
        this
    }

    /// Puts a file, or other bytes in its place.
    pub fn put(&self, url: impl Into<String>, bytes: impl AsRef<[u8]>) {
        let mut files = locked(&self.files);
        let version = files.values().map(|object| object.version + 1).max().unwrap_or(0);
        files.insert(url.into(), Object { bytes: bytes.as_ref().into(), version });
    }

    /// Takes a file away.
    pub fn remove(&self, url: &str) {
        locked(&self.files).remove(url);
    }

    fn object(&self, url: &str) -> Result<Object, StoreError> {
        locked(&self.files).get(url).cloned().ok_or_else(|| StoreError::nothing_at(url))
    }
}

fn seen(object: &Object) -> FileInfo {
    let stamp = Some(Stamp::Tag(object.version.to_string()));
    FileInfo { kind: EntryKind::File, bytes: Some(object.bytes.len() as u64), modified: None, stamp }
}

impl Store for Memory {
    fn list(&self, url: &str) -> Result<Vec<Entry>, StoreError> {
        let folder = if url.is_empty() || url.ends_with('/') { url.to_owned() } else { format!("{url}/") };
        let files = locked(&self.files);
        let mut entries = BTreeMap::new();
        for (url, object) in files.iter() {
            let Some(rest) = url.strip_prefix(&folder) else { continue };
            let (name, kind, seen) = match rest.split_once('/') {
                Some((name, _)) => (name, EntryKind::Folder, None),
                None => (rest, EntryKind::File, Some(seen(object))),
            };
            entries.insert(name.to_owned(), Entry { name: name.to_owned(), is_utf8: true, kind, seen });
        }
        Ok(entries.into_values().collect())
    }

    fn open(&self, url: &str) -> Result<Box<dyn ByteSource>, StoreError> {
        Ok(Box::new(self.object(url)?))
    }
}

impl ByteSource for Object {
    fn open_at(&self, byte: u64) -> Result<Box<dyn Read + Send>, StoreError> {
        let mut bytes = Cursor::new(self.bytes.clone());
        bytes.set_position(byte);
        Ok(Box::new(bytes))
    }

    fn announced_bytes(&self) -> Option<u64> {
        Some(self.bytes.len() as u64)
    }
}
