//! Exact copies: samples and test points whose stored vectors are equal in every element.
//!
//! Equal vectors have the product `|t|^2`, which is at least [`LEAST_COPY`] since stored norms are near 1. So the ledger's largest
//! similarities say which samples can be copies, and of all stored embeddings only the shards that hold such a sample are read.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use half::f16;
use trommel_columnar::embeddings::EmbeddingSet;
use trommel_core::sample::{Fate, Status};
use trommel_kernels::canonical::UNIT_TOLERANCE;
use trommel_ledger::read::Ledger;

use crate::error::PipelineError;

/// The least cosine that the ledger can give a copy: both norms may be so far below 1.
const LEAST_COPY: f64 = (1.0 - UNIT_TOLERANCE) * (1.0 - UNIT_TOLERANCE) - 1e-9;

/// Samples that may be copies, while the ledger streams by.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// By shard and index, whether the sample is kept.
    samples: BTreeMap<u64, BTreeMap<u32, bool>>,
    /// Benchmarks against which the ledger lacks a largest similarity.
    blind: Vec<bool>,
}

impl Candidates {
    pub(super) fn new(benchmarks: usize) -> Self {
        Self { blind: vec![false; benchmarks], ..Self::default() }
    }

    pub(super) fn add(&mut self, fate: &Fate) {
        if fate.status == Status::Rejected {
            return;
        }
        let mut near = false;
        for (at, blind) in self.blind.iter_mut().enumerate() {
            match fate.scores.get(at).and_then(|score| score.max_similarity) {
                Some(similarity) => near |= similarity >= LEAST_COPY,
                None => *blind = true,
            }
        }
        if near {
            let id = fate.info.id;
            self.samples.entry(id.ordinal).or_default().insert(id.index, fate.status == Status::Kept);
        }
    }

    /// Whether the ledger has every sample's largest similarity to a benchmark.
    pub(super) fn sees(&self, benchmark: usize) -> bool {
        !self.blind[benchmark]
    }

    /// By benchmark and point, whether the pool and what is kept hold a copy; `None` where a candidate's vector is not stored.
    ///
    /// # Errors
    /// Stored embeddings that cannot be read.
    pub(super) fn find(&self, ledger: &Ledger, of: &[Option<Points>]) -> Result<Option<Vec<Copied>>, PipelineError> {
        let points = |of: &Option<Points>| of.as_ref().map_or(0, |points| points.set.len());
        let mut found: Vec<Copied> =
            of.iter().map(|of| Copied { pool: vec![false; points(of)], kept: vec![false; points(of)] }).collect();
        for (&ordinal, candidates) in &self.samples {
            if !ledger.has_embeddings(ordinal) {
                return Ok(None);
            }
            for row in ledger.embeddings(ordinal).map_err(PipelineError::failed)? {
                let Some(&kept) = candidates.get(&row.index) else { continue };
                for (of, found) in of.iter().zip(&mut found) {
                    for point in of.iter().flat_map(|points| points.equal(&row.vector)) {
                        found.pool[point] = true;
                        found.kept[point] |= kept;
                    }
                }
            }
        }
        Ok(Some(found))
    }
}

/// By point, whether a set holds a copy of it.
#[derive(Clone, Debug)]
pub(super) struct Copied {
    pub(super) pool: Vec<bool>,
    pub(super) kept: Vec<bool>,
}

/// A benchmark's test points, found by their vectors.
pub(super) struct Points {
    pub(super) set: EmbeddingSet,
    by_hash: HashMap<u64, Vec<u32>>,
}

impl Points {
    pub(super) fn new(set: EmbeddingSet) -> Self {
        let mut by_hash: HashMap<u64, Vec<u32>> = HashMap::new();
        for point in 0..set.len() {
            by_hash.entry(hash(set.vector(point))).or_default().push(point as u32);
        }
        Self { set, by_hash }
    }

    /// The points of this vector.
    fn equal<'a>(&'a self, vector: &'a [f16]) -> impl Iterator<Item = usize> + 'a {
        let alike = self.by_hash.get(&hash(vector)).into_iter().flatten();
        alike.map(|&point| point as usize).filter(move |&point| self.set.vector(point) == vector)
    }

    /// By point, whether another point is its copy.
    pub(super) fn inside(&self) -> Vec<bool> {
        (0..self.set.len()).map(|point| self.equal(self.set.vector(point)).nth(1).is_some()).collect()
    }
}

/// Both zeros are one value.
fn hash(vector: &[f16]) -> u64 {
    let mut hasher = DefaultHasher::new();
    vector.iter().for_each(|value| (if *value == f16::ZERO { 0 } else { value.to_bits() }).hash(&mut hasher));
    hasher.finish()
}
