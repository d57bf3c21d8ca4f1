//! Arguments to a numbered list of shards with stable names.
//!
//! An argument is `[NAME=]SHARDS`, where SHARDS is a `::` list of paths, globs, brace ranges, folders, `file:` URLs or `-`. In order:
//! split at `::`, `${X}` from the store's variable `WDS_X`, braces, then wildcards (sorted) and folders (their [`SHARD_ENDINGS`],
//! sorted, not deeper).
//!
//! A shard's **name** is what hashes, ties and ledgers use: its path relative to its argument's literal folder, the one before the
//! first wildcard or brace; of another store's URL, all but scheme, credentials and query. So data may move without changing
//! one decision. Two shards of one name are refused; `NAME=SHARDS` puts `NAME/` before the names of its argument. What is there
//! wins over that notation: in `lang=en/0.tar` nothing is a name where a folder `lang=en` is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::braces::{self, BraceError};
use super::store::{self, Entry, FileInfo, Kind, Store, StoreError, local_path, remote_name, scheme};
use trommel_core::notices::Notices;

mod growing;
mod look;
mod lost;
mod wildcards;

pub use self::growing::{GrowingPlan, ReaderPlan};
pub(crate) use self::look::Look;
use self::look::with_slash;
pub(crate) use self::lost::gone_from;
pub use self::lost::{Lost, losses};
use self::wildcards::{Wildcards, first_wildcard};

/// One shard of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardRef {
    /// Number in the plan, from 0.
    pub ordinal: u64,
    /// Stable name: the URL without scheme, query and credentials.
    pub name: String,
    /// The URL or path that it is opened by.
    pub url: String,
    /// Size in bytes when planned; `None` where it is not known (standard input).
    pub bytes: Option<u64>,
}

/// Every shard of a run, in order. Plans are equal by their shards.
#[derive(Clone, Debug, Default, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The shards; the ordinal of each is its position.
    pub shards: Vec<ShardRef>,
    /// Shards that were asked for and are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<Lost>,
    /// What was found where shards were looked for, and passed over.
    #[serde(default, skip_serializing_if = "Notices::is_empty")]
    pub passed_over: Notices,
}

impl PartialEq for Plan {
    fn eq(&self, other: &Self) -> bool {
        self.shards == other.shards
    }
}

impl Plan {
    /// Number of shards.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.len()
    }

    /// Whether there is no shard.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    /// The shard with this ordinal.
    #[must_use]
    pub fn shard(&self, ordinal: u64) -> Option<&ShardRef> {
        usize::try_from(ordinal).ok().and_then(|at| self.shards.get(at))
    }

    /// The shards of one slice: those whose ordinal modulo `part.count` is `part.index`.
    pub fn part(&self, part: PlanSlice) -> impl Iterator<Item = &ShardRef> {
        self.shards.iter().filter(move |shard| shard.ordinal % part.count == part.index)
    }

    /// Bytes of all shards; `None` when one is not known.
    #[must_use]
    pub fn total_bytes(&self) -> Option<u64> {
        self.shards.iter().map(|shard| shard.bytes).sum()
    }

    /// The first difference from a stored plan that matters: number, names, sizes. Where the files lie does not.
    #[must_use]
    pub fn difference(&self, stored: &Self) -> Option<String> {
        let pairs = self.shards.iter().zip(&stored.shards);
        let differs = |(now, then): (&ShardRef, &ShardRef)| {
            let at = now.ordinal;
            if now.name != then.name {
                return Some(format!("shard {at} is {} and was {}", now.name, then.name));
            }
            match (now.bytes, then.bytes) {
                (Some(a), Some(b)) if a != b => Some(format!("shard {at} ({}) has {a} bytes and had {b}", now.name)),
                _ => None,
            }
        };
        let counts =
            || (self.len() != stored.len()).then(|| format!("{} shards now, {} before", self.len(), stored.len()));
        pairs.filter_map(differs).next().or_else(counts)
    }
}

/// `I/N`: slice I (from 0) of N.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanSlice {
    /// Which slice, from 0.
    pub index: u64,
    /// How many slices.
    pub count: u64,
}

