//! One split of an epoch, as a run folder: from what stands already, and what has changed.
//!
//! A shard's rows are known by its stamp, its files by their number in the epoch. Three sources, the cheapest first: the file stands where it
//! is wanted in the folder that this one is made of; the shown epoch has it, under whatever number; it is written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use trommel_core::sample::{Fate, PointRow, Reason, SampleId, Score, Status, TAKEN_DOWN};
use trommel_incremental::changelog::Changelog;
use trommel_incremental::view::View;
use trommel_ledger::manifest::{Counts, PartKind, PartSum, SCHEMA_VERSION, ShardLine};
use trommel_ledger::part::{self, PartConfig, PartShard};
use trommel_ledger::read::Ledger;
use trommel_ledger::run_folder::{Access, OpenOptions, RunConfig, RunFolder};
use trommel_ledger::storage::{Disk, link_or_copy};
use trommel_shard::plan::{Plan, ShardRef};

use super::{entries, sync_dir, write_json};
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::watch_folder::STAMPS;

/// A shard as a split of an epoch has it.
#[derive(Debug)]
pub(super) struct Published {
    /// Its number in the epoch, from 0.
    number: u64,
    /// See [`View::stamps`]; empty where it has none.
    stamp: String,
    /// Its line in the epoch's manifest.
    line: ShardLine,
}

/// The shards of a split, by their number in the pool. Epochs share what they have in common.
pub(super) type Shards = BTreeMap<u64, Arc<Published>>;

/// The splits of one epoch, by name.
pub(super) type Splits = BTreeMap<String, Shards>;

/// What is stored of a published shard beside its manifest line.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stamped {
    /// Its number in the pool.
    pool: u64,
    /// See [`View::stamps`].
    stamp: String,
}

/// The split in an earlier epoch.
pub(super) struct Earlier<'a> {
    folder: PathBuf,
    shards: &'a Shards,
}

impl<'a> Earlier<'a> {
    /// The split of an epoch with these splits; `None` where it has no such one.
    pub(super) fn of(split: &str, epoch: &Path, splits: &'a Splits) -> Option<Self> {
        splits.get(split).map(|shards| Self { folder: epoch.join(split), shards })
    }
}

/// What a split is written from.
pub(super) struct Context<'a> {
    pub(super) view: &'a View,
    pub(super) split: &'a str,
    pub(super) log: &'a Changelog,
    pub(super) pool: (&'a Ledger, &'a Plan),
    pub(super) config: &'a RunConfig,
    /// The embedder's identity, for the parts' metadata.
    pub(super) identity: Option<String>,
    /// The shown epoch, whose files are linked and never changed.
    pub(super) shown: Option<Earlier<'a>>,
    /// The epoch whose folder this one is made of.
    pub(super) base: Option<Earlier<'a>>,
}

