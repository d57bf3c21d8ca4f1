//! The seam behind which bytes lie: what is there, and its bytes from any one on.
//!
//! A run has one [`Stores`], made once, which chooses by a URL's scheme. Planning, reading, the statistics beside shards, the pictures of a
//! report and the watch ask it and know no file system. A store answers two questions, [`Store::list`] and [`Store::open`]; all else
//! follows: the reader counts what it got, knows how many bytes were announced, and goes on from the byte it reached.
//!
//! ```
//! use std::io::Read;
//! use trommel_shard::store::{Store, Stores, memory::Memory};
//!
//! let stores = Stores::default().with("mem", Memory::of([("mem://pool/0.tar", b"0123456789")]));
//! let source = stores.open("mem://pool/0.tar").expect("it is there");
//! let mut text = String::new();
//! source.open_at(7).expect("readable").read_to_string(&mut text).expect("text");
//! assert_eq!(text, "789");
//! assert!(stores.open("s3://pool/0.tar").is_err(), "nobody knows this scheme");
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

mod local;
pub mod memory;
mod metered;

pub use self::local::Local;
pub use self::metered::{Meter, Metered};

/// What a build reads: which scheme belongs to which store. A new store is named here and nowhere else.
impl Default for Stores {
    fn default() -> Self {
        Self {
            local: Arc::new(Local::default()),
            others: Arc::default(),
            in_vain: Arc::default(),
            variables: Arc::default(),
        }
    }
}

/// Bytes that could not be had: never the data's fault.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store refused. [`io::ErrorKind::NotFound`] where there is no such thing.
    #[error("{url}")]
    Io {
        /// What was looked for, without credentials.
        url: String,
        /// The system's error.
        #[source]
        error: io::Error,
    },
    /// No store of this build has such URLs.
    #[error("{url}: {scheme}: is not supported in this build yet; copy the shards to a local folder")]
    Scheme {
        /// The URL, without credentials.
        url: String,
        /// The scheme, without its colon.
        scheme: String,
    },
    /// Standard input was asked for a second time, or from its middle.
    #[error("standard input can be read once, from its start")]
    StdinOnce,
}

impl StoreError {
    /// The failure of a store at a URL.
    #[must_use]
    pub fn io(url: &str, error: io::Error) -> Self {
        Self::Io { url: shown(url), error }
    }

    /// That there is nothing at a URL.
    #[must_use]
    pub fn nothing_at(url: &str) -> Self {
        Self::io(url, io::Error::new(io::ErrorKind::NotFound, "there is no such thing"))
    }

    /// Whether nothing is there; nothing can be where a name is too long for its store.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
        matches!(self, Self::Io { error, .. } if matches!(error.kind(), NotFound | NotADirectory | InvalidFilename))
    }

    /// Whether it is there, or may be, and nobody may see it.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Io { error, .. } if error.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Whether another try may succeed.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        use io::ErrorKind::{InvalidData, IsADirectory, PermissionDenied, Unsupported};
        let lasts = |kind| matches!(kind, InvalidData | IsADirectory | PermissionDenied | Unsupported);
        !self.is_nothing() && matches!(self, Self::Io { error, .. } if !lasts(error.kind()))
    }
}

/// What something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Bytes with a size.
    File,
    /// A folder, which holds further names.
    Folder,
    /// Bytes without a size: a named pipe.
    Stream,
    /// A name that leads nowhere, such as a broken link.
    Nothing,
}

/// What tells one content from another where size and time of change do not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Stamp {
    /// A local file's inode and the last change of that (`st_ctime`), nanoseconds since 1970.
    Inode(u64, i64),
    /// A store's own mark, such as an object's ETag.
    Tag(String),
}

/// What a store says of something without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// File, folder, pipe, or nothing at all.
    pub kind: EntryKind,
    /// A file's size in bytes.
    pub bytes: Option<u64>,
    /// Its last change, where the store keeps that.
    pub modified: Option<SystemTime>,
    /// Its mark, where the store has one.
    pub stamp: Option<Stamp>,
}

/// One thing in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its last name, without slashes.
    pub name: String,
    /// Whether `name` is its name; one that is not UTF-8 has replacement characters and cannot be opened.
    pub is_utf8: bool,
    /// File, folder, pipe, or nothing at all.
    pub kind: EntryKind,
    /// What [`Store::look`] would say, where listing says it at no further cost.
    pub seen: Option<FileInfo>,
}

/// How often reading is begun again before the bytes count as unavailable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Tries in a row that give no byte.
    pub tries: u32,
    /// Time before the first of them; it doubles with each.
    pub first_wait: Duration,
}

impl Default for Patience {
    /// Three tries within 0.7 s: what a disk or a mounted file server needs. A reader that is to end waits as long.
    fn default() -> Self {
        Self { tries: 3, first_wait: Duration::from_millis(100) }
    }
}

/// The bytes of one file.
pub trait ByteSource: Send {
    /// The bytes from `byte` on, of the content that was opened: one that has changed since is an error of the kind
    /// [`io::ErrorKind::InvalidData`].
    ///
    /// # Errors
    /// When they cannot be had.
    fn open_at(&self, byte: u64) -> Result<Box<dyn Read + Send>, StoreError>;

    /// How many bytes there are, where the store announces it. Fewer or more that come are the store's failure.
    fn announced_bytes(&self) -> Option<u64>;
}

/// Where URLs are listed and opened.
pub trait Store: Send + Sync {
    /// What lies directly in the folder `url`, which may end with a slash; in any order. A store without folders has nothing in one
    /// that nobody put anything into.
    ///
    /// # Errors
    /// A listing that cannot be had as a whole; no such folder; a store that cannot list ([`io::ErrorKind::Unsupported`]).
    fn list(&self, url: &str) -> Result<Vec<Entry>, StoreError>;

