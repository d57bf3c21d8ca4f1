//! A list of keys, SHARD/KEY a line.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use super::Coverage;
use crate::SelectError;
use crate::byte_order_mark::text_begins;

/// Bytes that are read at a time.
const BUFFER_BYTES: usize = 1 << 20;
/// Shards that are not given and are told apart.
const MAX_ABSENT: usize = 1 << 16;
/// Most bytes of a line.
const MAX_LINE_BYTES: usize = 1 << 20;

/// The shard among those that are given whose line it is.
fn given_shard<'t>(given: &HashSet<&str>, line: &'t str) -> Option<&'t str> {
    line.match_indices('/').map(|(slash, _)| &line[..slash]).find(|name| given.contains(name))
}

/// SHARD/KEY a line. Whose line it is says the shard that is asked for: names of shards and keys may hold slashes too.
pub(super) struct Keys {
    path: PathBuf,
    /// Where the lines of each shard stand that was named beforehand, once [`Keys::cover`] has looked.
    lines: OnceLock<HashMap<String, Lines>>,
}

/// Where a shard's lines stand.
#[derive(Clone, Copy, Debug)]
struct Lines {
    from: u64,
    to: u64,
    /// Other lines stand between them.
    apart: bool,
    /// Different ones among them, as far as they follow one another.
    kept: u64,
}

impl Lines {
    /// Holds no line yet.
    const NONE: Self = Self { from: 0, to: 0, apart: false, kept: 0 };

    /// Takes in the line between two bytes.
    fn add(&mut self, (from, to): (u64, u64)) {
        if self.to == 0 {
            (self.from, self.to) = (from, to);
        } else {
            self.apart |= self.to != from;
            self.to = to;
        }
    }
}

impl Keys {
    pub fn open(path: &Path) -> Result<Self, SelectError> {
        File::open(path).map_err(SelectError::at(path))?;
        Ok(Self { path: path.into(), lines: OnceLock::new() })
    }

    /// What the first line calls the shard, as far as a line says.
    pub fn first_shard(&self) -> Result<Option<String>, SelectError> {
        // A mark of three bytes may stand before it.
        let mut first: Option<String> = None;
        self.scan(0, 4, |_, text| {
            let shard = || text.rsplit_once('/').map(|(shard, _)| shard.to_owned());
            first = first.take().or_else(shard);
        })?;
        Ok(first)
    }

    /// The keys of a shard; `None` where no line is its.
    pub fn shard(&self, name: &str) -> Result<Option<HashSet<String>>, SelectError> {
        let (from, to) = match self.lines.get().map(|lines| lines.get(name)) {
            Some(Some(Lines { from, to, apart: false, .. })) => (*from, *to),
            _ => (0, u64::MAX),
        };
        let mut keys = HashSet::new();
        self.scan(from, to, |_, text| {
            keys.extend(text.strip_prefix(name).and_then(|rest| rest.strip_prefix('/')).map(str::to_owned));
        })?;
        Ok((!keys.is_empty()).then_some(keys))
    }

    /// Whether any line is a shard's, where [`Keys::cover`] has asked for it.
    pub fn names(&self, shard: &str) -> Option<bool> {
        self.lines.get()?.get(shard).map(|lines| lines.to > 0)
    }

    /// How many lines there are.
    pub fn count(&self) -> Result<u64, SelectError> {
        let mut count = 0;
        self.scan(0, u64::MAX, |_, text| count += u64::from(!text.is_empty()))?;
        Ok(count)
    }

