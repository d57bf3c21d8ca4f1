//! The seam behind which bytes come from: open at a byte, read on.
//!
//! Local files and standard input stand here today. A remote store implements [`Store`] and [`ByteSource`] (a range request is
//! `open_at`) and nothing else changes: a reader counts what it got, knows how many bytes were announced, and can open again
//! at the byte it reached.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use trommel_core::wake::locked;

/// Bytes that could not be had: never the data's fault.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("{url}: {error}")]
    Io {
        /// What was opened.
        url: String,
        /// Why it failed.
        error: io::Error,
    },
    /// Standard input was asked for a second time, or from its middle.
    #[error("standard input can be read once, from its start")]
    StdinOnce,
}

/// The bytes of one shard.
pub trait ByteSource: Send {
    /// The bytes from `byte` on.
    ///
    /// # Errors
    /// When they cannot be had.
    fn open_at(&self, byte: u64) -> Result<Box<dyn Read + Send>, StoreError>;

    /// How many bytes there are, where the store announces it.
    fn announced_bytes(&self) -> Option<u64>;
}

/// Where URLs are opened.
pub trait Store: Send + Sync {
    /// The bytes behind `url`, nothing read yet.
    ///
    /// # Errors
    /// When there is no such thing.
    fn open(&self, url: &str) -> Result<Box<dyn ByteSource>, StoreError>;
}

/// Files of this machine, and `-` for standard input.
#[derive(Debug, Default)]
pub struct Local {
    stdin_taken: Arc<AtomicBool>,
}

impl Store for Local {
    fn open(&self, url: &str) -> Result<Box<dyn ByteSource>, StoreError> {
        if url == "-" {
            return Ok(Box::new(Stdin { taken: self.stdin_taken.clone() }));
        }
        let path = local_path(url);
        let io = |error| StoreError::Io { url: url.to_string(), error };
        let metadata = std::fs::metadata(path).map_err(io)?;
        if metadata.is_dir() {
            return Err(io(io::Error::new(io::ErrorKind::IsADirectory, "is a folder")));
        }
        // A named pipe has no size to hold it to.
        let bytes = metadata.is_file().then_some(metadata.len());
        Ok(Box::new(LocalFile { path: path.to_path_buf(), bytes }))
    }
}

/// Opens `url` among the stores this build knows.
///
/// # Errors
/// When there is no such file.
pub fn open(url: &str) -> Result<Box<dyn ByteSource>, StoreError> {
    Local::default().open(url)
}

/// The path that `url` names: itself, or what follows `file:`.
#[must_use]
pub fn local_path(url: &str) -> &Path {
    let rest = url.strip_prefix("file:").unwrap_or(url);
    let rest = if url.len() == rest.len() {
        rest
    } else {
        match rest.strip_prefix("//") {
            // file://host/path: only this machine's names are meant.
            Some(after) => after.strip_prefix("localhost").filter(|path| path.starts_with('/')).unwrap_or(after),
            None => rest,
        }
    };
    Path::new(rest)
}

struct LocalFile {
    path: PathBuf,
    bytes: Option<u64>,
}

impl ByteSource for LocalFile {
    fn open_at(&self, byte: u64) -> Result<Box<dyn Read + Send>, StoreError> {
        let io = |error| StoreError::Io { url: self.path.display().to_string(), error };
        let mut file = File::open(&self.path).map_err(io)?;
        if byte > 0 {
            file.seek(SeekFrom::Start(byte)).map_err(io)?;
        }
        Ok(Box::new(file))
    }

    fn announced_bytes(&self) -> Option<u64> {
        self.bytes
    }
}

struct Stdin {
    taken: Arc<AtomicBool>,
}

impl ByteSource for Stdin {
    fn open_at(&self, byte: u64) -> Result<Box<dyn Read + Send>, StoreError> {
        if byte > 0 || self.taken.swap(true, Ordering::Relaxed) {
            return Err(StoreError::StdinOnce);
        }
        Ok(Box::new(io::stdin()))
    }

    fn announced_bytes(&self) -> Option<u64> {
        None
    }
}

/// What was read through a [`Metered`] reader, and whether the store failed it.
#[derive(Debug, Default)]
pub struct Meter {
    bytes: AtomicU64,
    failure: Mutex<Option<String>>,
}

impl Meter {
    /// Bytes read so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Why the store stopped delivering; `None` while it is the data's own doing.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        locked(&self.failure).clone()
    }

    /// Takes what follows for something that could not be had, and not for the data's own doing.
    pub(super) fn fail(&self, why: String) {
        locked(&self.failure).get_or_insert(why);
    }
}

/// Counts bytes, remembers the store's own failures, and takes an end before the announced size for one.
pub struct Metered {
    inner: Box<dyn Read + Send>,
    announced: Option<u64>,
    meter: Arc<Meter>,
}

impl Metered {
    /// Meters `inner`, from which `announced` bytes are to come.
    #[must_use]
    pub fn new(inner: Box<dyn Read + Send>, announced: Option<u64>) -> (Self, Arc<Meter>) {
        let meter = Arc::new(Meter::default());
        (Self { inner, announced, meter: meter.clone() }, meter)
    }
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(0) if !buffer.is_empty() => {
                let (got, announced) = (self.meter.bytes(), self.announced.unwrap_or(0));
                if got < announced {
                    let why = format!("ended after {got} of {announced} bytes");
                    self.meter.fail(why.clone());
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
                }
                Ok(0)
            }
            Ok(read) => {
                self.meter.bytes.fetch_add(read as u64, Ordering::Relaxed);
                Ok(read)
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::Interrupted {
                    self.meter.fail(error.to_string());
                }
                Err(error)
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn opens_at_a_byte_and_reads_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, b"0123456789").unwrap();
        for url in
            [path.display().to_string(), format!("file:{}", path.display()), format!("file://{}", path.display())]
        {
            let source = open(&url).unwrap();
            assert_eq!(source.announced_bytes(), Some(10));
            let mut text = String::new();
            source.open_at(7).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "789", "{url}");
        }
        assert!(open(&folder.path().display().to_string()).is_err());
        let missing = open("no/such.tar").err().unwrap().to_string();
        assert!(missing.starts_with("no/such.tar: "), "{missing}");
    }

    #[test]
    fn fewer_bytes_than_announced_is_the_stores_failure() {
        let (mut reader, meter) = Metered::new(Box::new(&b"abc"[..]), Some(5));
        assert!(reader.read_to_end(&mut Vec::new()).is_err());
        assert_eq!(meter.bytes(), 3);
        assert_eq!(meter.failure().unwrap(), "ended after 3 of 5 bytes");
        let (mut reader, meter) = Metered::new(Box::new(&b"abc"[..]), None);
        reader.read_to_end(&mut Vec::new()).unwrap();
        assert!(meter.failure().is_none());
    }
}
