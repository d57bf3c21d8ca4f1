//! An engine whose parts lie in a folder, as in a run; a fresh one over its inputs; and the comparison of what they
//! show.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use trommel_incremental::embeddings::HeldEmbeddings;
use trommel_incremental::engine::{Applied, Engine, IncrementalConfig};
use trommel_incremental::inputs::{Change, Inputs};
use trommel_incremental::parts::PartStore;
use trommel_incremental::view::View;
use trommel_ledger::storage::Disk;

/// Decisions are not refused for want of memory here.
const BUDGET_BYTES: u64 = 8 << 30;

pub struct Trial {
    pub engine: Engine,
    stored: Arc<HeldEmbeddings>,
    folder: TempDir,
}

/// What one epoch took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub decided: Duration,
    pub refreshed: Duration,
    pub facts: u64,
    pub sides: usize,
    /// Vectors read, those to refresh included.
    pub read: u64,
    pub read_to_refresh: u64,
}

impl Cost {
    pub fn total(&self) -> Duration {
        self.decided + self.refreshed
    }

    /// The median of the times; all else is the last one's.
    pub fn median(costs: &[Self]) -> Self {
        let middle = |of: fn(&Self) -> Duration| {
            let mut all: Vec<Duration> = costs.iter().map(of).collect();
            all.sort();
            (all[(all.len() - 1) / 2] + all[all.len() / 2]) / 2
        };
        let last = costs.last().copied().unwrap_or_default();
        Self { decided: middle(|cost| cost.decided), refreshed: middle(|cost| cost.refreshed), ..last }
    }
}

impl Trial {
    pub fn new(stored: &Arc<HeldEmbeddings>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let part_store = PartStore::folder(folder.path(), 1, Arc::new(Disk)).unwrap();
        let workers = trommel_core::cores::usable();
        let config = IncrementalConfig { workers, budget_bytes: BUDGET_BYTES, ..IncrementalConfig::default() };
        Self { engine: Engine::new(config, stored.clone(), part_store).unwrap(), stored: stored.clone(), folder }
    }

    /// Applies `changes` as one epoch and says what it cost.
    pub fn apply(&mut self, changes: &[Change]) -> Cost {
        let before = self.stored.vectors_read();
        let Applied { changelog, facts, decided, refreshed, refreshed_vectors } = self.engine.apply(changes).unwrap();
        let read = self.stored.vectors_read() - before;
        Cost { decided, refreshed, facts, sides: changelog.sides.len(), read, read_to_refresh: refreshed_vectors }
    }

    pub fn view(&self) -> Arc<View> {
        self.engine.views().latest()
    }

    pub fn inputs(&self) -> &Inputs {
        &self.engine.world().inputs
    }

    /// A benchmark's radii as they are.
    pub fn radii(&self, name: &str) -> Vec<f64> {
        let points = self.inputs().benchmarks.iter().find(|points| points.benchmark.name == name).unwrap();
        points.benchmark.radii.clone().unwrap()
    }

    /// Files of the folder.
    pub fn files(&self) -> usize {
        std::fs::read_dir(self.folder.path()).unwrap().count()
    }

    /// Matches that are stored.
    pub fn matches(&self) -> usize {
        let parts = self.engine.world().shards.values().flat_map(|live| live.matches.values());
        parts.map(|part| part.load().unwrap().by_point().count()).sum()
    }

    /// A fresh run over what this one's inputs are now: what it took, and how many values both show alike.
    pub fn fresh(&self) -> (Cost, u64) {
        let mut fresh = Self::new(&self.stored);
        let mut changes = without_shards(self.inputs());
        let shards = self.inputs().shards.iter();
        changes.extend(shards.map(|(&ordinal, shard)| Change::Arrive(ordinal, (**shard).clone())));
        let cost = fresh.apply(&changes);
        (cost, compare(&self.view(), &fresh.view()))
    }
}

/// All that decisions depend on but the shards.
pub fn without_shards(inputs: &Inputs) -> Vec<Change> {
    let mut all: Vec<Change> =
        inputs.benchmarks.iter().map(|points| Change::AddBenchmark(points.benchmark.clone())).collect();
    all.extend(inputs.splits.iter().map(|(name, split)| Change::SetSplit(name.clone(), split.rule.clone())));
    let (ids, keys) = (inputs.taken.iter().copied().collect(), inputs.taken_keys.iter().cloned().collect());
    all.push(Change::TakeDown(ids, keys));
    all
}

/// Fails where two views differ, bit for bit; gives the number of statuses, scores and items compared.
fn compare(refreshed: &View, fresh: &View) -> u64 {
    let (shards, names): (Vec<u64>, Vec<&str>) = (fresh.shards().collect(), fresh.benchmarks().collect());
    assert!(
        refreshed.shards().eq(shards.iter().copied()) && refreshed.benchmarks().eq(names.iter().copied()),
        "inputs differ"
    );
    assert_eq!(refreshed.taken_down(), fresh.taken_down(), "takedowns differ");
    let mut values = 0;
    for split in fresh.splits().keys() {
        assert_eq!(refreshed.sizes(split), fresh.sizes(split), "sizes of {split} differ");
        for &shard in &shards {
            let statuses = fresh.statuses(shard, split);
            assert!(refreshed.statuses(shard, split) == statuses, "statuses of {shard} in {split} differ");
            values += statuses.map_or(0, |all| all.len() as u64);
        }
        for name in &names {
            assert_eq!(refreshed.reach(name, split), fresh.reach(name, split), "reach of {name} in {split} differs");
            let items = fresh.items(name, split);
            assert!(refreshed.items(name, split) == items, "items of {name} in {split} differ");
            values += items.map_or(0, |all| all.len() as u64);
        }
    }
    for name in &names {
        assert_eq!(refreshed.over_radius(name), fresh.over_radius(name), "samples over a radius of {name} differ");
        for &shard in &shards {
            let scores = fresh.scores(shard, name).unwrap();
            assert!(refreshed.scores(shard, name).unwrap() == scores, "scores of {shard} against {name} differ");
            values += scores.map_or(0, |all| all.len() as u64);
        }
    }
    values
}
