//! The manifest: which shards are committed, one file per process incarnation, one JSON line a shard.
//!
//! Its lines are checked ones, see [`checked`].
//!
//! # Invariants
//! 1. A line is appended and fsynced only when the parts it names are durable.
//! 2. Only the last line of a file can be torn. A bad line with good ones after it is corruption, an error.
//! 3. Merged, an ordinal counts once: the smallest incarnation that committed it. Others must agree with it. A rejected shard
//!    counts as the last that tried it says, until somebody has read it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{LedgerError, checked};
use trommel_core::notices::Notices;
use trommel_core::sample::{Fate, Reason, Status};

/// Version of manifest, ledger and items.
pub const SCHEMA_VERSION: u32 = 1;

/// Whether a line's shard is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LineStatus {
    /// Its parts are durable.
    Committed,
    /// Its bytes could not be had; the next run reads it again.
    Failed,
}

/// How many of each code, by code. As small as they are few: every line of a long manifest has two of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Codes(Vec<(Box<str>, u64)>);

impl Codes {
    /// How many of a code.
    #[must_use]
    pub fn get(&self, code: &str) -> Option<u64> {
        self.place(code).ok().map(|at| self.0[at].1)
    }

    /// Adds to a code.
    pub fn add(&mut self, code: &str, count: u64) {
        match self.place(code) {
            Ok(at) => self.0[at].1 += count,
            Err(at) => self.0.insert(at, (code.into(), count)),
        }
    }

    /// All codes in order, each with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(code, count)| (&**code, *count))
    }

    fn place(&self, code: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(code))
    }
}

impl From<&Codes> for BTreeMap<String, u64> {
    fn from(codes: &Codes) -> Self {
        codes.iter().map(|(code, count)| (code.to_owned(), count)).collect()
    }
}

impl Serialize for Codes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Codes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(|codes| Self(codes.into_iter().collect()))
    }
}

/// How many samples of a shard had which fate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Passed the rule.
    pub kept: u64,
    /// Fell to the rule.
    pub dropped: u64,
    /// Could not be judged.
    pub rejected: u64,
    /// Rejects by reason code.
    #[serde(default)]
    pub rejects: Codes,
    /// Remarks on samples that were not rejected (`no_caption`), by code.
    #[serde(default)]
    pub remarks: Codes,
}

impl Counts {
    /// Counts the fates by status and reason.
    #[must_use]
    pub fn of(fates: &[Arc<Fate>]) -> Self {
        let mut counts = Self::default();
        fates.iter().for_each(|fate| counts.count(fate));
        counts
    }

    /// Counts one fate.
    pub fn count(&mut self, fate: &Fate) {
        let by_code = match fate.status {
            Status::Kept => {
                self.kept += 1;
                &mut self.remarks
            }
            Status::Dropped => {
                self.dropped += 1;
                &mut self.remarks
            }
            Status::Rejected => {
                self.rejected += 1;
                &mut self.rejects
            }
        };
        if let Some(reason) = &fate.reason {
            by_code.add(&reason.code, 1);
        }
    }

    /// Number of samples of every status.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.kept + self.dropped + self.rejected
    }

    /// Adds another shard's.
    pub fn add(&mut self, other: &Self) {
        self.kept += other.kept;
        self.dropped += other.dropped;
        self.rejected += other.rejected;
        for (mine, theirs) in [(&mut self.rejects, &other.rejects), (&mut self.remarks, &other.remarks)] {
            for (code, count) in theirs.iter() {
                mine.add(code, count);
            }
        }
    }
}

/// Which of a shard's part files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartKind {
    /// `ledger/<ordinal>.<incarnation>.parquet`.
    Ledger,
    /// `items/<ordinal>.<incarnation>.parquet`.
    Items,
    /// `embeddings/<ordinal>.<incarnation>.arrow`.
    Embeddings,
}

impl PartKind {
    /// Every kind of part, in the order in which they are written.
    pub const ALL: [Self; 3] = [Self::Ledger, Self::Items, Self::Embeddings];

    /// Name of the folder that holds parts of this kind.
    #[must_use]
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Items => "items",
            Self::Embeddings => "embeddings",
        }
    }

    /// Its file's extension.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Ledger | Self::Items => "parquet",
            Self::Embeddings => "arrow",
        }
    }

    /// Its file's path below the run folder.
    #[must_use]
    pub fn path(self, ordinal: u64, incarnation: u64) -> PathBuf {
        Path::new(self.folder()).join(format!("{ordinal}.{incarnation}.{}", self.extension()))
    }
}

/// Length and checksum of a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartSum {
    /// Which kind of part it is.
    pub kind: PartKind,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// crc32c, lower-case hex.
    pub crc32c: String,
}

/// One line: a shard's end, for good or for now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardLine {
    /// Schema version.
    pub schema: u32,
    /// Ordinal in the plan.
    pub ordinal: u64,
    /// The shard's name.
    pub name: String,
    /// Done, or to be read again.
    pub status: LineStatus,
    /// Why it failed, or what was odd about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
    /// Why nothing of it could be read, where that is so: its samples are lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Reason>,
    /// What was lost of it, or passed over in it.
    #[serde(default, skip_serializing_if = "Notices::is_empty")]
    pub notices: Notices,
    /// Bytes read from the store.
    pub bytes: u64,
    /// Samples by fate; all zero for a failed or rejected shard.
    pub counts: Counts,
    /// Its parts, none for a failed shard.
    pub parts: Vec<PartSum>,
    /// The decision hash it was judged under.
    pub decision: String,
}