/// What is no slice of a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a part is I/N with I from 0 to N-1, not {0:?}")]
pub struct PartError(String);

impl FromStr for PlanSlice {
    type Err = PartError;

    fn from_str(text: &str) -> Result<Self, PartError> {
        let parsed = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parsed {
            Some((index, count)) if index < count => Ok(Self { index, count }),
            _ => Err(PartError(text.to_owned())),
        }
    }
}

/// What planning may see and how far it goes.
#[derive(Clone, Copy)]
pub struct PlanOptions {
    /// Most shards of a plan.
    pub max_shards: usize,
    /// Every file is opened once, so that what cannot be read is found before a run starts. Not worth it for who looks again and again.
    pub opens: bool,
    /// Statistics without their shard mean that it is gone once they lie there for so long: where shards arrive, they may be first.
    pub settle: Duration,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self { max_shards: 10_000_000, opens: true, settle: Duration::ZERO }
    }
}

/// Why there is no plan. All of these are wrong input, none is a failure to retry.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// No shard was named.
    #[error("no shards given")]
    Empty,
    /// Braces that do not balance, or stand for too many names.
    #[error(transparent)]
    Braces(#[from] BraceError),
    /// `${X}` without the variable `WDS_X`.
    #[error("{argument}: ${{{variable}}} needs the environment variable WDS_{variable}")]
    Variable {
        /// The argument as given.
        argument: String,
        /// The variable's name without `WDS_`.
        variable: String,
    },
    /// A `pipe:` command.
    #[error("{0}: pipe: is not supported in this build yet; run the command yourself and give its output as -")]
    Pipe(String),
    /// Nothing there, not readable, or of a store that nobody knows.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A wildcard that finds nothing.
    #[error("{0}: no such shard")]
    NoMatch(String),
    /// A wildcard that cannot be read.
    #[error("{0}: {1}")]
    Pattern(String, String),
    /// A folder without shards.
    #[error("{0}: the folder holds no .tar, be it plain or .gz, .zst, .xz, .bz2")]
    NoShards(String),
    /// Two shards with one name.
    #[error("{first} and {second} would both be called {name}: give one of them a name of its own, NAME=SHARDS")]
    SameName {
        /// The name that both would have.
        name: String,
        /// The first shard's URL.
        first: String,
        /// The second shard's URL.
        second: String,
    },
    /// More shards than allowed.
    #[error("more than {0} shards")]
    TooMany(usize),
    /// A file name that is not UTF-8.
    #[error("{0}: the name is not UTF-8")]
    NotUtf8(String),
}

/// The plan that `arguments` stand for.
///
/// # Errors
/// The first argument that cannot be expanded, is missing, or repeats a name.
pub fn expand(arguments: &[String], store: &dyn Store, options: &PlanOptions) -> Result<Plan, PlanError> {
    look_up(arguments, store, options).map(|(plan, _)| plan)
}

/// The same, and what the store says of each shard.
///
/// # Errors
/// As [`expand`].
pub fn look_up(
    arguments: &[String],
    store: &dyn Store,
    options: &PlanOptions,
) -> Result<(Plan, Vec<FileInfo>), PlanError> {
    let look = Look::at(store);
    let (mut shards, mut all_seen): (Vec<ShardRef>, _) = (Vec::new(), Vec::new());
    let (mut gone, mut passed_over) = (BTreeMap::new(), Notices::default());
    for argument in arguments {
        let (prefix, list) = named(argument, store, options.max_shards);
        let prefixed = |name: String| prefix.map_or(name.clone(), |prefix| format!("{prefix}/{name}"));
        for item in list.split("::").filter(|item| !item.is_empty()) {
            let found = one(&substitute(item, store)?, &look, options)?;
            passed_over.merge(&found.passed_over);
            for (name, url, seen) in found.shards {
                shards.push(ShardRef { ordinal: shards.len() as u64, name: prefixed(name), url, bytes: seen.bytes });
                all_seen.push(seen);
            }
            gone.extend(found.gone.into_iter().map(|(path, lost)| (path, Lost { name: prefixed(lost.name), ..lost })));
            if shards.len() > options.max_shards {
                return Err(PlanError::TooMany(options.max_shards));
            }
        }
    }
    let mut names = HashMap::new();
    for shard in &shards {
        if let Some(first) = names.insert(&shard.name, &shard.url) {
            let (name, first, second) = (shard.name.clone(), first.clone(), shard.url.clone());
            return Err(PlanError::SameName { name, first, second });
        }
    }
    let is_nothing = shards.is_empty() && (options.opens || gone.is_empty());
    let lost = gone.into_values().collect();
    if is_nothing { Err(PlanError::Empty) } else { Ok((Plan { shards, lost, passed_over }, all_seen)) }
}

