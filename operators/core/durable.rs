//! Saves that last: a file is seen under its name when all of it is on the disk, and its name is there too.
//!
//! Synced bytes under a name that is lost with the power are lost as well. What goes through the ledger's storage, step by step, so
//! that crash points can stand between the steps, does the same.
//!
//! ```
//! use std::io::Write;
//! use trommel_core::durable::{Aside, make_folder};
//!
//! let folder = tempfile::tempdir()?;
//! let place = folder.path().join("made/for/it");
//! make_folder(&place)?;
//! let mut file = Aside::create(&place.join("result"))?;
//! file.write_all(b"all of it")?;
//! assert!(!place.join("result").exists());
//! file.commit()?;
//! assert_eq!(std::fs::read(place.join("result"))?, b"all of it");
//! # Ok::<(), std::io::Error>(())
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The folder that a path stands in.
#[must_use]
pub fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the names in a folder durable.
///
/// # Errors
/// What the file system says.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes a folder and those above it, durably; no error if it is there.
///
/// # Errors
/// What the file system says.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    make_missing(folder, &mut Vec::new())
}

/// The same; adds the folders that were not there to `made`, the innermost first, where it fails half-way too.
pub(crate) fn make_missing(folder: &Path, made: &mut Vec<PathBuf>) -> io::Result<()> {
    let is_missing = |above: &&Path| !above.as_os_str().is_empty() && !above.exists();
    let missing: Vec<&Path> = folder.ancestors().take_while(is_missing).collect();
    for above in missing.into_iter().rev() {
        match std::fs::create_dir(above) {
            Ok(()) => made.insert(0, above.to_path_buf()),
            // Somebody else has made it by now.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && above.is_dir() => {}
            Err(error) => return Err(error),
        }
        // A folder whose own name is lost takes all that was synced in it along.
        sync_folder(parent(above))?;
    }
    // What stands there may be no folder.
    std::fs::create_dir_all(folder)
}

/// Gives a file, link or folder that is durable another name in the same folder, durably, in place of what stood there.
///
/// # Errors
/// What the file system says.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    sync_folder(parent(to))
}

/// Removes a file, durably; no error if it is not there.
///
/// # Errors
/// What the file system says.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.and_then(|()| sync_folder(parent(path))),
    }
}

/// Writes a whole file.
///
/// # Errors
/// What the file system says; what stood under the name is then untouched.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = Aside::create(path)?;
    file.write_all(bytes)?;
    file.commit()
}

/// A file that has its name from [`commit`](Self::commit) on, and is removed if it never comes to that.
#[derive(Debug)]
pub struct Aside {
    file: File,
    aside: PathBuf,
    path: PathBuf,
}

impl Aside {
    /// Begins what is to be `path`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".{}.tmp", std::process::id()));
        let aside = PathBuf::from(aside);
        Ok(Self { file: File::create(&aside)?, aside, path: path.to_path_buf() })
    }

    /// Brings its bytes to the disk, then gives it its name, in place of what stood there, then brings that to the disk.
    ///
    /// # Errors
    /// What the file system says; what stood under the name is then untouched, or its last change may not last.
    pub fn commit(self) -> io::Result<()> {
        self.file.sync_all()?;
        rename(&self.aside, &self.path)
    }
}

impl Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // After a commit there is nothing left under this name.
        let _ = std::fs::remove_file(&self.aside);
    }
}

/// What was read of a path; `None` where nothing is there.
///
/// # Errors
/// What kept it from being read, but for its absence.
pub fn if_there<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_save_that_fails_leaves_what_was_there_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result");
        write(&path, b"first").unwrap();
        let mut second = Aside::create(&path).unwrap();
        second.write_all(b"half of the sec").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        drop(second);
        write(&path, b"third").unwrap();
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!((names, std::fs::read(&path).unwrap()), (vec!["result".into()], b"third".to_vec()));
        let error = write(&folder.path().join("no/such/folder"), b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
