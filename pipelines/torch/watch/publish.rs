//! Published epochs: what everybody else reads.
//!
//! ```text
//!  RUN/current ─▶ epoch.9/SPLIT/  a complete run folder: config, plan, manifest, ledger/, items/, embeddings/
//!                 epoch.9/changes.parquet, summary.json
//!                 epoch.8/        the one before, for those who still read it
//!                 retired/        epoch 7, of which epoch 10 is going to be made; nobody reads it
//!  RUN/changes.jsonl              the summaries of all epochs
//! ```
//!
//! An epoch's folder is written and made durable before the epoch is committed, and shown by one rename of a link after it: a reader that
//! resolves `current` once sees one whole epoch. Parts that did not change are hard links to those of the epoch before.
//!
//! Cost: a folder that is no longer kept is not deleted but made into the next one, so no file of a shard is touched that stands where it
//! stood, and is the same. What remains for each shard is a line of the manifest and of the plan. A shard that is withdrawn moves those behind
//! it forward.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use trommel_core::durable;
use trommel_decide::benchmark::Benchmark;
use trommel_incremental::Epoch;
use trommel_incremental::changelog::Changelog;
use trommel_incremental::inputs::Points;
use trommel_incremental::view::View;
use trommel_ledger::run_folder::{BLUR, RunConfig, blur};
use trommel_ledger::storage::{Disk, Storage};
use trommel_shard::plan::Plan;

use super::changes::{Summary, WasTrained, write_changes};
use super::pool::Pool;
use trommel_pipelines::benchmarks::NamedPath;
use trommel_pipelines::decision::{BenchmarkConfig, DecisionConfig};
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::watch_folder::CURRENT;

mod split;

use self::split::{Context, Earlier, Splits, read_splits, write_split};

/// What an epoch changed, in short.
const SUMMARY_FILE: &str = "summary.json";

/// An epoch that is no longer kept: its folder is the beginning of the next one's, which then costs what differs between both.
const RETIRED: &str = "retired";

/// Writes epochs and shows them.
pub struct Publisher {
    root: PathBuf,
    keep: usize,
    /// Decisions of the pool; rule and benchmarks are filled in.
    base: DecisionConfig,
    numerics: serde_json::Value,
    record: serde_json::Value,
    /// Fingerprints of the last epoch's benchmarks: they are long to hash.
    fingerprints: Vec<(Arc<Benchmark>, BenchmarkConfig)>,
    /// Epochs whose folders stand and that this process published or found shown, the shown one last.
    kept: VecDeque<(Epoch, Splits)>,
    prepared: Option<(Epoch, Splits)>,
    /// What stands in the folder [`RETIRED`].
    retired: Splits,
}

fn sync_dir(path: &Path) -> Result<(), PipelineError> {
    Disk.sync_dir(path).map_err(PipelineError::at(path))
}

/// Where a folder is moved to be removed.
const GONE: &str = "gone.tmp";

/// Removes a folder with all that is in it, if it is there.
fn remove_folder(path: &Path) -> Result<(), PipelineError> {
    durable::remove_folder(path, &path.with_file_name(GONE)).map_err(PipelineError::at(path))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), PipelineError> {
    let bytes = serde_json::to_vec(value).map_err(PipelineError::failed)?;
    let mut file = File::create(path).map_err(PipelineError::at(path))?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(PipelineError::at(path))
}

impl Publisher {
    /// Publishes into a run's folder; `keep` epochs stay, the shown one included.
    #[must_use]
    pub fn new(root: &Path, keep: usize, pool: &RunConfig, base: DecisionConfig) -> Self {
        let (numerics, mut record) = (pool.numerics.clone(), pool.record.clone());
        // Whoever selects from an epoch must know that it says whom no split may have.
        record["takedowns"] = serde_json::json!("marked");
        Self {
            root: root.to_path_buf(),
            keep: keep.max(1),
            base,
            numerics,
            record,
            fingerprints: Vec::new(),
            kept: VecDeque::new(),
            prepared: None,
            retired: Splits::new(),
        }
    }

