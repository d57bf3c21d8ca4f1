//! What lies beside what was asked for: pictures in a folder of shards.

use std::path::Path;

use trommel_core::notices::Notices;
use trommel_shard::classified::uncounted;
use trommel_shard::folders::{FolderError, Folders};
use trommel_shard::plan::{PlanOptions, is_shard_name, named, shards_in};
use trommel_shard::samples::GroupConfig;
use trommel_shard::store::{Entry, EntryKind, Store, local_path};

use crate::error::PipelineError;

/// How many pictures lie in a folder and its class folders, and the first of them.
///
/// # Errors
/// A folder that cannot be read.
pub fn pictures_in(folder: &Path, reading: &GroupConfig) -> Result<(u64, String), PipelineError> {
    match Folders::find(folder, reading) {
        Ok(found) => {
            let first = found.pictures_of(0).ok().and_then(|(pictures, _)| pictures.into_iter().next());
            Ok((found.pictures, first.map(|picture| picture.path.display().to_string()).unwrap_or_default()))
        }
        Err(FolderError::Mixed { own, pictures, first, .. }) => Ok(((own + pictures) as u64, first)),
        // Nobody reads them, whatever they are called.
        Err(FolderError::NotUtf8 { pictures, first }) => Ok((pictures, first)),
        Err(FolderError::NoPicture { .. }) => Ok((0, String::new())),
        Err(error @ FolderError::Io(_)) => Err(PipelineError::usage(error)),
    }
}

/// What lies beside the shards of folders that are given as a whole: pictures for their description are passed over. Where they are
/// more than the shards nobody knows which of both is meant. A folder without a shard is the caller's.
///
/// # Errors
/// More pictures than shards.
pub fn beside(arguments: &[String], store: &dyn Store, reading: &GroupConfig) -> Result<Notices, PipelineError> {
    let mut notices = Notices::default();
    for path in folders(arguments, store).filter_map(|(folder, _)| local_path(folder)) {
        notices.merge(&uncounted(path));
    }
    for (folder, shards) in folders(arguments, store).filter(|(_, shards)| *shards > 0) {
        let (count, first) = pictures_beside(store, folder, reading);
        refuse_more(folder, shards, count, &first)?;
        notices.note("pictures_beside_shards", "pictures beside the shards passed over", first, count);
        let (count, first) = unread_in(store, folder);
        let text = "files beside the shards that are called like shards and are none by their endings";
        notices.note("unread_shards", text, first, count);
        let Below { shards, closed } = below(store, folder);
        let first = |urls: &[String]| urls.first().cloned().unwrap_or_default();
        let text = "shards in the folders of a folder of shards passed over";
        notices.note("shards_below", text, first(&shards), shards.len() as u64);
        let text = "folders in a folder of shards that cannot be looked into, and may hold more";
        notices.note("closed_below", text, first(&closed), closed.len() as u64);
    }
    Ok(notices)
}

/// The same for folders that shards are to come to: pictures where no shard is yet are refused as well.
///
/// # Errors
/// More pictures than shards.
pub fn beside_to_come(
    arguments: &[String],
    store: &dyn Store,
    reading: &GroupConfig,
) -> Result<Notices, PipelineError> {
    for (folder, shards) in folders(arguments, store).filter(|(_, shards)| *shards == 0) {
        let (count, first) = pictures_beside(store, folder, reading);
        refuse_more(folder, shards, count, &first)?;
    }
    beside(arguments, store, reading)
}

/// How many pictures lie beside a folder's shards, and the first: on this machine in its folders too, elsewhere in itself.
fn pictures_beside(store: &dyn Store, folder: &str, reading: &GroupConfig) -> (u64, String) {
    if let Some(path) = local_path(folder) {
        // What cannot be read is the plan's to say.
        return pictures_in(path, reading).unwrap_or_default();
    }
    let is_picture = |entry: &Entry| {
        let extension = entry.name.rsplit_once('.').map(|(_, extension)| extension.to_lowercase());
        entry.kind != EntryKind::Folder && extension.is_some_and(|it| reading.image_keys.contains(&it))
    };
    counted(store, folder, is_picture)
}

/// How many files of a folder have a tar in their name and not what shards' names end with (`0.TAR`, `0.tar.lz4`, `0.tar.part`), and the first.
fn unread_in(store: &dyn Store, folder: &str) -> (u64, String) {
    counted(store, folder, |Entry { name, .. }| {
        let lower = name.to_lowercase();
        let like = lower.contains(".tar") || lower.ends_with(".tgz") || lower.ends_with(".zip");
        like && !is_shard_name(name) && !name.starts_with('.')
    })
}

/// How many of a folder's entries are such, and the first.
fn counted(store: &dyn Store, folder: &str, is_such: impl Fn(&Entry) -> bool) -> (u64, String) {
    let such = store.list(folder).unwrap_or_default().into_iter().filter(is_such);
    let mut names: Vec<String> = such.map(|entry| entry.name).collect();
    names.sort();
    (names.len() as u64, names.into_iter().next().unwrap_or_default())
}

/// What lies in a folder's folders, by URL.
#[derive(Default)]
struct Below {
    shards: Vec<String>,
    /// Folders that cannot be listed.
    closed: Vec<String>,
}

/// The shards in a folder's folders, and those of them that nobody may look into.
fn below(store: &dyn Store, folder: &str) -> Below {
    let entries = store.list(folder).unwrap_or_default();
    let mut found = Below::default();
    for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Folder && entry.is_utf8) {
        let url = format!("{}/{}", folder.trim_end_matches('/'), entry.name);
        match shards_in(store, &url) {
            Ok(shards) => found.shards.extend(shards),
            Err(_) => found.closed.push(url),
        }
    }
    found.shards.sort();
    found.closed.sort();
    found
}

fn refuse_more(folder: &str, shards: usize, pictures: u64, first: &str) -> Result<(), PipelineError> {
    if pictures <= shards as u64 {
        return Ok(());
    }
    let what = format!("{folder}: {shards} shards and {pictures} pictures (first: {first}): give `{folder}/*.tar` or");
    Err(PipelineError::usage(format!("{what} the folder of the pictures, whichever is meant")))
}

/// Folders that are arguments, or items of their lists, and how many shards lie in each.
fn folders<'a>(arguments: &'a [String], store: &'a dyn Store) -> impl Iterator<Item = (&'a str, usize)> {
    let items = arguments.iter().flat_map(move |argument| {
        let (_, list) = named(argument, store, PlanOptions::default().max_shards);
        let path = |item| local_path(item).and_then(Path::to_str).unwrap_or(item);
        list.split("::").filter(|item| !item.is_empty()).map(path)
    });
    let is_folder = move |url: &&str| store.look(url).is_ok_and(|seen| seen.kind == EntryKind::Folder);
    items.filter(is_folder).map(move |url| (url, shards_in(store, url).map_or(0, |shards| shards.len())))
}
