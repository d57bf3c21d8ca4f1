//! A folder that a command writes into, gone again where nothing was written.
//!
//! A command makes its folder before it knows all that may be wrong: its lock lies there, its settings, and what it writes aside. If it is refused
//! after that, it leaves nothing behind: the lock goes with the value, settings go where nothing was written beside them, and the folders that were
//! made here go unless something stands in them, or somebody else writes into them. What was there before stays.
//!
//! Whoever writes into a folder shares a lock of it with all others that do, and who takes it away must have it alone: a neighbour that has found
//! the folder, and has written nothing yet that bears a name, does not lose it.
//!
//! ```
//! use trommel_core::out_folder::OutFolder;
//!
//! let place = tempfile::tempdir()?;
//! let new = place.path().join("made/for/it");
//! drop(OutFolder::make(&new)?);
//! assert!(!place.path().join("made").exists() && place.path().exists());
//!
//! let mut folder = OutFolder::locked(&new, "lock")?.expect("nobody else is there");
//! folder.goes_with("settings")?;
//! std::fs::write(new.join("settings"), "")?;
//! std::fs::write(new.join("result"), "all of it")?;
//! drop(folder);
//! assert!(new.join("result").exists() && new.join("settings").exists() && !new.join("lock").exists());
//! # Ok::<(), std::io::Error>(())
//! ```

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::durable::make_missing;

/// Times that a folder or a lock is looked for where others take it away.
const TRIES: usize = 100;

/// Time between two looks at a folder that somebody has alone.
const A_MOMENT: Duration = Duration::from_millis(1);

/// See the module's head.
#[must_use = "where nothing stands in the folder, it goes with this value"]
#[derive(Debug)]
pub struct OutFolder {
    folder: PathBuf,
    /// Folders that were made here, the innermost first.
    made: Vec<PathBuf>,
    /// Names of files that go where nothing was written beside them.
    settings: Vec<OsString>,
    /// What stood in the folder before the first of these.
    before: HashSet<OsString>,
    /// The folder itself, with the lock that all who write into it share.
    shared: Option<File>,
    /// The file that is locked, and its path. It is let go of when all the rest is done.
    lock: Option<(File, PathBuf)>,
}

impl OutFolder {
    /// Makes a folder and those above it, durably; no error if it is there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn make(folder: &Path) -> io::Result<Self> {
        again(|| Self::try_make(folder))
    }

    fn try_make(folder: &Path) -> io::Result<Self> {
        let (folder, settings, before) = (folder.to_path_buf(), Vec::new(), HashSet::new());
        let mut this = Self { folder, made: Vec::new(), settings, before, shared: None, lock: None };
        // Folders that were made before it fails go with it.
        make_missing(&this.folder, &mut this.made)?;
        this.shared = Some(shared(&this.folder)?);
        Ok(this)
    }

    /// The same for one process at a time, which holds the lock of a file in the folder as long as it has this value; `None` where another one
    /// holds it. The file goes with the value.
    ///
    /// # Errors
    /// What the file system says.
    pub fn locked(folder: &Path, lock: &str) -> io::Result<Option<Self>> {
        again(|| Self::try_locked(folder, lock))
    }

    fn try_locked(folder: &Path, lock: &str) -> io::Result<Option<Self>> {
        let (mut this, path) = (Self::try_make(folder)?, folder.join(lock));
        let file = File::options().write(true).create(true).truncate(false).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                this.keep();
                return Ok(None);
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        is_still(&file, &path)?;
        this.lock = Some((file, path));
        Ok(Some(this))
    }

    /// Says that a file will be written which is nothing by itself and only says how the others are made: it goes where none of them was written.
    /// One that is there already stays.
    ///
    /// # Errors
    /// A folder that cannot be listed.
    pub fn goes_with(&mut self, name: &str) -> io::Result<()> {
        let there = self.names()?;
        if !there.contains(OsStr::new(name)) {
            if self.settings.is_empty() {
                self.before = there;
            }
            self.settings.push(name.into());
        }
        Ok(())
    }

    /// Leaves the folder there, whatever stands in it or does not.
    pub fn keep(mut self) {
        self.made.clear();
        self.settings.clear();
    }

    /// What stands in the folder, but for the lock.
    fn names(&self) -> io::Result<HashSet<OsString>> {
        let lock = self.lock.as_ref().and_then(|(_, path)| path.file_name());
        let names = fs::read_dir(&self.folder)?.map(|entry| entry.map(|entry| entry.file_name()));
        names.filter(|name| name.as_deref().map_or(true, |name| lock != Some(name))).collect()
    }
}

/// Tries again what others may have taken away in between, or made.
fn again<T>(attempt: impl Fn() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..TRIES {
        match attempt() {
            Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::AlreadyExists].contains(&error.kind()) => {}
            outcome => return outcome,
        }
    }
    attempt()
}

/// A folder, locked together with others.
fn shared(folder: &Path) -> io::Result<File> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let file = File::open(folder)?;
    for _ in 0..TRIES {
        match file.try_lock_shared() {
            // Who takes it away has it alone for a moment. Who has it for longer leaves it there.
            Err(TryLockError::WouldBlock) => std::thread::sleep(A_MOMENT),
            // Where nothing can be locked, nobody has it alone, and so nobody takes it away.
            Ok(()) | Err(TryLockError::Error(_)) => break,
        }
    }
    is_still(&file, folder)?;
    Ok(file)
}

