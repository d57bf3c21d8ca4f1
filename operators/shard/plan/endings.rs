//! Which files of a folder are shards, by their names.

use super::error::PlanError;
use super::look::{Look, with_slash};
use crate::store::{Entry, EntryKind, Store};

/// What the names of shards end with.
pub const SHARD_ENDINGS: [&str; 9] =
    [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tbz"];

/// Whether a file is a shard by its name.
#[must_use]
pub fn is_shard_name(name: &str) -> bool {
    SHARD_ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// A shard's name without what such names end with.
#[must_use]
pub fn stem(name: &str) -> &str {
    SHARD_ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

/// The URLs of the files in a folder that are shards by their names, sorted; links that lead nowhere among them.
///
/// # Errors
/// A folder that cannot be listed.
pub fn shards_in(store: &dyn Store, folder: &str) -> Result<Vec<String>, PlanError> {
    Ok(shards_of(&Look::at(store), folder)?.into_iter().map(|(url, _)| url).collect())
}

pub(super) fn shards_of(look: &Look<'_>, folder: &str) -> Result<Vec<(String, Entry)>, PlanError> {
    let is_shard =
        |entry: &&Entry| !entry.name.starts_with('.') && is_shard_name(&entry.name) && entry.kind != EntryKind::Folder;
    let at = |entry: &Entry| (format!("{}{}", with_slash(folder), entry.name), entry.clone());
    Ok(look.list(folder)?.iter().filter(is_shard).map(at).collect())
}
