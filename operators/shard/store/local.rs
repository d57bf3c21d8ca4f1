//! Files of this machine, and standard input.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use trommel_core::names::STDIN;

use super::{ByteSource, Entry, EntryKind, FileInfo, Stamp, Store, StoreError, local_path};

/// Paths, `file:` URLs, and `-` for standard input.
#[derive(Debug, Default)]
pub struct Local {
    stdin_taken: Arc<AtomicBool>,
}

impl Store for Local {
    fn list(&self, url: &str) -> Result<Vec<Entry>, StoreError> {
        let folder = path_of(url);
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let failed = |error| refused(&folder.display().to_string(), error);
        let entry = |entry: io::Result<std::fs::DirEntry>| -> io::Result<Entry> {
            let entry = entry?;
            let (name, is_utf8) = match entry.file_name().into_string() {
                Ok(name) => (name, true),
                Err(name) => (name.to_string_lossy().into_owned(), false),
            };
            // A file's size takes a call of its own; links are followed.
            let (kind, seen) = match entry.file_type()? {
                kind if kind.is_file() => (EntryKind::File, None),
                kind if kind.is_dir() => (EntryKind::Folder, None),
                _ => {
                    let seen = std::fs::metadata(entry.path()).ok().map(|metadata| FileInfo::from(&metadata));
                    (seen.as_ref().map_or(EntryKind::Nothing, |seen| seen.kind), seen)
                }
            };
            Ok(Entry { name, is_utf8, kind, seen })
        };
        std::fs::read_dir(folder).map_err(failed)?.map(entry).collect::<io::Result<_>>().map_err(failed)
    }

    fn open(&self, url: &str) -> Result<Box<dyn ByteSource>, StoreError> {
        if url == STDIN {
            return Ok(Box::new(Stdin { taken: self.stdin_taken.clone() }));
        }
        let path = path_of(url);
        let seen = self.look(url)?;
        if seen.kind == EntryKind::Folder {
            return Err(StoreError::io(url, io::Error::new(io::ErrorKind::IsADirectory, "is a folder")));
        }
        Ok(Box::new(LocalFile { path: path.to_path_buf(), seen }))
    }

    fn look(&self, url: &str) -> Result<FileInfo, StoreError> {
        std::fs::metadata(path_of(url)).map(|metadata| FileInfo::from(&metadata)).map_err(|error| refused(url, error))
    }

    fn probe(&self, url: &str) -> Result<(), StoreError> {
        File::open(path_of(url)).map(drop).map_err(|error| refused(url, error))
    }
}

/// What the system refuses; a link that leads to itself leads nowhere.
fn refused(url: &str, error: io::Error) -> StoreError {
    let is_loop = error.raw_os_error() == Some(libc::ELOOP);
    StoreError::io(url, if is_loop { io::Error::new(io::ErrorKind::NotFound, error) } else { error })
}

fn path_of(url: &str) -> &Path {
    local_path(url).unwrap_or(Path::new(url))
}

impl From<&Metadata> for FileInfo {
    /// What the system says of a file, with its inode and the last change of that.
    fn from(metadata: &Metadata) -> Self {
        let kind = match metadata {
            _ if metadata.is_file() => EntryKind::File,
            _ if metadata.is_dir() => EntryKind::Folder,
            _ => EntryKind::Stream,
        };
        let changed_ns = metadata.ctime().saturating_mul(1_000_000_000).saturating_add(metadata.ctime_nsec());
        Self {
            kind,
            bytes: (kind == EntryKind::File).then_some(metadata.len()),
            modified: metadata.modified().ok(),
            stamp: Some(Stamp::Inode(metadata.ino(), changed_ns)),
        }
    }
}

struct LocalFile {
    path: PathBuf,
    seen: FileInfo,
}

impl ByteSource for LocalFile {
    fn open_at(&self, byte: u64) -> Result<Box<dyn Read + Send>, StoreError> {
        let failed = |error| StoreError::io(&self.path.display().to_string(), error);
        if byte == 0 {
            return Ok(Box::new(File::open(&self.path).map_err(failed)?));
        }
        // To open a named pipe again would wait for another writer.
        if self.seen.kind != EntryKind::File {
            return Err(failed(io::Error::new(io::ErrorKind::Unsupported, "can be read once, from its start")));
        }
        let mut file = File::open(&self.path).map_err(failed)?;
        if FileInfo::from(&file.metadata().map_err(failed)?) != self.seen {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "has changed since it was opened")));
        }
        file.seek(SeekFrom::Start(byte)).map_err(failed)?;
        Ok(Box::new(file))
    }

    // A named pipe has no size to hold it to.
    fn announced_bytes(&self) -> Option<u64> {
        self.seen.bytes
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
