//! What wildcards find in a store, folder by folder: `*`, `?`, `[..]` within a name, `**` for any folders between.
//!
//! Names come in the order of a walk through sorted folders, a folder's content where its own name stands. What is hidden is found only by
//! a dot that is written. A `?` in another store's URL begins its query and is no wildcard.

use glob::{MatchOptions, Pattern};

use super::PlanError;
use super::look::{Look, folder_of, with_slash};
use crate::store::{Entry, EntryKind, StoreError, scheme};

/// Names within one folder; a leading dot is written or not meant.
const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// Where the first wildcard stands.
pub(super) fn first_wildcard(item: &str) -> Option<usize> {
    if scheme(item).is_some() { item.find(['*', '[']) } else { item.find(['*', '?', '[']) }
}

/// The folder before the first wildcard, as it was written, and the pattern of each name behind it.
pub(super) struct Wildcards {
    /// With its slash, or empty.
    folder: String,
    names: Vec<Name>,
    whole: Pattern,
    /// A slash at the end asks for folders.
    only_folders: bool,
}

enum Name {
    Literal(String),
    Pattern(Pattern),
    /// `**`: any number of folders.
    AnyFolders,
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

    /// What there is, with its URL.
    ///
    /// # Errors
    /// A folder that is there and cannot be listed.
    pub(super) fn find(&self, look: &Look<'_>) -> Result<Vec<(String, Entry)>, PlanError> {
        let mut found = Vec::new();
        walk(look, &self.folder, &self.names, &mut found)?;
        found.retain(|(_, entry)| !self.only_folders || entry.kind == EntryKind::Folder);
        Ok(found)
    }

    /// The folders that the last name is looked for in.
    ///
    /// # Errors
    /// One on the way that cannot be listed.
    pub(super) fn folders(&self, look: &Look<'_>) -> Result<Vec<String>, PlanError> {
        let mut found = Vec::new();
        match self.names.split_last() {
            Some((_, before)) if !before.is_empty() => walk(look, &self.folder, before, &mut found)?,
            _ => return Ok(vec![self.folder.clone()]),
        }
        Ok(found.into_iter().filter(|(_, entry)| entry.kind == EntryKind::Folder).map(|(url, _)| url).collect())
    }

    /// Whether something of this URL would be found.
    pub(super) fn finds(&self, url: &str) -> bool {
        self.whole.matches_with(url, OPTIONS)
    }
}

/// Finds `names` in a folder.
fn walk(look: &Look<'_>, folder: &str, names: &[Name], found: &mut Vec<(String, Entry)>) -> Result<(), PlanError> {
    match names.split_first() {
        None => Ok(()),
        Some((Name::Literal(name), rest)) => {
            let url = format!("{folder}{name}");
            if !rest.is_empty() {
                return walk(look, &with_slash(&url), rest, found);
            }
            // A link that leads nowhere is there; opening it says what is wrong.
            let listed = || Some(look.list(folder).ok()?.iter().find(|entry| entry.name == *name)?.clone());
            match look.look(&url) {
                Ok(seen) => {
                    let entry = Entry { name: name.clone(), is_utf8: true, kind: seen.kind, seen: Some(seen) };
                    found.push((url, entry));
                }
                Err(error) if error.is_nothing() => found.extend(listed().map(|entry| (url, entry))),
                // Of a folder that nobody may enter nobody can mean anything.
                Err(StoreError::Io { error, .. }) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error.into()),
            }
            Ok(())
        }
        Some((Name::Pattern(_), _)) => {
            for entry in listed(look, folder)?.iter() {
                take(look, folder, entry, names, found)?;
            }
            Ok(())
        }
        Some((Name::AnyFolders, rest)) => {
            if rest.is_empty() {
                let entry = Entry { name: String::new(), is_utf8: true, kind: EntryKind::Folder, seen: None };
                found.push((folder.to_owned(), entry));
            }
            for entry in listed(look, folder)?.iter() {
                take(look, folder, entry, rest, found)?;
                if entry.kind == EntryKind::Folder && entry.is_utf8 && !entry.name.starts_with('.') {
                    walk(look, &format!("{folder}{}/", entry.name), names, found)?;
                }
            }
            Ok(())
        }
    }
}

/// Takes an entry of a folder if it has the first of `names`: itself, or what is in it.
fn take(
    look: &Look<'_>,
    folder: &str,
    entry: &Entry,
    names: &[Name],
    found: &mut Vec<(String, Entry)>,
) -> Result<(), PlanError> {
    let Some((first, rest)) = names.split_first() else { return Ok(()) };
    let fits = match first {
        Name::Literal(name) => entry.name == *name,
        Name::Pattern(pattern) => pattern.matches_with(&entry.name, OPTIONS),
        Name::AnyFolders => false,
    };
    let url = format!("{folder}{}", entry.name);
    match entry.kind {
        _ if !fits => Ok(()),
        _ if rest.is_empty() => {
            found.push((url, entry.clone()));
            Ok(())
        }
        EntryKind::Folder if entry.is_utf8 => walk(look, &with_slash(&url), rest, found),
        _ => Ok(()),
    }
}

/// A folder's list; nothing where there is no such folder.
fn listed(look: &Look<'_>, folder: &str) -> Result<std::rc::Rc<Vec<Entry>>, PlanError> {
    match look.list(folder) {
        Err(error) if error.is_nothing() => Ok(Default::default()),
        listed => Ok(listed?),
    }
}