/// The name and the shards of `NAME=SHARDS`; no name where the whole is a path, or a pattern in a folder, that is there.
#[must_use]
pub fn named<'a>(argument: &'a str, store: &dyn Store, max_names: usize) -> (Option<&'a str>, &'a str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    match argument.split_once('=') {
        Some((name, list)) if !name.is_empty() && name.chars().all(plain) && !is_there(argument, store, max_names) => {
            (Some(name), list)
        }
        _ => (None, argument),
    }
}

/// Whether the part of a path that holds its first `=` exists: `lang=en` of `lang=en/*.tar`, of one of its braces' names at least.
fn is_there(argument: &str, store: &dyn Store, max_names: usize) -> bool {
    let (look, first) = (Look::at(store), argument.split("::").next().unwrap_or(argument));
    let part = |name: &str| {
        let equals = name.find('=').unwrap_or(0);
        name[..name[equals..].find('/').map_or(name.len(), |slash| equals + slash)].to_owned()
    };
    let finds = |part: &str| Wildcards::parse(part)?.find(&look).map(|found| !found.is_empty());
    let exists = |part: &String| {
        look.look(part).is_ok() || first_wildcard(part).is_some() && finds(part).is_ok_and(|found| found)
    };
    let mut parts: Vec<String> =
        braces::expand(first, max_names).unwrap_or_default().iter().map(|name| part(name)).collect();
    parts.dedup(); // of a long range usually one is left
    look.look(argument).is_ok() || parts.iter().any(exists)
}

/// `${X}` by the value of the store's variable `WDS_X`; values may hold more of them, ten deep.
///
/// # Errors
/// A variable that the store does not know.
pub fn substitute(item: &str, store: &dyn Store) -> Result<String, PlanError> {
    let mut text = item.to_string();
    for _ in 0..10 {
        let (mut out, mut rest, mut found) = (String::new(), text.as_str(), false);
        while let Some(at) = rest.find("${") {
            let after = &rest[at + 2..];
            let end = after.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(after.len());
            if end == 0 || !after[end..].starts_with('}') {
                out.push_str(&rest[..at + 2]);
                rest = after;
                continue;
            }
            let variable = &after[..end];
            let value = store.variable(&format!("WDS_{variable}"));
            let missing = || PlanError::Variable { argument: item.into(), variable: variable.into() };
            out.push_str(&rest[..at]);
            out.push_str(&value.ok_or_else(missing)?);
            rest = &after[end + 1..];
            found = true;
        }
        out.push_str(rest);
        if !found || out.len() > 1 << 20 {
            return Ok(out);
        }
        text = out;
    }
    Ok(text)
}

/// A shard's name, its URL, and what it is.
type Shard = (String, String, FileInfo);

/// What an item of a list stands for.
#[derive(Default)]
struct Found {
    shards: Vec<Shard>,
    /// By path, for another item may ask for it too.
    gone: BTreeMap<PathBuf, Lost>,
    passed_over: Notices,
}

impl Found {
    fn only(shard: Shard) -> Self {
        Self { shards: vec![shard], ..Self::default() }
    }

