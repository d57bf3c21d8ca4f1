//! Published epochs: what everybody else reads.
//!
//! ```text
//!  RUN/current ─▶ epoch.9/SPLIT/  a complete run folder: config, plan, manifest, ledger/, items/, embeddings/
//!                 epoch.9/changes.parquet, summary.json
//!                 epoch.8/        the one before, for those who still read it
//!  RUN/changes.jsonl              the summaries of all epochs
//! ```
//!
//! An epoch's folder is written and made durable before the epoch is committed, and shown by one rename of a link after it: a reader that
//! resolves `current` once sees one whole epoch. Parts that did not change are hard links to those of the epoch before.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use trommel_core::sample::PointRow;
use trommel_core::sample::{Fate, SampleId, Score, Status};
use trommel_decide::benchmark::Benchmark;
use trommel_incremental::Epoch;
use trommel_incremental::changelog::Changelog;
use trommel_incremental::inputs::Points;
use trommel_incremental::view::View;
use trommel_ledger::manifest::{Counts, PartKind, SCHEMA_VERSION, ShardLine};
use trommel_ledger::part::{self, PartConfig, PartShard};
use trommel_ledger::read::Ledger;
use trommel_ledger::run_folder::{Access, OpenOptions, RunConfig, RunFolder};
use trommel_ledger::storage::{Disk, Storage, link_or_copy};
use trommel_shard::plan::{Plan, ShardRef};

use super::changes::{Summary, WasTrained, write_changes};
use super::pool::Pool;
use trommel_pipelines::benchmarks::NamedPath;
use trommel_pipelines::decision::{BenchmarkConfig, DecisionConfig};
use trommel_pipelines::error::PipelineError;

/// What of a published shard is the same as long as its stamp is.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stamped {
    /// Its number in the pool.
    pool: u64,
    /// See [`View::stamps`].
    stamp: String,
}

/// A published shard: its number in its epoch, its stamp and its manifest line.
type Shards = BTreeMap<u64, (u64, String, ShardLine)>;

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
    shown: (Epoch, BTreeMap<String, Shards>),
    prepared: Option<(Epoch, BTreeMap<String, Shards>)>,
}

fn sync_dir(path: &Path) -> Result<(), PipelineError> {
    Disk.sync_dir(path).map_err(PipelineError::at(path))
}

