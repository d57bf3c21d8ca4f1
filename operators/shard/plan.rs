//! Arguments to a numbered list of shards with stable names.
//!
//! An argument is `[NAME=]SHARDS`, where SHARDS is a `::` list of paths, globs, brace ranges, folders, `file:` URLs or `-`. In order:
//! split at `::`, `${X}` from the environment's `WDS_X`, braces, then wildcards (sorted) and folders (their [`SHARD_ENDINGS`],
//! sorted, not deeper).
//!
//! A shard's **name** is what hashes, ties and ledgers use: its path relative to its argument's literal folder, the one before the
//! first wildcard or brace; of a URL, all but scheme, credentials and query. So data may move without changing
//! one decision. Two shards of one name are refused; `NAME=SHARDS` puts `NAME/` before the names of its argument. What is there
//! wins over that notation: in `lang=en/0.tar` nothing is a name where a folder `lang=en` is.

use std::collections::{BTreeMap, HashMap};
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::braces::{self, BraceError};
use super::store::local_path;

mod growing;
mod lost;

pub use self::growing::{GrowingPlan, Shards};
use self::lost::asked_by;
pub(crate) use self::lost::gone_from;
pub use self::lost::{Lost, losses};

/// One shard of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardRef {
    /// Number in the plan, from 0.
    pub ordinal: u64,
    /// Stable name.
    pub name: String,
    /// As opened.
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
    pub fn part(&self, part: Part) -> impl Iterator<Item = &ShardRef> {
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
pub struct Part {
    /// Which slice, from 0.
    pub index: u64,
    /// How many slices.
    pub count: u64,
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parsed {
            Some((index, count)) if index < count => Ok(Self { index, count }),
            _ => Err(format!("a part is I/N with I from 0 to N-1, not {text:?}")),
        }
    }
}

/// What planning may see and how far it goes.
#[derive(Clone, Copy)]
pub struct PlanOptions<'a> {
    /// The value of an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Most shards of a plan.
    pub max_shards: usize,
    /// Every file is opened once, so that what cannot be read is found before a run starts. Not worth it for who looks again and again.
    pub opens: bool,
    /// Statistics without their shard mean that it is gone once they lie there for so long: where shards arrive, they may be first.
    pub settle: Duration,
}

impl Default for PlanOptions<'_> {
    fn default() -> Self {
        Self { variable: &|name| std::env::var(name).ok(), max_shards: 10_000_000, opens: true, settle: Duration::ZERO }
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
        /// The argument.
        argument: String,
        /// The variable's name without `WDS_`.
        variable: String,
    },
    /// A scheme that comes later.
    #[error("{url}: {scheme}: is not supported in this build yet; copy the shards to a local folder")]
    Scheme {
        /// The URL, without credentials.
        url: String,
        /// Its scheme.
        scheme: String,
    },
    /// `pipe:`.
    #[error("{0}: pipe: is not supported in this build yet; run the command yourself and give its output as -")]
    Pipe(String),
    /// Nothing there, or not readable.
    #[error("{path}: {error}")]
    Io {
        /// The path.
        path: String,
        /// Why.
        error: io::Error,
    },
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
        /// The name.
        name: String,
        /// The first shard's URL.
        first: String,
        /// The second's.
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
pub fn expand(arguments: &[String], options: &PlanOptions<'_>) -> Result<Plan, PlanError> {
    let mut shards: Vec<ShardRef> = Vec::new();
    let mut gone = BTreeMap::new();
    for argument in arguments {
        let (prefix, list) = named(argument, options.max_shards);
        let prefixed = |name: String| prefix.map_or(name.clone(), |prefix| format!("{prefix}/{name}"));
        for item in list.split("::").filter(|item| !item.is_empty()) {
            let found = one(&substitute(item, options)?, options)?;
            for (name, url, bytes) in found.shards {
                shards.push(ShardRef { ordinal: shards.len() as u64, name: prefixed(name), url, bytes });
            }
            gone.extend(found.gone.into_iter().map(|(path, lost)| (path, Lost { name: prefixed(lost.name), ..lost })));
            if shards.len() > options.max_shards {
                return Err(PlanError::TooMany(options.max_shards));
            }
        }
    }
    let mut seen = HashMap::new();
    for shard in &shards {
        if let Some(first) = seen.insert(&shard.name, &shard.url) {
            let (name, first, second) = (shard.name.clone(), first.clone(), shard.url.clone());
            return Err(PlanError::SameName { name, first, second });
        }
    }
    let is_nothing = shards.is_empty() && (options.opens || gone.is_empty());
    if is_nothing { Err(PlanError::Empty) } else { Ok(Plan { shards, lost: gone.into_values().collect() }) }
}

