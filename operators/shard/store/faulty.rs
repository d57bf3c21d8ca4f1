//! A store that fails as networks and disks do, by a script: what is read through it must be right, or said to be unavailable.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use trommel_core::wake::locked;
use trommel_shard::store::{ByteSource, Entry, FileInfo, Patience, Store, StoreError};

/// One kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No folder can be listed.
    NoListing,
    /// Nobody may look at a file, open it or list a folder.
    Denied,
    /// Nothing can be opened.
    NoOpening,
    /// Reading fails at this byte, each time.
    FailsAt(u64),
    /// Reading fails at this byte, the first time that a file is read there.
    FailsOnceAt(u64),
    /// A stream ends at this byte as if there were nothing more, each time.
    EndsAt(u64),
    /// A stream ends so the first time that a file is read there.
    EndsOnceAt(u64),
    /// Reads give no more bytes at once.
    ShortReads(usize),
    /// So many more bytes are announced than there are.
    Announces(i64),
    /// Every read takes so long.
    Slow(Duration),
}

/// Another store with faults, in the files whose URLs end as given. Clones are the same store.
#[derive(Clone)]
pub struct Faulty {
    inner: Arc<dyn Store>,
    script: Arc<Mutex<Script>>,
}

#[derive(Default)]
struct Script {
    faults: Vec<(String, Fault)>,
    /// What has happened and does not happen again: byte by URL.
    happened: BTreeSet<(String, u64)>,
    lists: u64,
    looks: u64,
    opens: u64,
}

/// How often a store was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Folders listed.
    pub lists: u64,
    /// Single files looked at.
    pub looks: u64,
    /// Times that a file was opened.
    pub opens: u64,
}

impl Faulty {
    /// `inner`, with these faults in all files.
    pub fn new(inner: impl Store + 'static, faults: impl IntoIterator<Item = Fault>) -> Self {
        let this = Self { inner: Arc::new(inner), script: Arc::default() };
        faults.into_iter().for_each(|fault| this.add("", fault));
        this
    }

    /// One more fault, in the files (or folders) whose URLs end with `ending`.
    pub fn add(&self, ending: &str, fault: Fault) {
        locked(&self.script).faults.push((ending.into(), fault));
    }

    /// All is well from now on.
    pub fn heal(&self) {
        locked(&self.script).faults.clear();
    }

    /// How often it was asked so far.
    pub fn calls(&self) -> Calls {
        let script = locked(&self.script);
        Calls { lists: script.lists, looks: script.looks, opens: script.opens }
    }

    fn has(&self, url: &str, fault: Fault) -> bool {
        self.faults(url).contains(&fault)
    }

    fn faults(&self, url: &str) -> Vec<Fault> {
        let script = locked(&self.script);
        script.faults.iter().filter(|(ending, _)| url.ends_with(ending.as_str())).map(|(_, fault)| *fault).collect()
    }

    fn happens_first(&self, url: &str, byte: u64) -> bool {
        locked(&self.script).happened.insert((url.to_owned(), byte))
    }
}

fn failure(url: &str) -> StoreError {
    StoreError::io(url, io::Error::other("503 Slow Down"))
}

fn denied(url: &str) -> StoreError {
    StoreError::io(url, io::ErrorKind::PermissionDenied.into())
}

impl Store for Faulty {
    fn list(&self, url: &str) -> Result<Vec<Entry>, StoreError> {
        locked(&self.script).lists += 1;
        if self.has(url, Fault::Denied) {
            return Err(denied(url));
        }
        if self.has(url, Fault::NoListing) { Err(failure(url)) } else { self.inner.list(url) }
    }

    fn open(&self, url: &str) -> Result<Box<dyn ByteSource>, StoreError> {
        locked(&self.script).opens += 1;
        if self.has(url, Fault::Denied) {
            return Err(denied(url));
        }
        if self.has(url, Fault::NoOpening) {
            return Err(failure(url));
        }
        Ok(Box::new(Source { store: self.clone(), url: url.into(), inner: self.inner.open(url)? }))
    }

    fn look(&self, url: &str) -> Result<FileInfo, StoreError> {
        locked(&self.script).looks += 1;
        if self.has(url, Fault::Denied) { Err(denied(url)) } else { self.inner.look(url) }
    }

    fn probe(&self, url: &str) -> Result<(), StoreError> {
        self.inner.probe(url)
    }

    fn patience(&self, _url: &str) -> Patience {
        Patience { tries: 3, first_wait: Duration::ZERO }
    }
}

struct Source {
    store: Faulty,
    url: String,
    inner: Box<dyn ByteSource>,
}

impl ByteSource for Source {
    fn open_at(&self, byte: u64) -> Result<Box<dyn Read + Send>, StoreError> {
        let (store, url, inner) = (self.store.clone(), self.url.clone(), self.inner.open_at(byte)?);
        Ok(Box::new(Stream { store, url, inner, byte }))
    }

    fn announced_bytes(&self) -> Option<u64> {
        let more = self.store.faults(&self.url).into_iter().find_map(|fault| match fault {
            Fault::Announces(more) => Some(more),
            _ => None,
        });
        Some(self.inner.announced_bytes()?.saturating_add_signed(more.unwrap_or(0)))
    }
}

struct Stream {
    store: Faulty,
    url: String,
    inner: Box<dyn Read + Send>,
    /// Position of the next byte in the file.
    byte: u64,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (here, mut most) = (self.byte, buffer.len());
        // Reads end where something is to happen.
        let mut before = |at: u64| most = most.min(usize::try_from(at.saturating_sub(here)).unwrap_or(usize::MAX));
        let fire = || io::Error::other("the disk is on fire");
        for fault in self.store.faults(&self.url) {
            match fault {
                Fault::FailsAt(at) if at <= here => return Err(fire()),
                Fault::EndsAt(at) if at <= here => return Ok(0),
                Fault::FailsOnceAt(at) if at == here && self.store.happens_first(&self.url, at) => return Err(fire()),
                Fault::EndsOnceAt(at) if at == here && self.store.happens_first(&self.url, at) => return Ok(0),
                Fault::FailsAt(at) | Fault::EndsAt(at) => before(at),
                Fault::FailsOnceAt(at) | Fault::EndsOnceAt(at) if at > here => before(at),
                Fault::ShortReads(bytes) => before(here + bytes as u64),
                Fault::Slow(time) => std::thread::sleep(time),
                Fault::FailsOnceAt(_) | Fault::EndsOnceAt(_) => {}
                Fault::NoListing | Fault::Denied | Fault::NoOpening | Fault::Announces(_) => {}
            }
        }
        let read = self.inner.read(&mut buffer[..most])?;
        self.byte += read as u64;
        Ok(read)
    }
}