fn link(from: &Path, to: &Path) -> Result<(), PipelineError> {
    link_or_copy(&Disk, from, to).map_err(PipelineError::at(from))
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
        let (numerics, record) = (pool.numerics.clone(), pool.record.clone());
        Self {
            root: root.to_path_buf(),
            keep: keep.max(1),
            base,
            numerics,
            record,
            fingerprints: Vec::new(),
            shown: Default::default(),
            prepared: None,
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
        self.root.join(format!("epoch.{epoch}"))
    }

    /// Epochs that have a folder.
    fn epochs(&self) -> Result<BTreeSet<Epoch>, PipelineError> {
        let names =
            fs::read_dir(&self.root).map_err(PipelineError::at(&self.root))?.flatten().map(|entry| entry.file_name());
        Ok(names.filter_map(|name| name.to_str()?.strip_prefix("epoch.")?.parse().ok()).collect())
    }

    /// After a start: forgets what was never committed, and shows the committed epoch if its folder is whole. Gives whether it is.
    ///
    /// # Errors
    /// A folder that cannot be read or written.
    pub fn recover(&mut self, committed: Epoch) -> Result<bool, PipelineError> {
        for entry in fs::read_dir(&self.root).map_err(PipelineError::at(&self.root))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let number = name.strip_prefix("epoch.").map(|number| number.parse::<Epoch>());
            if matches!(number, Some(Err(_))) || matches!(number, Some(Ok(epoch)) if epoch > committed) {
                fs::remove_dir_all(entry.path()).map_err(PipelineError::at(&entry.path()))?;
            }
        }
        let folder = self.folder(committed);
        if !folder.is_dir() {
            return Ok(committed == 0);
        }
        let mut splits = BTreeMap::new();
        for entry in
            fs::read_dir(&folder).map_err(PipelineError::at(&folder))?.flatten().filter(|entry| entry.path().is_dir())
        {
            splits.insert(entry.file_name().to_string_lossy().into_owned(), read_stamps(&entry.path())?);
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
        let aside = folder.with_extension(format!("{}.tmp", view.epoch()));
        for old in [&aside, &folder] {
            if old.exists() {
                fs::remove_dir_all(old).map_err(PipelineError::at(old))?;
            }
        }
        fs::create_dir(&aside).map_err(PipelineError::at(&aside))?;
        let ledger = pool.ledger();
        let plan: Plan = ledger.plan().map_err(PipelineError::failed)?;
        let fingerprint = |points: &Points| {
            let held = self.fingerprints.iter().find(|held| Arc::ptr_eq(&held.0, &points.benchmark));
            held.cloned().unwrap_or_else(|| (points.benchmark.clone(), BenchmarkConfig::of(&points.benchmark)))
        };
        self.fingerprints = view.points().map(fingerprint).collect();
        let mut splits = BTreeMap::new();
        for split in view.splits().keys() {
            splits.insert(split.clone(), self.write_split(&aside.join(split), split, view, (&ledger, &plan))?);
        }
        write_changes(&aside.join("changes.parquet"), log, &ledger, trained)?;
        write_json(&aside.join("summary.json"), summary)?;
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
        let (link, aside) = (self.root.join("current"), self.root.join("current.tmp"));
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(PipelineError::at(&aside)(error)),
            _ => {}
        }
        std::os::unix::fs::symlink(format!("epoch.{epoch}"), &aside).map_err(PipelineError::at(&aside))?;
        fs::rename(&aside, &link).map_err(PipelineError::at(&link))?;
        self.log(epoch)?;
        sync_dir(&self.root)?;
        self.shown = prepared;
        for old in self.epochs()?.into_iter().rev().skip(self.keep) {
            let folder = self.folder(old);
            fs::remove_dir_all(&folder).map_err(PipelineError::at(&folder))?;
        }
        Ok(())
    }

    /// Appends the epoch's summary to `changes.jsonl`, once.
    fn log(&self, epoch: Epoch) -> Result<(), PipelineError> {
        let path = self.root.join("changes.jsonl");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let of = |line: &str| serde_json::from_str::<Summary>(line).ok().map(|summary| summary.epoch);
        if text[..whole].lines().next_back().and_then(of) == Some(epoch) {
            return Ok(());
        }
        let summary = self.folder(epoch).join("summary.json");
        let line = fs::read_to_string(&summary).map_err(PipelineError::at(&summary))?;
        let mut file = File::options().create(true).append(true).open(&path).map_err(PipelineError::at(&path))?;
        file.set_len(whole as u64).map_err(PipelineError::at(&path))?;
        file.write_all(format!("{line}\n").as_bytes()).and_then(|()| file.sync_data()).map_err(PipelineError::at(&path))
    }

    fn write_split(
        &self,
        into: &Path,
        split: &str,
        view: &View,
        (pool, pool_plan): (&Ledger, &Plan),
    ) -> Result<Shards, PipelineError> {
        let live: Vec<u64> = view.shards().collect();
        let numbers: BTreeMap<u64, u64> = live.iter().copied().zip(0..).collect();
        let shard = |(at, ordinal): (usize, &u64)| {
            let known = pool_plan.shard(*ordinal);
            let name = known.map(|shard| shard.name.clone()).unwrap_or_default();
            let url = known.map(|shard| shard.url.clone()).unwrap_or_default();
            ShardRef { ordinal: at as u64, name, url, bytes: known.and_then(|shard| shard.bytes) }
        };
        let plan = Plan { shards: live.iter().enumerate().map(shard).collect(), ..Plan::default() };
        let rule = view.splits()[split].rule.to_string();
        let decisions = DecisionConfig {
            rule: rule.clone(),
            benchmarks: self.fingerprints.iter().map(|(_, fingerprint)| fingerprint.clone()).collect(),
            ..self.base.clone()
        };
        let config = RunConfig {
            decisions: serde_json::json!(decisions),
            numerics: self.numerics.clone(),
            record: self.record.clone(),
        };
        let options = OpenOptions {
            plan: &plan,
            extends: |_: &Plan, _: &Plan| false,
            config: &config,
            access: Access::Exclusive,
            mix_numerics: false,
            patience: std::time::Duration::ZERO,
        };
        let folder = RunFolder::open(into, Arc::new(Disk), &options).map_err(PipelineError::failed)?;
        let mut metadata = BTreeMap::from([("rule".to_owned(), rule)]);
        metadata.extend(self.base.embedder.iter().map(|identity| ("identity".to_owned(), identity.to_string())));
        let names: Vec<String> = view.benchmarks().map(str::to_owned).collect();
        let parts = PartConfig { benchmarks: names, embeddings: None, metadata };
        let before = self.shown.1.get(split);
        let mut shards = Shards::new();
        let mut stamps = view.stamps(split);
        for (&ordinal, &number) in &numbers {
            let stamp = stamps.remove(&ordinal).unwrap_or_default();
            let held =
                before.and_then(|before| before.get(&ordinal)).filter(|held| held.1 == stamp && !stamp.is_empty());
            let mut line = match held {
                // The first one has the items of all.
                Some(held) if number > 0 && held.0 > 0 => {
                    let from = self.folder(self.shown.0).join(split);
                    for kind in [PartKind::Ledger, PartKind::Items] {
                        link(&from.join(kind.path(held.0, 0)), &into.join(kind.path(number, 0)))?;
                    }
                    ShardLine { ordinal: number, ..held.2.clone() }
                }
                _ => {
                    let items = if number == 0 { items(view, split, &numbers) } else { Vec::new() };
                    write_shard(&folder, (ordinal, number), split, view, pool, &parts, &items)?
                }
            };
            line.decision = folder.decision_hash().into();
            line.parts.retain(|part| part.kind != PartKind::Embeddings);
            let stored = pool.shards().get(&ordinal).and_then(|(_, line)| line.part(PartKind::Embeddings));
            if let (Some(sum), Ok(path)) = (stored, pool.embeddings_path(ordinal)) {
                link(&path, &into.join(PartKind::Embeddings.path(number, 0)))?;
                line.parts.push(sum.clone());
            }
            shards.insert(ordinal, (number, stamp, line));
        }
        for kind in PartKind::ALL {
            sync_dir(&into.join(kind.folder()))?;
        }
        let lines: Vec<ShardLine> = shards.values().map(|shard| shard.2.clone()).collect();
        folder.append_all(&lines).map_err(PipelineError::failed)?;
        let stamps: Vec<Stamped> =
            shards.iter().map(|(&pool, (_, stamp, _))| Stamped { pool, stamp: stamp.clone() }).collect();
        write_json(&into.join("stamps.json"), &stamps)?;
        sync_dir(into)?;
        Ok(shards)
    }
}

