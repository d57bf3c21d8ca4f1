//! Generated embeddings that lie as CLIP's do: one common direction, concepts around it, pictures around these, copies
//! of test pictures.
//!
//! A vector is `mean + concept + its own`, each a random direction, so that two of one concept have a cosine of about
//! 0.75 and two of different ones 0.35. A test point's radius is its largest similarity to a reference set of as many
//! pictures of its concept as there are test points. Half of the pool has concepts that no test point has.

use std::collections::BTreeSet;
use std::sync::Arc;

use half::f16;
use trommel_decide::benchmark::Benchmark;
use trommel_incremental::embeddings::HeldEmbeddings;
use trommel_incremental::inputs::{Change, ShardInput};

use crate::Size;

/// The study's test sets.
const TESTS: [(&str, usize); 6] =
    [("val", 50_000), ("sketch", 50_889), ("a", 7_500), ("r", 30_000), ("v2", 10_000), ("objectnet", 18_574)];
/// Test points, and vectors of the reference, of one concept.
const POINTS_OF_CONCEPT: usize = 20;
/// Squares of the parts of a vector.
const MEAN: f32 = 0.35;
const CONCEPT: f32 = 0.40;
const OWN: f32 = 0.25;
/// Of a hundred samples: copies of test points, then those of a test point's concept.
const COPIES: usize = 2;
const RELATED: usize = 48;

/// The splitmix64 generator; holds its state.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// A random direction of length 1.
    fn direction(&mut self, dim: usize) -> Vec<f32> {
        let raw: Vec<f32> = (0..dim).map(|_| (self.next() >> 40) as f32 / (1 << 24) as f32 - 0.5).collect();
        let length = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
        raw.iter().map(|x| x / length).collect()
    }
}

/// A weighted sum, made a unit vector.
fn mix(parts: &[(f32, &[f32])]) -> Vec<f16> {
    let sum: Vec<f32> =
        (0..parts[0].1.len()).map(|at| parts.iter().map(|(weight, part)| weight * part[at]).sum()).collect();
    let length = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
    sum.iter().map(|x| f16::from_f32(x / length)).collect()
}

fn cosine(a: &[f16], b: &[f16]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x.to_f64() * y.to_f64()).sum()
}

/// The pool and the test sets; one more shard than live at first.
pub struct Scene {
    pub size: Size,
    pub tests: Vec<Arc<Benchmark>>,
    pub stored: Arc<HeldEmbeddings>,
    mean: Vec<f32>,
    concepts: Vec<Vec<f32>>,
}

impl Scene {
    pub fn new(size: Size) -> Self {
        let mut dice = Dice(1);
        let mean = dice.direction(size.dim);
        let counts = TESTS.map(|(_, count)| (count / size.scale).max(4));
        let concepts = counts.iter().sum::<usize>().div_ceil(POINTS_OF_CONCEPT);
        let concepts = (0..concepts).map(|_| dice.direction(size.dim)).collect();
        let stored = Arc::new(HeldEmbeddings::default());
        let mut scene = Self { size, tests: Vec::new(), stored, mean, concepts };
        let reference: Vec<Vec<Vec<f16>>> = (0..scene.concepts.len())
            .map(|concept| (0..POINTS_OF_CONCEPT).map(|_| scene.picture(&mut dice, Some(concept))).collect())
            .collect();
        for ((name, _), count) in TESTS.iter().zip(counts) {
            let (mut vectors, mut radii) = (Vec::new(), Vec::new());
            for _ in 0..count {
                let concept = dice.below(scene.concepts.len());
                let point = scene.picture(&mut dice, Some(concept));
                radii.push(reference[concept].iter().map(|of| cosine(of, &point)).fold(-1.0, f64::max));
                vectors.extend(point);
            }
            let test = Benchmark::new(*name, size.dim, vectors, vec![], vec![], Some(radii), None).unwrap();
            scene.tests.push(Arc::new(test));
        }
        for ordinal in 0..=size.shards {
            let rows = (0..size.shard).map(|index| (index, scene.key(ordinal, index), scene.sample(&mut dice)));
            scene.stored.put(ordinal, 0, rows.collect());
        }
        scene
    }

    pub fn points(&self) -> usize {
        self.tests.iter().map(|test| test.points()).sum()
    }

    pub fn key(&self, ordinal: u64, index: u32) -> String {
        format!("{ordinal:05}{index:04}")
    }

    /// A picture of a concept, or of one of its own.
    fn picture(&self, dice: &mut Dice, concept: Option<usize>) -> Vec<f16> {
        let own = dice.direction(self.size.dim);
        match concept {
            Some(at) => mix(&[(MEAN.sqrt(), &self.mean), (CONCEPT.sqrt(), &self.concepts[at]), (OWN.sqrt(), &own)]),
            None => mix(&[(MEAN.sqrt(), &self.mean), ((CONCEPT + OWN).sqrt(), &own)]),
        }
    }

    fn sample(&self, dice: &mut Dice) -> Vec<f16> {
        match dice.below(100) {
            kind if kind < COPIES => {
                let test = &self.tests[dice.below(self.tests.len())];
                let of: Vec<f32> = test.vector(dice.below(test.points())).iter().map(|x| x.to_f32()).collect();
                let noise = dice.direction(self.size.dim);
                mix(&[(1.0, &of), (dice.below(4) as f32 * 0.1, &noise)])
            }
            kind if kind < COPIES + RELATED => {
                let concept = dice.below(self.concepts.len());
                self.picture(dice, Some(concept))
            }
            _ => self.picture(dice, None),
        }
    }

    /// The reference by which radii grow: f16[n, dim].
    pub fn more_reference(&self, dice: &mut Dice) -> Arc<[f16]> {
        let one = |_| {
            let concept = dice.below(self.concepts.len());
            self.picture(dice, Some(concept))
        };
        (0..self.size.list).flat_map(one).collect()
    }

    pub fn arrive(&self, ordinal: u64) -> Change {
        let name = format!("{ordinal:05}.tar").into();
        Change::Arrive(ordinal, ShardInput { name, generation: 0, count: self.size.shard, rejected: vec![] })
    }

    /// Everything at once: benchmarks, two splits, all shards but the last.
    pub fn beginning(&self) -> Vec<Change> {
        let mut all: Vec<Change> = self.tests.iter().cloned().map(Change::AddBenchmark).collect();
        all.push(Change::SetSplit("combined".into(), "drop-over-radius".parse().unwrap()));
        all.push(Change::SetSplit("sketch".into(), "drop-over-radius@sketch".parse().unwrap()));
        all.extend((0..self.size.shards).map(|ordinal| self.arrive(ordinal)));
        all
    }

    /// So many different samples of the first shards, as a takedown names them.
    pub fn some(&self, dice: &mut Dice) -> BTreeSet<(u64, u32)> {
        let mut all = BTreeSet::new();
        while all.len() < self.size.list {
            all.insert((dice.below(self.size.shards as usize) as u64, dice.below(self.size.shard as usize) as u32));
        }
        all
    }
}