    /// The bytes behind `url`, nothing read yet.
    ///
    /// # Errors
    /// When there is no such thing.
    fn open(&self, url: &str) -> Result<Box<dyn ByteSource>, StoreError>;

    /// What is at `url`.
    ///
    /// # Errors
    /// Nothing is there, or the store does not say.
    fn look(&self, url: &str) -> Result<FileInfo, StoreError> {
        let path = url.trim_end_matches('/');
        let slash = path.rfind('/').map_or(0, |slash| slash + 1);
        let entry = self.list(&path[..slash])?.into_iter().find(|entry| entry.is_utf8 && entry.name == path[slash..]);
        let Entry { kind, seen, .. } = entry.ok_or_else(|| StoreError::nothing_at(url))?;
        Ok(seen.unwrap_or(FileInfo { kind, bytes: None, modified: None, stamp: None }))
    }

    /// Whether a file that was seen may be read. It is asked for each shard at planning: a store to which that would be a journey for
    /// each says nothing and lets the reader find out.
    ///
    /// # Errors
    /// When it may not.
    fn probe(&self, _url: &str) -> Result<(), StoreError> {
        Ok(())
    }

    /// What a variable is that may stand in a URL before it is opened.
    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    /// How often reading `url` is begun again.
    fn patience(&self, _url: &str) -> Patience {
        Patience::default()
    }

    /// Set where the last one to wait has waited in vain, and no byte has come since: nobody else waits then. Thousands of shards on a disk
    /// that is gone would wait for hours, one after the other. `None`: everybody waits.
    fn in_vain(&self) -> Option<Arc<AtomicBool>> {
        None
    }
}

/// The stores of a run, chosen by a URL's scheme. Clones are the same stores.
#[derive(Clone)]
pub struct Stores {
    local: Arc<dyn Store>,
    others: Arc<BTreeMap<String, Arc<dyn Store>>>,
    in_vain: Arc<AtomicBool>,
    variables: Arc<BTreeMap<String, String>>,
}

impl Stores {
    /// The same stores, and one more for the URLs that begin with `scheme` and `://`.
    #[must_use]
    pub fn with(mut self, scheme: &str, store: impl Store + 'static) -> Self {
        Arc::make_mut(&mut self.others).insert(scheme.into(), Arc::new(store));
        self
    }

    /// The same stores, and variables that may stand in URLs.
    #[must_use]
    pub fn with_variables(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.variables = Arc::new(variables.into_iter().collect());
        self
    }

    /// The same stores, with another one for paths, `file:` and `-`.
    #[must_use]
    pub fn with_local(mut self, store: impl Store + 'static) -> Self {
        self.local = Arc::new(store);
        self
    }

    fn of(&self, url: &str) -> Result<&dyn Store, StoreError> {
        match scheme(url) {
            None => Ok(self.local.as_ref()),
            Some(scheme) => match self.others.get(scheme) {
                Some(store) => Ok(store.as_ref()),
                None => Err(StoreError::Scheme { url: shown(url), scheme: scheme.into() }),
            },
        }
    }
}

impl fmt::Debug for Stores {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Stores").field(&self.others.keys()).finish()
    }
}

impl Store for Stores {
    fn list(&self, url: &str) -> Result<Vec<Entry>, StoreError> {
        self.of(url)?.list(url)
    }

    fn open(&self, url: &str) -> Result<Box<dyn ByteSource>, StoreError> {
        self.of(url)?.open(url)
    }

    fn look(&self, url: &str) -> Result<FileInfo, StoreError> {
        self.of(url)?.look(url)
    }

    fn probe(&self, url: &str) -> Result<(), StoreError> {
        self.of(url)?.probe(url)
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn patience(&self, url: &str) -> Patience {
        self.of(url).map_or_else(|_| Patience::default(), |store| store.patience(url))
    }

    fn in_vain(&self) -> Option<Arc<AtomicBool>> {
        Some(self.in_vain.clone())
    }
}

/// The scheme of a URL that is not a local file's.
#[must_use]
pub fn scheme(url: &str) -> Option<&str> {
    let (scheme, _) = url.split_once("://")?;
    let known = scheme.len() > 1 && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    (known && scheme != "file").then_some(scheme)
}

/// The path on this machine that `url` names: itself, or what follows `file:`. `None` for another store's URL.
#[must_use]
pub fn local_path(url: &str) -> Option<&Path> {
    if scheme(url).is_some() {
        return None;
    }
    let Some(rest) = url.strip_prefix("file:") else { return Some(Path::new(url)) };
    Some(Path::new(match rest.strip_prefix("//") {
        // file://host/path: only this machine's names are meant.
        Some(after) => after.strip_prefix("localhost").filter(|path| path.starts_with('/')).unwrap_or(after),
        None => rest,
    }))
}

/// A URL as it may be shown: without credentials and query.
#[must_use]
pub fn shown(url: &str) -> String {
    let Some((scheme, rest)) = scheme(url).and_then(|_| url.split_once("://")) else { return url.into() };
    let host_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let host = rest[..host_end].rfind('@').map_or(0, |at| at + 1);
    let path = rest[host..].split('?').next().unwrap_or_default();
    format!("{scheme}://{path}")
}

/// The stable name of another store's shard: its URL without scheme, credentials and query.
#[must_use]
pub fn remote_name(url: &str) -> String {
    let plain = shown(url);
    plain.split_once("://").map_or(plain.clone(), |(_, rest)| rest.to_string())
}

#[cfg(test)]
pub(crate) mod faulty;
#[cfg(test)]
mod tests;
