//! The journal: one checked line an epoch, with what differs from the epoch before.
//!
//! ```text
//!  root/lock               one engine at a time
//!  root/journal.<n>.jsonl  first line a whole state, then one line an epoch
//!  root/parts/             what the lines name
//! ```
//!
//! Invariants:
//! 1. Durable before visible: a line is appended and synced when all parts that it names are durable, and the epoch is published after that.
//! 2. Only the last line can be torn; it is cut when the journal is opened. A bad line before good ones is an error.
//! 3. A journal under its name begins with a whole state: it is written aside, synced and renamed. Of two, the newer counts.
//! 4. Where it cannot be known what is durable, nothing more is written and no file is removed: opening again shows it.
//!
//! The file is folded into a whole state when it is more than twice as long as that, so opening costs the state and not its history.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::damage::JournalError;
use super::filed::Filed;
use super::parts::PartStore;
use super::record::{Delta, EpochLine, SCHEMA_VERSION};
use super::world::World;
use super::{Epoch, IncrementalError};
use trommel_core::causes::Causes;
use trommel_ledger::storage::{Lock, LockKind, Output, Storage, parent, write_whole};
use trommel_ledger::{LedgerError, checked};

/// Name of the folder of parts beside it.
pub(super) const PARTS: &str = "parts";

/// A journal is not folded for less than this.
const FOLD_BYTES: u64 = 1 << 20;

/// What the lines of a journal say together.
#[derive(Debug)]
pub(super) struct JournalState {
    pub(super) epoch: Epoch,
    /// The difference from nothing.
    pub(super) state: Delta,
}

/// An open journal, at its end.
pub(super) struct Journal {
    root: PathBuf,
    storage: Arc<dyn Storage>,
    number: u64,
    out: Box<dyn Output>,
    /// Bytes of the file, all good.
    bytes: u64,
    /// Bytes of the last whole state that was encoded.
    whole_bytes: u64,
    /// Parts of the last durable state.
    pub(super) filed: Filed,
    /// Since which epoch, and why, it can no longer be trusted.
    torn: Option<(Epoch, String)>,
    _lock: Box<dyn Lock>,
}

pub(super) fn path_of(root: &Path, number: u64) -> PathBuf {
    root.join(format!("journal.{number}.jsonl"))
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix("journal.")?.strip_suffix(".jsonl")?.parse().ok()
}

fn encoded(path: &Path, line: &EpochLine) -> Result<Vec<u8>, LedgerError> {
    checked::encode(line).map_err(LedgerError::json(path, "a line that is no JSON"))
}

impl Journal {
    /// What the newest journal of a folder says, while another process has it open.
    ///
    /// # Errors
    /// No journal is whole; a damaged line, a newer schema; what the file system says.
    pub(super) fn read(root: &Path, storage: &dyn Storage) -> Result<JournalState, IncrementalError> {
        let names = storage.list(root).map_err(LedgerError::at("list", root))?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
        numbers.sort_unstable();
        let (number, lines) = newest(root, storage, &numbers)?;
        replay(&path_of(root, number), lines.lines)
    }

    /// Opens the newest journal of a folder, or makes folder and journal; a torn end is cut, what is left of others is removed.
    ///
    /// # Errors
    /// Somebody else has it open; no journal is whole; a damaged line, a newer schema; what the file system says.
    pub(super) fn open(root: &Path, storage: Arc<dyn Storage>) -> Result<(Self, JournalState), IncrementalError> {
        let folder = root.join(PARTS);
        storage.create_dir(&folder).map_err(LedgerError::at("create", &folder))?;
        let held = root.join("lock");
        let lock = storage.try_lock(&held, LockKind::Exclusive).map_err(LedgerError::at("lock", &held))?;
        let Some(lock) = lock else {
            let what = "an engine has this folder open".into();
            return Err(LedgerError::Busy { path: root.into(), what }.into());
        };
        let names = || storage.list(root).map_err(LedgerError::at("list", root));
        let mut numbers: Vec<u64> = names()?.iter().filter_map(|name| number_of(name)).collect();
        if numbers.is_empty() {
            let path = path_of(root, 0);
            let above = parent(root);
            storage.sync_dir(&above).map_err(LedgerError::at("sync", &above))?;
            let line = EpochLine::new(0, true, Delta::default());
            write_whole(&*storage, &path, &encoded(&path, &line)?).map_err(LedgerError::at("write", &path))?;
            numbers.push(0);
        }
        numbers.sort_unstable();
        let (number, lines) = newest(root, &*storage, &numbers)?;
        let path = path_of(root, number);
        let state = replay(&path, lines.lines)?;
        if lines.torn {
            storage.truncate(&path, lines.good_bytes).map_err(LedgerError::at("cut", &path))?;
        }
        let left = |name: &String| number_of(name.strip_suffix(".tmp").unwrap_or(name)).is_some();
        for name in names()?.into_iter().filter(|name| left(name) && path_of(root, number) != root.join(name)) {
            let path = root.join(name);
            storage.remove(&path).map_err(LedgerError::at("remove", &path))?;
        }
        let out = storage.append(&path).map_err(LedgerError::at("open", &path))?;
        let (root, bytes, filed) = (root.to_path_buf(), lines.good_bytes, Filed::default());
        Ok((Self { root, storage, number, out, bytes, whole_bytes: 0, filed, torn: None, _lock: lock }, state))
    }