    /// Notes the folders among what a wildcard has met and not entered: whoever writes one may mean what is in them.
    fn pass_over(&mut self, met: &[(String, Entry)]) {
        let (folders, files): (Vec<_>, Vec<_>) = met.iter().partition(|(_, entry)| entry.kind == Kind::Folder);
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

    /// Notes what is gone from a folder; the first `skip` bytes of a path belong to no name.
    fn miss(&mut self, gone: Vec<(String, Option<u64>)>, skip: usize) {
        for (url, promised) in gone {
            let lost = Lost { name: name_of(&url, skip), promised };
            self.gone.insert(PathBuf::from(url.trim_start_matches("./")), lost);
        }
    }
}

/// The shards of one item of a list.
fn one(item: &str, look: &Look<'_>, options: &PlanOptions) -> Result<Found, PlanError> {
    let (opens, settle) = (options.opens, options.settle);
    if item == "-" {
        let stdin = FileInfo { kind: Kind::Stream, bytes: None, modified: None, stamp: None };
        return Ok(Found::only(("-".into(), "-".into(), stdin)));
    }
    if item.starts_with("pipe:") {
        return Err(PlanError::Pipe(item.into()));
    }
    let item = local_path(item).and_then(Path::to_str).unwrap_or(item);
    match look.look(item) {
        Ok(seen) if seen.kind == Kind::File => {
            return Ok(Found::only(shard(look, item, seen, folder_length(item, true), opens)?));
        }
        Err(error @ StoreError::Scheme { .. }) => return Err(error.into()),
        _ => {}
    }
    let folder = braces::unescape(&item[..folder_length(item, false)]).len();
    let mut found = Found::default();
    // Who looks again and again may look before anything has come, or after all is gone.
    let come = |shards| match shards {
        Err(PlanError::NoShards(_) | PlanError::NoMatch(_)) if !opens => Ok(Vec::new()),
        shards => shards,
    };
    let names = braces::expand(item, options.max_shards)?;
    look.prepare(&names);
    for name in names {
        match look.look(&name) {
            Ok(seen) if seen.kind == Kind::Folder => {
                found.shards.extend(come(inside(look, &name, opens))?);
                found.miss(gone_from(look, &name, settle, |_| true)?, with_slash(&name).len());
            }
            Ok(seen) => found.shards.push(shard(look, &name, seen, folder, opens)?),
            Err(_) if first_wildcard(&name).is_some() => {
                let wildcards = Wildcards::parse(&name)?;
                let met = wildcards.find(look)?;
                found.pass_over(&met);
                found.shards.extend(come(matching(look, &name, &met, folder, opens))?);
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
    if opens && seen.kind == Kind::File {
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

fn shards_of(look: &Look<'_>, folder: &str) -> Result<Vec<(String, Entry)>, PlanError> {
    let is_shard =
        |entry: &&Entry| !entry.name.starts_with('.') && is_shard_name(&entry.name) && entry.kind != Kind::Folder;
    let at = |entry: &Entry| (format!("{}{}", with_slash(folder), entry.name), entry.clone());
    Ok(look.list(folder)?.iter().filter(is_shard).map(at).collect())
}

fn inside(look: &Look<'_>, folder: &str, opens: bool) -> Result<Vec<Shard>, PlanError> {
    let found = shards_of(look, folder)?;
    if found.is_empty() {
        return Err(PlanError::NoShards(store::shown(folder)));
    }
    // Who looks again and again takes what leads nowhere, or has just gone, for what is still to come.
    let to_come = |found: &Result<Shard, PlanError>| match found {
        Err(PlanError::Store(error)) => !opens && error.is_nothing(),
        _ => false,
    };
    let skip = with_slash(folder).len();
    let shards = found.iter().map(|(url, entry)| listed(look, url, entry, skip, opens));
    shards.filter(|found| !to_come(found)).collect()
}

/// The files among what a wildcard has found, in the order of their folders.
fn matching(
    look: &Look<'_>,
    pattern: &str,
    found: &[(String, Entry)],
    skip: usize,
    opens: bool,
) -> Result<Vec<Shard>, PlanError> {
    let files = found.iter().filter(|(_, entry)| entry.kind != Kind::Folder);
    let shards: Vec<Shard> =
        files.map(|(url, entry)| listed(look, url, entry, skip, opens)).collect::<Result<_, _>>()?;
    if shards.is_empty() { Err(PlanError::NoMatch(store::shown(pattern))) } else { Ok(shards) }
}

#[cfg(test)]
mod tests;