/// Writes the split's folder; all of it is durable but the folder's own name.
///
/// # Errors
/// What cannot be read or written.
pub(super) fn write_split(into: &Path, context: &Context<'_>) -> Result<Shards, PipelineError> {
    let Context { view, split, pool: (pool, pool_plan), .. } = *context;
    let live: Vec<u64> = view.shards().collect();
    let folder = open(into, &plan_of(&live, pool_plan), context)?;
    let place = take_over(into, context.base.as_ref())?;
    let before = context.shown.as_ref().map(|shown| shown.shards);
    let parts = part_config(context);
    let turned = turned(context.log, split);
    let known = |ordinal: u64| Some(before?.get(&ordinal)?.stamp.as_str());
    let mut stamps = view.stamps(split, known, &turned);
    let numbers: BTreeMap<u64, u64> = live.iter().copied().zip(0..).collect();
    let mut shards = Shards::new();
    for (&ordinal, &number) in &numbers {
        let stamp = stamps.remove(&ordinal).unwrap_or_default();
        // The first one has the points' statistics of all, which no stamp knows.
        let is_same =
            |held: &&Arc<Published>| held.stamp == stamp && !stamp.is_empty() && number > 0 && held.number > 0;
        let held = before.and_then(|before| before.get(&ordinal)).filter(is_same);
        let in_place = context.base.as_ref().and_then(|base| base.shards.get(&ordinal));
        let in_place = in_place.filter(is_same).filter(|there| there.number == number);
        if in_place.is_none() {
            clear(into, number, place.get(&number).copied())?;
        }
        let line = match (held, in_place) {
            (_, Some(there)) => there.line.clone(),
            (Some(held), None) => {
                let from = &context.shown.as_ref().map(|shown| shown.folder.clone()).unwrap_or_default();
                for kind in [PartKind::Ledger, PartKind::Items] {
                    link(&from.join(kind.path(held.number, 0)), &into.join(kind.path(number, 0)))?;
                }
                held.line.clone()
            }
            (None, None) => {
                let items = if number == 0 { items(view, split, &numbers) } else { Vec::new() };
                write_shard(&folder, (ordinal, number), context, &parts, &items)?
            }
        };
        let embeddings = embeddings(pool, ordinal);
        if let (Some((path, _)), None) = (&embeddings, in_place) {
            link(path, &into.join(PartKind::Embeddings.path(number, 0)))?;
        }
        let rows = line.parts.into_iter().filter(|part| part.kind != PartKind::Embeddings);
        let parts = rows.chain(embeddings.map(|(_, sum)| sum)).collect();
        let line = ShardLine { ordinal: number, decision: folder.decision_hash().into(), parts, ..line };
        // What is as it was is not held twice.
        let old = held.filter(|held| held.number == number && held.line == line).cloned();
        shards.insert(ordinal, old.unwrap_or_else(|| Arc::new(Published { number, stamp, line })));
    }
    for (&number, &there) in place.range(live.len() as u64..) {
        clear(into, number, Some(there))?;
    }
    for kind in PartKind::ALL {
        sync_dir(&into.join(kind.folder()))?;
    }
    let lines: Vec<ShardLine> = shards.values().map(|shard| shard.line.clone()).collect();
    folder.append_all(&lines).map_err(PipelineError::failed)?;
    let stamped = |(&pool, shard): (&u64, &Arc<Published>)| Stamped { pool, stamp: shard.stamp.clone() };
    write_json(&into.join(STAMPS), &shards.iter().map(stamped).collect::<Vec<_>>())?;
    sync_dir(into)?;
    Ok(shards)
}

/// Reads back the splits of an epoch: those that [`write_split`] wrote and whose parts are still there.
///
/// # Errors
/// A folder that cannot be read.
pub(super) fn read_splits(epoch: &Path) -> Result<Splits, PipelineError> {
    let entries = entries(epoch)?.into_iter().map(|entry| entry.path());
    let is_whole = |path: &PathBuf| PartKind::ALL.iter().all(|kind| path.join(kind.folder()).is_dir());
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    entries.filter(is_whole).map(|path| Ok((name(&path), read_shards(&path)?))).collect()
}

fn read_shards(folder: &Path) -> Result<Shards, PipelineError> {
    let path = folder.join(STAMPS);
    let text = fs::read(&path).map_err(PipelineError::at(&path))?;
    let stamps: Vec<Stamped> = serde_json::from_slice(&text).map_err(PipelineError::failed)?;
    let ledger = Ledger::open(folder).map_err(PipelineError::failed)?;
    let lines = ledger.shards();
    let of = |(number, stamped): (u64, Stamped)| {
        let (_, line) = lines.get(&number)?;
        Some((stamped.pool, Arc::new(Published { number, stamp: stamped.stamp, line: line.clone() })))
    };
    Ok((0..).zip(stamps).filter_map(of).collect())
}

fn plan_of(live: &[u64], pool: &Plan) -> Plan {
    let shard = |(at, ordinal): (usize, &u64)| {
        let known = pool.shard(*ordinal);
        let name = known.map(|shard| shard.name.clone()).unwrap_or_default();
        let url = known.map(|shard| shard.url.clone()).unwrap_or_default();
        ShardRef { ordinal: at as u64, name, url, bytes: known.and_then(|shard| shard.bytes) }
    };
    Plan { shards: live.iter().enumerate().map(shard).collect(), ..Plan::default() }
}

fn open(into: &Path, plan: &Plan, context: &Context<'_>) -> Result<RunFolder, PipelineError> {
    let options = OpenOptions {
        plan,
        extends: |_: &Plan, _: &Plan| false,
        config: context.config,
        access: Access::Exclusive,
        mix_numerics: false,
        patience: std::time::Duration::ZERO,
    };
    RunFolder::open(into, Arc::new(Disk), &options).map_err(PipelineError::failed)
}