impl ShardLine {
    /// The part of a kind.
    #[must_use]
    pub fn part(&self, kind: PartKind) -> Option<&PartSum> {
        self.parts.iter().find(|p| p.kind == kind)
    }

    /// The line as it stands in the file, with its newline.
    ///
    /// # Errors
    /// Values that are no JSON; does not happen.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        checked::encode(self)
    }

    /// A line without its newline; `None` if the checksum or the form does not hold.
    #[must_use]
    pub fn decode(line: &[u8]) -> Option<Self> {
        checked::decode(line)
    }
}

/// The good lines of one manifest file.
pub type Lines = checked::Lines<ShardLine>;

/// Reads a manifest file's bytes.
///
/// # Errors
/// See [`checked::parse`].
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Lines, LedgerError> {
    checked::parse(path, bytes, SCHEMA_VERSION)
}

/// As [`parse`], of the shards that are `wanted`.
///
/// # Errors
/// As [`parse`].
pub(super) fn parse_some(path: &Path, bytes: &[u8], wanted: impl Fn(u64) -> bool) -> Result<Lines, LedgerError> {
    #[derive(Deserialize)]
    struct Head {
        ordinal: u64,
    }
    // A line without a readable ordinal is kept, so that its form is found wrong.
    let wanted = |line: &[u8]| serde_json::from_slice::<Head>(line).map_or(true, |head| wanted(head.ordinal));
    checked::parse_some(path, bytes, SCHEMA_VERSION, wanted)
}

/// What all incarnations together say.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    /// Committed shards by ordinal: incarnation and line.
    pub committed: BTreeMap<u64, (u64, ShardLine)>,
    /// Shards that failed and were not committed by anybody: the last incarnation that tried, and its line.
    pub failed: BTreeMap<u64, (u64, ShardLine)>,
}

impl Merged {
    /// Merges the files' lines, by incarnation.
    ///
    /// # Errors
    /// As [`Merged::add`].
    pub fn of(files: BTreeMap<u64, Lines>) -> Result<Self, LedgerError> {
        let mut merged = Self::default();
        merged.add(files)?;
        Ok(merged)
    }

    /// Merges more lines in, of the same or of other incarnations.
    ///
    /// # Errors
    /// An ordinal whose lines disagree in name, decisions, counts or the checksums of ledger and embeddings. (What a part of
    /// `items` holds depends on what its incarnation had committed before.)
    pub fn add(&mut self, files: BTreeMap<u64, Lines>) -> Result<(), LedgerError> {
        for (incarnation, file) in files {
            for line in file.lines {
                let (known, failed) = (self.committed.get(&line.ordinal), self.failed.get(&line.ordinal));
                if line.status == LineStatus::Failed {
                    if failed.is_none_or(|(last, _)| *last <= incarnation) {
                        self.failed.insert(line.ordinal, (incarnation, line));
                    }
                    continue;
                }
                let counts = match known.map(|(first, known)| (*first, known, known.rejected.is_some())) {
                    None => true,
                    Some((first, known, false)) if line.rejected.is_none() => {
                        compare(first, known, incarnation, &line)?;
                        incarnation < first
                    }
                    Some((first, _, true)) if line.rejected.is_some() => incarnation >= first,
                    Some((_, _, was_rejected)) => was_rejected,
                };
                if counts {
                    self.committed.insert(line.ordinal, (incarnation, line));
                }
            }
        }
        let committed = &self.committed;
        self.failed.retain(|ordinal, _| !committed.contains_key(ordinal));
        Ok(())
    }

    /// Counts over all committed shards.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        self.committed.values().for_each(|(_, line)| sum.add(&line.counts));
        sum
    }

    /// Committed shards of which samples were read; the others are tried again by the next run.
    pub fn read(&self) -> impl Iterator<Item = u64> {
        self.committed.iter().filter(|(_, (_, line))| line.rejected.is_none()).map(|(&ordinal, _)| ordinal)
    }

    /// What was lost of all committed shards, or passed over in them; those `except` left out.
    #[must_use]
    pub fn notices(&self, except: &BTreeSet<u64>) -> Notices {
        let mut all = Notices::default();
        let lines = self.committed.iter().filter(|(ordinal, _)| !except.contains(ordinal));
        lines.for_each(|(_, (_, line))| all.merge(&line.notices));
        all
    }
}

fn compare(first: u64, known: &ShardLine, second: u64, line: &ShardLine) -> Result<(), LedgerError> {
    let sums = |l: &ShardLine, kind| l.part(kind).map(|p| p.crc32c.clone());
    let mut differs = Vec::new();
    if known.name != line.name {
        differs.push(format!("name `{}` and `{}`", known.name, line.name));
    }
    if known.decision != line.decision {
        differs.push(format!("decision hash {} and {}", known.decision, line.decision));
    }
    if known.counts != line.counts {
        differs.push(format!("counts {:?} and {:?}", known.counts, line.counts));
    }
    for kind in [PartKind::Ledger, PartKind::Embeddings] {
        if sums(known, kind) != sums(line, kind) {
            differs.push(format!("checksum of {} {:?} and {:?}", kind.folder(), sums(known, kind), sums(line, kind)));
        }
    }
    if differs.is_empty() {
        return Ok(());
    }
    Err(LedgerError::Disagree { ordinal: line.ordinal, first, second, detail: differs.join("; ") })
}
