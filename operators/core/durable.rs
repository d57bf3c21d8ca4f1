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

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
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

/// Removes a folder with all that is in it; no error if it is not there. First it bears the name `aside`, beside its own, and nothing is deleted
/// before that lasts: neither a kill nor a power cut leaves a part of it under a name that says it is whole. What such an end has left under `aside`
/// goes too.
///
/// # Errors
/// What the file system says.
pub fn remove_folder(folder: &Path, aside: &Path) -> io::Result<()> {
    // Under the other name a file would stand in the way of all that come later.
    if if_there(std::fs::symlink_metadata(folder))?.is_some_and(|there| !there.is_dir()) {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    if_there(std::fs::remove_dir_all(aside))?;
    if_there(rename(folder, aside))?;
    if_there(std::fs::remove_dir_all(aside)).map(drop)
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
    has_its_name: bool,
}

impl Aside {
    /// Begins what is to be `path`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(path: &Path) -> io::Result<Self> {
        for at in 0.. {
            let mut aside = path.as_os_str().to_owned();
            aside.push(if at == 0 { ".tmp".to_owned() } else { format!(".{at}.tmp") });
            let aside = PathBuf::from(aside);
            if let Some(file) = claimed(&aside)? {
                return Ok(Self { file, aside, path: path.to_path_buf(), has_its_name: false });
            }
        }
        unreachable!("one of so many names is free")
    }

    /// Brings its bytes to the disk. Who has several files to show does it with all of them before the first has its name.
    ///
    /// # Errors
    /// What the file system says; a folder that bears the name.
    pub fn make_ready(&self) -> io::Result<()> {
        if self.path.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.file.sync_all()
    }

    /// Brings its bytes to the disk, then gives it its name, in place of what stood there, then brings that to the disk.
    ///
    /// # Errors
    /// What the file system says; what stood under the name is then untouched, or its last change may not last.
    pub fn commit(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.aside, &self.path)?;
        self.has_its_name = true;
        sync_folder(parent(&self.path))
    }
}

/// An empty file under this name that nobody else writes; `None` where somebody does, be it on another machine. What a kill has left of another is taken over, so
/// that leftovers do not gather.
fn claimed(aside: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(aside)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        // A file system without locks: the one who writes there has to be alone.
        Err(TryLockError::Error(_)) => {}
    }
    // Whoever had the lock may have given the file its name meanwhile.
    let there = if_there(std::fs::metadata(aside))?.map(|there| (there.dev(), there.ino()));
    let ours = file.metadata()?;
    if there != Some((ours.dev(), ours.ino())) {
        return claimed(aside);
    }
    file.set_len(0)?;
    Ok(Some(file))
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
        // What bears the other name after a commit is somebody else's.
        if !self.has_its_name {
            let _ = std::fs::remove_file(&self.aside);
        }
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

    /// As processes do that have the same number, in containers or on machines of their own.
    #[test]
    fn two_who_save_the_same_do_not_meet_and_leftovers_are_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result");
        std::fs::write(folder.path().join("result.tmp"), "half of what a kill has left, longer than all that follows")
            .unwrap();
        let (mut one, mut other) = (Aside::create(&path).unwrap(), Aside::create(&path).unwrap());
        one.write_all(b"one").unwrap();
        other.write_all(b"other").unwrap();
        one.commit().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        let third = Aside::create(&path).unwrap();
        other.commit().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"other");
        drop(third);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        std::thread::scope(|scope| {
            for byte in 0..8u8 {
                let path = &path;
                scope
                    .spawn(move || (0..50).for_each(|_| write(path, &vec![byte; 10_000 + usize::from(byte)]).unwrap()));
            }
        });
        let left = std::fs::read(&path).unwrap();
        assert!(left.len() == 10_000 + usize::from(left[0]) && left.iter().all(|byte| *byte == left[0]));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_goes_as_a_whole_with_what_is_left_of_another() {
        let root = tempfile::tempdir().unwrap();
        let (folder, aside) = (root.path().join("run"), root.path().join(".run.removed"));
        let make = |path: &Path| std::fs::create_dir_all(path.join("ledger")).unwrap();
        for there in [vec![], vec![&folder], vec![&aside], vec![&folder, &aside]] {
            there.iter().for_each(|path| make(path));
            remove_folder(&folder, &aside).unwrap();
            assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0, "{there:?}");
        }
        std::fs::write(&folder, b"a file").unwrap();
        assert_eq!(remove_folder(&folder, &aside).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert!(folder.is_file() && !aside.exists(), "a file stays where it is");
        std::fs::remove_file(&folder).unwrap();
        // Where it cannot get the other name, all of it stays.
        make(&folder);
        std::fs::write(&aside, b"a file").unwrap();
        remove_folder(&folder, &aside).unwrap_err();
        assert!(folder.join("ledger").is_dir());
    }
}
