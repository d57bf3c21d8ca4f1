//! What wildcards find in a store, folder by folder: `*`, `?`, `[..]` within a name, `**` for any folders between.
//!
//! Names come in the order of a walk through sorted folders, a folder's content where its own name stands. What is hidden is found only by
//! a dot that is written. A `?` in another store's URL begins its query and is no wildcard.
//!
//! What cannot be looked into may hold what was asked for: a folder that may not be listed or entered, a name that is not UTF-8 and a link that
//! may not be followed are errors. Links that lead nowhere are noted where folders are looked for: below `**` all of them, and those that lead back.

use std::collections::BTreeSet;
use std::path::PathBuf;

use glob::{MatchOptions, Pattern};

use super::PlanError;
use super::look::{Look, folder_of, with_slash};
use crate::store::{Entry, EntryKind, Store, local_path, scheme, shown};
use trommel_core::notices::Notices;

/// Names within one folder; a leading dot is written or not meant.
const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// Where the first wildcard stands.
pub(super) fn first_wildcard(item: &str) -> Option<usize> {
    if scheme(item).is_some() { item.find(['*', '[']) } else { item.find(['*', '?', '[']) }
}

/// The folder before the first wildcard, as it was written, and the pattern of each name behind it.
#[derive(Clone, Debug)]
pub(super) struct Wildcards {
    /// With its slash, or empty.
    folder: String,
    names: Vec<Name>,
    whole: Pattern,
    /// A slash at the end asks for folders.
    only_folders: bool,
}

#[derive(Clone, Debug)]
enum Name {
    Literal(String),
    Pattern(Pattern),
    /// `**`: any number of folders.
    AnyFolders,
}

/// Code of the notice of links that lead nowhere where a wildcard looks for folders.
pub const LINKS_TO_NOTHING: &str = "links_to_nothing";

/// What a pattern has met.
#[derive(Default)]
pub(super) struct Met {
    /// What there is, with its URL.
    pub(super) entries: Vec<(String, Entry)>,
    /// Links that lead nowhere, where folders were looked for; each once, however often it was looked at.
    nowhere: BTreeSet<String>,
    /// Folders that lead back to one above them, where `**` looked for folders.
    loops: BTreeSet<String>,
}

impl Met {
    /// Notes the links that lead nowhere: of a disk that is not there nothing else is left; and those that lead back.
    pub(super) fn note_links(&self, notices: &mut Notices) {
        if let Some(first) = self.nowhere.first() {
            let text = "links that lead nowhere passed over where a wildcard looks for folders";
            notices.note(LINKS_TO_NOTHING, text, shown(first), self.nowhere.len() as u64);
        }
        if let Some(first) = self.loops.first() {
            let text = "folders that lead back to themselves passed over";
            notices.note("folder_loop", text, shown(first), self.loops.len() as u64);
        }
    }
}

/// The URLs that a wildcard finds in a store, of files and folders, in the order of a walk through sorted folders. What it passes over is
/// noted.
///
/// # Errors
/// A pattern that cannot be read, or finds nothing; a folder that is there and cannot be looked into; a name that is not UTF-8.
pub fn found_by(pattern: &str, store: &dyn Store, notices: &mut Notices) -> Result<Vec<String>, PlanError> {
    let met = Wildcards::parse(pattern)?.find(&Look::at(store))?;
    met.note_links(notices);
    if met.entries.is_empty() {
        return Err(PlanError::NoMatch(shown(pattern)));
    }
    let named = |(url, entry): (String, Entry)| if entry.is_utf8 { Ok(url) } else { Err(PlanError::NotUtf8(url)) };
    met.entries.into_iter().map(named).collect()
}