/// The name and the shards of `NAME=SHARDS`; no name where the whole is a path, or a pattern in a folder, that is there.
#[must_use]
pub fn named(argument: &str, max_names: usize) -> (Option<&str>, &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    match argument.split_once('=') {
        Some((name, list)) if !name.is_empty() && name.chars().all(plain) && !is_there(argument, max_names) => {
            (Some(name), list)
        }
        _ => (None, argument),
    }
}

/// Whether the part of a path that holds its first `=` exists: `lang=en` of `lang=en/*.tar`, of one of its braces' names at least.
fn is_there(argument: &str, max_names: usize) -> bool {
    let first = argument.split("::").next().unwrap_or(argument);
    let part = |name: &str| {
        let equals = name.find('=').unwrap_or(0);
        name[..name[equals..].find('/').map_or(name.len(), |slash| equals + slash)].to_owned()
    };
    let exists = |part: &String| {
        Path::new(part).exists()
            || part.contains(['*', '?', '[']) && glob::glob(part).is_ok_and(|mut found| found.next().is_some())
    };
    let mut parts: Vec<String> =
        braces::expand(first, max_names).unwrap_or_default().iter().map(|name| part(name)).collect();
    parts.dedup(); // of a long range usually one is left
    Path::new(argument).exists() || parts.iter().any(exists)
}

/// `${X}` by the value of `WDS_X`; values may hold more of them, ten deep.
fn substitute(item: &str, options: &PlanOptions<'_>) -> Result<String, PlanError> {
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
            let value = (options.variable)(&format!("WDS_{variable}"));
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

/// A shard's name, URL and size.
type Shard = (String, String, Option<u64>);

/// What an item of a list stands for.
#[derive(Default)]
struct Found {
    shards: Vec<Shard>,
    /// By path, for another item may ask for it too.
    gone: BTreeMap<PathBuf, Lost>,
}

impl Found {
    fn only(shard: Shard) -> Self {
        Self { shards: vec![shard], ..Self::default() }
    }

    /// Looks for what is gone from a folder; the first `skip` bytes of a path belong to no name.
    fn miss(&mut self, folder: &Path, skip: usize, settle: Duration, is_asked: impl Fn(&Path) -> bool) {
        for (path, promised) in gone_from(folder, settle, is_asked) {
            let name = path.to_str().map(|text| text.get(skip..).unwrap_or(text).to_owned()).unwrap_or_default();
            self.gone.insert(path, Lost { name, promised });
        }
    }
}

/// The shards of one item of a list.
fn one(item: &str, options: &PlanOptions<'_>) -> Result<Found, PlanError> {
    let opens = options.opens;
    if item == "-" {
        return Ok(Found::only(("-".into(), "-".into(), None)));
    }
    if item.starts_with("pipe:") {
        return Err(PlanError::Pipe(item.into()));
    }
    if let Some(scheme) = remote_scheme(item) {
        return Err(PlanError::Scheme { url: without_credentials(item), scheme: scheme.into() });
    }
    let item = local_path(item).to_str().unwrap_or(item);
    let literal = Path::new(item);
    if literal.is_file() {
        return Ok(Found::only(file(literal, folder_length(item), opens)?));
    }
    let folder = braces::unescape(&item[..folder_length(item)]).len();
    let mut found = Found::default();
    // Who looks again and again may look before anything has come, or after all is gone.
    let come = |shards| match shards {
        Err(PlanError::NoShards(_) | PlanError::NoMatch(_)) if !opens => Ok(Vec::new()),
        shards => shards,
    };
    for name in braces::expand(item, options.max_shards)? {
        let path = Path::new(&name);
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                found.shards.extend(come(inside(path, opens))?);
                found.miss(path, path.join("").as_os_str().len(), options.settle, |_| true);
            }
            Ok(metadata) => found.shards.push(seen(path, &metadata, folder, opens)?),
            Err(_) if name.contains(['*', '?', '[']) => {
                found.shards.extend(come(matching(&name, folder, opens))?);
                if let Some((folders, is_asked)) = asked_by(&name) {
                    for place in folders {
                        let skip = if place == Path::new(".") { 2 } else { without_dot(&name, folder) };
                        found.miss(&place, skip, options.settle, &is_asked);
                    }
                }
            }
            Err(error) => return Err(PlanError::Io { path: name, error }),
        }
    }
    Ok(found)
}

