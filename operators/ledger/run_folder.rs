//! A run folder: who may work on it, what it was made with, and what of it counts.
//!
//! ```text
//!  lock                        the run's lock; lock.part-I-of-N one a slice; lock.open while a folder is being opened
//!  config.json                 decision hash, the fields it is made of, the numeric part, a record for people
//!  plan.json                   the shards, in order
//!  manifest/<incarnation>.jsonl  which shards are committed; locked by its writer while it lives
//!  ledger/<ordinal>.<incarnation>.parquet, items/..., embeddings/<ordinal>.<incarnation>.arrow
//!  logs/
//! ```
//!
//! # Invariants
//! 1. One run at a time: a single program holds `lock` alone; slices share it, each with its own lock.
//! 2. Opening cuts torn manifests and deletes unlisted parts, of incarnations whose manifest's lock is free only. One does
//!    that at a time; who comes meanwhile does without, for what a dead incarnation leaves is in nobody's way.
//! 3. An incarnation's number is used once, ever.
//! 4. Opening makes no call for each shard, and holds in memory what is this process's: parts are listed, never looked at;
//!    lengths and checksums are compared by who reads a part.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::LedgerError;
use super::manifest::{self, Merged, PartKind, SCHEMA_VERSION, ShardLine};
use super::storage::{Lock, LockKind, Output, Storage, parent, write_whole};
use trommel_core::sample::is_in_part;
use trommel_core::wake::locked;

/// What the record calls that pictures are to be blurred until somebody clicks on them.
pub const BLUR: &str = "blur";

/// One field in which a folder and a command differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Path of the field: `rule`, `benchmarks[0].radii`.
    pub field: String,
    /// Its value in the folder.
    pub stored: String,
    /// The value of this start.
    pub given: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the folder has {}, now {}", self.field, self.stored, self.given)
    }
}

/// What a run was configured with, by what it decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunConfig {
    /// What the decisions depend on: rule and its seed, identity, benchmarks and radii, columns, keys, limits, ... An object.
    pub decisions: Value,
    /// The numeric part: device, precision, batch, libtorch. An object.
    pub numerics: Value,
    /// Anything else worth keeping for people; never compared. Of who resumes a run [`BLUR`] alone is taken over.
    pub record: Value,
}

impl RunConfig {
    /// sha256 of the decisions as JSON with sorted keys, in hex.
    #[must_use]
    pub fn decision_hash(&self) -> String {
        let mut text = String::new();
        canonical(&self.decisions, &mut text);
        format!("{:x}", Sha256::digest(text.as_bytes()))
    }
}

/// JSON with sorted keys and no spaces.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            out.push('{');
            for (at, (key, value)) in sorted.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(values) => {
            out.push('[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                canonical(value, out);
            }
            out.push(']');
        }
        simple => out.push_str(&simple.to_string()),
    }
}

/// The first differences of two values, at most eight.
#[must_use]
pub fn differences(stored: &Value, given: &Value) -> Vec<Difference> {
    let mut out = Vec::new();
    differ("", stored, given, &mut out);
    out
}

fn differ(at: &str, stored: &Value, given: &Value, out: &mut Vec<Difference>) {
    if stored == given || out.len() >= 8 {
        return;
    }
    match (stored, given) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                let place = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                let null = &Value::Null;
                differ(&place, a.get(key).unwrap_or(null), b.get(key).unwrap_or(null), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (n, (a, b)) in a.iter().zip(b).enumerate() {
                differ(&format!("{at}[{n}]"), a, b, out);
            }
        }
        (Value::Array(a), Value::Array(b)) => out.push(Difference {
            field: at.into(),
            stored: format!("{} entries", a.len()),
            given: format!("{} entries", b.len()),
        }),
        _ => out.push(Difference { field: at.into(), stored: show(stored), given: show(given) }),
    }
}

fn show(value: &Value) -> String {
    let text = match value {
        Value::Null => "none".into(),
        Value::String(text) => format!("`{text}`"),
        other => other.to_string(),
    };
    if text.chars().count() > 120 { text.chars().take(117).chain("...".chars()).collect() } else { text }
}