/// That what was opened still has its name: what was taken away before it was locked is found by nobody else.
fn is_still(file: &File, path: &Path) -> io::Result<()> {
    let (held, there) = (file.metadata()?, fs::metadata(path)?);
    if (held.dev(), held.ino()) == (there.dev(), there.ino()) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "another one stands there by now"))
}

/// Removes a folder in which nothing stands, unless somebody writes into it.
fn remove_unused(folder: &Path) -> io::Result<()> {
    let alone = File::open(folder)?;
    match alone.try_lock() {
        Ok(()) => fs::remove_dir(folder),
        Err(_) => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl Drop for OutFolder {
    fn drop(&mut self) {
        let is_old = |name: &OsString| self.before.contains(name) || self.settings.contains(name);
        if !self.settings.is_empty() && self.names().is_ok_and(|names| names.iter().all(is_old)) {
            for name in &self.settings {
                let _never_written = fs::remove_file(self.folder.join(name));
            }
        }
        // From here on it may be another process's folder.
        if let Some((_, path)) = &self.lock {
            let _gone_already = fs::remove_file(path);
        }
        drop(self.shared.take());
        // One that stays is not empty, or another's, and those above it are neither.
        let _somebody_elses = self.made.iter().try_for_each(|folder| remove_unused(folder));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What stands in a folder, by name.
    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_there_before_stays_and_so_does_what_was_written() {
        let place = tempfile::tempdir().unwrap();
        let (old, new) = (place.path().join("old"), place.path().join("old/a/b"));
        fs::create_dir(&old).unwrap();
        drop(OutFolder::make(&old).unwrap());
        drop(OutFolder::make(&new).unwrap());
        assert_eq!((names(place.path()), names(&old).len()), (vec!["old".to_owned()], 0));
        // Something stands in the one above.
        let made = OutFolder::make(&new).unwrap();
        fs::write(old.join("a/file"), "").unwrap();
        drop(made);
        assert_eq!(names(&old.join("a")), ["file"]);
        // Settings go where nothing was written beside them, whatever stood there before; those of an earlier command stay.
        for (earlier, written, due) in [
            (vec![], vec!["settings"], vec![]),
            (vec!["theirs"], vec!["settings"], vec!["theirs"]),
            (vec!["settings"], vec!["settings"], vec!["settings"]),
            (vec!["theirs"], vec!["settings", "result"], vec!["result", "settings", "theirs"]),
        ] {
            fs::create_dir(&new).unwrap();
            let write = |names: &[&str]| names.iter().for_each(|name| fs::write(new.join(name), "").unwrap());
            write(&earlier);
            let mut made = OutFolder::make(&new).unwrap();
            made.goes_with("settings").unwrap();
            write(&written);
            drop(made);
            assert_eq!(names(&new), due, "{earlier:?} {written:?}");
            fs::remove_dir_all(&new).unwrap();
        }
        OutFolder::make(&place.path().join("kept/for/it")).unwrap().keep();
        assert!(place.path().join("kept/for/it").is_dir());
        let in_the_way = OutFolder::make(&old.join("a/file/b")).unwrap_err();
        assert_eq!(in_the_way.kind(), io::ErrorKind::NotADirectory);
        // What was made before it failed goes again.
        OutFolder::make(&place.path().join("half").join("way".repeat(100))).unwrap_err();
        assert!(!place.path().join("half").exists());
    }

    #[test]
    fn a_folder_that_somebody_else_writes_into_stays() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("splits/of");
        let (refused, neighbour) = (OutFolder::make(&folder).unwrap(), OutFolder::make(&folder).unwrap());
        drop(refused);
        fs::write(folder.join("result"), "").unwrap();
        drop(neighbour);
        assert_eq!(names(&folder), ["result"]);
        // So does one above that which goes.
        let (inner, outer) = (place.path().join("a/b"), place.path().join("a"));
        let (refused, neighbour) = (OutFolder::make(&inner).unwrap(), OutFolder::make(&outer).unwrap());
        drop(refused);
        assert!(names(&outer).is_empty());
        drop(neighbour);
        // Many come and go at once: nobody writes into a folder that is gone.
        let folder = place.path().join("many");
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let (folder, file) = (&folder, folder.join(writer.to_string()));
                scope.spawn(move || {
                    for _ in 0..200 {
                        let mine = OutFolder::make(folder).unwrap();
                        fs::write(&file, "").unwrap();
                        fs::remove_file(&file).unwrap();
                        drop(mine);
                    }
                });
            }
        });
    }

    #[test]
    fn a_lock_that_was_taken_away_locks_nobody() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("run");
        let first = OutFolder::locked(&folder, "lock").unwrap().unwrap();
        assert!(OutFolder::locked(&folder, "lock").unwrap().is_none());
        assert_eq!(names(&folder), ["lock"], "who was not let in takes nothing away");
        drop(first);
        assert!(!folder.exists());
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("theirs"), "").unwrap();
        drop(OutFolder::locked(&folder, "lock").unwrap());
        assert_eq!(names(&folder), ["theirs"]);
        fs::remove_dir_all(&folder).unwrap();
        // Many come and go at once: the folder is never two's.
        let inside = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let Some(mine) = OutFolder::locked(&folder, "lock").unwrap() else { continue };
                        let others = inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        fs::write(folder.join(".only.tmp"), "").unwrap();
                        fs::remove_file(folder.join(".only.tmp")).unwrap();
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(mine);
                        assert_eq!(others, 0);
                    }
                });
            }
        });
    }
}