    /// Where the benchmarks' folders are, for those who look at pictures later.
    pub fn set_benchmarks(&mut self, benchmarks: &[NamedPath]) {
        let folder = |path: &PathBuf| fs::canonicalize(path).unwrap_or_else(|_| path.clone()).display().to_string();
        let folders: BTreeMap<&String, String> =
            benchmarks.iter().map(|named| (&named.name, folder(&named.path))).collect();
        self.record["benchmarks"] = serde_json::json!(folders);
    }

    fn folder(&self, epoch: Epoch) -> PathBuf {
        self.root.join(folder_name(epoch))
    }

    /// Epochs that have a folder.
    fn epochs(&self) -> Result<BTreeSet<Epoch>, PipelineError> {
        let names = entries(&self.root)?.into_iter().map(|entry| entry.file_name());
        Ok(names.filter_map(|name| number_of(name.to_str()?)).collect())
    }

    /// After a start: forgets what was never committed, and shows the committed epoch if its folder is whole. Gives whether it is.
    ///
    /// # Errors
    /// A folder that cannot be read or written.
    pub fn recover(&mut self, committed: Epoch) -> Result<bool, PipelineError> {
        for entry in entries(&self.root)? {
            let name = entry.file_name();
            // What else lies here is its user's.
            let is_ours = name.to_str().is_some_and(|name| {
                name == GONE
                    || name.strip_suffix(ASIDE).and_then(number_of).is_some()
                    || number_of(name) > Some(committed)
            });
            if is_ours && entry.file_type().is_ok_and(|it| it.is_dir()) {
                remove_folder(&entry.path())?;
            }
        }
        let folder = self.folder(committed);
        if !folder.is_dir() {
            return Ok(committed == 0);
        }
        self.retired = read_splits(&self.root.join(RETIRED)).unwrap_or_default();
        let splits = read_splits(&folder)?;
        if self.record[BLUR] == true {
            splits.keys().try_for_each(|name| blur(&folder.join(name), &Disk)).map_err(PipelineError::failed)?;
        }
        self.prepared = Some((committed, splits));
        self.show(committed)?;
        Ok(true)
    }

    /// Writes an epoch's folder, durable but not shown.
    ///
    /// # Errors
    /// What cannot be read or written.
    pub fn prepare(
        &mut self,
        view: &View,
        log: &Changelog,
        summary: &Summary,
        pool: &Pool,
        trained: &WasTrained<'_>,
    ) -> Result<(), PipelineError> {
        let folder = self.folder(view.epoch());
        let aside = self.root.join(folder_name(view.epoch()) + ASIDE);
        remove_folder(&aside)?;
        remove_folder(&folder)?;
        fs::create_dir(&aside).map_err(PipelineError::at(&aside))?;
        let ledger = pool.ledger();
        let plan: Plan = ledger.plan().map_err(PipelineError::failed)?;
        let fingerprint = |points: &Points| {
            let held = self.fingerprints.iter().find(|held| Arc::ptr_eq(&held.0, &points.benchmark));
            held.cloned().unwrap_or_else(|| (points.benchmark.clone(), BenchmarkConfig::of(&points.benchmark)))
        };
        self.fingerprints = view.points().map(fingerprint).collect();
        let (base, retired) = (self.root.join(RETIRED), std::mem::take(&mut self.retired));
        let nothing = Splits::new();
        let (shown, shown_splits) = self.kept.back().map_or((0, &nothing), |(epoch, splits)| (*epoch, splits));
        let benchmarks: Vec<BenchmarkConfig> = self.fingerprints.iter().map(|(_, of)| of.clone()).collect();
        let mut splits = Splits::new();
        for (split, of) in view.splits() {
            let config = RunConfig {
                decisions: serde_json::json!(DecisionConfig {
                    rule: of.rule.to_string(),
                    benchmarks: benchmarks.clone(),
                    ..self.base.clone()
                }),
                numerics: self.numerics.clone(),
                record: self.record.clone(),
            };
            let context = Context {
                view,
                split,
                log,
                pool: (&ledger, &plan),
                config: &config,
                identity: self.base.embedder.as_ref().map(ToString::to_string),
                shown: Earlier::of(split, &self.folder(shown), shown_splits),
                base: Earlier::of(split, &base, &retired),
            };
            splits.insert(split.clone(), write_split(&aside.join(split), &context)?);
        }
        remove_folder(&base)?;
        write_changes(&aside.join("changes.parquet"), log, &ledger, trained)?;
        write_json(&aside.join(SUMMARY_FILE), summary)?;
        sync_dir(&aside)?;
        fs::rename(&aside, &folder).map_err(PipelineError::at(&aside))?;
        sync_dir(&self.root)?;
        self.prepared = Some((view.epoch(), splits));
        Ok(())
    }