/// How a process takes part in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A single program, or a cluster's process 0: locks the folder alone.
    Exclusive,
    /// `--part INDEX/OF`: shards with `ordinal % of == index`.
    Slice {
        /// Which slice, from 0.
        index: u64,
        /// Number of slices.
        of: u64,
    },
    /// A cluster's other processes: process 0 has opened the folder, and holds the lock for them.
    Member,
}

impl Access {
    /// Whether a shard is this process's.
    const fn owns(self, ordinal: u64) -> bool {
        match self {
            Self::Slice { index, of } => is_in_part(ordinal, index, of),
            Self::Exclusive | Self::Member => true,
        }
    }
}

/// How to open a folder.
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions<'a, P> {
    /// The plan of this command.
    pub plan: &'a P,
    /// Whether the second plan is the first with shards added at its end; only an exclusive run may extend.
    pub extends: fn(&P, &P) -> bool,
    /// The configuration of this command.
    pub config: &'a RunConfig,
    /// Alone, a slice, or a member.
    pub access: Access,
    /// `--mix-numerics`: accept another numeric part.
    pub mix_numerics: bool,
    /// How long to wait for others that are setting the folder up.
    pub patience: Duration,
}

/// An opened run folder. Dropping it lets go of its locks.
pub struct RunFolder {
    root: PathBuf,
    storage: Arc<dyn Storage>,
    incarnation: u64,
    decision_hash: String,
    merged: Merged,
    notes: Vec<String>,
    access: Access,
    manifest: Mutex<Box<dyn Output>>,
    _locks: Vec<Box<dyn Lock>>,
}

impl RunFolder {
    /// Opens a folder for writing: locks it, compares plan and configuration (or writes them), recovers what earlier
    /// incarnations left, and takes an incarnation number.
    ///
    /// # Errors
    /// A folder that is locked, differs, is damaged, or cannot be written.
    pub fn open<P: Serialize + DeserializeOwned + PartialEq>(
        root: &Path,
        storage: Arc<dyn Storage>,
        options: &OpenOptions<'_, P>,
    ) -> Result<Self, LedgerError> {
        let disk = storage.as_ref();
        let fresh = match disk.len(&root.join("config.json")) {
            Ok(_) => false,
            Err(e) if e.kind() == io::ErrorKind::NotFound => true,
            Err(e) => return Err(LedgerError::at("look into", root)(e)),
        };
        for folder in ["manifest", "ledger", "items", "embeddings", "logs"] {
            let path = root.join(folder);
            disk.create_dir(&path).map_err(LedgerError::at("make", &path))?;
        }
        if fresh {
            disk.sync_dir(root).map_err(LedgerError::at("sync", root))?;
            let above = parent(root);
            disk.sync_dir(&above).map_err(LedgerError::at("sync", &above))?;
        }
        let mut locks = take_run_locks(root, disk, options.access)?;
        let opening = wait_for(root, disk, options.patience)?;
        let mut notes = Vec::new();
        check_config(root, disk, options.config, options.mix_numerics, &mut notes)?;
        check_plan(root, disk, options)?;
        let (merged, last) = recover(root, disk, options.access, opening.is_some(), &mut notes)?;
        let (incarnation, manifest, lock) = take_incarnation(root, disk, last)?;
        locks.push(lock);
        drop(opening);
        Ok(Self {
            root: root.to_path_buf(),
            storage,
            incarnation,
            decision_hash: options.config.decision_hash(),
            merged,
            notes,
            access: options.access,
            manifest: Mutex::new(manifest),
            _locks: locks,
        })
    }

    /// Path of the run folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where its bytes go.
    #[must_use]
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// This process's incarnation, from 0.
    #[must_use]
    pub const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The decision hash.
    #[must_use]
    pub fn decision_hash(&self) -> &str {
        &self.decision_hash
    }

    /// What was committed, and what failed, before this incarnation; of a slice, its own shards.
    #[must_use]
    pub const fn before(&self) -> &Merged {
        &self.merged
    }

