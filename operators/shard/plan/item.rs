//! The shards that one item of a list stands for: a file, a folder, a wildcard, each of its braces' names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::PlanOptions;
use super::barren::Barren;
use super::endings::{SHARD_ENDINGS, shards_of};
use super::error::PlanError;
use super::look::{self, Look, with_slash};
use super::lost::{Lost, gone_from};
use super::wildcards::{Wildcards, first_wildcard};
use crate::braces;
use crate::store::{self, Entry, EntryKind, FileInfo, StoreError, local_path, remote_name, scheme};
use trommel_core::names::STDIN;
use trommel_core::notices::Notices;

/// A shard's name, its URL, and what it is.
type Shard = (String, String, FileInfo);

/// What an item of a list stands for.
#[derive(Default)]
pub(super) struct Found {
    pub(super) shards: Vec<Shard>,
    /// By path, for another item may ask for it too.
    pub(super) gone: BTreeMap<PathBuf, Lost>,
    pub(super) passed_over: Notices,
    /// Folders and wildcards by which nothing is found, where that is no error.
    pub(super) barren: Vec<Barren>,
}

impl Found {
    fn only(shard: Shard) -> Self {
        Self { shards: vec![shard], ..Self::default() }
    }

    /// Notes the folders among what a wildcard has met and not entered: whoever writes one may mean what is in them.
    fn pass_over(&mut self, met: &[(String, Entry)]) {
        let (folders, files): (Vec<_>, Vec<_>) = met.iter().partition(|(_, entry)| entry.kind == EntryKind::Folder);
        let files: BTreeSet<&str> = files.into_iter().map(|(url, _)| url.as_str()).collect();
        let is_entered = |folder: &str| {
            let inside = with_slash(folder);
            files.range(inside.as_str()..).next().is_some_and(|file| file.starts_with(&inside))
        };
        let mut passed = folders.into_iter().map(|(url, _)| url).filter(|url| !is_entered(url));
        if let Some(first) = passed.next() {
            let text = "folders that a wildcard finds passed over: what is in them is not read";
            self.passed_over.note("folders_found", text, store::shown(first), 1 + passed.count() as u64);
        }
    }

    /// Takes shards in. Who looks again and again may look before anything has come, or after all is gone.
    fn come(
        &mut self,
        shards: Result<Vec<Shard>, PlanError>,
        opens: bool,
        barren: impl FnOnce() -> Barren,
    ) -> Result<(), PlanError> {
        match shards {
            Err(PlanError::NoShards(_) | PlanError::NoMatch(_)) if !opens => self.barren.push(barren()),
            shards => self.shards.extend(shards?),
        }
        Ok(())
    }

    /// Notes what is gone from a folder; the first `skip` bytes of a path belong to no name.
    fn miss(&mut self, gone: Vec<(String, Option<u64>)>, skip: usize) {
        for (url, promised) in gone {
            let lost = Lost { name: name_of(&url, skip), promised };
            self.gone.insert(PathBuf::from(url.trim_start_matches("./")), lost);
        }
    }
}

