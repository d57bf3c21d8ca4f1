//! Random changes over a small pool with much in common: copies, near copies, radii that are similarities of the pool.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use half::f16;

use super::exact::{Dice, cosine};
use super::rules;
use super::simulated::Simulated;
use crate::IncrementalError;
use crate::embeddings::{HeldEmbeddings, HeldShard};
use crate::engine::{Engine, IncrementalConfig};
use crate::inputs::{Change, Inputs, ShardInput};
use crate::parts::PartStore;
use trommel_core::sample::SampleId;
use trommel_decide::benchmark::Benchmark;
use trommel_decide::rule::{Form, Rule};
use trommel_ledger::storage::Storage;

const DIM: usize = 6;

fn config(workers: usize, dice: &mut Dice) -> IncrementalConfig {
    let slack = [0.0, 0.02, 0.3][dice.below(3)];
    IncrementalConfig { workers, floor_slack_cosine: slack, ..IncrementalConfig::default() }
}

/// Parts on a disk in memory.
pub(super) fn simulated_parts() -> PartStore {
    PartStore::folder(Path::new("/disk/parts"), 0, Arc::new(Simulated::new())).unwrap()
}

/// All that was ever stored.
#[derive(Default)]
pub(super) struct Pool {
    shards: BTreeMap<(u64, u64), HeldShard>,
    pub(super) stored: Arc<HeldEmbeddings>,
}

impl Pool {
    pub(super) fn shard(&self, ordinal: u64, generation: u64) -> HeldShard {
        self.shards[&(ordinal, generation)].clone()
    }

    fn put(&mut self, ordinal: u64, generation: u64, rows: HeldShard) {
        self.stored.put(ordinal, generation, rows.clone());
        self.shards.insert((ordinal, generation), rows);
    }
}

/// A pool, an engine on it, and what it was told.
pub(super) struct Trial {
    pub(super) pool: Pool,
    pub(super) engine: Engine,
    pub(super) inputs: Inputs,
    pub(super) dice: Dice,
    generation: u64,
    names: u64,
    kin: Vec<Vec<f16>>,
}

impl Trial {
    pub(super) fn new(seed: u64, workers: usize, part_store: PartStore) -> Self {
        Self::with(seed, |dice, stored| Engine::new(config(workers, dice), stored, part_store).unwrap())
    }

    /// An engine of a folder.
    pub(super) fn open(seed: u64, workers: usize, root: &Path, storage: Arc<dyn Storage>) -> Self {
        Self::with(seed, |dice, stored| Engine::open(config(workers, dice), stored, root, storage).unwrap())
    }

    fn with(seed: u64, engine: impl FnOnce(&mut Dice, Arc<HeldEmbeddings>) -> Engine) -> Self {
        let mut dice = Dice(seed);
        let pool = Pool::default();
        let engine = engine(&mut dice, pool.stored.clone());
        let kin = dice.family(6, DIM, &[]);
        Self { pool, engine, inputs: Inputs::default(), dice, generation: 0, names: 0, kin }
    }

    /// Closes the engine; nothing can be asked of the one that stands in for it.
    pub(super) fn close(&mut self) {
        self.engine = Engine::new(IncrementalConfig::default(), self.pool.stored.clone(), simulated_parts()).unwrap();
    }

    /// Opens the folder again, with whatever settings.
    pub(super) fn reopen(&mut self, root: &Path, storage: Arc<dyn Storage>) -> Result<(), IncrementalError> {
        self.close();
        let workers = 1 + self.dice.below(4);
        let config = config(workers, &mut self.dice);
        self.engine = Engine::open(config, self.pool.stored.clone(), root, storage)?;
        Ok(())
    }

    fn vector(&mut self) -> Vec<f16> {
        let of = self.kin[self.dice.below(self.kin.len())].clone();
        match self.dice.below(4) {
            0 => of,
            1 => self.dice.near(&of, 0.2),
            2 => self.dice.near(&of, 0.01),
            _ => self.dice.unit(DIM),
        }
    }

    /// A cosine that some pair may have exactly.
    pub(super) fn cosine(&mut self) -> f64 {
        let (a, b) = (self.vector(), self.vector());
        match self.dice.below(4) {
            0 => [0.0, 0.5, 0.9, 2.0][self.dice.below(4)],
            1 => 0.7 + 0.6 * self.dice.symmetric(),
            _ => cosine(&a, &b),
        }
    }

    pub(super) fn arrive(&mut self, ordinal: u64) -> Change {
        self.generation += 1;
        let count = self.dice.below(12) as u32;
        let mut rejected = Vec::new();
        let mut rows = Vec::new();
        for index in 0..count {
            if self.dice.below(6) == 0 {
                rejected.push(index);
            } else {
                rows.push((index, format!("k{}", self.dice.below(9)), self.vector()));
            }
        }
        self.pool.put(ordinal, self.generation, rows);
        Change::Arrive(
            ordinal,
            ShardInput { name: format!("{ordinal}").into(), generation: self.generation, count, rejected },
        )
    }

    /// A shard without samples, under a name that makes the epoch's line in the journal as long as `bytes`; it replaces the one before it.
    pub(super) fn long_line(&mut self, bytes: usize) -> Change {
        let ordinal = 50; // beyond those that other changes are about
        self.generation += 1;
        self.pool.put(ordinal, self.generation, Vec::new());
        let (name, generation) = ("x".repeat(bytes).into(), self.generation);
        Change::Arrive(ordinal, ShardInput { name, generation, count: 0, rejected: Vec::new() })
    }