    /// What recovery did, one line each.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Folder for logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Whether a shard belongs to this process's slice.
    #[must_use]
    pub const fn owns(&self, ordinal: u64) -> bool {
        self.access.owns(ordinal)
    }

    /// Appends a line to this incarnation's manifest and makes it durable.
    ///
    /// # Errors
    /// What the storage says; the line may then be torn, and nothing may be appended after it.
    pub fn append(&self, line: &ShardLine) -> Result<(), LedgerError> {
        self.append_all(std::slice::from_ref(line))
    }

    /// Appends lines, and makes them durable together.
    ///
    /// # Errors
    /// As [`RunFolder::append`].
    pub fn append_all(&self, lines: &[ShardLine]) -> Result<(), LedgerError> {
        let path = manifest_path(&self.root, self.incarnation);
        let encoded: Result<Vec<Vec<u8>>, _> = lines.iter().map(ShardLine::encode).collect();
        let bytes = encoded.map_err(|e| LedgerError::Malformed {
            path: path.clone(),
            detail: format!("a line that is no JSON: {e}"),
        })?;
        let mut manifest = locked(&self.manifest);
        manifest.write_all(&bytes.concat()).map_err(LedgerError::at("append to", &path))?;
        manifest.sync().map_err(LedgerError::at("sync", &path))
    }

    /// The stored plan.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn plan<P: DeserializeOwned>(&self) -> Result<P, LedgerError> {
        let path = self.root.join("plan.json");
        read_plan(&path, &self.storage.read(&path).map_err(LedgerError::at("read", &path))?)
    }

    /// Writes a plan that has more shards at its end than the stored one; only who holds the folder alone may.
    ///
    /// # Errors
    /// What the storage says.
    pub fn extend<P: Serialize>(&self, plan: &P) -> Result<(), LedgerError> {
        write_plan(&self.root, self.storage.as_ref(), plan)
    }
}

fn write_plan<P: Serialize>(root: &Path, disk: &dyn Storage, plan: &P) -> Result<(), LedgerError> {
    #[derive(Serialize)]
    struct Stored<'a, P> {
        schema: u32,
        plan: &'a P,
    }
    write_json(disk, &root.join("plan.json"), &Stored { schema: SCHEMA_VERSION, plan })
}

pub(super) fn manifest_path(root: &Path, incarnation: u64) -> PathBuf {
    root.join("manifest").join(format!("{incarnation}.jsonl"))
}

fn take_run_locks(root: &Path, disk: &dyn Storage, access: Access) -> Result<Vec<Box<dyn Lock>>, LedgerError> {
    let busy = |what: String| LedgerError::Busy { path: root.to_path_buf(), what };
    let lock = |name: &str, kind| {
        let path = root.join(name);
        disk.try_lock(&path, kind).map_err(LedgerError::at("lock", &path))
    };
    match access {
        Access::Member => Ok(Vec::new()),
        Access::Exclusive => lock("lock", LockKind::Exclusive)?
            .map(|held| vec![held])
            .ok_or_else(|| busy("another run is using this folder (its lock is held)".into())),
        Access::Slice { index, of } => {
            if of == 0 || index >= of {
                return Err(busy(format!("--part {index}/{of}: the slice must be below the number of slices")));
            }
            let shared = lock("lock", LockKind::Shared)?
                .ok_or_else(|| busy("a run over all shards is using this folder (its lock is held)".into()))?;
            let name = |index: u64, of: u64| format!("lock.part-{index}-of-{of}");
            let slice = lock(&name(index, of), LockKind::Exclusive)?
                .ok_or_else(|| busy(format!("another program is working on part {index}/{of}")))?;
            // Slices of another number overlap with ours: none of them may be at work.
            for file in disk.list(root).map_err(LedgerError::at("list", root))? {
                let numbers = file.strip_prefix("lock.part-").and_then(|s| s.split_once("-of-"));
                let Some((i, n)) = numbers.and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?))) else {
                    continue;
                };
                if n != of && lock(&name(i, n), LockKind::Exclusive)?.is_none() {
                    return Err(busy(format!("part {i}/{n} is at work; parts of one run must agree in their number")));
                }
            }
            Ok(vec![shared, slice])
        }
    }
}

