//! The seam to durable storage: every byte of a run folder passes through [`Storage`], step by step, so that a test can
//! stop between any two steps.
//!
//! A step is one call. Nothing is durable before it is synced: a file's bytes by [`Output::sync`], a name made,
//! renamed or removed by [`Storage::sync_dir`] of its folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use trommel_columnar::ReadSeek;
use trommel_core::durable;

/// An open file to write to.
pub trait Output: Write + Send {
    /// Makes all bytes written so far durable.
    ///
    /// # Errors
    /// What the file system says.
    fn sync(&mut self) -> io::Result<()>;
}

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// By one holder alone.
    Exclusive,
    /// Beside other shared holders.
    Shared,
}

/// A held lock; dropping it lets go. The system lets go of it too when the process ends, however it ends.
pub trait Lock: Send + Sync {}

/// Durable storage, one call a step.
pub trait Storage: Send + Sync {
    /// Makes a folder and those above it, durably; no error if it is there.
    ///
    /// # Errors
    /// What the file system says.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes a file, or empties the one that is there.
    ///
    /// # Errors
    /// What the file system says.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>>;
    /// Makes a file; `AlreadyExists` if it is there.
    ///
    /// # Errors
    /// What the file system says.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Output>>;
    /// Opens a file to write at its end.
    ///
    /// # Errors
    /// What the file system says.
    fn append(&self, path: &Path) -> io::Result<Box<dyn Output>>;
    /// Cuts a file to `bytes` and makes that durable.
    ///
    /// # Errors
    /// What the file system says.
    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()>;
    /// Gives a file another name, in place of what stood there.
    ///
    /// # Errors
    /// What the file system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name, which nothing may have yet.
    ///
    /// # Errors
    /// What the file system says: that it has no links, that the name lies in another file system, that it is taken.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// What the file system says.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// What the file system says.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Reads a whole file.
    ///
    /// # Errors
    /// What the file system says.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// A file to read from.
    ///
    /// # Errors
    /// What the file system says.
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadSeek>>;
    /// Bytes of a file; `NotFound` if there is none.
    ///
    /// # Errors
    /// What the file system says.
    fn len(&self, path: &Path) -> io::Result<u64>;
    /// Names of the files in a folder, sorted.
    ///
    /// # Errors
    /// What the file system says.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Takes a lock on a file, which is made if it is not there; `None` if somebody holds it.
    ///
    /// # Errors
    /// What the file system says.
    fn try_lock(&self, path: &Path, kind: LockKind) -> io::Result<Option<Box<dyn Lock>>>;
}

/// The real file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

struct DiskFile(File);

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Output for DiskFile {
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }
}

struct DiskLock {
    _file: File,
}
impl Lock for DiskLock {}

impl Storage for Disk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        durable::make_folder(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        Ok(Box::new(DiskFile(File::create(path)?)))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        Ok(Box::new(DiskFile(File::create_new(path)?)))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        Ok(Box::new(DiskFile(OpenOptions::new().append(true).open(path)?)))
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        durable::sync_folder(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadSeek>> {
        Ok(Box::new(io::BufReader::with_capacity(1 << 18, File::open(path)?)))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(std::fs::metadata(path)?.len())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn try_lock(&self, path: &Path, kind: LockKind) -> io::Result<Option<Box<dyn Lock>>> {
        // Never empties the file: a manifest is its own lock.
        let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let taken = match kind {
            LockKind::Exclusive => file.try_lock(),
            LockKind::Shared => file.try_lock_shared(),
        };
        match taken {
            Ok(()) => Ok(Some(Box::new(DiskLock { _file: file }))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }
}

/// The folder above a path of a run folder.
pub fn parent(path: &Path) -> PathBuf {
    durable::parent(path).to_path_buf()
}

/// Where a file stands until it is whole.
pub(crate) fn aside_of(path: &Path) -> PathBuf {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".tmp");
    PathBuf::from(aside)
}

/// Writes a file so that it is seen under its name only when its bytes are durable. The name is, once its folder is synced.
fn put(storage: &dyn Storage, path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let aside = aside_of(path);
    let mut file = storage.create(&aside)?;
    fill(&mut file)?;
    file.sync()?;
    drop(file);
    storage.rename(&aside, path)
}

/// Writes a whole small file so that it is seen under its name only when it is durable.
///
/// # Errors
/// What the storage says.
pub fn write_whole(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> io::Result<()> {
    put(storage, path, |file| file.write_all(bytes))?;
    storage.sync_dir(&parent(path))
}

/// Shows a durable file under a second name, in place of what stands there: a link, or a copy where there can be none.
/// Its bytes are durable when this returns; the name is, once its folder is synced.
///
/// # Errors
/// What the storage says; what stood under the name is then untouched, and so is `from` in any case.
pub fn link_or_copy(storage: &dyn Storage, from: &Path, to: &Path) -> io::Result<()> {
    // A name that is taken may be a link to `from` itself: it is replaced by another file, never written into.
    storage.link(from, to).or_else(|_no_link| {
        let mut bytes = storage.open(from)?;
        put(storage, to, |file| io::copy(&mut bytes, file).map(drop))
    })
}