    fn path(&self) -> PathBuf {
        path_of(&self.root, self.number)
    }

    /// # Errors
    /// If it can no longer be trusted.
    pub(super) fn ready(&self) -> Result<(), IncrementalError> {
        match self.torn.clone() {
            None => Ok(()),
            Some((epoch, cause)) => Err(IncrementalError::Torn { path: self.path(), epoch, cause }),
        }
    }

    /// Makes an epoch durable: its parts, then its line.
    ///
    /// # Errors
    /// What cannot be written; the epoch before is the durable one then. [`IncrementalError::Torn`]: nobody knows which.
    pub(super) fn commit(
        &mut self,
        part_store: &PartStore,
        epoch: Epoch,
        (old, next): (&World, &World),
    ) -> Result<(), IncrementalError> {
        let filed = self.filed.after(part_store, old, next)?;
        part_store.sync()?;
        let delta = Delta::between((old, &self.filed), (next, &filed))?;
        let line = encoded(&self.path(), &EpochLine::new(epoch, false, delta))?;
        if let Err(cause) = self.out.write_all(&line).and_then(|()| self.out.sync()) {
            let path = self.path();
            if let Err(second) = self.storage.truncate(&path, self.bytes) {
                // The line may be durable: then its parts are needed.
                next.set_lasting(true);
                filed.set_lasting(true);
                self.torn = Some((epoch, format!("{cause}; cutting it back: {second}")));
                self.ready()?;
            }
            return Err(LedgerError::at("append to", &path)(cause).into());
        }
        self.bytes += line.len() as u64;
        self.filed.set_lasting(false);
        filed.set_lasting(true);
        self.filed = filed;
        self.fold(epoch, next);
        Ok(())
    }

    /// Folds the file if it is long. The epoch is durable already, so what goes wrong here concerns the next one.
    fn fold(&mut self, epoch: Epoch, world: &World) {
        let long = |bytes: u64, whole: u64| bytes > 2 * whole && bytes - whole > FOLD_BYTES;
        if !long(self.bytes, self.whole_bytes) {
            return;
        }
        let path = path_of(&self.root, self.number + 1);
        let whole = Delta::between((&World::default(), &Filed::default()), (world, &self.filed))
            .and_then(|delta| Ok(encoded(&path, &EpochLine::new(epoch, true, delta))?));
        let whole = match whole {
            Ok(whole) => whole,
            Err(error) => {
                return tracing::warn!(path = %path.display(), error = %Causes(&error), "the journal is not folded");
            }
        };
        self.whole_bytes = whole.len() as u64;
        if !long(self.bytes, self.whole_bytes) {
            return;
        }
        let before = self.path();
        if let Err(error) = write_whole(&*self.storage, &path, &whole) {
            tracing::warn!(path = %path.display(), %error, "the journal is not folded");
            // If its name may come back, later lines of this file would be lost behind it.
            let gone = match self.storage.remove(&path) {
                Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(()),
                Err(cause) => Err(cause),
                Ok(()) => self.storage.sync_dir(&self.root),
            };
            if let Err(second) = gone {
                self.torn = Some((epoch, format!("folding it: {error}; taking that back: {second}")));
            }
            return;
        }
        match self.storage.append(&path) {
            Ok(out) => {
                (self.out, self.bytes, self.number) = (out, self.whole_bytes, self.number + 1);
                // If this fails, the next opening does it.
                let _ = self.storage.remove(&before);
            }
            Err(cause) => self.torn = Some((epoch, format!("opening it after folding: {cause}"))),
        }
    }
}

/// The newest journal that has a good line, or the oldest.
fn newest(
    root: &Path,
    storage: &dyn Storage,
    numbers: &[u64],
) -> Result<(u64, checked::Lines<EpochLine>), LedgerError> {
    let mut found = (0, checked::Lines::default());
    for &number in numbers.iter().rev() {
        let path = path_of(root, number);
        let bytes = storage.read(&path).map_err(LedgerError::at("read", &path))?;
        found = (number, checked::parse(&path, &bytes, SCHEMA_VERSION)?);
        if !found.1.lines.is_empty() {
            break;
        }
    }
    Ok(found)
}

/// Puts the lines together.
fn replay(path: &Path, lines: Vec<EpochLine>) -> Result<JournalState, IncrementalError> {
    let bad = |detail| IncrementalError::Journal { path: path.into(), detail };
    let mut all: Option<JournalState> = None;
    for (line, EpochLine { epoch, whole, delta, .. }) in (1..).zip(lines) {
        match &mut all {
            None if whole => all = Some(JournalState { epoch, state: delta }),
            Some(all) if !whole && epoch == all.epoch + 1 => {
                all.state.then(delta);
                all.epoch = epoch;
            }
            _ => return Err(bad(JournalError::NotNext { line, epoch })),
        }
    }
    all.ok_or_else(|| bad(JournalError::NoWholeState))
}