impl Wildcards {
    /// Parses a pattern.
    ///
    /// # Errors
    /// One that cannot be read.
    pub(super) fn parse(pattern: &str) -> Result<Self, PlanError> {
        let wrong = |error: glob::PatternError| PlanError::Pattern(pattern.into(), error);
        let is_query = scheme(pattern).is_some();
        let parsed = |text: &str| {
            let text = if is_query { text.replace('?', "[?]") } else { text.to_owned() };
            Pattern::new(&text).map_err(wrong)
        };
        parsed(pattern)?; // as a whole, for the place that a mistake is told with
        let folder = folder_of(&pattern[..first_wildcard(pattern).unwrap_or(pattern.len())]);
        let words: Vec<&str> = pattern[folder.len()..].split('/').filter(|name| !matches!(*name, "" | ".")).collect();
        let whole = parsed(&format!("{folder}{}", words.join("/")))?;
        let mut names = Vec::new();
        for name in words {
            let is_repeated = matches!(names.last(), Some(Name::AnyFolders));
            match name {
                "**" if is_repeated => {}
                "**" => names.push(Name::AnyFolders),
                name if first_wildcard(name).is_none() => names.push(Name::Literal(name.into())),
                name => names.push(Name::Pattern(parsed(name)?)),
            }
        }
        Ok(Self { folder: folder.into(), names, whole, only_folders: pattern.ends_with('/') })
    }

    /// What there is.
    ///
    /// # Errors
    /// A folder that is there and cannot be listed or entered, or whose name is not UTF-8.
    pub(super) fn find(&self, look: &Look<'_>) -> Result<Met, PlanError> {
        let mut met = Met::default();
        walk(look, &self.folder, &self.names, &mut met)?;
        met.entries.retain(|(_, entry)| !self.only_folders || entry.kind == EntryKind::Folder);
        Ok(met)
    }

    /// Whether the folder before the first wildcard can be listed.
    ///
    /// # Errors
    /// One that is not there, or cannot be listed.
    pub(super) fn check_folder(&self, look: &Look<'_>) -> Result<(), PlanError> {
        look.list(&self.folder)?;
        Ok(())
    }

    /// The folders that the last name is looked for in.
    ///
    /// # Errors
    /// One on the way that cannot be listed.
    pub(super) fn folders(&self, look: &Look<'_>) -> Result<Vec<String>, PlanError> {
        let mut met = Met::default();
        match self.names.split_last() {
            Some((_, before)) if !before.is_empty() => walk(look, &self.folder, before, &mut met)?,
            _ => return Ok(vec![self.folder.clone()]),
        }
        Ok(met.entries.into_iter().filter(|(_, entry)| entry.kind == EntryKind::Folder).map(|(url, _)| url).collect())
    }

    /// Whether something of this URL would be found.
    pub(super) fn finds(&self, url: &str) -> bool {
        self.whole.matches_with(url, OPTIONS)
    }
}

/// Finds `names` in a folder.
fn walk(look: &Look<'_>, folder: &str, names: &[Name], met: &mut Met) -> Result<(), PlanError> {
    match names.split_first() {
        None => Ok(()),
        Some((Name::Literal(name), rest)) => {
            let url = format!("{folder}{name}");
            let link = || Some(look.list(folder).ok()?.iter().find(|entry| entry.name == *name)?.clone());
            if !rest.is_empty() {
                let before = met.entries.len();
                walk(look, &with_slash(&url), rest, met)?;
                if met.entries.len() == before && link().is_some_and(|link| link.kind == EntryKind::Nothing) {
                    met.nowhere.insert(url);
                }
                return Ok(());
            }
            match look.look(&url) {
                Ok(seen) => {
                    let entry = Entry { name: name.clone(), is_utf8: true, kind: seen.kind, seen: Some(seen) };
                    met.entries.push((url, entry));
                    Ok(())
                }
                // A link that leads nowhere is there; opening it says what is wrong.
                Err(error) if error.is_nothing() => {
                    met.entries.extend(link().map(|entry| (url, entry)));
                    Ok(())
                }
                // Whoever may not enter a folder may still be told what is in it; if not, it is the folder that is in the way.
                Err(error) if error.is_denied() => {
                    let is_there = listed(look, folder)?.iter().any(|entry| entry.name == *name);
                    if is_there { Err(error.into()) } else { Ok(()) }
                }
                Err(error) => Err(error.into()),
            }
        }
        Some((Name::Pattern(_), _)) => {
            for entry in listed(look, folder)?.iter() {
                take(look, folder, entry, names, met)?;
            }
            Ok(())
        }
        Some((Name::AnyFolders, rest)) => walk_below(look, folder, rest, &mut Vec::new(), met),
    }
}