/// The shards of one item of a list.
pub(super) fn one(item: &str, look: &Look<'_>, options: &PlanOptions) -> Result<Found, PlanError> {
    let (opens, settle) = (options.opens, options.settle);
    if item == STDIN {
        let stdin = FileInfo { kind: EntryKind::Stream, bytes: None, modified: None, stamp: None };
        return Ok(Found::only((STDIN.into(), STDIN.into(), stdin)));
    }
    if item.starts_with("pipe:") {
        return Err(PlanError::Pipe(item.into()));
    }
    let item = local_path(item).and_then(Path::to_str).unwrap_or(item);
    match look.look(item) {
        Ok(seen) if seen.kind == EntryKind::File => {
            return Ok(Found::only(shard(look, item, seen, folder_length(item, true), opens)?));
        }
        Err(error @ StoreError::Scheme { .. }) => return Err(error.into()),
        _ => {}
    }
    let folder = braces::unescape(&item[..folder_length(item, false)]).len();
    let mut found = Found::default();
    let names = braces::expand(item, options.max_shards)?;
    look.prepare(&names);
    for name in names {
        match look.look(&name) {
            Ok(seen) if seen.kind == EntryKind::Folder => {
                found.come(inside(look, &name, opens), opens, || Barren::folder(&name))?;
                found.miss(gone_from(look, &name, settle, |_| true)?, with_slash(&name).len());
            }
            Ok(seen) => found.shards.push(shard(look, &name, seen, folder, opens)?),
            Err(_) if first_wildcard(&name).is_some() => {
                let wildcards = Wildcards::parse(&name)?;
                if !opens {
                    // A run is refused for what it does not find; here a folder that is missing is no empty one.
                    wildcards.check_folder(look)?;
                }
                let met = wildcards.find(look)?;
                met.note_links(&mut found.passed_over);
                found.pass_over(&met.entries);
                let shards = matching(look, &name, &met.entries, folder, opens);
                found.come(shards, opens, || Barren::wildcard(&name, wildcards.clone()))?;
                let is_asked =
                    |stem: &str| SHARD_ENDINGS.iter().any(|ending| wildcards.finds(&format!("{stem}{ending}")));
                for place in wildcards.folders(look)? {
                    found.miss(gone_from(look, &place, settle, is_asked)?, folder);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// Bytes of the literal folder, its slash included: what stands before the last slash before the first wildcard or brace.
fn folder_length(item: &str, is_file: bool) -> usize {
    let special = match is_file {
        true => item.len(),
        false => [item.find('{'), first_wildcard(item)].into_iter().flatten().min().unwrap_or(item.len()),
    };
    look::folder_of(&item[..special]).len()
}

/// A shard's stable name; the first `skip` bytes of a path belong to none.
fn name_of(url: &str, skip: usize) -> String {
    if scheme(url).is_some() { remote_name(url) } else { url.get(skip..).unwrap_or(url).to_owned() }
}

fn shard(look: &Look<'_>, url: &str, seen: FileInfo, skip: usize, opens: bool) -> Result<Shard, PlanError> {
    // Opening now finds what cannot be read before the run starts; a named pipe would wait for its writer.
    if opens && seen.kind == EntryKind::File {
        look.probe(url)?;
    }
    Ok((name_of(url, skip), url.into(), seen))
}

fn listed(look: &Look<'_>, url: &str, entry: &Entry, skip: usize, opens: bool) -> Result<Shard, PlanError> {
    if !entry.is_utf8 {
        return Err(PlanError::NotUtf8(url.into()));
    }
    shard(look, url, look.look_closer(url, entry)?, skip, opens)
}

fn inside(look: &Look<'_>, folder: &str, opens: bool) -> Result<Vec<Shard>, PlanError> {
    let found = shards_of(look, folder)?;
    // Who looks again and again takes what leads nowhere, or has just gone, for what is still to come.
    let to_come = |found: &Result<Shard, PlanError>| match found {
        Err(PlanError::Store(error)) => !opens && error.is_nothing(),
        _ => false,
    };
    let skip = with_slash(folder).len();
    let shards = found.iter().map(|(url, entry)| listed(look, url, entry, skip, opens));
    let shards: Vec<Shard> = shards.filter(|found| !to_come(found)).collect::<Result<_, _>>()?;
    if shards.is_empty() { Err(PlanError::NoShards(store::shown(folder))) } else { Ok(shards) }
}

/// The files among what a wildcard has found, in the order of their folders.
fn matching(
    look: &Look<'_>,
    pattern: &str,
    found: &[(String, Entry)],
    skip: usize,
    opens: bool,
) -> Result<Vec<Shard>, PlanError> {
    let files = found.iter().filter(|(_, entry)| entry.kind != EntryKind::Folder);
    let shards: Vec<Shard> =
        files.map(|(url, entry)| listed(look, url, entry, skip, opens)).collect::<Result<_, _>>()?;
    if shards.is_empty() { Err(PlanError::NoMatch(store::shown(pattern))) } else { Ok(shards) }
}
