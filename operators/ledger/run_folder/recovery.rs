//! What earlier incarnations left in a folder: their manifests are read together, torn lines cut, unlisted parts removed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::Path;

use super::{Access, MANIFESTS, manifest_path};
use crate::LedgerError;
use crate::manifest::{self, Merged, PartKind};
use crate::storage::{Lock, LockKind, Output, Storage};

/// A part that is being written.
struct PartFile {
    name: String,
    kind: PartKind,
    ordinal: u64,
    incarnation: u64,
    /// It stands under its final name.
    whole: bool,
}

/// Reads all manifests, gives what they say together, and the last incarnation. Who `cleans` cuts and deletes what those
/// have left whose writer is gone.
pub(super) fn recover(
    root: &Path,
    disk: &dyn Storage,
    access: Access,
    cleans: bool,
    notes: &mut Vec<String>,
) -> Result<(Merged, Option<u64>), LedgerError> {
    let is_member = access == Access::Member;
    let cleans = cleans && !is_member;
    // Parts before manifests: the incarnation of every part that is found has its manifest by then.
    let mut parts = Vec::new();
    for kind in PartKind::ALL.into_iter().filter(|kind| cleans || !(is_member || *kind == PartKind::Embeddings)) {
        let folder = root.join(kind.folder());
        let names = disk.list(&folder).map_err(LedgerError::at("list", &folder))?;
        parts.extend(names.into_iter().filter_map(|name| part_file(name, kind)));
    }
    let (mut files, mut dead, mut listed) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    for incarnation in incarnations(root, disk)? {
        let path = manifest_path(root, incarnation);
        let try_lock = || disk.try_lock(&path, LockKind::Exclusive).map_err(LedgerError::at("lock", &path));
        let lock = if cleans { try_lock()? } else { None };
        let bytes = disk.read(&path).map_err(LedgerError::at("read", &path))?;
        let mut lines = manifest::parse_some(&path, &bytes, |ordinal| lock.is_some() || access.owns(ordinal))?;
        if let Some(lock) = lock {
            if lines.torn {
                disk.truncate(&path, lines.good_bytes).map_err(LedgerError::at("cut", &path))?;
                notes.push(format!("{}: cut back to its last good line ({} bytes)", path.display(), lines.good_bytes));
            }
            let named =
                lines.lines.iter().flat_map(|line| line.parts.iter().map(move |part| (line.ordinal, part.kind)));
            listed.extend(named.map(|(ordinal, kind)| (incarnation, ordinal, kind)));
            lines.lines.retain(|line| access.owns(line.ordinal));
            dead.insert(incarnation, lock);
        }
        files.insert(incarnation, lines);
    }
    let last = files.keys().next_back().copied();
    if cleans {
        // A part of an incarnation without a manifest cannot be listed anywhere; beside slices it may be about to have one.
        let gone = |of: u64| dead.contains_key(&of) || access == Access::Exclusive && !files.contains_key(&of);
        let is_listed = |part: &PartFile| part.whole && listed.contains(&(part.incarnation, part.ordinal, part.kind));
        remove(root, disk, parts.extract_if(.., |part| gone(part.incarnation) && !is_listed(&*part)), notes)?;
    }
    let merged = Merged::of(files)?;
    if !is_member {
        check_parts(root, &parts, &merged)?;
    }
    Ok((merged, last))
}

/// Removes parts that nothing lists.
fn remove(
    root: &Path,
    disk: &dyn Storage,
    parts: impl Iterator<Item = PartFile>,
    notes: &mut Vec<String>,
) -> Result<(), LedgerError> {
    let mut removed = BTreeMap::new();
    for part in parts {
        let path = root.join(part.kind.folder()).join(&part.name);
        disk.remove(&path).map_err(LedgerError::at("remove", &path))?;
        *removed.entry(part.kind).or_insert(0) += 1;
    }
    for (kind, count) in removed {
        let folder = root.join(kind.folder());
        disk.sync_dir(&folder).map_err(LedgerError::at("sync", &folder))?;
        notes.push(format!("{}: removed {count} unlisted part(s)", folder.display()));
    }
    Ok(())
}

/// A part, by its file's name.
fn part_file(name: String, kind: PartKind) -> Option<PartFile> {
    let (stem, whole) = name.strip_suffix(".tmp").map_or((name.as_str(), true), |stem| (stem, false));
    let stem = stem.strip_suffix(kind.extension())?.strip_suffix('.')?;
    let (ordinal, incarnation) = stem.split_once('.')?;
    let (ordinal, incarnation) = (ordinal.parse().ok()?, incarnation.parse().ok()?);
    Some(PartFile { name, kind, ordinal, incarnation, whole })
}

pub(crate) fn incarnations(root: &Path, disk: &dyn Storage) -> Result<BTreeSet<u64>, LedgerError> {
    let folder = root.join(MANIFESTS);
    let names = disk.list(&folder).map_err(LedgerError::at("list", &folder))?;
    Ok(names.iter().filter_map(|n| n.strip_suffix(".jsonl")?.parse().ok()).collect())
}

/// Ledger and items of committed shards must be there; embeddings may have been deleted to save room.
fn check_parts(root: &Path, parts: &[PartFile], merged: &Merged) -> Result<(), LedgerError> {
    let whole = parts.iter().filter(|part| part.whole);
    let there: HashSet<(PartKind, u64, u64)> = whole.map(|p| (p.kind, p.ordinal, p.incarnation)).collect();
    for (&ordinal, (incarnation, line)) in &merged.committed {
        for part in line.parts.iter().filter(|p| p.kind != PartKind::Embeddings) {
            if !there.contains(&(part.kind, ordinal, *incarnation)) {
                let detail = "is missing though the manifest lists it".into();
                return Err(LedgerError::BadPart { path: root.join(part.kind.path(ordinal, *incarnation)), detail });
            }
        }
    }
    Ok(())
}

pub(super) type Taken = (u64, Box<dyn Output>, Box<dyn Lock>);

pub(super) fn take_incarnation(root: &Path, disk: &dyn Storage, last: Option<u64>) -> Result<Taken, LedgerError> {
    let mut next = last.map_or(0, |n| n + 1);
    loop {
        let path = manifest_path(root, next);
        match disk.create_new(&path) {
            Ok(mut manifest) => {
                if let Some(lock) = disk.try_lock(&path, LockKind::Exclusive).map_err(LedgerError::at("lock", &path))? {
                    manifest.sync().map_err(LedgerError::at("sync", &path))?;
                    let folder = root.join(MANIFESTS);
                    disk.sync_dir(&folder).map_err(LedgerError::at("sync", &folder))?;
                    return Ok((next, manifest, lock));
                }
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(LedgerError::at("make", &path)(e)),
        }
        next += 1;
    }
}