/// The lock under which a folder is set up and cleaned; none where another holds it and the folder is set up.
fn wait_for(root: &Path, disk: &dyn Storage, patience: Duration) -> Result<Option<Box<dyn Lock>>, LedgerError> {
    let path = root.join("lock.open");
    let start = Instant::now();
    loop {
        if let Some(lock) = disk.try_lock(&path, LockKind::Exclusive).map_err(LedgerError::at("lock", &path))? {
            return Ok(Some(lock));
        }
        if ["config.json", "plan.json"].iter().all(|file| disk.len(&root.join(file)).is_ok()) {
            return Ok(None);
        }
        if start.elapsed() >= patience {
            let what = format!("another program has been setting this folder up for {} s", patience.as_secs());
            return Err(LedgerError::Busy { path: root.to_path_buf(), what });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn read_json(disk: &dyn Storage, path: &Path) -> Result<Option<Value>, LedgerError> {
    match disk.read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| LedgerError::Malformed { path: path.into(), detail: format!("no readable JSON: {e}") }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(LedgerError::at("read", path)(e)),
    }
}

fn write_json(disk: &dyn Storage, path: &Path, value: &impl Serialize) -> Result<(), LedgerError> {
    let bytes = serde_json::to_vec_pretty(value)
        .map_err(|e| LedgerError::Malformed { path: path.into(), detail: format!("no JSON: {e}") })?;
    write_whole(disk, path, &bytes).map_err(LedgerError::at("write", path))
}

/// The schema version that a file of JSON gives.
pub(super) fn schema_of(value: &Value) -> u64 {
    value.get("schema").and_then(Value::as_u64).unwrap_or(0)
}

pub(super) fn check_schema(path: &Path, found: u64) -> Result<(), LedgerError> {
    if found > u64::from(SCHEMA_VERSION) {
        let found = u32::try_from(found).unwrap_or(u32::MAX);
        return Err(LedgerError::NewerSchema { path: path.into(), found, known: SCHEMA_VERSION });
    }
    Ok(())
}

fn check_config(
    root: &Path,
    disk: &dyn Storage,
    config: &RunConfig,
    mix_numerics: bool,
    notes: &mut Vec<String>,
) -> Result<(), LedgerError> {
    let path = root.join("config.json");
    let Some(mut stored) = read_json(disk, &path)? else {
        let value = json!({
            "schema": SCHEMA_VERSION,
            "decision_hash": config.decision_hash(),
            "decisions": config.decisions,
            "numerics": config.numerics,
            "record": config.record,
        });
        return write_json(disk, &path, &value);
    };
    check_schema(&path, schema_of(&stored))?;
    let field = |name: &str| stored.get(name).cloned().unwrap_or(Value::Null);
    let hash = config.decision_hash();
    if field("decision_hash") != Value::String(hash.clone()) {
        let mut found = differences(&field("decisions"), &config.decisions);
        if found.is_empty() {
            let stored = show(&field("decision_hash"));
            found.push(Difference { field: "decision_hash".into(), stored, given: hash });
        }
        return Err(LedgerError::DecisionsDiffer { path: root.into(), differences: found });
    }
    let kept = field("numerics");
    // Whoever resumes a run may ask for it, and nobody takes it back.
    if config.record[BLUR] == true && stored["record"][BLUR] != true && stored["record"].is_object() {
        stored["record"][BLUR] = Value::Bool(true);
        write_json(disk, &path, &stored)?;
    }
    let (older, numerics): (Vec<_>, Vec<_>) =
        differences(&kept, &config.numerics).into_iter().partition(|difference| {
            // What was not written down when the folder was made cannot differ.
            kept.is_object() && kept.get(&difference.field).is_none()
        });
    notes.extend(older.iter().map(|d| format!("{}: the folder is older than this field; now {}", d.field, d.given)));
    if numerics.is_empty() {
        return Ok(());
    }
    if !mix_numerics {
        return Err(LedgerError::NumericsDiffer { path: root.into(), differences: numerics });
    }
    notes.extend(numerics.iter().map(|d| format!("mixed numerics: {d}")));
    Ok(())
}

fn check_plan<P: Serialize + DeserializeOwned + PartialEq>(
    root: &Path,
    disk: &dyn Storage,
    options: &OpenOptions<'_, P>,
) -> Result<(), LedgerError> {
    let path = root.join("plan.json");
    let write = || write_plan(root, disk, options.plan);
    let bytes = match disk.read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return write(),
        Err(e) => return Err(LedgerError::at("read", &path)(e)),
    };
    let known: P = read_plan(&path, &bytes)?;
    if known == *options.plan {
        Ok(())
    } else if options.access == Access::Exclusive && (options.extends)(&known, options.plan) {
        write()
    } else {
        let value = |plan| serde_json::to_value(plan).unwrap_or_default();
        let differences = differences(&value(&known), &value(options.plan));
        Err(LedgerError::PlanDiffers { path: root.into(), differences })
    }
}

/// A stored plan. Long ones are never held as JSON values.
pub(super) fn read_plan<P: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<P, LedgerError> {
    #[derive(Deserialize)]
    struct Version {
        #[serde(default)]
        schema: u64,
    }
    #[derive(Deserialize)]
    struct Stored<P> {
        plan: P,
    }
    let malformed = |e| LedgerError::Malformed { path: path.into(), detail: format!("not a plan: {e}") };
    let version: Version = serde_json::from_slice(bytes).map_err(malformed)?;
    check_schema(path, version.schema)?;
    serde_json::from_slice(bytes).map_err(malformed).map(|stored: Stored<P>| stored.plan)
}

/// A part that is being written.
struct PartFile {
    name: String,
    kind: PartKind,
    ordinal: u64,
    incarnation: u64,
    /// It stands under its final name.
    whole: bool,
}

/// Reads all manifests, gives what they say together, and the last incarnation. Who `cleans` cuts and deletes what those
/// have left whose writer is gone.
fn recover(
    root: &Path,
    disk: &dyn Storage,
    access: Access,
    cleans: bool,
    notes: &mut Vec<String>,
) -> Result<(Merged, Option<u64>), LedgerError> {
    let is_member = access == Access::Member;
    let cleans = cleans && !is_member;
    // Parts before manifests: the incarnation of every part that is found has its manifest by then.
    let mut parts = Vec::new();
    for kind in PartKind::ALL.into_iter().filter(|kind| cleans || !(is_member || *kind == PartKind::Embeddings)) {
        let folder = root.join(kind.folder());
        let names = disk.list(&folder).map_err(LedgerError::at("list", &folder))?;
        parts.extend(names.into_iter().filter_map(|name| part_file(name, kind)));
    }
    let (mut files, mut dead, mut listed) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    for incarnation in incarnations(root, disk)? {
        let path = manifest_path(root, incarnation);
        let try_lock = || disk.try_lock(&path, LockKind::Exclusive).map_err(LedgerError::at("lock", &path));
        let lock = if cleans { try_lock()? } else { None };
        let bytes = disk.read(&path).map_err(LedgerError::at("read", &path))?;
        let mut lines = manifest::parse_some(&path, &bytes, |ordinal| lock.is_some() || access.owns(ordinal))?;
        if let Some(lock) = lock {
            if lines.torn {
                disk.truncate(&path, lines.good_bytes).map_err(LedgerError::at("cut", &path))?;
                notes.push(format!("{}: cut back to its last good line ({} bytes)", path.display(), lines.good_bytes));
            }
            let named =
                lines.lines.iter().flat_map(|line| line.parts.iter().map(move |part| (line.ordinal, part.kind)));
            listed.extend(named.map(|(ordinal, kind)| (incarnation, ordinal, kind)));
            lines.lines.retain(|line| access.owns(line.ordinal));
            dead.insert(incarnation, lock);
        }
        files.insert(incarnation, lines);
    }
    let last = files.keys().next_back().copied();
    if cleans {
        // A part of an incarnation without a manifest cannot be listed anywhere; beside slices it may be about to have one.
        let gone = |of: u64| dead.contains_key(&of) || access == Access::Exclusive && !files.contains_key(&of);
        let is_listed = |part: &PartFile| part.whole && listed.contains(&(part.incarnation, part.ordinal, part.kind));
        remove(root, disk, parts.extract_if(.., |part| gone(part.incarnation) && !is_listed(&*part)), notes)?;
    }
    let merged = Merged::of(files)?;
    if !is_member {
        check_parts(root, &parts, &merged)?;
    }
    Ok((merged, last))
}

/// Removes parts that nothing lists.
fn remove(
    root: &Path,
    disk: &dyn Storage,
    parts: impl Iterator<Item = PartFile>,
    notes: &mut Vec<String>,
) -> Result<(), LedgerError> {
    let mut removed = BTreeMap::new();
    for part in parts {
        let path = root.join(part.kind.folder()).join(&part.name);
        disk.remove(&path).map_err(LedgerError::at("remove", &path))?;
        *removed.entry(part.kind).or_insert(0) += 1;
    }
    for (kind, count) in removed {
        let folder = root.join(kind.folder());
        disk.sync_dir(&folder).map_err(LedgerError::at("sync", &folder))?;
        notes.push(format!("{}: removed {count} unlisted part(s)", folder.display()));
    }
    Ok(())
}

/// A part, by its file's name.
fn part_file(name: String, kind: PartKind) -> Option<PartFile> {
    let (stem, whole) = name.strip_suffix(".tmp").map_or((name.as_str(), true), |stem| (stem, false));
    let stem = stem.strip_suffix(kind.extension())?.strip_suffix('.')?;
    let (ordinal, incarnation) = stem.split_once('.')?;
    let (ordinal, incarnation) = (ordinal.parse().ok()?, incarnation.parse().ok()?);
    Some(PartFile { name, kind, ordinal, incarnation, whole })
}

pub(super) fn incarnations(root: &Path, disk: &dyn Storage) -> Result<BTreeSet<u64>, LedgerError> {
    let folder = root.join("manifest");
    let names = disk.list(&folder).map_err(LedgerError::at("list", &folder))?;
    Ok(names.iter().filter_map(|n| n.strip_suffix(".jsonl")?.parse().ok()).collect())
}

/// Ledger and items of committed shards must be there; embeddings may have been deleted to save room.
fn check_parts(root: &Path, parts: &[PartFile], merged: &Merged) -> Result<(), LedgerError> {
    let whole = parts.iter().filter(|part| part.whole);
    let there: HashSet<(PartKind, u64, u64)> = whole.map(|p| (p.kind, p.ordinal, p.incarnation)).collect();
    for (&ordinal, (incarnation, line)) in &merged.committed {
        for part in line.parts.iter().filter(|p| p.kind != PartKind::Embeddings) {
            if !there.contains(&(part.kind, ordinal, *incarnation)) {
                let detail = "is missing though the manifest lists it".into();
                return Err(LedgerError::BadPart { path: root.join(part.kind.path(ordinal, *incarnation)), detail });
            }
        }
    }
    Ok(())
}

type Taken = (u64, Box<dyn Output>, Box<dyn Lock>);

fn take_incarnation(root: &Path, disk: &dyn Storage, last: Option<u64>) -> Result<Taken, LedgerError> {
    let mut next = last.map_or(0, |n| n + 1);
    loop {
        let path = manifest_path(root, next);
        match disk.create_new(&path) {
            Ok(mut manifest) => {
                if let Some(lock) = disk.try_lock(&path, LockKind::Exclusive).map_err(LedgerError::at("lock", &path))? {
                    manifest.sync().map_err(LedgerError::at("sync", &path))?;
                    let folder = root.join("manifest");
                    disk.sync_dir(&folder).map_err(LedgerError::at("sync", &folder))?;
                    return Ok((next, manifest, lock));
                }
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(LedgerError::at("make", &path)(e)),
        }
        next += 1;
    }
}