/// Finds `rest` in a folder and all below it. One that leads back to a folder `above` it is passed over: it has no end.
fn walk_below(
    look: &Look<'_>,
    folder: &str,
    rest: &[Name],
    above: &mut Vec<PathBuf>,
    met: &mut Met,
) -> Result<(), PlanError> {
    let itself = local_path(if folder.is_empty() { "." } else { folder }).and_then(|path| path.canonicalize().ok());
    if itself.as_ref().is_some_and(|itself| above.contains(itself)) {
        met.loops.insert(folder.to_owned());
        return Ok(());
    }
    let before_it = above.len();
    above.extend(itself);
    if rest.is_empty() {
        let entry = Entry { name: String::new(), is_utf8: true, kind: EntryKind::Folder, seen: None };
        met.entries.push((folder.to_owned(), entry));
    }
    for entry in listed(look, folder)?.iter() {
        let before = met.entries.len();
        take(look, folder, entry, rest, met)?;
        if entry.name.starts_with('.') {
            continue;
        }
        let url = format!("{folder}{}", entry.name);
        match kind_of(look, &url, entry)? {
            EntryKind::Folder => walk_below(look, &with_slash(&url), rest, above, met)?,
            // One that is found itself is there; opening it says what is wrong.
            EntryKind::Nothing if met.entries.len() == before => {
                met.nowhere.insert(url);
            }
            EntryKind::Nothing | EntryKind::File | EntryKind::Stream => {}
        }
    }
    above.truncate(before_it);
    Ok(())
}

/// Takes an entry of a folder if it has the first of `names`: itself, or what is in it.
fn take(look: &Look<'_>, folder: &str, entry: &Entry, names: &[Name], met: &mut Met) -> Result<(), PlanError> {
    let Some((first, rest)) = names.split_first() else { return Ok(()) };
    let fits = match first {
        Name::Literal(name) => entry.name == *name,
        Name::Pattern(pattern) => pattern.matches_with(&entry.name, OPTIONS),
        Name::AnyFolders => false,
    };
    if !fits {
        return Ok(());
    }
    let url = format!("{folder}{}", entry.name);
    if rest.is_empty() {
        met.entries.push((url, entry.clone()));
        return Ok(());
    }
    match kind_of(look, &url, entry)? {
        EntryKind::Folder => walk(look, &with_slash(&url), rest, met),
        EntryKind::Nothing => {
            met.nowhere.insert(url);
            Ok(())
        }
        EntryKind::File | EntryKind::Stream => Ok(()),
    }
}

/// What an entry is, for who wants to enter it.
///
/// # Errors
/// A folder whose name is not UTF-8: no URL leads into it. A link that may not be followed: it may lead to a folder.
fn kind_of(look: &Look<'_>, url: &str, entry: &Entry) -> Result<EntryKind, PlanError> {
    let kind = match entry.kind {
        EntryKind::Nothing => match look.look(url) {
            Err(error) if error.is_nothing() => EntryKind::Nothing,
            seen => seen?.kind,
        },
        kind => kind,
    };
    if kind == EntryKind::Folder && !entry.is_utf8 { Err(PlanError::NotUtf8(url.into())) } else { Ok(kind) }
}

/// A folder's list; nothing where there is no such folder.
fn listed(look: &Look<'_>, folder: &str) -> Result<std::rc::Rc<Vec<Entry>>, PlanError> {
    match look.list(folder) {
        Err(error) if error.is_nothing() => Ok(Default::default()),
        listed => Ok(listed?),
    }
}
