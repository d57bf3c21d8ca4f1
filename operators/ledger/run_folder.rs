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
//! 2. Opening cuts torn manifests and deletes unlisted parts, of incarnations whose manifest's lock is free only.
//! 3. An incarnation's number is used once, ever.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::LedgerError;
use super::manifest::{self, Lines, Merged, PartKind, SCHEMA_VERSION, ShardLine};
use super::storage::{Lock, LockKind, Output, Storage, parent, write_whole};
use crate::dataflow::wake::locked;

/// One field in which a folder and a command differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Path of the field: `rule`, `benchmarks[0].radii`.
    pub field: String,
    /// Its value in the folder.
    pub stored: String,
    /// Its value now.
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
    /// Anything else worth keeping for people; never compared.
    pub record: Value,
}

impl RunConfig {
    /// sha256 of the decisions as JSON with sorted keys, in hex.
    #[must_use]
    pub fn decision_hash(&self) -> String {
        let mut text = String::new();
        canonical(&self.decisions, &mut text);
        Sha256::digest(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
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
        /// Of how many.
        of: u64,
    },
    /// A cluster's other processes: process 0 holds the lock for them.
    Member,
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
    /// How long to wait for others that are opening the folder.
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
        let files = recover(root, disk, &mut notes)?;
        let merged = Merged::of(&files)?;
        check_parts(root, disk, &merged)?;
        let (incarnation, manifest, lock) = take_incarnation(root, disk, &files)?;
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

    /// The folder.
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

    /// What was committed, and what failed, before this incarnation.
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
        match self.access {
            Access::Slice { index, of } => ordinal % of == index,
            Access::Exclusive | Access::Member => true,
        }
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

    /// Writes a plan that has more shards at its end than the stored one; only who holds the folder alone may.
    ///
    /// # Errors
    /// What the storage says.
    pub fn extend<P: Serialize>(&self, plan: &P) -> Result<(), LedgerError> {
        write_plan(&self.root, self.storage.as_ref(), plan)
    }
}

fn write_plan<P: Serialize>(root: &Path, disk: &dyn Storage, plan: &P) -> Result<(), LedgerError> {
    let path = root.join("plan.json");
    let plan = serde_json::to_value(plan)
        .map_err(|e| LedgerError::Malformed { path: path.clone(), detail: format!("no JSON: {e}") })?;
    write_json(disk, &path, &json!({ "schema": SCHEMA_VERSION, "plan": plan }))
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

fn wait_for(root: &Path, disk: &dyn Storage, patience: Duration) -> Result<Box<dyn Lock>, LedgerError> {
    let path = root.join("lock.open");
    let start = Instant::now();
    loop {
        if let Some(lock) = disk.try_lock(&path, LockKind::Exclusive).map_err(LedgerError::at("lock", &path))? {
            return Ok(lock);
        }
        if start.elapsed() >= patience {
            let what = format!("another program has been opening this folder for {} s", patience.as_secs());
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

fn write_json(disk: &dyn Storage, path: &Path, value: &Value) -> Result<(), LedgerError> {
    let bytes = serde_json::to_vec_pretty(value)
        .map_err(|e| LedgerError::Malformed { path: path.into(), detail: format!("no JSON: {e}") })?;
    write_whole(disk, path, &bytes).map_err(LedgerError::at("write", path))
}

pub(super) fn check_schema(path: &Path, value: &Value) -> Result<(), LedgerError> {
    let found = value.get("schema").and_then(Value::as_u64).unwrap_or(0);
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
    let Some(stored) = read_json(disk, &path)? else {
        let value = json!({
            "schema": SCHEMA_VERSION,
            "decision_hash": config.decision_hash(),
            "decisions": config.decisions,
            "numerics": config.numerics,
            "record": config.record,
        });
        return write_json(disk, &path, &value);
    };
    check_schema(&path, &stored)?;
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
    let numerics = differences(&field("numerics"), &config.numerics);
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
    let Some(stored) = read_json(disk, &path)? else { return write() };
    check_schema(&path, &stored)?;
    let value = stored.get("plan").cloned().unwrap_or(Value::Null);
    let known: P = serde_json::from_value(value.clone())
        .map_err(|e| LedgerError::Malformed { path: path.clone(), detail: format!("not a plan: {e}") })?;
    if known == *options.plan {
        Ok(())
    } else if options.access == Access::Exclusive && (options.extends)(&known, options.plan) {
        write()
    } else {
        let given = serde_json::to_value(options.plan).unwrap_or_default();
        Err(LedgerError::PlanDiffers { path: root.into(), differences: differences(&value, &given) })
    }
}

/// Reads all manifests; cuts and cleans those whose writer is gone.
fn recover(root: &Path, disk: &dyn Storage, notes: &mut Vec<String>) -> Result<BTreeMap<u64, Lines>, LedgerError> {
    let mut files = BTreeMap::new();
    let mut dead = BTreeMap::new();
    for incarnation in incarnations(root, disk)? {
        let path = manifest_path(root, incarnation);
        let lock = disk.try_lock(&path, LockKind::Exclusive).map_err(LedgerError::at("lock", &path))?;
        let bytes = disk.read(&path).map_err(LedgerError::at("read", &path))?;
        let lines = manifest::parse(&path, &bytes)?;
        if let Some(lock) = lock {
            if lines.torn {
                disk.truncate(&path, lines.good_bytes).map_err(LedgerError::at("cut", &path))?;
                notes.push(format!("{}: cut back to its last good line ({} bytes)", path.display(), lines.good_bytes));
            }
            dead.insert(incarnation, lock);
        }
        files.insert(incarnation, lines);
    }
    let listed: BTreeSet<(u64, u64, PartKind)> = files
        .iter()
        .flat_map(|(&n, file)| file.lines.iter().flat_map(move |l| l.parts.iter().map(move |p| (n, l.ordinal, p.kind))))
        .collect();
    for kind in PartKind::ALL {
        let folder = root.join(kind.folder());
        let mut removed = 0;
        for name in disk.list(&folder).map_err(LedgerError::at("list", &folder))? {
            let Some((ordinal, incarnation, whole)) = part_name(&name, kind) else { continue };
            // A part of an incarnation without a manifest cannot be listed anywhere.
            let gone = dead.contains_key(&incarnation) || !files.contains_key(&incarnation);
            if gone && !(whole && listed.contains(&(incarnation, ordinal, kind))) {
                let path = folder.join(&name);
                disk.remove(&path).map_err(LedgerError::at("remove", &path))?;
                removed += 1;
            }
        }
        if removed > 0 {
            disk.sync_dir(&folder).map_err(LedgerError::at("sync", &folder))?;
            notes.push(format!("{}: removed {removed} unlisted part(s)", folder.display()));
        }
    }
    Ok(files)
}

/// Ordinal, incarnation, and whether the file stands under its final name.
fn part_name(name: &str, kind: PartKind) -> Option<(u64, u64, bool)> {
    let (stem, whole) = name.strip_suffix(".tmp").map_or((name, true), |stem| (stem, false));
    let stem = stem.strip_suffix(kind.extension())?.strip_suffix('.')?;
    let (ordinal, incarnation) = stem.split_once('.')?;
    Some((ordinal.parse().ok()?, incarnation.parse().ok()?, whole))
}

pub(super) fn incarnations(root: &Path, disk: &dyn Storage) -> Result<BTreeSet<u64>, LedgerError> {
    let folder = root.join("manifest");
    let names = disk.list(&folder).map_err(LedgerError::at("list", &folder))?;
    Ok(names.iter().filter_map(|n| n.strip_suffix(".jsonl")?.parse().ok()).collect())
}

/// Ledger and items of committed shards must be there; embeddings may have been deleted to save room.
fn check_parts(root: &Path, disk: &dyn Storage, merged: &Merged) -> Result<(), LedgerError> {
    for (&ordinal, (incarnation, line)) in &merged.committed {
        for part in line.parts.iter().filter(|p| p.kind != PartKind::Embeddings) {
            let path = root.join(part.kind.path(ordinal, *incarnation));
            let detail = match disk.len(&path) {
                Ok(bytes) if bytes == part.bytes => continue,
                Ok(bytes) => format!("{bytes} bytes; the manifest says {}", part.bytes),
                Err(e) if e.kind() == io::ErrorKind::NotFound => "is missing though the manifest lists it".into(),
                Err(e) => return Err(LedgerError::at("look at", &path)(e)),
            };
            return Err(LedgerError::BadPart { path, detail });
        }
    }
    Ok(())
}

type Taken = (u64, Box<dyn Output>, Box<dyn Lock>);

fn take_incarnation(root: &Path, disk: &dyn Storage, files: &BTreeMap<u64, Lines>) -> Result<Taken, LedgerError> {
    let mut next = files.keys().next_back().map_or(0, |n| n + 1);
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
