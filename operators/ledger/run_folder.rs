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

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::config::{adds_blur, check_config};
use self::locks::{take_run_locks, wait_for};
use self::plan::{check_plan, write_plan};
use self::recovery::{recover, take_incarnation};
use super::LedgerError;
use super::manifest::{Merged, PartKind, ShardLine};
use super::storage::{Lock, Output, Storage, parent};
use trommel_core::sample::is_in_part;
use trommel_core::wake::locked;

mod config;
mod difference;
mod json;
mod locks;
mod plan;
mod recovery;

pub use self::config::{BLUR, CONFIG_FILE, RunConfig, blur};
pub use self::difference::{Difference, as_read_back, differences};
pub(crate) use self::json::{check_schema, schema_of};
pub(crate) use self::plan::{PLAN_FILE, planned_names, read_plan};
pub(crate) use self::recovery::incarnations;

/// Name of the folder of manifests in a run folder.
pub const MANIFESTS: &str = "manifest";
/// Name of the folder of logs in a run folder.
pub const LOGS: &str = "logs";

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
        let fresh = match disk.len(&root.join(CONFIG_FILE)) {
            Ok(_) => false,
            Err(e) if e.kind() == io::ErrorKind::NotFound => true,
            Err(e) => return Err(LedgerError::at("look into", root)(e)),
        };
        for folder in [MANIFESTS, LOGS].into_iter().chain(PartKind::ALL.map(PartKind::folder)) {
            let path = root.join(folder);
            disk.create_dir(&path).map_err(LedgerError::at("make", &path))?;
        }
        if fresh {
            disk.sync_dir(root).map_err(LedgerError::at("sync", root))?;
            let above = parent(root);
            disk.sync_dir(&above).map_err(LedgerError::at("sync", &above))?;
        }
        let mut locks = take_run_locks(root, disk, options.access)?;
        let opening = wait_for(root, disk, adds_blur(root, disk, options.config)?, options.patience)?;
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
        let bytes = encoded.map_err(LedgerError::json(&path, "a line that is no JSON"))?;
        let mut manifest = locked(&self.manifest);
        manifest.write_all(&bytes.concat()).map_err(LedgerError::at("append to", &path))?;
        manifest.sync().map_err(LedgerError::at("sync", &path))
    }

    /// The stored plan.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn plan<P: DeserializeOwned>(&self) -> Result<P, LedgerError> {
        let path = self.root.join(PLAN_FILE);
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

pub(super) fn manifest_path(root: &Path, incarnation: u64) -> PathBuf {
    root.join(MANIFESTS).join(format!("{incarnation}.jsonl"))
}