    pub(super) fn benchmark(&mut self, name: String, radii: bool) -> Arc<Benchmark> {
        let points = 1 + self.dice.below(5);
        let vectors = (0..points).flat_map(|_| self.vector()).collect();
        let radii = radii.then(|| (0..points).map(|_| self.cosine()).collect());
        Arc::new(Benchmark::new(name, DIM, vectors, vec![], vec![], radii, None).unwrap())
    }

    pub(super) fn add_benchmark(&mut self) -> Change {
        self.names += 1;
        let radii = self.dice.below(5) > 0;
        Change::AddBenchmark(self.benchmark(format!("b{}", self.names), radii))
    }

    fn rule(&mut self, inputs: &Inputs) -> Rule {
        let with: Vec<bool> = inputs.benchmarks.iter().map(|points| points.benchmark.radii.is_some()).collect();
        let threshold = self.cosine();
        let names = |only: &dyn Fn(usize) -> bool, dice: &mut Dice| -> Option<Vec<String>> {
            let all: Vec<String> =
                (0..with.len()).filter(|&at| only(at)).map(|at| inputs.benchmarks[at].benchmark.name.clone()).collect();
            let some: Vec<String> = all.iter().filter(|_| dice.below(2) == 0).cloned().collect();
            Some(if some.is_empty() { all } else { some })
        };
        let any = if self.dice.below(2) == 0 { None } else { names(&|_| true, &mut self.dice) };
        // Every form that is maintained; the one that asks for radii more often than the others.
        let maintained = |form: &&Form| rules::hit(&rules::example(**form, 0.5, None), 0.5, Some(0.5)).is_some();
        let (radii, others): (Vec<Form>, Vec<Form>) =
            Form::ALL.iter().filter(maintained).partition(|form| **form == Form::DropOverRadius);
        if let Some(form) = others.get(self.dice.below(others.len() + 3)) {
            return rules::example(*form, threshold, any);
        }
        match names(&|at| with[at], &mut self.dice) {
            Some(names) if !names.is_empty() => rules::example(radii[0], threshold, Some(names)),
            _ => rules::example(others[0], threshold, any),
        }
    }

    fn change(&mut self, inputs: &Inputs) -> Change {
        let ordinal = self.dice.below(5) as u64;
        let picked = (!inputs.benchmarks.is_empty())
            .then(|| inputs.benchmarks[self.dice.below(inputs.benchmarks.len())].clone());
        let split = format!("s{}", self.dice.below(3));
        let Some(points) = picked else { return self.add_benchmark() };
        let benchmark = &points.benchmark;
        let name = benchmark.name.clone();
        match self.dice.below(14) {
            0 | 1 => self.arrive(ordinal),
            2 => Change::Withdraw(ordinal),
            3 => self.add_benchmark(),
            4 => Change::RemoveBenchmark(name),
            5 => Change::AddPoints(self.benchmark(name, benchmark.radii.is_some())),
            6 => {
                let places = (0..benchmark.points() as u32).filter(|_| self.dice.below(3) == 0).collect();
                Change::RemovePoints(name, places)
            }
            7 | 8 => {
                let some: Vec<u32> = (0..benchmark.points() as u32).filter(|_| self.dice.below(2) == 0).collect();
                Change::SetRadii(name, some.into_iter().map(|place| (place, self.cosine())).collect())
            }
            9 => {
                let vectors: Vec<f16> = (0..1 + self.dice.below(2)).flat_map(|_| self.vector()).collect();
                Change::GrowReference(name, vectors.into())
            }
            10 => Change::SetSplit(split, self.rule(inputs)),
            11 if self.dice.below(3) == 0 => Change::RemoveSplit(split),
            11 => Change::SetSplit(split, self.rule(inputs)),
            _ => self.takedown(inputs),
        }
    }

    /// Samples and keys, there or not; or some that are taken down already.
    fn takedown(&mut self, inputs: &Inputs) -> Change {
        if self.dice.below(2) == 0 {
            let samples = inputs.taken.iter().copied().filter(|_| self.dice.below(2) == 0).collect();
            let keys = inputs.taken_keys.iter().filter(|_| self.dice.below(2) == 0).cloned().collect();
            return Change::Restore(samples, keys);
        }
        let sample = |dice: &mut Dice| SampleId { ordinal: dice.below(5) as u64, index: dice.below(12) as u32 };
        let samples = (0..self.dice.below(12)).map(|_| sample(&mut self.dice)).collect();
        let keys = (0..self.dice.below(2)).map(|_| format!("k{}", self.dice.below(9))).collect();
        Change::TakeDown(samples, keys)
    }

    /// A pool to begin with: three shards, two benchmarks, two splits.
    pub(super) fn first(&mut self) -> Vec<Change> {
        let mut changes: Vec<Change> = (0..3).map(|ordinal| self.arrive(ordinal)).collect();
        changes.extend((0..2).map(|_| self.add_benchmark()));
        let inputs = self.inputs.after(&changes).unwrap();
        changes.extend((0..2).map(|at| Change::SetSplit(format!("s{at}"), self.rule(&inputs))));
        changes
    }

    /// One to three changes that can be; some epochs are refused for a change that cannot.
    pub(super) fn changes(&mut self) -> Vec<Change> {
        let (mut changes, mut inputs) = (Vec::new(), self.inputs.clone());
        for _ in 0..1 + self.dice.below(3) {
            let change = self.change(&inputs);
            let mut more = changes.clone();
            more.push(change);
            if let Ok(next) = self.inputs.after(&more) {
                (changes, inputs) = (more, next);
            }
        }
        changes
    }

    /// A change that cannot be.
    pub(super) fn impossible(&mut self) -> Vec<Change> {
        let mut changes = self.changes();
        changes.push(Change::Withdraw(99));
        changes
    }
}