    /// Reads the list once: notes where the lines of `shards` and of `others` stand, and counts those of `shards` and all others.
    pub fn cover(&self, shards: &[&str], others: &[&str]) -> Result<Coverage, SelectError> {
        let given: HashSet<&str> = shards.iter().copied().collect();
        // Who has no line here is not looked for again.
        let mut lines: HashMap<String, Lines> =
            given.iter().chain(others).map(|name| ((*name).to_owned(), Lines::NONE)).collect();
        let (mut coverage, mut absent) = (Coverage::default(), HashSet::new());
        // The lines of the shard that is read, each once; and how many lines all given shards have.
        let (mut shard, mut seen, mut all) = (String::new(), HashSet::new(), 0);
        self.scan(0, u64::MAX, |place, text| {
            for name in text.match_indices('/').map(|(slash, _)| &text[..slash]) {
                if let Some(lines) = lines.get_mut(name) {
                    lines.add(place);
                }
            }
            if let Some(name) = given_shard(&given, text) {
                if shard != name {
                    name.clone_into(&mut shard);
                    seen.clear();
                }
                all += 1;
                if !seen.insert(text.to_owned()) {
                    coverage.first_repeated.get_or_insert_with(|| text.to_owned());
                } else if let Some(lines) = lines.get_mut(name) {
                    lines.kept += 1;
                }
            } else if let Some((shard, _)) = text.rsplit_once('/') {
                if coverage.absent_samples == 0 {
                    coverage.first = shard.to_owned();
                }
                coverage.absent_samples += 1;
                // A key may hold slashes: as many shards as there may be.
                if absent.len() < MAX_ABSENT && !absent.contains(shard) {
                    absent.insert(shard.to_owned());
                }
            }
        })?;
        coverage.absent = absent.len() as u64;
        let is_apart = |name: &str| lines.get(name).is_some_and(|lines| lines.apart);
        coverage.kept = given.iter().filter(|name| !is_apart(name)).map(|name| lines[*name].kept).sum();
        if given.iter().any(|name| is_apart(name)) {
            // Equal lines may stand anywhere: a hash is held of each.
            let mut seen = HashSet::new();
            self.scan(0, u64::MAX, |_, text| {
                if given_shard(&given, text).is_some_and(is_apart) && !seen.insert(Sha256::digest(text)) {
                    coverage.first_repeated.get_or_insert_with(|| text.to_owned());
                }
            })?;
            coverage.kept += seen.len() as u64;
        }
        coverage.repeated = all - coverage.kept;
        let _ = self.lines.set(lines);
        Ok(coverage)
    }

    /// Gives every line that begins between two bytes, with where it stands; 0 is where the text begins.
    fn scan(&self, from: u64, to: u64, mut each: impl FnMut((u64, u64), &str)) -> Result<(), SelectError> {
        let mut file = File::open(&self.path).map_err(SelectError::at(&self.path))?;
        let from = from.max(text_begins(&file).map_err(SelectError::at(&self.path))?);
        file.seek(SeekFrom::Start(from)).map_err(SelectError::at(&self.path))?;
        let (mut input, mut at, mut line) = (BufReader::with_capacity(BUFFER_BYTES, file), from, Vec::new());
        while at < to {
            line.clear();
            let read = Read::take(&mut input, MAX_LINE_BYTES as u64).read_until(b'\n', &mut line);
            let read = read.map_err(SelectError::at(&self.path))?;
            if read == 0 {
                break;
            }
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            if text.len() >= MAX_LINE_BYTES {
                return Err(self.bad(at, "a line of more than a megabyte"));
            }
            let text = std::str::from_utf8(text).map_err(|_| self.bad(at, "a line that is not UTF-8"))?;
            let text = text.strip_suffix('\r').unwrap_or(text);
            if !text.is_empty() && !text.contains('/') {
                return Err(self.bad(
                    at,
                    &format!("`{text:.100}`; SHARD/KEY is due; keys alone stand in a list NAME.keys, sorted"),
                ));
            }
            each((at, at + read as u64), text);
            at += read as u64;
        }
        Ok(())
    }

    fn bad(&self, at: u64, what: &str) -> SelectError {
        SelectError::Input(format!("{}: no list of samples: at byte {at}: {what}", self.path.display()))
    }
}