/// Bytes of the literal folder, its slash included: what stands before the last slash before the first wildcard or brace.
fn folder_length(item: &str) -> usize {
    let special = match Path::new(item).is_file() {
        true => item.len(),
        false => item.find(['*', '?', '[', '{']).unwrap_or(item.len()),
    };
    item[..special].rfind('/').map_or(0, |slash| slash + 1)
}

fn file(path: &Path, folder: usize, opens: bool) -> Result<Shard, PlanError> {
    let metadata =
        std::fs::metadata(path).map_err(|error| PlanError::Io { path: path.display().to_string(), error })?;
    seen(path, &metadata, folder, opens)
}

fn seen(path: &Path, metadata: &Metadata, folder: usize, opens: bool) -> Result<Shard, PlanError> {
    let text = path.to_str().ok_or_else(|| PlanError::NotUtf8(path.display().to_string()))?;
    let io = |error| PlanError::Io { path: text.into(), error };
    // Opening now finds what cannot be read before the run starts; a named pipe would wait for its writer.
    if opens && metadata.is_file() {
        std::fs::File::open(path).map_err(io)?;
    }
    let name = text.get(folder..).unwrap_or(text).to_string();
    Ok((name, text.into(), metadata.is_file().then_some(metadata.len())))
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

/// The files in a folder that are shards by their names, sorted; links that lead nowhere among them.
///
/// # Errors
/// A folder that cannot be read.
pub fn shards_in(folder: &Path) -> Result<Vec<PathBuf>, PlanError> {
    let io = |error| PlanError::Io { path: folder.display().to_string(), error };
    let entries: Result<Vec<PathBuf>, _> =
        std::fs::read_dir(folder).map_err(io)?.map(|entry| entry.map(|entry| entry.path())).collect();
    let is_shard = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        !name.starts_with('.') && is_shard_name(&name) && !path.is_dir()
    };
    let mut paths: Vec<PathBuf> = entries.map_err(io)?.into_iter().filter(is_shard).collect();
    paths.sort();
    Ok(paths)
}

fn inside(folder: &Path, opens: bool) -> Result<Vec<Shard>, PlanError> {
    let paths = shards_in(folder)?;
    if paths.is_empty() {
        return Err(PlanError::NoShards(folder.display().to_string()));
    }
    let name = |path: &PathBuf| path.file_name().map_or(0, |name| path.as_os_str().len() - name.len());
    // Who looks again and again takes what leads nowhere, or has just gone, for what is still to come.
    let to_come = |found: &Result<Shard, PlanError>| match found {
        Err(PlanError::Io { error, .. }) => !opens && error.kind() == io::ErrorKind::NotFound,
        _ => false,
    };
    paths.iter().map(|path| file(path, name(path), opens)).filter(|found| !to_come(found)).collect()
}

/// The files that a wildcard finds, sorted; folders among them are passed over.
fn matching(pattern: &str, folder: usize, opens: bool) -> Result<Vec<Shard>, PlanError> {
    let wrong = |error: glob::PatternError| PlanError::Pattern(pattern.into(), error.to_string());
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..Default::default() };
    let mut found = Vec::new();
    for path in glob::glob_with(pattern, options).map_err(wrong)? {
        let path = path.map_err(|error| {
            let path = error.path().display().to_string();
            PlanError::Io { path, error: error.into_error() }
        })?;
        if !path.is_dir() {
            // The glob drops a leading "./".
            let folder = if path.starts_with("./") { folder } else { without_dot(pattern, folder) };
            found.push(file(&path, folder, opens)?);
        }
    }
    if found.is_empty() { Err(PlanError::NoMatch(pattern.into())) } else { Ok(found) }
}

/// The length of a pattern's literal folder without a leading "./".
fn without_dot(pattern: &str, folder: usize) -> usize {
    folder.saturating_sub(pattern.len() - pattern.strip_prefix("./").unwrap_or(pattern).len())
}

/// The scheme of a URL that is not a local file's.
fn remote_scheme(item: &str) -> Option<&str> {
    let (scheme, _) = item.split_once("://")?;
    let known = scheme.len() > 1 && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    (known && scheme != "file").then_some(scheme)
}

fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.into() };
    let host_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let host = rest[..host_end].rfind('@').map_or(0, |at| at + 1);
    let path = rest[host..].split('?').next().unwrap_or_default();
    format!("{scheme}://{path}")
}

/// The stable name of a remote shard: its URL without scheme, credentials and query.
#[must_use]
pub fn remote_name(url: &str) -> String {
    let plain = without_credentials(url);
    plain.split_once("://").map_or(plain.clone(), |(_, rest)| rest.to_string())
}

#[cfg(test)]
mod tests;
