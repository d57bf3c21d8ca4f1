//! What lies beside what was asked for: pictures in a folder of shards.

use std::path::Path;

use trommel_core::notices::Notices;
use trommel_shard::folders::{FolderError, Folders};
use trommel_shard::plan::{PlanOptions, is_shard_name, named, shards_in};
use trommel_shard::samples::GroupConfig;
use trommel_shard::store::local_path;

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
        Err(FolderError::NoPicture { .. }) => Ok((0, String::new())),
        Err(error @ FolderError::Io(_)) => Err(PipelineError::usage(error)),
    }
}

/// What lies beside the shards of folders that are given as a whole: pictures for their description are passed over. Where they are
/// more than the shards nobody knows which of both is meant. A folder without a shard is the caller's.
///
/// # Errors
/// More pictures than shards.
pub fn beside(arguments: &[String], reading: &GroupConfig) -> Result<Notices, PipelineError> {
    let mut notices = Notices::default();
    for (folder, shards) in folders(arguments).filter(|(_, shards)| *shards > 0) {
        // What cannot be read is the plan's to say.
        let (count, first) = pictures_in(folder, reading).unwrap_or_default();
        refuse_more(folder, shards, count, &first)?;
        notices.note("pictures_beside_shards", "pictures beside the shards passed over", first, count);
        let (count, first) = unread_in(folder);
        let text = "files beside the shards that are called like shards and are none by their endings";
        notices.note("unread_shards", text, first, count);
        let (count, first) = below(folder);
        notices.note("shards_below", "shards in the folders of a folder of shards passed over", first, count);
    }
    Ok(notices)
}

/// The same for folders that shards are to come to: pictures where no shard is yet are refused as well.
///
/// # Errors
/// More pictures than shards.
pub fn beside_to_come(arguments: &[String], reading: &GroupConfig) -> Result<Notices, PipelineError> {
    for (folder, shards) in folders(arguments).filter(|(_, shards)| *shards == 0) {
        let (count, first) = pictures_in(folder, reading).unwrap_or_default();
        refuse_more(folder, shards, count, &first)?;
    }
    beside(arguments, reading)
}

/// How many files of a folder have a tar in their name and not what shards' names end with (`0.TAR`, `0.tar.lz4`, `0.tar.part`), and the first.
fn unread_in(folder: &Path) -> (u64, String) {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let is_like = |name: &String| {
        let lower = name.to_lowercase();
        let like = lower.contains(".tar") || lower.ends_with(".tgz") || lower.ends_with(".zip");
        like && !is_shard_name(name) && !name.starts_with('.')
    };
    let mut like: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).filter(is_like).collect();
    like.sort();
    (like.len() as u64, like.into_iter().next().unwrap_or_default())
}

/// How many shards lie in a folder's folders, and the first.
fn below(folder: &Path) -> (u64, String) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut shards: Vec<_> = entries.filter_map(|path| shards_in(&path).ok()).flatten().collect();
    shards.sort();
    (shards.len() as u64, shards.first().map(|path| path.display().to_string()).unwrap_or_default())
}

fn refuse_more(folder: &Path, shards: usize, pictures: u64, first: &str) -> Result<(), PipelineError> {
    if pictures <= shards as u64 {
        return Ok(());
    }
    let folder = folder.display();
    let what = format!("{folder}: {shards} shards and {pictures} pictures (first: {first}): give `{folder}/*.tar` or");
    Err(PipelineError::Usage(format!("{what} the folder of the pictures, whichever is meant")))
}

/// Folders that are arguments, or items of their lists, and how many shards lie in each.
fn folders(arguments: &[String]) -> impl Iterator<Item = (&Path, usize)> {
    let items = arguments.iter().flat_map(|argument| {
        let (_, list) = named(argument, PlanOptions::default().max_shards);
        list.split("::").filter(|item| !item.is_empty()).map(local_path)
    });
    items.filter(|path| path.is_dir()).map(|path| (path, shards_in(path).map_or(0, |shards| shards.len())))
}