    /// Shows a prepared epoch, in one step, and lets go of old ones.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn show(&mut self, epoch: Epoch) -> Result<(), PipelineError> {
        let Some(prepared) = self.prepared.take().filter(|prepared| prepared.0 == epoch) else { return Ok(()) };
        let (link, aside) = (self.root.join(CURRENT), self.root.join(format!("{CURRENT}.tmp")));
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(PipelineError::at(&aside)(error)),
            _ => {}
        }
        std::os::unix::fs::symlink(folder_name(epoch), &aside).map_err(PipelineError::at(&aside))?;
        fs::rename(&aside, &link).map_err(PipelineError::at(&link))?;
        self.log(epoch)?;
        sync_dir(&self.root)?;
        self.kept.push_back(prepared);
        for old in self.epochs()?.into_iter().rev().skip(self.keep) {
            let (folder, retired) = (self.folder(old), self.root.join(RETIRED));
            let known = self.kept.iter().position(|(epoch, _)| *epoch == old).and_then(|at| self.kept.remove(at));
            if self.retired.is_empty() {
                remove_folder(&retired)?;
                fs::rename(&folder, &retired).map_err(PipelineError::at(&folder))?;
                self.retired = known.map_or_else(|| read_splits(&retired).unwrap_or_default(), |(_, splits)| splits);
            } else {
                remove_folder(&folder)?;
            }
        }
        Ok(())
    }

    /// Appends the epoch's summary to `changes.jsonl`, once.
    fn log(&self, epoch: Epoch) -> Result<(), PipelineError> {
        let path = self.root.join("changes.jsonl");
        let (whole, last) = last_line(&path).map_err(PipelineError::at(&path))?;
        if serde_json::from_slice::<Summary>(&last).is_ok_and(|summary| summary.epoch == epoch) {
            return Ok(());
        }
        let summary = self.folder(epoch).join(SUMMARY_FILE);
        let line = fs::read_to_string(&summary).map_err(PipelineError::at(&summary))?;
        let mut file = File::options().create(true).append(true).open(&path).map_err(PipelineError::at(&path))?;
        file.set_len(whole).map_err(PipelineError::at(&path))?;
        file.write_all(format!("{line}\n").as_bytes()).and_then(|()| file.sync_data()).map_err(PipelineError::at(&path))
    }
}

/// What a folder's name ends with while the epoch is written.
const ASIDE: &str = ".tmp";

fn folder_name(epoch: Epoch) -> String {
    format!("epoch.{epoch}")
}

/// The epoch that has a folder of this name.
fn number_of(name: &str) -> Option<Epoch> {
    let number = name.strip_prefix("epoch.")?.parse().ok()?;
    (folder_name(number) == name).then_some(number)
}

/// All that lies in a folder.
fn entries(folder: &Path) -> Result<Vec<fs::DirEntry>, PipelineError> {
    fs::read_dir(folder).and_then(Iterator::collect).map_err(PipelineError::at(folder))
}

/// Bytes up to the end of the last whole line of a file, and that line; nothing where there is no file. Only its end is read.
fn last_line(path: &Path) -> std::io::Result<(u64, Vec<u8>)> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((0, Vec::new())),
        file => file?,
    };
    let length = file.metadata()?.len();
    let mut reach = 64 << 10;
    loop {
        let start = length.saturating_sub(reach);
        let mut tail = vec![0; usize::try_from(length - start).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut tail, start)?;
        let end = tail.iter().rposition(|&byte| byte == b'\n');
        let before = end.and_then(|end| tail[..end].iter().rposition(|&byte| byte == b'\n').map(|at| at + 1));
        match (end, before) {
            (Some(end), Some(from)) => return Ok((start + end as u64 + 1, tail[from..end].to_vec())),
            (Some(end), None) if start == 0 => return Ok((end as u64 + 1, tail[..end].to_vec())),
            (None, _) if start == 0 => return Ok((0, Vec::new())),
            _ => reach *= 2,
        }
    }
}
