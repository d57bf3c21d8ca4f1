//! One seed, one scenario: sizes, fates, machinery, faults and moments of stopping.

use std::thread;
use std::time::Duration;

/// A small counter-based generator, independent of the hash under test.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let x = self.0 ^ (self.0 >> 29);
        x.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 16
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What happens to a sample, decided by the scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Kept,
    Dropped,
    RejectedByReader,
    PanicsInDecode,
}

#[derive(Clone, Copy, Debug)]
pub struct Made {
    pub fate: Fate,
    /// At admission; later stages hold half of it.
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    ReaderPanics(u64),
    BatchPanics,
    NotMade,
}

/// Whether a shard counts as empty, and when that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holed {
    No,
    /// Before it is assigned.
    Ahead,
    /// When a reader opens it, which then sends it all the same.
    WhileRead,
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub seed: u64,
    pub growing: bool,
    pub holes: Vec<Holed>,
    pub train: bool,
    pub workers: usize,
    pub readers: usize,
    pub shards: Vec<Vec<Made>>,
    /// What each shard's decompressor holds beyond what its reader has without asking. Training, all lanes have room at once.
    pub workspaces: Vec<u64>,
    pub budget: u64,
    pub quantum: u64,
    pub pool_threads: usize,
    pub service_batch: usize,
    pub max_open: usize,
    /// Records of a row group.
    pub group_bytes: u64,
    pub window_samples: usize,
    pub window_bytes: u64,
    pub batch: usize,
    pub passes: u32,
    pub beats: bool,
    pub calm: bool,
}

impl Scenario {
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice(seed ^ 0x5EED_0000);
        let train = dice.chance(60);
        let quantum = dice.range(1, 30);
        let readers = dice.range(1, 4) as usize;
        let shared = if dice.chance(30) { 0 } else { dice.below(80) };
        let budget = quantum * readers as u64 + shared;
        let huge = if dice.chance(50) { 0 } else { dice.range(1, 60) };
        let rejects = dice.below(20);
        let panics = dice.below(10);
        let shards = (0..dice.range(u64::from(train), 7)).map(|_| {
            let count = if dice.chance(15) { 0 } else { dice.below(14) };
            let kept = if dice.chance(20) { 0 } else { dice.below(100) };
            let one = |_| {
                let bytes = match dice.below(100) {
                    p if p < huge / 2 => budget + dice.below(100),
                    p if p < huge => quantum + dice.below(shared + 1),
                    _ => dice.range(1, quantum),
                };
                let fate = match dice.below(100) {
                    p if p < rejects => Fate::RejectedByReader,
                    p if p < rejects + panics => Fate::PanicsInDecode,
                    _ if dice.chance(kept) => Fate::Kept,
                    _ => Fate::Dropped,
                };
                Made { fate, bytes }
            };
            (0..count).map(one).collect()
        });
        let shards: Vec<Vec<Made>> = shards.collect();
        let workspaces = workspaces(seed, shards.len(), if train { shared / readers as u64 } else { shared });
        Self {
            seed,
            growing: false,
            holes: vec![Holed::No; shards.len()],
            train,
            workers: [1, 2, 4][dice.below(3) as usize],
            readers,
            shards,
            workspaces,
            budget,
            quantum,
            pool_threads: dice.range(1, 3) as usize,
            service_batch: dice.range(1, 6) as usize,
            max_open: dice.range(1, 4) as usize,
            group_bytes: 1 + seed % 30,
            window_samples: dice.range(1, 12) as usize,
            window_bytes: dice.range(1, 150),
            batch: dice.range(1, 5) as usize,
            passes: dice.range(1, 3) as u32,
            beats: dice.chance(20),
            calm: dice.chance(50),
        }
    }

    /// One pass of training over an assignment that grows.
    pub fn growing(seed: u64) -> Self {
        let (mut dice, scenario) = (Dice(seed ^ 0x6606), Self::new(seed));
        let mut shards = scenario.shards;
        if dice.chance(50) {
            shards.extend(Self::new(seed ^ 0x0FF0_0000).shards);
        }
        let holed = |_: &Vec<Made>| match dice.below(100) {
            0..15 => Holed::Ahead,
            15..25 => Holed::WhileRead,
            _ => Holed::No,
        };
        let holes = shards.iter().map(holed).collect();
        let shared = scenario.budget - scenario.quantum * scenario.readers as u64;
        let workspaces = workspaces(seed, shards.len(), shared / scenario.readers as u64);
        Self { growing: true, holes, train: true, passes: 1, shards, workspaces, ..scenario }
    }

    pub fn name(ordinal: usize) -> String {
        format!("shards/{ordinal:05}.tar")
    }

    pub fn largest(&self) -> u64 {
        self.shards.iter().flatten().map(|made| made.bytes).max().unwrap_or(0)
    }

    pub fn kept(&self) -> usize {
        let whole = self.shards.iter().zip(&self.holes).filter(|(_, holed)| **holed == Holed::No);
        whole.flat_map(|(shard, _)| shard).filter(|made| made.fate == Fate::Kept).count()
    }

    pub fn judged(&self, ordinal: u64) -> Vec<bool> {
        self.shards[ordinal as usize].iter().map(|made| made.fate == Fate::Kept).collect()
    }
}

fn workspaces(seed: u64, shards: usize, most: u64) -> Vec<u64> {
    let mut dice = Dice(seed ^ 0x30B5);
    let often = [0, 30, 100][dice.below(3) as usize];
    (0..shards).map(|_| if dice.chance(often) { dice.below(most + 1) } else { 0 }).collect()
}

/// Most often nothing, sometimes a yield, seldom a short sleep.
pub fn jitter(dice: &mut Dice, calm: bool) {
    match dice.below(100) {
        _ if calm => {}
        0..=2 => thread::sleep(Duration::from_micros(dice.range(10, 300))),
        3..=20 => thread::yield_now(),
        _ => {}
    }
}