fn part_config(context: &Context<'_>) -> PartConfig {
    let rule = context.view.splits()[context.split].rule.to_string();
    let mut metadata = BTreeMap::from([("rule".to_owned(), rule)]);
    metadata.extend(context.identity.iter().map(|identity| ("identity".to_owned(), identity.clone())));
    let names: Vec<String> = context.view.benchmarks().map(str::to_owned).collect();
    PartConfig { benchmarks: names, embeddings: None, metadata }
}

/// Moves the parts of an earlier epoch's folder into the new one, which is empty; gives its shards by number.
fn take_over<'a>(into: &Path, base: Option<&Earlier<'a>>) -> Result<BTreeMap<u64, &'a Published>, PipelineError> {
    let Some(base) = base else { return Ok(BTreeMap::new()) };
    for kind in PartKind::ALL {
        let (from, to) = (base.folder.join(kind.folder()), into.join(kind.folder()));
        fs::remove_dir(&to).map_err(PipelineError::at(&to))?;
        fs::rename(&from, &to).map_err(PipelineError::at(&from))?;
    }
    Ok(base.shards.values().map(|shard| (shard.number, &**shard)).collect())
}

/// Removes the files that stand under a number. What is linked elsewhere stays there.
fn clear(into: &Path, number: u64, there: Option<&Published>) -> Result<(), PipelineError> {
    for part in there.into_iter().flat_map(|there| &there.line.parts) {
        let path = into.join(part.kind.path(number, 0));
        fs::remove_file(&path).map_err(PipelineError::at(&path))?;
    }
    Ok(())
}

fn link(from: &Path, to: &Path) -> Result<(), PipelineError> {
    link_or_copy(&Disk, from, to).map_err(PipelineError::at(from))
}

/// Shards of which a sample may have another status than in the epoch before.
fn turned(log: &Changelog, split: &str) -> BTreeSet<u64> {
    let sides = log.sides.iter().filter(|side| &*side.split == split).map(|side| side.sample.ordinal);
    sides.chain(log.arrived.iter().copied()).chain(log.replaced.iter().copied()).collect()
}

/// A shard's stored embeddings in the pool.
fn embeddings(pool: &Ledger, ordinal: u64) -> Option<(PathBuf, PartSum)> {
    let (_, line) = pool.shards().get(&ordinal)?;
    Some((pool.embeddings_path(ordinal).ok()?, line.part(PartKind::Embeddings)?.clone()))
}

/// Scores by raw index, from the smallest.
type Rows = std::iter::Peekable<std::vec::IntoIter<(u32, Score)>>;

fn write_shard(
    folder: &RunFolder,
    (ordinal, number): (u64, u64),
    context: &Context<'_>,
    parts: &PartConfig,
    items: &[PointRow],
) -> Result<ShardLine, PipelineError> {
    let Context { view, split, pool: (pool, _), .. } = *context;
    let gone = || PipelineError::failed(format!("shard {ordinal} is not in the epoch"));
    let statuses = view.statuses(ordinal, split).ok_or_else(gone)?;
    let mut scores: Vec<Rows> = Vec::new();
    for points in view.points() {
        let rows = view.scores(ordinal, &points.benchmark.name).map_err(PipelineError::failed)?;
        scores.push(rows.unwrap_or_default().into_iter().peekable());
    }
    let taken_down = view.taken_down_of(ordinal);
    let mut fates = Vec::with_capacity(statuses.len());
    for row in pool.shard_rows(ordinal).map_err(PipelineError::failed)? {
        let Fate { mut info, reason, .. } = row.fate;
        let index = info.id.index;
        let status = statuses.get(index as usize).copied().ok_or_else(gone)?;
        let score = |rows: &mut Rows| rows.next_if(|row| row.0 == index).map(|row| row.1).unwrap_or_default();
        let scores = scores.iter_mut().map(score).collect();
        Arc::get_mut(&mut info).ok_or_else(gone)?.id = SampleId { ordinal: number, index };
        let reason = match taken_down.binary_search(&index) {
            Ok(_) => Some(Reason::new(TAKEN_DOWN, "")),
            Err(_) => reason.filter(|_| status != Status::Dropped),
        };
        fates.push(Arc::new(Fate::recorded(info, status, reason, scores)));
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