fn read_stamps(folder: &Path) -> Result<Shards, PipelineError> {
    let path = folder.join("stamps.json");
    let text = fs::read(&path).map_err(PipelineError::at(&path))?;
    let stamps: Vec<Stamped> = serde_json::from_slice(&text).map_err(PipelineError::failed)?;
    let ledger = Ledger::open(folder).map_err(PipelineError::failed)?;
    let lines = ledger.shards();
    let of = |(number, stamped): (u64, Stamped)| {
        lines.get(&number).map(|(_, line)| (stamped.pool, (number, stamped.stamp, line.clone())))
    };
    Ok((0..).zip(stamps).filter_map(of).collect())
}

/// Scores by raw index, from the smallest.
type Rows = std::iter::Peekable<std::vec::IntoIter<(u32, Score)>>;

fn write_shard(
    folder: &RunFolder,
    (ordinal, number): (u64, u64),
    split: &str,
    view: &View,
    pool: &Ledger,
    parts: &PartConfig,
    items: &[PointRow],
) -> Result<ShardLine, PipelineError> {
    let gone = || PipelineError::Failed(format!("shard {ordinal} is not in the epoch"));
    let statuses = view.statuses(ordinal, split).ok_or_else(gone)?;
    let mut scores: Vec<Rows> = Vec::new();
    for points in view.points() {
        let rows = view.scores(ordinal, &points.benchmark.name).map_err(PipelineError::failed)?;
        scores.push(rows.unwrap_or_default().into_iter().peekable());
    }
    let mut fates = Vec::with_capacity(statuses.len());
    for row in pool.shard_rows(ordinal).map_err(PipelineError::failed)? {
        let Fate { mut info, reason, .. } = row.fate;
        let index = info.id.index;
        let status = statuses.get(index as usize).copied().ok_or_else(gone)?;
        let score = |rows: &mut Rows| rows.next_if(|row| row.0 == index).map(|row| row.1).unwrap_or_default();
        let judged = status != Status::Rejected;
        let scores = if judged { scores.iter_mut().map(score).collect() } else { Vec::new() };
        Arc::get_mut(&mut info).ok_or_else(gone)?.id = SampleId { ordinal: number, index };
        let reason = reason.filter(|_| status != Status::Dropped);
        fates.push(Arc::new(Fate { info, status, reason, scores, embedding: None }));
    }
    let (_, from) = pool.shards().get(&ordinal).ok_or_else(gone)?;
    let shard = PartShard { ordinal: number, name: &from.name, fates: &fates, items };
    let written = part::write(folder.storage().as_ref(), folder.root(), folder.incarnation(), &shard, parts);
    Ok(ShardLine {
        schema: SCHEMA_VERSION,
        ordinal: number,
        counts: Counts::of(&fates),
        parts: written.map_err(PipelineError::failed)?,
        decision: folder.decision_hash().into(),
        ..from.clone()
    })
}

/// The items of all shards.
fn items(view: &View, split: &str, numbers: &BTreeMap<u64, u64>) -> Vec<PointRow> {
    let here =
        |sample: SampleId| SampleId { ordinal: numbers.get(&sample.ordinal).copied().unwrap_or(u64::MAX), ..sample };
    let names: Vec<String> = view.benchmarks().map(str::to_owned).collect();
    let of = |name: &String| view.items(name, split).unwrap_or_default();
    let rows = names.iter().flat_map(of).filter(|row| row.max_similarity.is_some()).map(|row| PointRow {
        sample: row.sample.map(here),
        kept_sample: row.kept_sample.map(here),
        ..row
    });
    rows.collect()
}
